"""Rosenblatt's rule: every class against the rest, all of them in one pass over the samples.

A class has one weight per feature and an intercept. A sample on the wrong side of its
hyperplane, or on it, is added to the weights or taken from them; scikit-learn's penalties
and class and sample weights go with that.

There are two layouts. With dense rows the weights are (classes, width), ``coef_`` with
zeros after the features, and the sums run along the features. With sparse rows they are
(features, lanes), so that the weights that a stored value meets lie side by side; the
classes fill the lanes.
"""

import numpy as np

from cython cimport floating
from libc.math cimport fabs
from libc.stdint cimport int32_t, int64_t, uint32_t
from libc.string cimport memcpy

cdef extern from "perceptron.h":
    enum:
        ROW_BYTES
        N_LANES
    void dot_one_class[T](const T* x, const T* w, Py_ssize_t width, T* scores) noexcept nogil
    void dot_four_classes[T](const T* x, const T* w, Py_ssize_t width, T* scores) noexcept nogil
    void dense_add[T](const T* x, T* w, Py_ssize_t width, T step) noexcept nogil
    void dense_collect[T](T* w, T* paid, Py_ssize_t width, T debt, T scale) noexcept nogil
    void dot_lanes[T](
        const T* x, const int32_t* indices, Py_ssize_t n, const T* w, Py_ssize_t n_lanes,
        T* scores,
    ) noexcept nogil
    void add_lanes[T](
        const T* x, const int32_t* indices, Py_ssize_t n, T* w, Py_ssize_t n_lanes,
        const T* steps,
    ) noexcept nogil
    void collect_lanes[T](
        const int32_t* indices, Py_ssize_t n, T* w, T* paid, Py_ssize_t n_lanes,
        const T* debts, T scale, const T* inverse_scales,
    ) noexcept nogil
    void prefetch(const void* start, Py_ssize_t size) noexcept nogil

LANES = N_LANES
ROW_SIZE = ROW_BYTES

cdef struct Learner:           # one class against the rest
    int64_t label              # of the positive samples
    int64_t stopped            # 1: leave it as it is; its step must be 0
    int64_t mistakes           # of this pass: updates that changed something
    double positive_weight     # class weights of the two sides
    double negative_weight
    double intercept
    double step                # what the current sample is multiplied by and added with
    double objective           # of this pass: sum of losses and penalties
    double squared_norm        # of the weights when last updated (see measure)
    double absolute_norm
    double debt                # l1 penalty that every weight has incurred so far

cdef struct Rule:              # the same for all classes
    double eta0
    double intercept_rate      # share of a step that the intercept takes; 0: it has none
    double shrink              # factor of the weights at every sample, by the l2 penalty
    double l1_step             # what every sample adds to the debts, by the l1 penalty
    double l2_cost             # coefficients of the norms in the objective
    double l1_cost

LEARNER_DTYPE = np.dtype([
    ("label", "i8"), ("stopped", "i8"), ("mistakes", "i8"),
    ("positive_weight", "f8"), ("negative_weight", "f8"), ("intercept", "f8"),
    ("step", "f8"), ("objective", "f8"), ("squared_norm", "f8"), ("absolute_norm", "f8"),
    ("debt", "f8"),
])

RULE_DTYPE = np.dtype([
    ("eta0", "f8"), ("intercept_rate", "f8"), ("shrink", "f8"), ("l1_step", "f8"),
    ("l2_cost", "f8"), ("l1_cost", "f8"),
])

assert LEARNER_DTYPE.itemsize == sizeof(Learner)
assert RULE_DTYPE.itemsize == sizeof(Rule)


# ---------------------------------------------------------------------------------------
# one class, one sample
# ---------------------------------------------------------------------------------------

cdef inline void judge(
    Learner* learner, double score, int64_t label, double sample_weight, double scale,
    const Rule* rule,
) noexcept nogil:
    """Add up the objective, and set the step by which the sample moves the weights."""
    cdef bint positive = label == learner.label
    cdef double margin
    if learner.stopped:
        return
    score += learner.intercept
    margin = score if positive else -score
    learner.step = 0.0
    learner.debt += rule.l1_step
    learner.objective += (
        rule.l2_cost * learner.squared_norm * scale * scale
        + rule.l1_cost * learner.absolute_norm * scale
    )
    if margin <= 0.0:
        learner.objective -= margin
        learner.step = rule.eta0 * sample_weight * (
            learner.positive_weight if positive else -learner.negative_weight
        )
        learner.intercept += learner.step * rule.intercept_rate
        learner.mistakes += learner.step != 0.0


