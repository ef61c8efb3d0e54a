"""What each thread does of a call: its rows, then its slices of the parameters, step by step.

A step has two phases with a barrier after each. In the first, each thread takes its rows of
the minibatch through the forward and backward pass; in the second it takes its slice of the
parameters, makes the gradient of that slice over all rows, and updates it while it is in cache.
"""

cdef enum Verb:
    TRAIN_EPOCH
    EVALUATE
    PREDICT_ROWS

cdef enum Failure:
    NO_FAILURE
    ZERO_WEIGHT

# Parameters whose gradient is made and applied at once, so that it stays in cache: fewer of
# them where a product over a small minibatch costs little to cut.
cdef enum:
    SLICE_MIN = 1 << 17
    SLICE_MAX = 1 << 18
    SLICE_PER_ROW = 512


ctypedef struct PassRange:
    int32_t first_op
    int32_t end_op
    int32_t first_segment       # into Job.pass_segments
    int32_t end_segment

# What all threads of one call share.
cdef struct Job:
    Verb verb
    int n_threads
    Barrier* barrier
    bint double_precision
    # the program
    const Op* ops
    const Segment* segments
    const PassRange* passes
    int n_passes
    const int32_t* pass_segments
    const Operand* output
    # memory
    void* values
    Run run
    void* gathered
    char* workspaces
    int64_t workspace_bytes
    # X
    const char* x
    int x_type
    int64_t x_row_bytes
    int64_t n_features
    bint in_place               # dense rows of the compute type in the order of X
    # the minibatches
    const int64_t* order
    int64_t n_rows
    int64_t batch
    int64_t position            # the first row not yet run
    double deadline
    bint stop
    Failure failure
    # the update
    Update update
    const double* learning_rates
    void* slots[MAX_SLOTS]
    int n_slots
    double* penalties           # sums of squared parameters, one per thread
    double* losses              # one per pass
    void* gradient              # of EVALUATE
    void* out                   # of PREDICT_ROWS


cdef inline floating* at(void* vector, int64_t offset, floating* values) noexcept nogil:
    """Element ``offset`` of a vector of the compute type, which ``values`` names."""
    return <floating*>vector + offset


cdef void bind_rows(Job* job, Run* run, int64_t begin, int64_t n, floating* values) noexcept nogil:
    """Point the run at rows begin..begin + n of the order, as rows first_row.. of the arena."""
    cdef int64_t shift = begin - run.first_row
    run.samples = job.order + shift if job.order != NULL else NULL
    if job.x == NULL:
        return
    if job.in_place:
        run.input = job.x + shift * job.x_row_bytes
        return
    run.input = job.gathered
    if floating is float:
        KERNELS.gather32[job.x_type](
            at(job.gathered, run.first_row * job.n_features, values), job.x,
            job.order + begin, n, job.n_features)
    else:
        KERNELS.gather64[job.x_type](
            at(job.gathered, run.first_row * job.n_features, values), job.x,
            job.order + begin, n, job.n_features)


cdef void walk_rows(Job* job, const PassRange* p, Run* run, floating* values) noexcept nogil:
    """The forward pass over this thread's rows, and in training the backward pass."""
    cdef int i
    cdef const Op* op
    for i in range(p.first_op, p.end_op):
        op = &job.ops[i]
        if op.phases & run.phase:
            if floating is float:
                KERNELS.forward32[op.opcode](op, run, values)
            else:
                KERNELS.forward64[op.opcode](op, run, values)
    if run.phase != TRAIN:
        return
    for i in range(p.end_op - 1, p.first_op - 1, -1):
        op = &job.ops[i]
        if op.phases & run.phase:
            if floating is float:
                KERNELS.backward32[op.opcode](op, run, values)
            else:
                KERNELS.backward64[op.opcode](op, run, values)


cdef void make_gradient(Job* job, Run* run, const Segment* segment,
                        floating* values) noexcept nogil:
    cdef const Op* op = &job.ops[segment.op]
    run.segment = segment.index
    if floating is float:
        KERNELS.gradient32[op.opcode](op, run, values)
    else:
        KERNELS.gradient64[op.opcode](op, run, values)


cdef double update_slice(Job* job, Run* run, const Segment* segment, const Update* update,
                         floating* values) noexcept nogil:
    """Update rows begin..end of a segment; the sum of their squares before."""
    cdef int64_t first = segment.offset + run.begin * segment.columns
    cdef int64_t n = (run.end - run.begin) * segment.columns
    cdef floating* slots[MAX_SLOTS]
    cdef int k
    for k in range(MAX_SLOTS):
        slots[k] = at(job.slots[k], first, values) if k < job.n_slots else NULL
    if floating is float:
        return KERNELS.update32[update.optimizer](
            update, at(run.parameters, first, values), <float*>run.destination, slots, n)
    else:
        return KERNELS.update64[update.optimizer](
            update, at(run.parameters, first, values), <double*>run.destination, slots, n)


