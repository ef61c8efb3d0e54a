"""The training loop: epochs, stopping, best weights and callbacks."""

import warnings
from contextlib import contextmanager
from numbers import Integral

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split

from sknn._compat import has_callbacks
from sknn._device import make_executor
from sknn._orders import LARGEST_SEED, make_orders
from sknn._state import reconstruction, set_parameters, trainable
from sknn._validation import choose_batch_size
from sknn.optimizers import make_optimizer

# what a training by minibatches leaves, beside the parameters
RECORDS = (
    "loss_curve_", "best_loss_", "validation_scores_", "best_validation_score_", "_optimizer"
)  # fmt: skip


class Split:
    """Which rows train and which validate."""

    def __init__(self, estimator, data, random_state):
        self.train, self.validation = np.arange(data.n_samples), None
        if not estimator.early_stopping:
            return
        self.train, self.validation = train_test_split(
            self.train,
            random_state=random_state,
            test_size=estimator.validation_fraction,
            stratify=estimator._stratify(data.targets),
        )
        if self.validation.shape[0] < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' or the size "
                "of your dataset."
            )


def forget_training(estimator):
    """Drop what the training of a network that is now replaced left behind."""
    for name in RECORDS:
        vars(estimator).pop(name, None)


def prepare_progress(estimator):
    """The fitted attributes that record a training: new ones, or those of the last call.

    The loss is no measure of scores, nor they of it: what was best is forgotten where
    ``early_stopping`` was changed.
    """
    if not hasattr(estimator, "loss_curve_"):
        estimator.loss_curve_ = []
    elif (estimator.validation_scores_ is not None) == estimator.early_stopping:
        return
    estimator._no_improvement_count = 0
    stopping_early = estimator.early_stopping
    estimator.validation_scores_ = [] if stopping_early else None
    estimator.best_validation_score_ = -np.inf if stopping_early else None
    estimator.best_loss_ = None if stopping_early else np.inf


def record_loss(estimator):
    """Count the epoch as no improvement, or as one, by the training loss."""
    loss = estimator.loss_curve_[-1]
    if loss > estimator.best_loss_ - estimator.tol:
        estimator._no_improvement_count += 1
    else:
        estimator._no_improvement_count = 0
    if loss < estimator.best_loss_:
        estimator.best_loss_ = loss


def record_score(estimator, score):
    """The same by validation score; whether it is the best so far."""
    estimator.validation_scores_.append(score)
    if estimator.verbose:
        print(f"Validation score: {score:f}")
    if score < estimator.best_validation_score_ + estimator.tol:
        estimator._no_improvement_count += 1
    else:
        estimator._no_improvement_count = 0
    if score > estimator.best_validation_score_:
        estimator.best_validation_score_ = score
        return True
    return False


def stops_on_plateau(estimator):
    """Whether nothing improved for too long and the optimizer has no other way on."""
    if estimator._no_improvement_count <= estimator.n_iter_no_change:
        return False
    what = "Validation score" if estimator.early_stopping else "Training loss"
    message = (
        f"{what} did not improve more than tol={estimator.tol:f} for "
        f"{estimator.n_iter_no_change:d} consecutive epochs."
    )
    if estimator._optimizer.schedule.plateau(message, estimator.verbose):
        return True
    estimator._no_improvement_count = 0
    return False


