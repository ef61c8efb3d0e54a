"""Rosenblatt's perceptron."""

import warnings
from numbers import Integral, Real

import numpy as np
from scipy.sparse import csr_array, issparse
from sklearn.base import BaseEstimator
from sklearn.callback import CallbackSupportMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.utils import check_random_state
from sklearn.utils.validation import validate_data

from sknn._compat import (
    SPARSE_INTERCEPT_DECAY,
    Interval,
    LinearClassifierMixin,
    SparseCoefMixin,
    StrOptions,
    _check_partial_fit_first_call,
    _check_sample_weight,
    _fit_context,
)
from sknn._state import unchanged_on_error
from sknn._targets import (
    check_known,
    class_weights,
    find_classes,
    find_indices,
    refuse_balanced,
)
from sknn._team import Patience, Team, kernel
from sknn._training import tasks
from sknn._validation import KnownSignature, partial_fit_context


class Perceptron(
    KnownSignature, CallbackSupportMixin, LinearClassifierMixin, SparseCoefMixin, BaseEstimator
):
    """Linear classifier that learns from its mistakes only.

    A sample that the classifier gets right changes nothing; one that it gets wrong is added
    to the weights, or taken from them. If a hyperplane separates the classes, the number of
    mistakes is finite. If none does, the weights never settle (see the example).

    With more than two classes there is one hyperplane for each, against the rest.

    This is :class:`sklearn.linear_model.Perceptron` with a faster kernel: it takes all
    classes through the data together.

    Parameters
    ----------
    penalty : {'l2', 'l1', 'elasticnet'} or None, default=None
        The penalty on the weights.

    alpha : float, default=0.0001
        Factor of the penalty.

    l1_ratio : float, default=0.15
        Share of l1 in the penalty 'elasticnet': 0 is l2 alone, 1 is l1 alone.

    fit_intercept : bool, default=True
        Whether the hyperplanes have intercepts. Without them the data should be centered.

    max_iter : int, default=1000
        Maximum number of epochs, passes over the training data, of :meth:`fit`.

    tol : float or None, default=1e-3
        A class stops after `n_iter_no_change` epochs in a row that did not improve its
        objective, or its score on the validation data, by `tol` over the best so far.
        With None it runs for all `max_iter` epochs.

    shuffle : bool, default=True
        Whether the samples come in another order in every epoch.

    verbose : int, default=0
        Print a line for every epoch.

    eta0 : float, default=1
        Factor of the updates. Without a penalty it only changes the length of the weights.

    n_jobs : int, default=None
        Number of threads that share the classes. The result does not depend on it.

    random_state : int, RandomState instance or None, default=0
        Seed of the shuffling and of the validation split.

    early_stopping : bool, default=False
        Whether to set some training data aside and to stop on the accuracy there, class by
        class, instead of on the objective.

    validation_fraction : float, default=0.1
        The proportion of training data set aside by `early_stopping`.

    n_iter_no_change : int, default=5
        Number of epochs without improvement before a class stops.

    class_weight : dict, {class_label: weight} or 'balanced', default=None
        Factors of the updates that the samples of each class make. 'balanced' weights the
        classes as ``n_samples / (n_classes * np.bincount(y))``.

    warm_start : bool, default=False
        Whether :meth:`fit` begins with the weights of the last call.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The class labels.

    coef_ : ndarray of shape (1, n_features) or (n_classes, n_features)
        The weights, one row if there are two classes.

    intercept_ : ndarray of shape (1,) or (n_classes,)
        The intercepts.

    n_features_in_ : int
        Number of features seen during :term:`fit`.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of features seen during :term:`fit`. Defined only when `X` has feature names
        that are all strings.

    n_iter_ : int
        Number of epochs, of the class that ran longest.

    n_mistakes_ : ndarray of shape (n_iter_, 1) or (n_iter_, n_classes)
        The updates that each epoch made to each class, -1 where a class had stopped
        earlier. :meth:`partial_fit` leaves the one row of its last call. A zero, with
        `penalty=None` and no sample set aside or without weight, says that the hyperplane
        separates its class from the rest of the training data.

    t_ : float
        Number of samples met, ``n_iter_ * n_samples + 1``.

    See Also
    --------
    sklearn.linear_model.SGDClassifier : Linear classifiers with other losses.

    References
    ----------
    F. Rosenblatt, "The perceptron: a probabilistic model for information storage and
    organization in the brain", Psychological Review 65 (6), 1958.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sknn import Perceptron
    >>> X, y = load_digits(return_X_y=True)
    >>> Perceptron().fit(X, y).score(X, y) > 0.9
    True

    No line separates XOR, so that the mistakes never end. Here every epoch takes the
    weights back to where they began:

    >>> X, y = [[0, 0], [0, 1], [1, 0], [1, 1]], [0, 1, 1, 0]
    >>> xor = Perceptron(max_iter=6, tol=None, shuffle=False).fit(X, y)
    >>> xor.n_mistakes_.ravel()
    array([4, 4, 4, 4, 4, 4])
    >>> xor.coef_
    array([[0., 0.]])
    """

    _parameter_constraints = {
        "penalty": [StrOptions({"l2", "l1", "elasticnet"}), None],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "l1_ratio": [Interval(Real, 0, 1, closed="both")],
        "fit_intercept": ["boolean"],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left"), None],
        "shuffle": ["boolean"],
        "verbose": ["verbose"],
        "eta0": [Interval(Real, 0, None, closed="neither")],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "class_weight": [StrOptions({"balanced"}), dict, None],
        "warm_start": ["boolean"],
    }

    def __init__(
        self,
        *,
        penalty=None,
        alpha=0.0001,
        l1_ratio=0.15,
        fit_intercept=True,
        max_iter=1000,
        tol=1e-3,
        shuffle=True,
        verbose=0,
        eta0=1.0,
        n_jobs=None,
        random_state=0,
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=5,
        class_weight=None,
        warm_start=False,
    ):
        self.penalty = penalty
        self.alpha = alpha
        self.l1_ratio = l1_ratio
        self.fit_intercept = fit_intercept
        self.max_iter = max_iter
        self.tol = tol
        self.shuffle = shuffle
        self.verbose = verbose
        self.eta0 = eta0
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.class_weight = class_weight
        self.warm_start = warm_start

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, coef_init=None, intercept_init=None, sample_weight=None):
        """Fit the classifier.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training data.

        y : array-like of shape (n_samples,)
            Class labels.

        coef_init : array-like of the shape of `coef_`, default=None
            Weights to begin with; zeros by default.

        intercept_init : array-like of the shape of `intercept_`, default=None
            Intercepts to begin with; zeros by default.

        sample_weight : array-like of shape (n_samples,), default=None
            Factors of the updates that the samples make.

        Returns
        -------
        self : Perceptron
            The fitted estimator.

        Raises
        ------
        ValueError
            If the data or a parameter are not accepted, if there is but one class, or if the
            weights did not stay finite.
        TypeError
            If labels have no order, such as numbers and text together.

        Examples
        --------
        >>> from sknn import Perceptron
        >>> X, y = [[0.0], [1.0], [2.0], [3.0]], ["low", "low", "high", "high"]
        >>> Perceptron().fit(X, y).predict([[0.5], [2.5]])
        array(['low', 'high'], dtype='<U4')
        """
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        given = {"X": X, "y": y, "metadata": metadata}
        context = self._init_callback_context(max_subtasks=self.max_iter)
        with unchanged_on_error(self):
            X, y = self._validate(X, y, reset=True)
            self.classes_, _ = find_classes(y)
            self.t_ = 1.0
            if self.warm_start and hasattr(self, "coef_"):
                coef_init = self.coef_ if coef_init is None else coef_init
                intercept_init = self.intercept_ if intercept_init is None else intercept_init
            context.call_on_fit_task_begin(estimator=self, **given)
            told = context, given
            self._train(X, y, coef_init, intercept_init, sample_weight, self.max_iter, told)
        context.call_on_fit_task_end(estimator=self, **given, reconstruction_attributes={})

        if self.tol is not None and self.n_iter_ == self.max_iter:
            warnings.warn(
                f"The classifier still improved after max_iter={self.max_iter} epochs. "
                "Consider increasing max_iter, or set tol=None if this is what you want.",
                ConvergenceWarning,
            )
        return self

    @partial_fit_context
    def partial_fit(self, X, y, classes=None, sample_weight=None):
        """Take one pass over some samples.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training data.

        y : array-like of shape (n_samples,)
            Class labels, not necessarily all that there are.

        classes : array-like of shape (n_classes,), default=None
            All classes that will ever come. Required in the first call.

        sample_weight : array-like of shape (n_samples,), default=None
            Factors of the updates that the samples make.

        Returns
        -------
        self : Perceptron
            The estimator.

        Raises
        ------
        ValueError
            As `fit`; also if the first call has no ``classes``, a later one has others, or
            ``early_stopping`` or ``class_weight='balanced'`` ask for all samples.

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from sknn import Perceptron
        >>> X, y = load_digits(return_X_y=True)
        >>> clf = Perceptron()
        >>> for first in range(0, 1500, 100):
        ...     rows = slice(first, first + 100)
        ...     _ = clf.partial_fit(X[rows], y[rows], classes=range(10))
        >>> clf.score(X[1500:], y[1500:]) > 0.7
        True
        """
        if self.early_stopping:
            raise ValueError(
                "early_stopping should be False with partial_fit, since it holds out a part of "
                "all samples. Set early_stopping=False, or use fit."
            )
        refuse_balanced(self.class_weight)
        with unchanged_on_error(self):
            X, y = self._validate(X, y, reset=not hasattr(self, "classes_"))
            _check_partial_fit_first_call(self, classes)
            check_known(find_classes(y)[0], self.classes_)
            self.t_ = getattr(self, "t_", 1.0)
            coef, intercept = getattr(self, "coef_", None), getattr(self, "intercept_", None)
            self._train(X, y, coef, intercept, sample_weight, max_iter=1)
        return self

    def _validate(self, X, y, reset):
        X, y = validate_data(
            self,
            X,
            y,
            accept_sparse="csr",
            dtype=[np.float64, np.float32],
            order="C",
            reset=reset,
        )
        return _with_int32_indices(X) if issparse(X) else X, y

    def _train(self, X, y, coef, intercept, sample_weight, max_iter, told=(None, {})):
        """Run the epochs and set the fitted attributes."""
        if len(self.classes_) < 2:
            raise ValueError(
                f"The number of classes has to be greater than one; got {len(self.classes_)} class"
            )
        sample_weight = _check_sample_weight(
            sample_weight, X, dtype=X.dtype, allow_all_zero_weights=self.early_stopping
        )
        labels = find_indices(self.classes_, y)
        rule = self._rule(issparse(X))
        coef = self._initial_coef(coef, X)
        learners = self._learners(y, self._initial_intercept(intercept), coef)

        # scikit-learn draws one number that it does not need before it draws the seed
        random_state = check_random_state(self.random_state)
        random_state.randint(1, np.iinfo(np.int32).max)
        held_out = self._validation_split(y, sample_weight)
        seed = random_state.randint(np.iinfo(np.int32).max)

        team = Team(X, labels, sample_weight, coef, learners, rule, self.n_jobs, max_iter)
        mistakes = self._epochs(team, held_out, seed, max_iter, told)

        self.coef_ = coef
        self.intercept_ = learners["intercept"].astype(X.dtype)
        self.n_mistakes_ = mistakes
        self.n_iter_ = len(mistakes)
        self.t_ += self.n_iter_ * X.shape[0]

    def _epochs(self, team, held_out, seed, max_iter, told):
        """Show the data to the team until every class has stopped.

        ``told`` is the context of the callbacks, or None, and what they are given.

        Returns the mistakes, of shape (n_epochs, n_learners).
        """
        order = np.arange(team.X.shape[0], dtype=np.int32)
        patience = Patience(len(team.learners), self.tol, self.n_iter_no_change)
        mistakes, (context, given) = [], told
        epoch_task = tasks(self, context, "epoch", team.fitted, **given)
        try:
            with team:
                for epoch in range(max_iter):
                    with epoch_task() as task:
                        if self.shuffle:
                            kernel.shuffle(order, seed)
                        training = order[~held_out[order]] if self.early_stopping else order
                        mistakes.append(self._epoch(team, epoch, training))
                        team.stop(patience.exhausted(self._score(team, training, held_out)))
                    if task.stop or team.stopped.all():
                        break
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.")
            team.write_coef()
        return np.array(mistakes, dtype=np.int64).reshape(-1, len(team.learners))

    def _epoch(self, team, epoch, training):
        """One pass over the samples; the mistakes of each learner, -1 if it had stopped."""
        team.epoch(training)
        team.check_finite(epoch)
        if self.verbose:
            team.report(epoch, len(training))
        return np.where(team.stopped, -1, team.learners["mistakes"])

    def _score(self, team, training, held_out):
        """What has to rise: accuracy on the samples held out, or less of the objective."""
        if self.early_stopping:
            return team.accuracy(held_out)
        return -team.learners["objective"] / len(training)

    def _rule(self, sparse):
        """The parameters of an update that all classes share, as the kernel takes them."""
        l1_ratio = {None: 0.0, "l2": 0.0, "l1": 1.0}.get(self.penalty, self.l1_ratio)
        alpha = 0.0 if self.penalty is None else self.alpha
        rule = np.zeros(1, dtype=kernel.RULE_DTYPE)
        rule["eta0"] = self.eta0
        if self.fit_intercept:
            rule["intercept_rate"] = SPARSE_INTERCEPT_DECAY if sparse else 1.0
        rule["shrink"] = max(0.0, 1.0 - (1.0 - l1_ratio) * self.eta0 * alpha)
        rule["l1_step"] = l1_ratio * self.eta0 * alpha
        if self.tol is not None and not self.early_stopping:  # else nobody asks for it
            rule["l2_cost"] = 0.5 * alpha * (1.0 - l1_ratio)
            rule["l1_cost"] = alpha * l1_ratio
        return rule

    def _learners(self, y, intercept, coef):
        """One record for each class against the rest, one in all if there are two."""
        n_classes = len(self.classes_)
        if self.class_weight is None:
            weight = np.ones(n_classes)
        else:
            weight = class_weights(self.class_weight, self.classes_, y)
        learners = np.zeros(len(coef), dtype=kernel.LEARNER_DTYPE)
        learners["intercept"] = intercept
        if n_classes == 2:
            learners["label"] = 1
            learners["negative_weight"], learners["positive_weight"] = weight
        else:
            learners["label"] = np.arange(n_classes)
            learners["negative_weight"], learners["positive_weight"] = 1.0, weight
        if self.penalty is not None:
            learners["squared_norm"] = np.square(coef, dtype=np.float64).sum(axis=1)
            learners["absolute_norm"] = np.abs(coef).sum(axis=1, dtype=np.float64)
        return learners

    def _initial_coef(self, coef, X):
        n_classes, n_features = len(self.classes_), X.shape[1]
        shape = (1 if n_classes == 2 else n_classes, n_features)
        if coef is None:
            return np.zeros(shape, dtype=X.dtype)
        coef = _copied(coef, "coef", X.dtype)
        if n_classes == 2 and coef.size == n_features:
            coef = coef.reshape(shape)
        if coef.shape != shape:
            raise ValueError(
                "Provided coef_init does not match dataset. It should have the shape "
                f"{shape}, not {coef.shape}."
            )
        return coef

    def _initial_intercept(self, intercept):
        n_learners = 1 if len(self.classes_) == 2 else len(self.classes_)
        if intercept is None:
            return np.zeros(n_learners)
        intercept = np.atleast_1d(_copied(intercept, "intercept", np.dtype(np.float64)))
        if intercept.shape != (n_learners,):
            raise ValueError(
                "Provided intercept_init does not match dataset. It should have the shape "
                f"{(n_learners,)}, not {intercept.shape}."
            )
        return intercept

    def _validation_split(self, y, sample_weight):
        """Mask of the samples that early stopping sets aside."""
        held_out = np.zeros(len(y), dtype=bool)
        if self.early_stopping:
            splitter = StratifiedShuffleSplit(
                test_size=self.validation_fraction, random_state=self.random_state
            )
            _, indices = next(splitter.split(y.reshape(-1, 1), y))
            if not np.any(sample_weight[indices] > 0):
                raise ValueError(
                    "The sample weights for validation set are all zero, consider using a"
                    " different random state."
                )
            held_out[indices] = True
        return held_out

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


def _with_int32_indices(X):
    """A CSR matrix as the kernel reads it."""
    if X.indices.dtype == X.indptr.dtype == np.int32:
        return X
    largest = np.iinfo(np.int32).max
    if max(X.shape[1], X.nnz) > largest:
        raise ValueError(
            f"X has {X.shape[1]} columns and {X.nnz} nonzeros, but Perceptron takes at most "
            f"{largest} of both. Make fewer columns, for example with the n_features of "
            "sklearn.feature_extraction.FeatureHasher, or give the rows to partial_fit in parts."
        )
    indices, indptr = (array.astype(np.int32, copy=False) for array in (X.indices, X.indptr))
    return csr_array((X.data, indices, indptr), shape=X.shape)


def _copied(initial, name, dtype):
    """A copy of what training begins with: ``coef`` or ``intercept``."""
    try:
        array = initial.toarray() if issparse(initial) else initial
        array = np.array(array, dtype=dtype, order="C")
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}_init must be an array of numbers: {error}.") from error
    if not np.isfinite(array).all():
        raise ValueError(
            f"{name}_init, or {name}_ where training goes on, has numbers that are not finite in "
            f"{dtype}. Give finite ones, or none to begin with zeros."
        )
    return array