cdef inline bint running(const Learner* learners, Py_ssize_t n) noexcept nogil:
    """Whether one of n has not stopped."""
    cdef Py_ssize_t k
    for k in range(n):
        if not learners[k].stopped:
            return True
    return False


cdef void measure(
    Learner* learner, const floating* weights, Py_ssize_t stride,
    const int32_t* indices, Py_ssize_t n,
) noexcept nogil:
    """Norms of the weights of a sample's features, for the objective.

    Only the weights that the sample touched count, as in scikit-learn: with sparse rows
    these are few of them, and the same ``tol`` then stops at the same epoch.
    """
    cdef double squared = 0.0, absolute = 0.0, w
    cdef Py_ssize_t t
    for t in range(n):
        w = weights[(t if indices == NULL else indices[t]) * stride]
        squared += w * w
        absolute += fabs(w)
    learner.squared_norm = squared
    learner.absolute_norm = absolute


cdef inline bint measured(const Rule* rule) noexcept nogil:
    """Whether the objective needs the norms."""
    return rule.l2_cost != 0.0 or rule.l1_cost != 0.0


cdef void rescale(
    Learner* learners, Py_ssize_t n_learners, floating* weights, Py_ssize_t learner_stride,
    Py_ssize_t feature_stride, Py_ssize_t n_features, double scale,
) noexcept nogil:
    """Multiply the common factor into the weights (and the norms, which go without it)."""
    cdef floating* w
    cdef Py_ssize_t j, k
    for k in range(n_learners):
        if not learners[k].stopped:
            w = weights + k * learner_stride
            for j in range(n_features):
                w[j * feature_stride] *= <floating>scale
            learners[k].squared_norm *= scale * scale
            learners[k].absolute_norm *= scale


# ---------------------------------------------------------------------------------------
# dense rows
# ---------------------------------------------------------------------------------------

cdef void dense_judge(
    const floating* x, Py_ssize_t width, int32_t label, double sample_weight,
    const floating* weights, Learner* learners, Py_ssize_t n_learners, double scale,
    const Rule* rule,
) noexcept nogil:
    cdef floating[4] scores
    cdef Py_ssize_t k = 0, lane, count
    while k < n_learners:
        count = 4 if k + 4 <= n_learners else 1
        if not running(&learners[k], count):
            k += count
            continue
        if count == 4:
            dot_four_classes(x, weights + k * width, width, scores)
        else:
            dot_one_class(x, weights + k * width, width, scores)
        for lane in range(count):
            judge(&learners[k], scale * scores[lane], label, sample_weight, scale, rule)
            k += 1


cdef void dense_update(
    const floating* x, Py_ssize_t width, floating* weights, floating* paid,
    Learner* learners, Py_ssize_t n_learners, double scale, const Rule* rule,
) noexcept nogil:
    cdef floating* w
    cdef Py_ssize_t k
    for k in range(n_learners):
        w = weights + k * width
        if learners[k].step != 0.0:
            dense_add(x, w, width, <floating>(learners[k].step / scale))
            if measured(rule):
                measure(&learners[k], w, 1, NULL, width)
        if rule.l1_step != 0.0 and not learners[k].stopped:
            dense_collect(
                w, paid + k * width, width, <floating>learners[k].debt, <floating>scale
            )