class Trainer:
    """One fit by minibatches.

    Everything that it needs is allocated before the estimator changes.

    Parameters
    ----------
    estimator : BaseNetwork
    program : Program
    parameters : ndarray, the flat vector, which is trained in place
    state : ndarray or None
        Running statistics, which are changed in place.
    data : Data
    random_state : RandomState
    gpu : int or None
        The GPU that trains; None is the CPU.
    incremental : bool
        One epoch that continues the last optimizer, as ``partial_fit`` does.
    keep_initial : bool
        Whether the initial weights are the best until a score says otherwise.
    """

    def __init__(self, estimator, program, parameters, state, data, random_state, *, gpu,
                 incremental, keep_initial):  # fmt: skip
        self.estimator, self.data, self.random_state = estimator, data, random_state
        self.parameters, self.state, self.incremental = parameters, state, incremental
        self.split = Split(estimator, data, random_state)
        self.batch_size = choose_batch_size(estimator.batch_size, len(self.split.train))
        self.program = program
        seed = random_state.randint(LARGEST_SEED) if program.is_random else 0
        self.executor = make_executor(
            estimator, program, data, parameters.dtype, self.batch_size, gpu, state, seed
        )
        self.optimizer = getattr(estimator, "_optimizer", None)
        if not incremental or self.optimizer is None or self.optimizer.slots is None:
            self.optimizer = make_optimizer(estimator, parameters)
        self.optimizer.slots = trainable(self.optimizer.slots, parameters.dtype)
        self.orders = make_orders(
            self.split.train, random_state, n_samples=data.n_samples, executor=self.executor,
            is_private=isinstance(estimator.random_state, Integral) and not incremental,
            batch_size=self.batch_size, flops_per_row=program.flops_per_row(train=True),
        )  # fmt: skip
        self.best = self.copied() if estimator.early_stopping and keep_initial else None

    def copied(self):
        """The parameters and the state as they are now."""
        return self.parameters.copy(), None if self.state is None else self.state.copy()

    def run(self, context=None, **passed):
        """Train, and tell callbacks of each epoch (see `tasks`)."""
        estimator = self.estimator
        epoch_task = tasks(estimator, context, "epoch", self.reconstruct, **passed)
        estimator._optimizer, estimator._incremental = self.optimizer, self.incremental
        try:
            estimator.n_iter_ = 0
            for _ in range(estimator.max_iter):
                with epoch_task() as task:
                    self.epoch()
                if stops_on_plateau(estimator) or self.incremental or task.stop:
                    break
                if estimator.n_iter_ == estimator.max_iter:
                    warnings.warn(
                        f"Stochastic Optimizer: Maximum iterations ({estimator.max_iter:d}) "
                        "reached and the optimization hasn't converged yet.",
                        ConvergenceWarning,
                    )
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.")
        finally:
            self.orders.close()
            self.executor.fetch()
        if self.best is not None:
            set_parameters(estimator, self.program, *self.best)

    def epoch(self):
        """One pass over the training rows, and what is recorded of it."""
        estimator, order = self.estimator, self.split.train
        if estimator.shuffle:
            order = self.orders.next()
        estimator.loss_ = self.executor.train_epoch(
            self.parameters, self.optimizer, order, self.batch_size, estimator.alpha,
            in_order=not estimator.shuffle and self.split.validation is None,
            n_seen=estimator.t_,
        )  # fmt: skip
        estimator.n_iter_ += 1
        estimator.t_ += len(order)
        estimator.loss_curve_.append(estimator.loss_)
        if estimator.verbose:
            print(f"Iteration {estimator.n_iter_:d}, loss = {estimator.loss_:.8f}")
        if not estimator.early_stopping:
            record_loss(estimator)
        elif record_score(estimator, self.validation_score()):
            self.executor.fetch()
            self.best = self.copied()
        if has_callbacks(estimator):  # which may look at coefs_
            self.executor.fetch()
        self.optimizer.schedule.epoch_ends(estimator.t_)

    def reconstruct(self):
        """As if the fit stopped now."""
        now = (self.parameters, self.state) if self.best is None else self.best
        return reconstruction(self.program, *now)

    def validation_score(self):
        """Of the rows held out; NaN if a prediction is not finite."""
        rows, weights = self.split.validation, self.data.weights
        predictions = self.executor.predict_rows(
            self.program, self.parameters, rows, self.estimator.n_threads
        )
        return self.estimator._validation_score(
            predictions, self.data.targets[rows], None if weights is None else weights[rows]
        )


class Task:
    """Whether a callback asked to stop after this task."""

    stop = False


def tasks(estimator, context, name, reconstruct, **passed):
    """A factory of context managers that tell callbacks where each iteration begins and ends.

    Parameters
    ----------
    estimator : estimator
    context : CallbackContext or None
        Of the whole fit; None tells nobody.
    name : str
        What callbacks call an iteration.
    reconstruct : callable
        Fitted attributes as if the fit had stopped after the iteration.
    **passed
        X, y and metadata for the callbacks.
    """

    @contextmanager
    def without_callbacks():
        yield Task()

    @contextmanager
    def with_callbacks():
        task, subcontext = Task(), context.subcontext(task_name=name)
        subcontext.call_on_fit_task_begin(estimator=estimator, **passed)
        yield task
        task.stop = subcontext.call_on_fit_task_end(
            estimator=estimator, reconstruction_attributes=reconstruct, **passed
        )

    told = context is not None and has_callbacks(estimator)
    return with_callbacks if told else without_callbacks
