"""What all network estimators share: parameters, fitting and the forward pass."""

from abc import ABC, abstractmethod
from contextlib import contextmanager
from numbers import Integral, Real

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.callback import CallbackSupportMixin
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils.validation import check_is_fitted

from sknn._chain import up_to
from sknn._compat import (
    Interval,
    Options,
    StrOptions,
    _fit_context,
)
from sknn._device import (
    check_device_X,
    choose_device,
    predict_on_gpu,
    predicting_device,
)
from sknn._docs import documented
from sknn._kernels.cpu.executor import predict
from sknn._kernels.ops import Optimizer, Phase
from sknn._lbfgs import Objective, minimize
from sknn._lowering import lower_for_cpu
from sknn._state import (
    get_parameters,
    initial_parameters,
    initial_state,
    reconstruction,
    set_parameters,
    state_from_pickle,
    state_to_pickle,
    trainable,
    unchanged_on_error,
)
from sknn._training import Trainer, forget_training, prepare_progress, tasks
from sknn._validation import (
    CSR,
    Data,
    KnownSignature,
    check_data,
    check_weights,
    compute_dtype,
    device_of,
    is_on_gpu,
    may_skip_checks,
    prepare_X,
    to_host,
)
from sknn.schedules import SCHEDULES

# rows that are worth the copy of the parameters that folded normalisations take
FOLD_ROWS = 16
STOCHASTIC_SOLVERS = {optimizer.name.lower() for optimizer in Optimizer}


