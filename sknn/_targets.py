"""From labels to the targets of a program and back."""

from numbers import Real

import numpy as np
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight
from sklearn.utils.multiclass import (
    check_classification_targets,
    type_of_target,
    unique_labels,
)

from sknn import losses
from sknn._kernels.cpu.executor import largest_columns
from sknn._validation import is_on_gpu, to_host


def is_integers(y):
    """Whether y is a vector of integers, which can only be labels of one kind."""
    is_vector = isinstance(y, np.ndarray) and y.ndim == 1 and y.size > 0
    return is_vector and y.dtype.isnative and np.can_cast(y.dtype, np.int64)


def find_classes(y):
    """The sorted classes in y, and what `type_of_target` calls it.

    Raises
    ------
    ValueError, TypeError
        If y is not labels, see `check_kind`.
    """
    if not is_integers(y):
        kind = check_kind(y)
        return unique_labels(y), kind
    low, high = int(y.min()), int(y.max())
    if high - low < len(y):
        counts = np.bincount(y.astype(np.int64, copy=False) - low)
        classes = (np.flatnonzero(counts) + low).astype(y.dtype)
    else:
        classes = np.unique(y)
    return classes, "multiclass" if len(classes) > 2 else "binary"


def check_kind(y):
    """What `type_of_target` calls y, which has to be labels.

    Raises
    ------
    ValueError
        If they are continuous, objects, or several columns of more than two classes.
    TypeError
        If they have no order. Both with the sentences of scikit-learn, and what to do.
    """
    try:
        kind = type_of_target(y, input_name="y")
        if kind == "unknown":  # objects
            np.unique(y)
    except TypeError as error:
        types = sorted({type(label).__name__ for label in np.ravel(y)})
        raise TypeError(
            f"{str(error).rstrip('.')}; the labels in y are of the types {types}. Give numbers "
            "alone or text alone, with none missing."
        ) from error
    if kind == "unknown":
        raise ValueError(
            "Unknown label type: unknown. y has the dtype object, and its labels are no text. "
            "Give an array of numbers or text, such as y.astype(int) or y.astype(str)."
        )
    if kind == "multiclass-multioutput":
        raise ValueError(
            "Multioutput target data is not supported with label binarization: y has "
            f"{np.shape(y)[1]} columns, which may then hold 0 and 1 alone. Give one column of "
            "labels, or fit a classifier for each, as sklearn.multioutput.MultiOutputClassifier "
            "does."
        )
    if kind.startswith("continuous"):
        check_classification_targets(y)  # raises
    return kind


def find_indices(classes, y):
    """Where each label of y lies in the sorted classes."""
    if is_integers(y) and is_integers(classes):
        low, high = int(classes[0]), int(classes[-1])
        if high - low < len(y):
            table = np.zeros(high - low + 1, np.int32)
            table[classes.astype(np.int64) - low] = np.arange(len(classes))
            return table[y.astype(np.int64, copy=False) - low]
    return np.searchsorted(classes, y).astype(np.int32)


class LabelEncoder:
    """The classes of a classifier, and what they are as targets.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    kind : {'binary', 'multiclass', 'multilabel-indicator'}
    """

    def __init__(self, y):
        self.classes_, self.kind = find_classes(y)
        self.is_multilabel = self.kind.startswith("multilabel")
        self.binarizer = LabelBinarizer().fit(y) if self.is_multilabel else None

    @property
    def n_outputs(self):
        """Width of the network's output: one probability says all of two classes."""
        n_classes = len(self.classes_)
        return 1 if n_classes <= 2 and not self.is_multilabel else n_classes

    @property
    def loss(self):
        if self.kind == "multiclass":
            return losses.SOFTMAX_LOG_LOSS
        return losses.SIGMOID_LOG_LOSS

    def encode(self, y, dtype):
        """Class indices for the softmax, else rows of zeros and ones."""
        if self.is_multilabel:
            rows = self.binarizer.transform(y)
            rows = rows.toarray() if hasattr(rows, "toarray") else rows
            return np.ascontiguousarray(rows != 0, dtype=dtype)
        if self.kind == "multiclass":
            return find_indices(self.classes_, y)
        # a single class is coded as zeros
        positive = y == self.classes_[-1] if len(self.classes_) == 2 else np.zeros(len(y))
        return np.ascontiguousarray(positive, dtype=dtype).reshape(-1, 1)

    def decode(self, probabilities):
        """Predicted labels, as ``LabelBinarizer.inverse_transform`` gives them.

        Of a CuPy array they are one, too, unless labels are no numbers.
        """
        if is_on_gpu(probabilities):
            with probabilities.device:
                return self._decode_on_gpu(probabilities)
        if self.kind == "multiclass":
            return self.classes_[largest_columns(probabilities)]
        chosen = probabilities > 0.5
        if not self.is_multilabel:  # a single class is predicted whatever its probability
            return self.classes_.take(chosen.ravel(), mode="clip")
        if self.binarizer.sparse_input_:
            return self.binarizer.inverse_transform(probabilities)
        return chosen.astype(np.intp)

    def _decode_on_gpu(self, probabilities):
        if self.is_multilabel:
            return (probabilities > 0.5).astype(np.intp)
        if self.kind == "multiclass":
            indices = probabilities.argmax(axis=1)
        else:
            indices = (probabilities.ravel() > 0.5).astype(np.intp)
        classes = self.classes_
        if classes.dtype.kind not in "biuf":
            return classes.take(to_host(indices), mode="clip")
        # like= makes an array of the same library
        return np.asarray(classes, like=probabilities)[indices.clip(0, len(classes) - 1)]

    def accuracy(self, probabilities, targets, weights):
        """The share of rows predicted right (of a multilabel row, all of it)."""
        if weights is not None and not weights.any():
            raise ValueError(
                "Sample weights must contain at least one non-zero number. Those of the "
                "validation rows are all zero: raise validation_fraction, or take another "
                "random_state."
            )
        if len(self.classes_) == 1 and not self.is_multilabel:
            return 1.0
        if targets.ndim == 1:
            right = probabilities.argmax(axis=1) == targets
        else:
            right = ((probabilities > 0.5) == (targets > 0.5)).all(axis=1)
        return float(np.average(right, weights=weights))