def dense_pass(
    const floating[:, ::1] X,
    const int32_t[::1] order,
    const int32_t[::1] labels,
    const floating[::1] sample_weight,
    floating[:, ::1] weights,
    floating[:, ::1] paid,
    floating[::1] row,
    Learner[::1] learners,
    const Rule[::1] rules,
):
    """Show the samples in ``order`` to all classes.

    Parameters
    ----------
    X : array of shape (n_samples, n_features)
    order : array of int32
        Rows of ``X``, in the order of the pass.
    labels : int32 array of shape (n_samples,)
    sample_weight : array of shape (n_samples,)
    weights : array of shape (n_learners, width)
        Updated in place. ``width`` is ``n_features``, rounded up to whole rows of
        `ROW_SIZE` bytes; what lies beyond the features is zero.
    paid : array of shape (n_learners, width)
        What the l1 penalty took; not read without that penalty.
    row : zeros of shape (width,)
        Room for a sample.
    learners : array of `LEARNER_DTYPE`, shape (n_learners,)
        Updated in place.
    rules : array of `RULE_DTYPE`, shape (1,)
    """
    cdef const Rule* rule = &rules[0]
    cdef Learner* first = &learners[0]
    cdef floating* w = &weights[0, 0]
    cdef floating* x = &row[0]
    cdef floating* owed = &paid[0, 0] if rule.l1_step != 0.0 else NULL
    cdef double scale = 1.0
    cdef double smallest = 1e-6 if floating is float else 1e-9
    cdef Py_ssize_t n_samples = order.shape[0], n_features = X.shape[1]
    cdef Py_ssize_t width = weights.shape[1], n_learners = learners.shape[0], i
    cdef int32_t sample

    with nogil:
        for i in range(n_samples):
            sample = order[i]
            memcpy(x, &X[sample, 0], n_features * sizeof(floating))
            if i + 1 < n_samples:
                prefetch(&X[order[i + 1], 0], n_features * sizeof(floating))
            dense_judge(
                x, width, labels[sample], sample_weight[sample], w, first, n_learners,
                scale, rule,
            )
            scale *= rule.shrink
            if scale < smallest:
                rescale(first, n_learners, w, width, 1, width, scale)
                scale = 1.0
            dense_update(x, width, w, owed, first, n_learners, scale, rule)
        if scale != 1.0:
            rescale(first, n_learners, w, width, 1, width, scale)


# ---------------------------------------------------------------------------------------
# sparse rows
# ---------------------------------------------------------------------------------------

cdef inline Py_ssize_t first_lane(Py_ssize_t begin, Py_ssize_t n_lanes) noexcept nogil:
    """Where N_LANES lanes start that hold the classes from ``begin`` on.

    The last ones overlap those before, unless n_lanes is a multiple of N_LANES.
    """
    return begin if begin + N_LANES <= n_lanes else max(n_lanes - N_LANES, <Py_ssize_t>0)


cdef void sparse_judge(
    const floating* x, const int32_t* indices, Py_ssize_t n, int32_t label,
    double sample_weight, const floating* weights, Py_ssize_t n_lanes, Learner* learners,
    Py_ssize_t n_learners, double scale, const Rule* rule,
) noexcept nogil:
    cdef floating[N_LANES] scores
    cdef Py_ssize_t begin = 0, end, first, k
    while begin < n_learners:
        end = min(begin + N_LANES, n_learners)
        if running(&learners[begin], end - begin):
            first = first_lane(begin, n_lanes)
            dot_lanes(x, indices, n, weights + first, n_lanes, scores)
            for k in range(begin, end):
                judge(&learners[k], scale * scores[k - first], label, sample_weight, scale, rule)
        begin = end


cdef void sparse_update(
    const floating* x, const int32_t* indices, Py_ssize_t n, floating* weights,
    Py_ssize_t n_lanes, Learner* learners, Py_ssize_t n_learners, double scale,
    const Rule* rule,
) noexcept nogil:
    cdef floating[N_LANES] steps
    cdef bint moved
    cdef Py_ssize_t begin = 0, first, k, lane
    while begin < n_learners:
        first = first_lane(begin, n_lanes)
        moved = False
        for lane in range(N_LANES):
            steps[lane] = 0
        for k in range(begin, min(begin + N_LANES, n_learners)):
            if learners[k].step != 0.0:
                steps[k - first] = <floating>(learners[k].step / scale)
                moved = True
        if moved:
            add_lanes(x, indices, n, weights + first, n_lanes, steps)
        if moved and measured(rule):
            for k in range(begin, min(begin + N_LANES, n_learners)):
                if learners[k].step != 0.0:
                    measure(&learners[k], weights + k, n_lanes, indices, n)
        begin += N_LANES


