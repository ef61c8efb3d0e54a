"""What a thread does with its rows: the ops of a program forward, and in training backward.

An op that needs the whole minibatch (a sync op) has a part before its forward and before its
backward: each thread leaves what its own rows say, and after a barrier reads what all have left.
A thread without rows still walks these.

Between two sync ops a thread takes some rows at a time through all ops, so that what one has
written is in cache when the next reads it. The gradients of its own rows, for the segments that
have one per thread, are made on the way; what they read may then be overwritten.
"""


cdef inline void call(const Kernel32* kernels32, const Kernel64* kernels64, const Op* op,
                      Run* run, floating* values) noexcept nogil:
    if floating is float:
        kernels32[op.opcode](op, run, values)
    else:
        kernels64[op.opcode](op, run, values)


cdef void make_gradient(Job* job, Run* run, const Segment* segment, int64_t begin, int64_t end,
                        bint accumulate, floating* destination, floating* values) noexcept nogil:
    """Of rows begin..end of a segment."""
    cdef const Op* op = &job.ops[segment.op]
    run.segment = segment.index
    run.begin = begin
    run.end = end
    run.accumulate = accumulate
    run.destination = destination
    call(KERNELS.gradient32, KERNELS.gradient64, op, run, values)


cdef inline bint has_own_gradients(const Segment* segment) noexcept nogil:
    """Whether each thread makes a gradient of its rows rather than one of its slices."""
    return segment.own_gradient >= 0


cdef void make_own_gradients(Job* job, int o, Run* run, floating* values) noexcept nogil:
    """The gradients of these rows for the segments of an op that have one per thread."""
    cdef const Segment* segment
    cdef floating* own
    cdef int i
    run.gradient_first = run.first_row
    run.gradient_rows = run.n_rows
    for i in range(MAX_SEGMENTS):
        if job.ops[o].segments[i] < 0:
            continue
        segment = &job.segments[job.ops[o].segments[i]]
        if segment.op != o or segment.frozen or not has_own_gradients(segment):
            continue
        own = at(job.own_gradients, run.thread * job.own_size + segment.own_gradient, values)
        if run.n_rows:
            make_gradient(job, run, segment, 0, segment.rows, run.continued, own, values)
        else:
            memset(own, 0, segment.rows * segment.columns * sizeof(floating))


cdef inline bint goes_back(const Op* op, const Run* run) noexcept nogil:
    return op.phases & run.phase and op.outputs[0].grad_offset >= 0


cdef void walk_forward(Job* job, int first, int end, Run* run, floating* values) noexcept nogil:
    cdef int i
    for i in range(first, end):
        if job.ops[i].phases & run.phase and run.n_rows:
            call(KERNELS.forward32, KERNELS.forward64, &job.ops[i], run, values)


cdef void walk_backward(Job* job, int first, int end, Run* run, floating* values) noexcept nogil:
    cdef int i
    for i in range(end - 1, first - 1, -1):
        if not goes_back(&job.ops[i], run):
            continue
        if run.n_rows:
            call(KERNELS.backward32, KERNELS.backward64, &job.ops[i], run, values)
        make_own_gradients(job, i, run, values)


cdef inline bint take_chunk(Run* run, const Run* whole, int64_t at_most, int64_t k) noexcept nogil:
    """Point at the k-th of as few parts of a thread's rows as possible; False after the last.

    There is one even if there are no rows.
    """
    if whole.n_rows <= at_most:     # as it is
        return k == 0
    cdef int64_t n = (whole.n_rows + at_most - 1) // at_most
    if k >= n:
        return False
    run.continued = k > 0
    run.first_row = whole.first_row + whole.n_rows * k // n
    run.n_rows = whole.first_row + whole.n_rows * (k + 1) // n - run.first_row
    return True


cdef void stretch_forward(Job* job, const Stretch* s, const Run* whole,
                          floating* values) noexcept nogil:
    """The ops of a stretch, and what the sync op after it needs to know."""
    cdef Run run = whole[0]
    cdef int64_t k = 0
    while take_chunk(&run, whole, s.forward_rows, k):
        walk_forward(job, s.first_op, s.end_op, &run, values)
        call(KERNELS.forward_statistics32, KERNELS.forward_statistics64, &job.ops[s.end_op],
             &run, values)
        k += 1


cdef void stretch_backward(Job* job, const PassRange* p, int i, const Run* whole,
                           floating* values) noexcept nogil:
    """The same backward; the sync op after a stretch belongs to it, that at its start does not.

    Of the last stretch, which waits for no one in between, rows go forward just before.
    """
    cdef const Stretch* s = &job.stretches[i]
    cdef bint is_last = i + 1 == p.end_stretch
    cdef bint after = not is_last and goes_back(&job.ops[s.end_op], whole)
    cdef bint before = i > p.first_stretch
    cdef Run run = whole[0]
    cdef int64_t k = 0
    if after:
        job.barrier.wait()
    while take_chunk(&run, whole, s.backward_rows, k):
        if is_last:
            walk_forward(job, s.first_op, s.end_op, &run, values)
        walk_backward(job, s.first_op + before, s.end_op + after, &run, values)
        if before and goes_back(&job.ops[s.first_op], &run):
            call(KERNELS.backward_statistics32, KERNELS.backward_statistics64,
                 &job.ops[s.first_op], &run, values)
        k += 1


cdef void walk_rows(Job* job, const PassRange* p, Run* run, floating* values) noexcept nogil:
    """This thread's rows through a pass, forward and backward."""
    cdef int i
    for i in range(p.first_stretch, p.end_stretch - 1):
        stretch_forward(job, &job.stretches[i], run, values)
        job.barrier.wait()
    for i in range(p.end_stretch - 1, p.first_stretch - 1, -1):
        stretch_backward(job, p, i, run, values)
