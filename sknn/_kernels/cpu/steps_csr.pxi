"""What steps do with the weights of a layer that reads sparse rows.

A minibatch has nonzeros in few columns of X, and only those rows of the weights have a
gradient. An optimizer with slots must move every weight all the same. Plain gradient descent
only shrinks the others, all by the same factor: it keeps the weights as W = scale * V, and a
step changes the scale and the rows of V that occur. `fold` makes V the weights again.
"""

from libc.math cimport fabs

from sknn._kernels.ops cimport DENSE_CSR

# Parameters whose gradient is made and applied at once: it stays in the first cache.
cdef enum:
    CSR_SLICE = 1 << 12

# beyond these a scale is folded, long before V overflows or loses digits
cdef double SMALLEST_SCALE = 2.0 ** -30
cdef double LARGEST_SCALE = 2.0 ** 30


cdef inline bint reads_csr(const Job* job, const Segment* segment) noexcept nogil:
    """Whether the segment is the weights of a layer that reads sparse rows."""
    return segment.index == 0 and job.ops[segment.op].opcode == DENSE_CSR


cdef inline int64_t csr_rows_of_slice(int64_t columns) noexcept nogil:
    """Rows of the weights in a slice: whole cache lines if there are several."""
    cdef int64_t n = max(1, CSR_SLICE // columns)
    return n if n < ALIGNMENT else n - n % ALIGNMENT


cdef void group_by_columns(const Job* job, Run* run, int thread, int64_t begin, int64_t end,
                           floating* values) noexcept nogil:
    """The minibatch's nonzeros of columns begin..end, as the gradient kernel reads them."""
    run.begin = begin
    run.end = end
    run.column_starts = job.column_starts + 2 * thread
    if floating is float:
        KERNELS.group32(run, values)
    else:
        KERNELS.group64(run, values)


cdef double scale_rows(Job* job, const Segment* segment, double factor, int thread,
                       floating* values) noexcept nogil:
    """Multiply this thread's rows of the weights; the sum of their squares then."""
    cdef int64_t begin = job.column_splits[thread] * segment.columns
    cdef int64_t n = job.column_splits[thread + 1] * segment.columns - begin
    cdef floating* w = at(job.run.parameters, segment.offset + begin, values)
    if floating is float:
        return KERNELS.scale32(w, factor, n)
    else:
        return KERNELS.scale64(w, factor, n)


cdef double update_scaled(Job* job, Run* run, const Segment* segment, int thread,
                          const Update* update, floating* values) noexcept nogil:
    """Plain gradient descent on W = scale * V, for this thread's rows that occur."""
    cdef int64_t i = thread * job.n_segments + (segment - job.segments)
    cdef double rate = update.learning_rate / update.weight_sum
    cdef double squares = job.scales[i] * job.scales[i] * job.squares[i]
    cdef const Op* op = &job.ops[segment.op]
    if segment.decayed:
        job.scales[i] *= 1 - rate * update.decay
    if not SMALLEST_SCALE < fabs(job.scales[i]) < LARGEST_SCALE:
        job.squares[i] = scale_rows(job, segment, job.scales[i], thread, values)
        job.scales[i] = 1
    run.gradient_first = 0
    run.gradient_rows = run.n_batch_rows
    run.begin = job.column_splits[thread]
    run.end = job.column_splits[thread + 1]
    run.column_starts = job.column_starts
    run.destination = slice_gradient(job, thread, values)
    if floating is float:
        job.squares[i] += KERNELS.descend32(op, run, rate / job.scales[i], values)
    else:
        job.squares[i] += KERNELS.descend64(op, run, rate / job.scales[i], values)
    return squares if segment.decayed else 0


cdef void fold_rows(Job* job, int thread, floating* values) noexcept nogil:
    cdef const Segment* segment
    cdef int64_t i
    cdef int k
    for k in range(job.n_segments):
        segment = &job.segments[k]
        if job.update.decay and segment.decayed and reads_csr(job, segment):
            i = thread * job.n_segments + k
            job.squares[i] = scale_rows(job, segment, job.scales[i], thread, values)
            job.scales[i] = 1


cdef void fold(Job* job, int thread) noexcept nogil:
    """Make V the weights, scale 1, and sum their squares, of a thread's rows."""
    if job.double_precision:
        fold_rows(job, thread, <double*>job.values)
    else:
        fold_rows(job, thread, <float*>job.values)
