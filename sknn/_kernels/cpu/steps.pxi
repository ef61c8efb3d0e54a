"""What each thread does of a call: its rows, then its slices of the parameters, step by step.

A step has two phases with a barrier after each. In the first, each thread takes its rows of
the minibatch through the forward and backward pass; in the second it takes its slice of the
parameters, makes the gradient of that slice over all rows, and updates it while it is in cache.
Where a segment has few parameters and a minibatch many rows, every thread would read all rows
for it again: there each makes a gradient of its own rows in the first phase, while they are in
cache, and in the second they are added up in thread order, slice by slice.
"""

cdef enum Verb:
    TRAIN_EPOCH
    EVALUATE

cdef enum Failure:
    NO_FAILURE
    ZERO_WEIGHT

# Parameters whose gradient is made and applied at once, so that it stays in cache: fewer of
# them where a product over a small minibatch costs little to cut.
cdef enum:
    SLICE_MIN = 1 << 17
    SLICE_MAX = 1 << 19
    SLICE_PER_ROW = 1024

# Elements of all threads' gradients that are added up at once, on the stack.
cdef enum:
    SUMS_AT_ONCE = 256


ctypedef struct PassRange:
    int32_t first_op
    int32_t end_op
    int32_t first_segment       # into Job.pass_segments
    int32_t end_segment
    int32_t first_stretch
    int32_t end_stretch

# Rows of a program that follow each other without a barrier.
ctypedef struct Stretch:
    int32_t first_op
    int32_t end_op
    int64_t forward_rows        # of a minibatch that a thread takes at once
    int64_t backward_rows

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
    const Stretch* stretches
    int n_passes
    const int32_t* pass_segments
    int n_segments
    # memory
    void* values
    Run run
    void* gathered
    char* workspaces
    int64_t workspace_bytes
    char* slices                # gradients of slices, slice_bytes for each thread
    int64_t slice_bytes
    char* scratch               # KERNELS.scratch_bytes for each thread
    void* own_gradients         # one after the other, each of own_size elements
    int64_t own_size
    # X
    const char* x
    int x_type
    int64_t x_row_bytes
    int64_t n_features
    double x_scale              # what X is multiplied by
    bint in_place               # dense rows of the compute type in the order of X
    # sparse layers: see steps_csr.pxi
    int64_t* column_starts      # (n_features + 2 n_threads,)
    const int64_t* column_splits    # where each thread's columns begin: as many nonzeros each
    bint scaled
    double* scales              # (n_threads, n_segments)
    double* squares             # of what the vector holds, (n_threads, n_segments)
    # the minibatches
    const int64_t* order
    int64_t n_rows
    int64_t batch
    int64_t position            # the first row not yet run
    int64_t n_seen              # rows of earlier epochs, which random ops count from
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
    void* gradient              # of EVALUATE, which adds to it


cdef inline floating* at(void* vector, int64_t offset, floating* values) noexcept nogil:
    """Element ``offset`` of a vector of the compute type, which ``values`` names."""
    return <floating*>vector + offset


cdef inline int64_t first_of_share(int64_t n, int thread, int n_threads) noexcept nogil:
    """Where a thread's share of n begins; a division for nothing would be felt in a short step."""
    return n * thread if n_threads == 1 else n * thread // n_threads


cdef inline int64_t first_of_slice(int64_t n, int thread, int n_threads) noexcept nogil:
    """The same for elements: on a cache line, or at the end."""
    cdef int64_t first = first_of_share(n, thread, n_threads)
    return min(n, (first + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT)


cdef void bind_rows(Job* job, Run* run, int64_t begin, int64_t n, int64_t n_next,
                    floating* values) noexcept nogil:
    """Point the run at rows begin..begin + n of the order, as rows first_row.. of the arena.

    Those that this thread takes of the next minibatch, n_next, are fetched ahead.
    """
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
            job.order + begin, n, job.n_features, job.x_scale,
            job.order + begin + job.batch, n_next)
    else:
        KERNELS.gather64[job.x_type](
            at(job.gathered, run.first_row * job.n_features, values), job.x,
            job.order + begin, n, job.n_features, job.x_scale,
            job.order + begin + job.batch, n_next)