def check_labels(y, encoder, classes, *, warm_start):
    """Refuse labels that a fitted classifier with these classes does not know, or misses.

    Raises
    ------
    ValueError
        With the sentences of scikit-learn.
    """
    found, kind = find_classes(y)
    if kind.startswith("multilabel") != encoder.is_multilabel:
        raise ValueError(
            f"y is {kind}, but the network was fitted with {encoder.kind} targets. "
            "Give targets of that kind, or fit anew with warm_start=False."
        )
    if warm_start:
        if set(found) != set(classes):
            raise ValueError(
                "warm_start can only be used where `y` has the same classes as in the "
                f"previous call to fit. Previously got {classes}, `y` has {found}"
            )
    else:
        check_known(found, classes)


def check_known(found, classes):
    """Refuse labels that are not among the classes, with the sentence of scikit-learn."""
    if len(np.setdiff1d(found, classes, assume_unique=True)):
        raise ValueError(
            f"`y` has classes not in `self.classes_`. `self.classes_` has {classes}. "
            f"'y' has {found}."
        )


def refuse_balanced(class_weight):
    """Refuse the class weights that follow from labels which `partial_fit` does not see."""
    if class_weight == "balanced":
        raise ValueError(
            "class_weight 'balanced' is not supported for partial_fit, which does not see all "
            "samples. Compute the weights with compute_class_weight('balanced', "
            "classes=classes, y=y) on a sample that represents them, and pass the result as a "
            "dict."
        )


def class_weights(class_weight, classes, y):
    """The weight of each class, as :func:`sklearn.utils.class_weight.compute_class_weight`.

    Raises
    ------
    ValueError
        If a weight is no finite number.
    """
    if isinstance(class_weight, dict):
        for label, weight in class_weight.items():
            if not isinstance(weight, Real) or not np.isfinite(weight):
                raise ValueError(
                    f"class_weight has {weight!r} for the class {label!r}, but the weights of "
                    "classes must be finite numbers."
                )
    return compute_class_weight(class_weight, classes=classes, y=y)


def with_class_weight(class_weight, encoder, y, sample_weight):
    """Sample weights times the weights of their classes.

    Of a multilabel row, the weights of its columns are multiplied, as
    :func:`sklearn.utils.class_weight.compute_sample_weight` does it.

    Raises
    ------
    ValueError
        If a weight is no finite number, or y is multilabel and the weights are a dict, which
        cannot say whose they are.
    """
    if class_weight is None:
        return sample_weight
    if encoder.is_multilabel:
        if class_weight != "balanced":
            raise ValueError(
                "class_weight is a dict, but y is a label indicator matrix, whose columns have "
                "classes of their own. Take class_weight='balanced', or give sample_weight."
            )
        y = y.toarray() if hasattr(y, "toarray") else y
        weights = compute_sample_weight(class_weight, y)
    else:
        of_class = class_weights(class_weight, encoder.classes_, y)
        weights = of_class[find_indices(encoder.classes_, y)]
    return weights if sample_weight is None else sample_weight * weights
