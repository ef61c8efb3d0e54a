"""MAX_POOL and AVERAGE_POOL: y = the largest, or the mean, of each window of x.

x (n, height, width, channels), y (n, height, width, channels).
"""

cdef extern from "pool.h" namespace "sknn" nogil:
    cppclass Pool:
        int64_t height, width, channels, out_height, out_width
        int64_t window_h, window_w, stride_h, stride_w, pad_top, pad_left
    void max_pool[T](const Pool&, T*, uint8_t*, const T*)
    void max_pool_gradient[T](const Pool&, T*, const T*, const uint8_t*)
    void average_pool[T](const Pool&, T*, const T*)
    void average_pool_gradient[T](const Pool&, T*, const T*)
    void zero_dead[T](T*, const uint8_t*, Py_ssize_t)


cdef Pool pool_of(const Op* op) noexcept nogil:
    cdef const Operand* x = &op.inputs[0]
    cdef Pool s
    s.height, s.width, s.channels = x.height, x.width, x.channels
    s.out_height, s.out_width = op.outputs[0].height, op.outputs[0].width
    s.window_h, s.window_w = op.dims[<int>POOL_HEIGHT], op.dims[<int>POOL_WIDTH]
    s.stride_h, s.stride_w = op.dims[<int>POOL_STRIDE_HEIGHT], op.dims[<int>POOL_STRIDE_WIDTH]
    s.pad_top, s.pad_left = op.dims[<int>POOL_PAD_TOP], op.dims[<int>POOL_PAD_LEFT]
    return s


cdef inline uint8_t* positions_of(const Op* op, const Run* run, int64_t first) noexcept nogil:
    """Of the maxima of row ``first``; NULL if nobody will ask."""
    cdef const Operand* p = &op.outputs[1]
    if p.arena != BYTES or run.phase == PREDICT:
        return NULL
    return run.bytes + p.offset * run.capacity + first * p.sample_stride


cdef void max_pool_forward(const Op* op, Run* run, floating* values) noexcept nogil:
    cdef Pool s = pool_of(op)
    cdef int64_t i
    for i in range(run.first_row, run.first_row + run.n_rows):
        max_pool(s, rows(&op.outputs[0], run, values, i), positions_of(op, run, i),
                 <const floating*>rows(&op.inputs[0], run, values, i))


cdef void average_pool_forward(const Op* op, Run* run, floating* values) noexcept nogil:
    cdef Pool s = pool_of(op)
    cdef int64_t i
    for i in range(run.first_row, run.first_row + run.n_rows):
        average_pool(s, rows(&op.outputs[0], run, values, i),
                     <const floating*>rows(&op.inputs[0], run, values, i))


cdef inline void clear_gradient(const Operand* x, floating* dx) noexcept nogil:
    """Windows add to dx; what no window sees has the gradient 0."""
    if not x.accumulate:
        memset(dx, 0, size(x) * sizeof(floating))


cdef void max_pool_backward(const Op* op, Run* run, floating* values) noexcept nogil:
    cdef const Operand* x = &op.inputs[0]
    cdef Pool s = pool_of(op)
    cdef int64_t i
    if x.grad_offset < 0:
        return
    for i in range(run.first_row, run.first_row + run.n_rows):
        clear_gradient(x, gradient_rows(x, run, values, i))
        max_pool_gradient(
            s, gradient_rows(x, run, values, i),
            <const floating*>gradient_rows(&op.outputs[0], run, values, i),
            <const uint8_t*>positions_of(op, run, i))


cdef void average_pool_backward(const Op* op, Run* run, floating* values) noexcept nogil:
    cdef const Operand* x = &op.inputs[0]
    cdef Pool s = pool_of(op)
    cdef int64_t i
    if x.grad_offset < 0:
        return
    for i in range(run.first_row, run.first_row + run.n_rows):
        clear_gradient(x, gradient_rows(x, run, values, i))
        average_pool_gradient(s, gradient_rows(x, run, values, i),
                              <const floating*>gradient_rows(&op.outputs[0], run, values, i))


TABLE.forward32[<int>MAX_POOL] = max_pool_forward[float]
TABLE.forward64[<int>MAX_POOL] = max_pool_forward[double]
TABLE.backward32[<int>MAX_POOL] = max_pool_backward[float]
TABLE.backward64[<int>MAX_POOL] = max_pool_backward[double]
TABLE.forward32[<int>AVERAGE_POOL] = average_pool_forward[float]
TABLE.forward64[<int>AVERAGE_POOL] = average_pool_forward[double]
TABLE.backward32[<int>AVERAGE_POOL] = average_pool_backward[float]
TABLE.backward64[<int>AVERAGE_POOL] = average_pool_backward[double]