cdef double update_slice(Job* job, Run* run, const Segment* segment, const Update* update,
                         int64_t begin, int64_t n, const floating* gradient,
                         floating* values) noexcept nogil:
    """Update n parameters of a segment; the sum of their squares before, if they are decayed."""
    cdef int64_t first = segment.offset + begin
    cdef Update own = update[0]
    cdef floating* slots[MAX_SLOTS]
    cdef int k
    cdef double squares
    for k in range(MAX_SLOTS):
        slots[k] = at(job.slots[k], first, values) if k < job.n_slots else NULL
    if not segment.decayed:
        own.decay = 0
    if floating is float:
        squares = KERNELS.update32[own.optimizer](
            &own, at(run.parameters, first, values), gradient, slots, n)
    else:
        squares = KERNELS.update64[own.optimizer](
            &own, at(run.parameters, first, values), gradient, slots, n)
    return squares if segment.decayed else 0


cdef void add_up(floating* total, const floating* parts, int64_t stride, int n_parts,
                 int64_t n) noexcept nogil:
    """The sum of vectors of n elements, ``stride`` apart, in their order; one may be the total."""
    cdef floating sums[SUMS_AT_ONCE]
    cdef int64_t first = 0, m, i
    cdef int k
    while first < n:
        m = min(<int64_t>SUMS_AT_ONCE, n - first)
        for i in range(m):
            sums[i] = parts[first + i]
        for k in range(1, n_parts):
            for i in range(m):
                sums[i] += parts[k * stride + first + i]
        for i in range(m):
            total[first + i] = sums[i]
        first += m


cdef inline floating* slice_gradient(const Job* job, int thread, floating* values) noexcept nogil:
    """Where a thread makes the gradient of the slice that it updates."""
    return <floating*>(job.slices + thread * job.slice_bytes)


cdef double update_from_own_gradients(Job* job, Run* run, const Segment* segment, int thread,
                                      const Update* update, floating* values) noexcept nogil:
    """Add up this thread's slice of all threads' gradients, and update the slice.

    The sum goes where this thread writes its gradient of the next rows, so that no other thread's
    memory has to come back first.
    """
    cdef int64_t size = segment.rows * segment.columns
    cdef int64_t begin = first_of_slice(size, thread, job.n_threads)
    cdef int64_t n = first_of_slice(size, thread + 1, job.n_threads) - begin
    cdef const floating* parts = at(job.own_gradients, segment.own_gradient + begin, values)
    cdef floating* total = <floating*>parts + thread * job.own_size
    cdef floating* gradient
    cdef int64_t i
    if n == 0:
        return 0
    if job.n_threads > 1:
        if job.verb == TRAIN_EPOCH:
            fetch_to_write(at(run.parameters, segment.offset + begin, values),
                           n * sizeof(floating))
        add_up(total, parts, job.own_size, job.n_threads, n)
    if job.verb == EVALUATE:
        gradient = at(job.gradient, segment.offset + begin, values)
        for i in range(n):
            gradient[i] += total[i]
        return 0
    return update_slice(job, run, segment, update, begin, n, total, values)


include "steps_csr.pxi"