class BaseNetwork(KnownSignature, CallbackSupportMixin, BaseEstimator, ABC):
    """Training parameters, fit, and predictions as the network makes them."""

    _parameter_constraints: dict = {
        "solver": [StrOptions(STOCHASTIC_SOLVERS | {"lbfgs"})],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "learning_rate": [StrOptions(set(SCHEDULES))],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "power_t": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "shuffle": ["boolean"],
        "random_state": ["random_state"],
        "tol": [Interval(Real, 0, None, closed="left")],
        "verbose": ["verbose"],
        "warm_start": ["boolean"],
        "momentum": [Interval(Real, 0, 1, closed="both")],
        "nesterovs_momentum": ["boolean"],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="left")],
        "beta_1": [Interval(Real, 0, 1, closed="left")],
        "beta_2": [Interval(Real, 0, 1, closed="left")],
        "epsilon": [Interval(Real, 0, None, closed="neither")],
        "n_iter_no_change": [
            Interval(Integral, 1, None, closed="left"),
            Options(Real, {np.inf}),
        ],
        "max_fun": [Interval(Integral, 1, None, closed="left")],
        "dtype": [StrOptions({"float32", "float64"}), None],
        "n_threads": [Interval(Integral, 1, None, closed="left"), None],
        "device": [str, None],
        "matmul_precision": [StrOptions({"float32", "tf32", "bfloat16"})],
    }

    @abstractmethod
    def __init__(self, **parameters):
        for name, value in parameters.items():
            setattr(self, name, value)

    # ---- what networks differ in ----------------------------------------------------------

    @abstractmethod
    def _check_design(self):
        """What the parameters ask for, checked before the data are; for `_design`."""

    @abstractmethod
    def _design(self, asked, X, n_outputs, loss):
        """Note what a new network is, so that `_program` makes the program of it."""

    @abstractmethod
    def _program(self):
        """The fitted network as a program; equal networks share one."""

    def _check_X(self, X, *, reset, **y_options):
        """X as rows, and y where the options have it."""
        check = check_device_X if is_on_gpu(X) else check_data
        return check(self, X, reset=reset, **y_options)

    def _take_pretrained(self, program, parameters, state):
        """Put what is known from elsewhere into the vectors of a new network."""

    def _gain(self):
        """Of the initial weights, see `initializers.glorot_uniform`."""
        return 6.0

    # ---- what a classifier and a regressor answer differently -----------------------------

    @abstractmethod
    def _check_y(self, y, incremental):
        """Validated y, and the loss of a new network."""

    @abstractmethod
    def _encode(self, y, dtype):
        """y as targets of the compute type, and the width of the output."""

    @abstractmethod
    def _validation_score(self, predictions, targets, weights):
        """What early stopping watches."""

    def _take_classes(self, y, classes):
        """What the first `partial_fit` says of those to come."""

    def _weigh(self, y, sample_weight):
        return sample_weight

    def _stratify(self, targets):
        """What a validation split keeps the proportions of."""

    # ---- fitting --------------------------------------------------------------------------

    @_fit_context(prefer_skip_nested_validation=True)
    @documented
    def fit(self, X, y, sample_weight=None):
        """Fit the network.

        Parameters
        ----------
        {samples}
            A C-ordered array of float64, float32 or uint8 is read where it lies; a CSR or CSC
            matrix is never made dense; a CuPy array trains on its GPU.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Class labels or a label indicator matrix in classification, numbers in regression.
        {sample_weight}

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If X, y or a parameter is not accepted, or if the weights did not stay finite.
        TypeError
            If labels have no order, such as numbers and text together.
        ZeroDivisionError
            If the sample weights of a minibatch sum to zero.
        MemoryError
            If the buffers of the fit cannot be allocated; the estimator is then unchanged.

        Examples
        --------
        >>> from sknn import MLPClassifier
        >>> X, y = [[0.0], [1.0], [2.0], [3.0]], ["low", "low", "high", "high"]
        >>> clf = MLPClassifier(solver="lbfgs", random_state=0).fit(X, y)
        >>> clf.predict([[0.5], [2.5]])
        array(['low', 'high'], dtype='<U4')
        """
        return self._fit(X, y, sample_weight, incremental=False)

    def _fit(self, X, y, sample_weight, *, incremental, classes=None):
        with unchanged_on_error(self) as begin:
            with device_of(X):
                if incremental:
                    self._take_classes(to_host(y), classes)
                train = self._prepare(X, y, sample_weight, incremental)
            train(begin)
        fitted = [self._parameters] if self._state is None else [self._parameters, self._state]
        if not all(np.isfinite(vector).all() for vector in fitted):
            raise ValueError(
                "Solver produced non-finite parameter weights. The input data may contain "
                "large values and need to be preprocessed. Scale X, for example with "
                "StandardScaler, or make learning_rate_init smaller "
                f"(it is {self.learning_rate_init})."
            )
        return self

    def _prepare(self, X, y, sample_weight, incremental):
        """Check and allocate all that a fit takes; what then trains, as a function.

        It is given a function to call when the estimator begins to change.
        """
        asked = self._check_design()
        gpu = choose_device(self.device, X)
        first_pass = not hasattr(self, "coefs_") or not (self.warm_start or incremental)
        given = {"X": X, "y": y}
        if sample_weight is not None:
            given["metadata"] = {"sample_weight": sample_weight}
        X, y, loss = self._check_X_y(X, y, incremental, reset=first_pass)
        if self.early_stopping and incremental:
            raise ValueError(
                "partial_fit does not support early_stopping=True, which holds out a part of all "
                "samples. Set early_stopping=False, or use fit."
            )
        dtype = self._choose_dtype(X, first_pass)
        targets, n_outputs = self._encode(y, dtype)
        weights = self._weigh(y, check_weights(to_host(sample_weight), X))
        random_state = check_random_state(self.random_state)
        if first_pass:
            self.out_activation_, self.n_outputs_ = loss.out_activation, n_outputs
            self._loss_name = loss.name
            self._design(asked, X, n_outputs, loss)
            program = self._program()
            parameters = initial_parameters(program, random_state, dtype, self._gain())
            state = initial_state(program, dtype)
            self._take_pretrained(program, parameters, state)
        else:
            self._check_same(asked, n_outputs, loss)
            program = self._program()
            parameters = trainable(get_parameters(self, program), dtype)
            state = None if self._state is None else trainable(self._state, dtype)
        data = Data(prepare_X(X, dtype, program.x_scale), targets, weights)
        solver = self._lbfgs if self.solver == "lbfgs" else self._stochastic
        return solver(parameters, state, data, random_state, given, first_pass, incremental, gpu)

    def _check_same(self, asked, n_outputs, loss):
        """Refuse to go on with targets or a loss that the network was not fitted with."""
        if n_outputs != self.n_outputs_:
            raise ValueError(
                f"y has {n_outputs} outputs, but the network was fitted with "
                f"{self.n_outputs_}. Give y of the same shape, or fit anew with "
                "warm_start=False."
            )
        if loss.name != self._loss_name:
            raise ValueError(
                f"These targets and parameters ask for the loss {loss.name!r}, but the network "
                f"was fitted with {self._loss_name!r}. Fit anew with warm_start=False."
            )

    def _check_X_y(self, X, y, incremental, reset):
        numeric = isinstance(self, RegressorMixin)
        if numeric and sparse.issparse(y):
            raise ValueError(
                f"y is a sparse matrix of shape {y.shape}, but targets of regression must be "
                "dense. Give y.toarray()."
            )
        X, y = self._check_X(X, y=to_host(y), multi_output=True, y_numeric=numeric, reset=reset)
        if numeric and y.dtype.kind not in "biuf":
            raise ValueError(
                f"y has the type {y.dtype}, but targets of regression must be numbers. Convert "
                "them, for example with y.astype(float)."
            )
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        y, loss = self._check_y(y, incremental)
        return X, y, loss

    def _choose_dtype(self, X, first_pass):
        if self.dtype not in (None, "float32", "float64"):  # where nobody checks parameters
            raise ValueError(f"dtype must be 'float32', 'float64' or None, got {self.dtype!r}.")
        if self.dtype is None and self.solver == "lbfgs":
            return np.dtype(np.float64)
        if self.dtype is None and not first_pass:
            return self._parameters.dtype
        return self._dtype_of(X) if self.dtype is None else np.dtype(self.dtype)

    def _dtype_of(self, X):
        """What to compute in for this X where ``dtype`` is None."""
        return compute_dtype(X)

    def _start(self, parameters, state, first_pass):
        """Take the parameters of a fit that has all it needs."""
        set_parameters(self, self._program(), parameters, state)
        if first_pass:
            self.n_iter_ = self.t_ = 0
            forget_training(self)
        if self.solver in STOCHASTIC_SOLVERS:
            prepare_progress(self)

    def _stochastic(self, parameters, state, data, random_state, given, first_pass, incremental,
                    gpu):  # fmt: skip
        trainer = Trainer(
            self,
            self._program(),
            parameters,
            state,
            data,
            random_state,
            gpu=gpu,
            incremental=incremental,
            keep_initial=first_pass,
        )

        def train(begin):
            begin()
            self._start(parameters, state, first_pass)
            if incremental:
                trainer.run()
                return
            with self._fit_task(given) as context:
                trainer.run(context, **given)

        return train

    def _lbfgs(self, parameters, state, data, random_state, given, first_pass, incremental, gpu):
        program = self._program()
        if program.is_random or program.n_state:
            raise ValueError(
                "solver='lbfgs' needs a loss that is the same at each evaluation, which dropout "
                "and batch normalization do not give. Use solver='adam' or 'sgd', or a network "
                "without them."
            )
        objective = Objective(self, program, data, parameters.dtype, gpu)

        def train(begin):
            def start():
                begin()
                self._start(parameters, state, first_pass)
                self._incremental = incremental

            with self._fit_task(given) as context:
                task = tasks(self, context, "iteration", self._reconstruct, **given)
                self._show_parameters(minimize(self, objective, parameters, start, task))

        return train

    @contextmanager
    def _fit_task(self, given):
        """Tell callbacks where the whole fit begins and ends."""
        context = self._init_callback_context(max_subtasks=self.max_iter)
        context.call_on_fit_task_begin(estimator=self, **given)
        yield context
        context.call_on_fit_task_end(
            estimator=self, reconstruction_attributes=self._reconstruct, **given
        )

    def _reconstruct(self):
        """What makes a copy of the estimator predict as it does now."""
        return reconstruction(self._program(), self._parameters, self._state)

    @property
    def parameters_(self):
        """All fitted parameters by name, such as 'dense1.weights': views of one vector."""
        check_is_fitted(self)
        program = self._program()
        views = program.views(get_parameters(self, program))
        return dict(zip(program.names, views, strict=True))

    def _show_parameters(self, parameters):
        set_parameters(self, self._program(), parameters, self._state)

    # ---- prediction -----------------------------------------------------------------------

    def _forward(self, X, layer=None):
        """Outputs of the network, (n_samples, n_outputs), after the link; or of a layer."""
        gpu = predicting_device(self, X)
        if gpu is not None:
            check_is_fitted(self)
            with device_of(X):
                return self._run(self._check_X(X, reset=False), layer, gpu=gpu)
        if may_skip_checks(self, X):
            outputs = self._run(X, layer, check=True)
            if outputs is not None:
                return outputs
        check_is_fitted(self)
        return self._run(self._check_X(X, reset=False), layer)

    def _run(self, X, layer=None, check=False, gpu=None):
        """Outputs for a valid X; with ``check`` None if a number in it is not finite."""
        program = self._program()
        parameters = get_parameters(self, program)
        if self.dtype is None and X.dtype != parameters.dtype:
            # as in scikit-learn, the wider of the model's type and X's
            dtype = np.result_type(self._dtype_of(X), parameters.dtype)
            parameters = parameters.astype(dtype, copy=False)
        if not check:
            X = prepare_X(X, parameters.dtype, program.x_scale)
        if layer is not None:
            program = up_to(program, layer)
        state = self._state
        if state is not None:
            state = state.astype(parameters.dtype, copy=False)
        if gpu is not None:
            return predict_on_gpu(self, program, parameters, X, gpu, state)
        fold = X.shape[0] >= FOLD_ROWS
        program = lower_for_cpu(program, isinstance(X, CSR), Phase.PREDICT, fold)
        parameters = program.folded(parameters, state)
        return predict(program, parameters, X, n_threads=self.n_threads, check=check, state=state)

    # ---- scikit-learn ---------------------------------------------------------------------

    def _check_solver(self):
        if self.solver not in STOCHASTIC_SOLVERS:
            raise AttributeError(
                "partial_fit is only available for stochastic optimizers. "
                f"{self.solver} is not stochastic."
            )
        return True

    def __sklearn_is_fitted__(self):
        return hasattr(self, "coefs_")

    def __getstate__(self):
        return state_to_pickle(super().__getstate__())

    def __setstate__(self, state):
        super().__setstate__(state)
        if "_parameters" in state:
            state_from_pickle(self, self._program())
