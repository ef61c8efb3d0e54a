"""What network classifiers share, and what network regressors do: y, and predictions of it."""

import numpy as np
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import is_multilabel

from sknn import losses
from sknn._base import BaseNetwork
from sknn._compat import StrOptions, _check_partial_fit_first_call
from sknn._docs import documented
from sknn._targets import LabelEncoder, check_labels, refuse_balanced, with_class_weight
from sknn._validation import check_overflow, device_of, partial_fit_context, to_host


class Classifier(ClassifierMixin, BaseNetwork):
    """Classes, a label indicator matrix, and their probabilities."""

    _parameter_constraints: dict = {
        **BaseNetwork._parameter_constraints,
        "class_weight": [StrOptions({"balanced"}), dict, None],
    }

    @property
    def loss(self):
        """The loss, which is no parameter of a classifier."""
        return "log_loss"

    def _check_y(self, y, incremental):
        if not hasattr(self, "classes_") or not (self.warm_start or incremental):
            self._encoder = LabelEncoder(y)
            self.classes_ = self._encoder.classes_
        else:
            check_labels(y, self._encoder, self.classes_, warm_start=self.warm_start)
        return y, self._encoder.loss

    def _encode(self, y, dtype):
        return self._encoder.encode(y, dtype), self._encoder.n_outputs

    def _take_classes(self, y, classes):
        if _check_partial_fit_first_call(self, classes):
            self._encoder = LabelEncoder(y if is_multilabel(y) else self.classes_)

    def _weigh(self, y, sample_weight):
        return with_class_weight(self.class_weight, self._encoder, y, sample_weight)

    def _stratify(self, targets):
        """One column of two classes; of several columns there is no stratified split."""
        return targets.astype(bool) if targets.ndim == 2 and targets.shape[1] == 1 else None

    def _validation_score(self, predictions, targets, weights):
        return self._encoder.accuracy(predictions, targets, weights)

    @available_if(lambda estimator: estimator._check_solver())
    @partial_fit_context
    @documented
    def partial_fit(self, X, y, sample_weight=None, classes=None):
        """Train for one epoch over the given data, going on from where the last call ended.

        Only there for the solvers 'sgd' and 'adam'.

        Parameters
        ----------
        {samples}
        y : array-like of shape (n_samples,) or (n_samples, n_classes)
            Class labels, or a label indicator matrix.
        {sample_weight}
        classes : array-like of shape (n_classes,), default=None
            All labels that any call will bring. Required in the first call.

        Returns
        -------
        self : object
            The estimator.

        Raises
        ------
        ValueError
            As `fit`; also if the first call has no ``classes``, y has a label that is not among
            them, or ``early_stopping`` or ``class_weight='balanced'`` ask for all samples.

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from sknn import MLPClassifier
        >>> X, y = load_digits(return_X_y=True)
        >>> clf = MLPClassifier(learning_rate_init=0.01, random_state=0)
        >>> for first in range(0, 1500, 100):
        ...     rows = slice(first, first + 100)
        ...     _ = clf.partial_fit(X[rows], y[rows], classes=range(10))
        >>> clf.score(X[1500:], y[1500:]) > 0.7
        True
        """
        refuse_balanced(self.class_weight)
        return self._fit(X, y, sample_weight, incremental=True, classes=classes)

    @documented
    def predict(self, X):
        """Predict class labels.

        Parameters
        ----------
        {samples}

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_classes)
            The predicted labels, or a label indicator matrix.

        {prediction_raises}

        Examples
        --------
        >>> from sknn import MLPClassifier
        >>> X, y = [[0.0], [1.0], [2.0], [3.0]], ["low", "low", "high", "high"]
        >>> clf = MLPClassifier(solver="lbfgs", random_state=0).fit(X, y)
        >>> clf.predict([[0.5], [2.5]])
        array(['low', 'high'], dtype='<U4')
        """
        outputs = self._forward(X)
        return self._encoder.decode(outputs)

    @documented
    def predict_proba(self, X):
        """Probabilities of the classes.

        Parameters
        ----------
        {samples}

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_classes)
            In the order of ``classes_``; for multilabel targets, of each label by itself.

        {prediction_raises}

        Examples
        --------
        >>> from sknn import MLPClassifier
        >>> X, y = [[0.0], [1.0], [2.0], [3.0]], ["low", "low", "high", "high"]
        >>> clf = MLPClassifier(solver="lbfgs", random_state=0).fit(X, y)
        >>> clf.classes_
        array(['high', 'low'], dtype='<U4')
        >>> clf.predict_proba([[0.5], [2.5]]).round(1)
        array([[0., 1.],
               [1., 0.]])
        """
        probabilities = self._forward(X)
        if self.n_outputs_ == 1:
            positive = probabilities.T
            with device_of(positive):  # columns in one piece, as theirs
                return np.concatenate((1 - positive, positive)).T
        return probabilities

    @documented
    def predict_log_proba(self, X):
        """Logarithms of the probabilities of the classes.

        Parameters
        ----------
        {samples}

        Returns
        -------
        log_probabilities : ndarray of shape (n_samples, n_classes)
            ``log(predict_proba(X))``, which may be minus infinity.

        {prediction_raises}
        """
        probabilities = self.predict_proba(X)
        with device_of(probabilities):
            return np.log(probabilities, out=probabilities)

    @documented
    def score(self, X, y, sample_weight=None):
        """Share of the samples that are predicted right.

        Parameters
        ----------
        {samples}
        y : array-like of shape (n_samples,) or (n_samples, n_classes)
            Their labels, or a label indicator matrix, of which whole rows have to be right.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples.

        Returns
        -------
        score : float
            Also where the arrays are CuPy's.

        {prediction_raises}

        Examples
        --------
        >>> from sknn import MLPClassifier
        >>> X, y = [[0.0], [1.0], [2.0], [3.0]], ["low", "low", "high", "high"]
        >>> clf = MLPClassifier(solver="lbfgs", random_state=0).fit(X, y)
        >>> clf.score(X, y)
        1.0
        """
        predictions = to_host(self.predict(X))
        return accuracy_score(to_host(y), predictions, sample_weight=to_host(sample_weight))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