cdef inline int64_t rows_of_slice(const Job* job, const Segment* segment) noexcept nogil:
    """Rows of a segment whose gradient is made and applied at once."""
    if segment.whole:
        return segment.rows
    if reads_csr(job, segment):
        return csr_rows_of_slice(segment.columns)
    return max(8, max(SLICE_MIN, min(SLICE_MAX, SLICE_PER_ROW * job.batch)) // segment.columns)


cdef double update_from_rows(Job* job, Run* run, const Segment* segment, int thread,
                             const Update* update, floating* values) noexcept nogil:
    """The gradient of this thread's slices over the whole minibatch, and their update."""
    cdef int64_t begin = first_of_share(segment.rows, thread, job.n_threads)
    cdef int64_t end = first_of_share(segment.rows, thread + 1, job.n_threads)
    cdef int64_t step = rows_of_slice(job, segment)
    cdef int64_t n, first
    cdef floating* gradient = slice_gradient(job, thread, values)
    cdef double squares = 0
    run.gradient_first = 0
    run.gradient_rows = run.n_batch_rows
    if reads_csr(job, segment):
        group_by_columns(job, run, thread, begin, end, values)
    while begin < end:
        n = min(step, end - begin)
        first = begin * segment.columns
        if job.verb == EVALUATE:
            make_gradient(job, run, segment, begin, begin + n, True,
                          at(job.gradient, segment.offset + first, values), values)
        else:
            make_gradient(job, run, segment, begin, begin + n, False, gradient, values)
            squares += update_slice(job, run, segment, update, first, n * segment.columns,
                                    gradient, values)
        begin += n
    return squares


cdef void walk_parameters(Job* job, const PassRange* p, Run* run, int thread,
                          const Update* update, floating* values) noexcept nogil:
    """This thread's slices of the pass's segments: their gradient and their update."""
    cdef const Segment* segment
    cdef int i
    cdef double squares = 0
    for i in range(p.first_segment, p.end_segment):
        segment = &job.segments[job.pass_segments[i]]
        if has_own_gradients(segment):
            squares += update_from_own_gradients(job, run, segment, thread, update, values)
        elif job.scaled and reads_csr(job, segment):
            squares += update_scaled(job, run, segment, thread, update, values)
        else:
            squares += update_from_rows(job, run, segment, thread, update, values)
    job.penalties[thread] = squares


cdef double weight_of(const Run* run) noexcept nogil:
    """The sum of the minibatch's sample weights."""
    cdef double total = 0
    cdef int64_t i
    if run.weights == NULL:
        return <double>run.n_batch_rows
    for i in range(run.n_batch_rows):
        total += run.weights[run.samples[i]]
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
    run.scratch = job.scratch + thread * KERNELS.scratch_bytes
    run.thread = thread
    run.n_threads = job.n_threads
    run.update_state = job.verb == TRAIN_EPOCH
    run.scales = job.scales + thread * job.n_segments if job.scaled else NULL
    while True:
        n = job.batch if job.n_rows - begin >= job.batch else job.n_rows - begin
        first = first_of_share(n, thread, job.n_threads)
        run.n_batch_rows = n
        run.step = job.n_seen + begin
        run.first_row = first
        run.n_rows = first_of_share(n, thread + 1, job.n_threads) - first
        bind_rows(job, &run, begin + first, run.n_rows,
                  min(run.n_rows, job.n_rows - begin - first - job.batch), values)
        for p in range(job.n_passes):
            walk_rows(job, &job.passes[p], &run, values)
            job.barrier.wait()
            update.weight_sum = weight_of(&run)
            if update.weight_sum == 0 and job.verb == TRAIN_EPOCH:
                if thread == 0:
                    job.failure, job.position = ZERO_WEIGHT, begin
                return
            if job.verb == TRAIN_EPOCH:
                update.learning_rate = job.learning_rates[begin // job.batch]
            walk_parameters(job, &job.passes[p], &run, thread, &update, values)
            if thread == 0:
                total = sum_of(run.row_loss, n)     # before the next step's rows overwrite it
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


cdef void work(Job* job, int thread) noexcept nogil:
    cdef uint64_t before = float_control()
    set_float_control(flushing(before))
    if job.double_precision:
        train_steps(job, thread, <double*>job.values)
    else:
        train_steps(job, thread, <float*>job.values)
    set_float_control(before)