cdef void walk_parameters(Job* job, const PassRange* p, Run* run, int thread,
                          const Update* update, floating* values) noexcept nogil:
    """The gradient of this thread's slices over the whole minibatch, and their update."""
    cdef const Segment* segment
    cdef Update own = update[0]
    cdef int64_t begin, end, step
    cdef int i
    cdef double squares
    job.penalties[thread] = 0
    for i in range(p.first_segment, p.end_segment):
        segment = &job.segments[job.pass_segments[i]]
        if segment.rows == 1:       # too small to cut: the threads take turns
            begin, end = 0, 1 if i % job.n_threads == thread else 0
        else:
            begin = segment.rows * thread // job.n_threads
            end = segment.rows * (thread + 1) // job.n_threads
        step = max(SLICE_MIN, min(SLICE_MAX, SLICE_PER_ROW * job.batch)) // segment.columns
        if step < 8:
            step = 8
        while begin < end:
            run.begin = begin
            run.end = begin + step if begin + step < end else end
            begin = run.end
            if job.verb == EVALUATE:
                run.destination = at(
                    job.gradient, segment.offset + run.begin * segment.columns, values)
                make_gradient(job, run, segment, values)
                continue
            run.destination = run.workspace
            make_gradient(job, run, segment, values)
            own.learning_rate = update.learning_rate * segment.learning_rate_factor
            own.decay = update.decay if segment.decayed else 0
            squares = update_slice(job, run, segment, &own, values)
            if segment.decayed:
                job.penalties[thread] += squares


cdef double weight_of(const Run* run) noexcept nogil:
    """The sum of the minibatch's sample weights."""
    cdef double total = 0
    cdef int64_t i
    if run.weights == NULL:
        return <double>run.n_batch_rows
    for i in range(run.n_batch_rows):
        total += run.weights[run.samples[i]]
    return total


cdef double sum_of_rows(const Run* run) noexcept nogil:
    """In row order, whatever the number of threads."""
    cdef double total = 0
    cdef int64_t i
    for i in range(run.n_batch_rows):
        total += run.row_loss[i]
    return total


cdef void add_loss(Job* job, int p, const Run* run, double total, double weight) noexcept nogil:
    cdef double penalty = 0
    cdef int i
    if job.verb == EVALUATE:
        job.losses[p] += total
        return
    for i in range(job.n_threads):
        penalty += job.penalties[i]
    job.losses[p] += (total + 0.5 * job.update.decay * penalty) / weight * run.n_batch_rows


cdef void train_steps(Job* job, int thread, floating* values) noexcept nogil:
    """Minibatches from job.position on, until the last one or the deadline."""
    cdef Run run = job.run
    cdef Update update = job.update
    cdef int64_t begin = job.position
    cdef int64_t n, first
    cdef double total = 0
    cdef int p
    run.workspace = job.workspaces + thread * job.workspace_bytes
    while True:
        n = job.batch if job.n_rows - begin >= job.batch else job.n_rows - begin
        first = n * thread // job.n_threads
        run.n_batch_rows = n
        run.first_row = first
        run.n_rows = n * (thread + 1) // job.n_threads - first
        run.accumulate = job.verb == EVALUATE and begin > 0
        bind_rows(job, &run, begin + first, run.n_rows, values)
        for p in range(job.n_passes):
            if run.n_rows:
                walk_rows(job, &job.passes[p], &run, values)
            job.barrier.wait()
            update.weight_sum = weight_of(&run)
            if update.weight_sum == 0 and job.verb == TRAIN_EPOCH:
                job.failure = ZERO_WEIGHT
                return
            if job.verb == TRAIN_EPOCH:
                update.learning_rate = job.learning_rates[begin // job.batch]
            walk_parameters(job, &job.passes[p], &run, thread, &update, values)
            if thread == 0:
                total = sum_of_rows(&run)       # before the next step's rows overwrite it
                if p == job.n_passes - 1 and now() > job.deadline:
                    job.stop = True
            job.barrier.wait()
            if thread == 0:
                add_loss(job, p, &run, total, update.weight_sum)
        begin += n
        if begin == job.n_rows or job.stop:
            break
    if thread == 0:
        job.position = begin


cdef void predict_steps(Job* job, int thread, floating* values) noexcept nogil:
    """Every n_threads-th chunk of rows, in this thread's part of the arena."""
    cdef Run run = job.run
    cdef int64_t begin = job.position + thread * job.batch
    cdef int64_t end = job.n_rows, i, m = job.output.channels
    cdef floating* row
    run.first_row = thread * job.batch
    while begin < end:
        run.n_rows = job.batch if end - begin >= job.batch else end - begin
        run.n_batch_rows = run.n_rows
        bind_rows(job, &run, begin, run.n_rows, values)
        walk_rows(job, &job.passes[0], &run, values)
        row = (values + job.output.offset * run.capacity + job.output.start
               + run.first_row * job.output.sample_stride)
        for i in range(run.n_rows):
            memcpy(at(job.out, (begin + i) * m, values), row + i * job.output.sample_stride,
                   m * sizeof(floating))
        begin += job.n_threads * job.batch


cdef void work(Job* job, int thread) noexcept nogil:
    if job.verb == PREDICT_ROWS:
        if job.double_precision:
            predict_steps(job, thread, <double*>job.values)
        else:
            predict_steps(job, thread, <float*>job.values)
    elif job.double_precision:
        train_steps(job, thread, <double*>job.values)
    else:
        train_steps(job, thread, <float*>job.values)