class Regressor(RegressorMixin, BaseNetwork):
    """One number a sample, or several."""

    _parameter_constraints: dict = {
        **BaseNetwork._parameter_constraints,
        "loss": [StrOptions(set(losses.REGRESSION))],
    }

    def _check_y(self, y, incremental):
        if self.loss == "poisson" and np.min(y) < 0:
            raise ValueError(
                f"The Poisson loss takes targets that are not negative, but the smallest of y "
                f"is {np.min(y)}. Use loss='squared_error' for such targets."
            )
        return y, losses.REGRESSION[self.loss]

    def _encode(self, y, dtype):
        check_overflow(y, dtype, "y")
        rows = np.ascontiguousarray(y.reshape(len(y), -1), dtype=dtype)
        return rows, rows.shape[1]

    def _validation_score(self, predictions, targets, weights):
        """R², or NaN if a prediction is not finite."""
        if not np.isfinite(predictions).all():
            return np.nan
        return r2_score(targets, predictions, sample_weight=weights)

    @available_if(lambda estimator: estimator._check_solver())
    @partial_fit_context
    @documented
    def partial_fit(self, X, y, sample_weight=None):
        """Train for one epoch over the given data, going on from where the last call ended.

        Only there for the solvers 'sgd' and 'adam'.

        Parameters
        ----------
        {samples}
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets.
        {sample_weight}

        Returns
        -------
        self : object
            The estimator.

        Raises
        ------
        ValueError
            As `fit`; also if y has other outputs than before, or with ``early_stopping``.

        Examples
        --------
        >>> from sklearn.datasets import load_diabetes
        >>> from sknn import MLPRegressor
        >>> X, y = load_diabetes(return_X_y=True)
        >>> regressor = MLPRegressor(random_state=0)
        >>> for first in range(0, 400, 100):
        ...     rows = slice(first, first + 100)
        ...     _ = regressor.partial_fit(X[rows], y[rows])
        >>> len(regressor.loss_curve_)
        4
        """
        return self._fit(X, y, sample_weight, incremental=True)

    @documented
    def predict(self, X):
        """Predict numbers.

        Parameters
        ----------
        {samples}

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_outputs)
            The predictions.

        {prediction_raises}

        Examples
        --------
        >>> from sknn import MLPRegressor
        >>> X, y = [[0.0], [1.0], [2.0], [3.0]], [1.0, 3.0, 5.0, 7.0]
        >>> regressor = MLPRegressor(solver="lbfgs", random_state=0).fit(X, y)
        >>> regressor.predict([[1.5]]).round(1)
        array([4.])
        """
        outputs = self._forward(X)
        return outputs.ravel() if outputs.shape[1] == 1 else outputs

    @documented
    def score(self, X, y, sample_weight=None):
        """Coefficient of determination R² of the predictions.

        Parameters
        ----------
        {samples}
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            What is to be predicted.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples.

        Returns
        -------
        score : float
            At most 1; the mean over outputs. Also where the arrays are CuPy's.

        {prediction_raises}

        Examples
        --------
        >>> from sknn import MLPRegressor
        >>> X, y = [[0.0], [1.0], [2.0], [3.0]], [1.0, 3.0, 5.0, 7.0]
        >>> regressor = MLPRegressor(solver="lbfgs", random_state=0).fit(X, y)
        >>> round(regressor.score(X, y), 2)
        1.0
        """
        predictions = to_host(self.predict(X))
        return r2_score(to_host(y), predictions, sample_weight=to_host(sample_weight))
