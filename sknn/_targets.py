"""From labels to the targets of a program and back."""

import numpy as np
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight
from sklearn.utils.multiclass import type_of_target

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
    ValueError
        If y is not labels, with the sentences of scikit-learn.
    """
    if not is_integers(y):
        binarizer = LabelBinarizer().fit(y)
        return binarizer.classes_, binarizer.y_type_
    low, high = int(y.min()), int(y.max())
    if high - low < len(y):
        counts = np.bincount(y.astype(np.int64, copy=False) - low)
        classes = (np.flatnonzero(counts) + low).astype(y.dtype)
    else:
        classes = np.unique(y)
    return classes, "multiclass" if len(classes) > 2 else "binary"


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
            return np.ascontiguousarray(rows, dtype=dtype)
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


def is_multilabel(y):
    """Whether the rows of y may belong to several classes at once."""
    return type_of_target(y).startswith("multilabel")


def check_labels(y, encoder, *, warm_start):
    """Refuse labels that a fitted classifier does not know, or misses.

    Raises
    ------
    ValueError
        With the sentences of scikit-learn.
    """
    classes, (found, kind) = encoder.classes_, find_classes(y)
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
    elif len(np.setdiff1d(found, classes, assume_unique=True)):
        raise ValueError(
            f"`y` has classes not in `self.classes_`. `self.classes_` has {classes}. "
            f"'y' has {found}."
        )


def with_class_weight(class_weight, encoder, y, sample_weight):
    """Sample weights times the weights of their classes.

    Of a multilabel row, the weights of its columns are multiplied, as
    :func:`sklearn.utils.class_weight.compute_sample_weight` does it.

    Raises
    ------
    ValueError
        If y is multilabel and the weights are a dict, which cannot say whose they are.
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
        of_class = compute_class_weight(class_weight, classes=encoder.classes_, y=y)
        weights = of_class[find_indices(encoder.classes_, y)]
    return weights if sample_weight is None else sample_weight * weights