cdef void sparse_charge(
    const int32_t* indices, Py_ssize_t n, floating* weights, floating* paid,
    Py_ssize_t n_lanes, Learner* learners, Py_ssize_t n_learners, double scale,
) noexcept nogil:
    cdef floating[N_LANES] debts, inverse_scales
    cdef Py_ssize_t begin = 0, first, k, lane
    while begin < n_learners:
        first = first_lane(begin, n_lanes)
        for lane in range(N_LANES):
            debts[lane] = inverse_scales[lane] = 0
        for k in range(begin, min(begin + N_LANES, n_learners)):
            debts[k - first] = <floating>learners[k].debt
            if not learners[k].stopped:
                inverse_scales[k - first] = <floating>(1.0 / scale)
        collect_lanes(
            indices, n, weights + first, paid + first, n_lanes, debts, <floating>scale,
            inverse_scales,
        )
        begin += N_LANES


def sparse_pass(
    const floating[::1] data,
    const int32_t[::1] indices,
    const int32_t[::1] indptr,
    const int32_t[::1] order,
    const int32_t[::1] labels,
    const floating[::1] sample_weight,
    floating[:, ::1] weights,
    floating[:, ::1] paid,
    Learner[::1] learners,
    const Rule[::1] rules,
):
    """Show the rows in ``order`` of a CSR matrix to all classes.

    Parameters
    ----------
    data, indices, indptr : arrays
        The CSR matrix.
    weights : array of shape (n_features, n_lanes)
        Updated in place. There is a lane for each learner, or `LANES` of them if that
        is more; one learner may have a single lane.
    paid : array of shape (n_features, n_lanes)
        What the l1 penalty took; not read without that penalty.
    order, labels, sample_weight, learners, rules :
        As in `dense_pass`.
    """
    cdef const Rule* rule = &rules[0]
    cdef Learner* first = &learners[0]
    cdef floating* w = &weights[0, 0]
    cdef const floating* x
    cdef const int32_t* columns
    cdef floating* owed = &paid[0, 0] if rule.l1_step != 0.0 else NULL
    cdef double scale = 1.0
    cdef double smallest = 1e-6 if floating is float else 1e-9
    cdef Py_ssize_t n_lanes = weights.shape[1], n_learners = learners.shape[0]
    cdef Py_ssize_t n_features = weights.shape[0], n_samples = order.shape[0], i, n, after, size
    cdef int32_t sample

    with nogil:
        for i in range(n_samples):
            sample = order[i]
            n = indptr[sample + 1] - indptr[sample]
            x = &data[0] + indptr[sample]
            columns = &indices[0] + indptr[sample]
            if i + 1 < n_samples:
                after = indptr[order[i + 1]]
                size = indptr[order[i + 1] + 1] - after
                prefetch(&data[0] + after, size * sizeof(floating))
                prefetch(&indices[0] + after, size * sizeof(int32_t))
            sparse_judge(
                x, columns, n, labels[sample], sample_weight[sample], w,
                n_lanes, first, n_learners, scale, rule,
            )
            scale *= rule.shrink
            if scale < smallest:
                rescale(first, n_learners, w, 1, n_lanes, n_features, scale)
                scale = 1.0
            sparse_update(x, columns, n, w, n_lanes, first, n_learners, scale, rule)
            if rule.l1_step != 0.0:
                sparse_charge(columns, n, w, owed, n_lanes, first, n_learners, scale)
        if scale != 1.0:
            rescale(first, n_learners, w, 1, n_lanes, n_features, scale)


def shuffle(int32_t[::1] order, uint32_t seed):
    """Permute ``order`` in place.

    Fisher and Yates's shuffle with Marsaglia's 32-bit xorshift, and the numbers drawn as
    in scikit-learn, so that a binary fit meets its samples in scikit-learn's order.
    """
    cdef uint32_t state = seed if seed != 0 else 1
    cdef Py_ssize_t n = order.shape[0], i, j
    for i in range(n - 1):
        state ^= state << 13
        state ^= state >> 17
        state ^= state << 5
        j = i + (state & 0x7FFFFFFF) % <uint32_t>(n - i)
        order[i], order[j] = order[j], order[i]
