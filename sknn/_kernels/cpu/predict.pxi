"""Predictions: one compiled call over memory of its own, so that two threads may predict with
one estimator.

Rows go through the network in chunks that stay in cache, and a thread takes the next one when it
is done with its own; memory does not grow with their number.
"""

cdef extern from "<cfloat>" nogil:
    float FLT_MAX
    double DBL_MAX

cdef enum:
    # bytes of values that a thread keeps in cache, and the rows that it takes at once
    CHUNK_BYTES = 1 << 20
    CHUNK_ROWS_MIN = 224
    CHUNK_ROWS_MAX = 448
    CHUNK_IMAGES_MIN = 16       # of programs with images, whose values are large
    CACHE_LINE = 64
# a call of fewer operations is short and keeps the GIL: another thread might then hold it for
# milliseconds
cdef double SHORT_FLOPS = 1e6
# between looks for Ctrl-C, about 0.05 s
cdef double BLOCK_FLOPS = 2e9


# What all threads of one call share.
cdef struct Prediction:
    Job job
    const Operand* output
    int64_t row_size            # elements of all values of a row
    void* out
    bint is_short             # too short to be worth ceremonies
    int64_t* numbers            # the chunk's rows of X, if they have to be numbered
    bint check                  # whether X is known to be finite only when it has been read
    double largest              # that fits the compute type
    int64_t next                # the first row that no thread has taken; each copies the job
    bint* refused               # by each thread, for a number that is not finite or does not fit


cdef class Predictor:
    """What every prediction with a program starts from; never changed, and so shared."""

    cdef Prediction start
    cdef object program
    cdef list arrays            # what the start points into
    cdef int64_t n_parameters, n_state, workspace
    cdef double row_flops
    cdef bint sparse, has_images

    def __cinit__(self, program):
        cdef Job* job = &self.start.job
        x = program.ops["inputs"][:, 0]
        self.program = program
        self.arrays = [program.ops, program.pass_ranges, program.output]
        job.ops = <const Op*>cnp.PyArray_DATA(program.ops)
        job.passes = <const PassRange*>cnp.PyArray_DATA(program.pass_ranges)
        job.n_features = program.n_features
        job.x_scale = program.x_scale
        job.run.phase = PREDICT
        self.n_state, self.workspace = program.n_state, program.workspace
        self.start.output = <const Operand*>cnp.PyArray_DATA(program.output)
        self.n_parameters = program.n_parameters
        self.start.row_size = program.value_size
        self.row_flops = program.flops_per_row()
        self.sparse = program.sparse
        self.has_images = (x["height"] * x["width"] > 1).any()

    cdef int bind(self, Prediction* p, cnp.ndarray parameters, X, rows,
                  cnp.ndarray state) except -1:
        """Point at the arrays of a call; those of other types or sizes would be overrun."""
        cdef Job* job = &p.job
        if parameters.ndim != 1 or parameters.shape[0] != self.n_parameters:
            raise ValueError(
                f"The program has {self.n_parameters} parameters, but was given an array of "
                f"shape {np.shape(parameters)}.")
        if self.n_state:
            check_vector("running statistics", state, self.n_state, parameters.dtype)
            job.run.state = cnp.PyArray_DATA(state)
        point_at_X(job, X, self.sparse)
        job.run.parameters = cnp.PyArray_DATA(parameters)
        job.double_precision = cnp.PyArray_TYPE(parameters) == cnp.NPY_DOUBLE
        job.order = <const int64_t*>address_or_null(rows)
        job.in_place = job.order == NULL and not self.sparse and job.x_scale == 1 and (
            job.x_type == (FLOAT64 if job.double_precision else FLOAT32))
        p.largest = DBL_MAX if job.double_precision else FLT_MAX
        return 0

    cdef int divide(self, Prediction* p, int64_t n, n_threads) except -1:
        """Into chunks and threads, for n rows."""
        cdef Job* job = &p.job
        cdef int64_t in_cache = CHUNK_BYTES // (itemsize(job) * p.row_size)
        cdef int64_t least = CHUNK_IMAGES_MIN if self.has_images else CHUNK_ROWS_MIN
        in_cache = max(least, min(<int64_t>CHUNK_ROWS_MAX, in_cache))
        job.n_threads = 1
        if n > 1:
            job.n_threads = min(n, <int64_t>choose_n_threads(n_threads, self.row_flops * n))
        job.n_rows = n
        job.batch = min((n + job.n_threads - 1) // job.n_threads, in_cache)
        job.run.capacity = job.batch * job.n_threads
        p.is_short = job.n_threads == 1 and self.row_flops * n < SHORT_FLOPS
        return 0

    cdef void* allocate(self, Prediction* p) except NULL:
        """One block for all that a call writes but its result; to be freed."""
        cdef Job* job = &p.job
        cdef int64_t capacity = job.run.capacity
        cdef bint cast = not job.in_place and not self.sparse
        cdef bint number = not job.in_place and job.order == NULL
        cdef int64_t values = whole_lines(itemsize(job) * p.row_size * capacity)
        cdef int64_t gathered = whole_lines(itemsize(job) * job.n_features * capacity * cast)
        cdef int64_t numbers = whole_lines(sizeof(int64_t) * capacity * number)
        cdef int64_t scratch = KERNELS.scratch_bytes * (job.batch > FEW_ROWS or self.workspace > 0)
        cdef int64_t workspace = whole_lines(itemsize(job) * self.workspace)
        cdef int64_t total = (values + gathered + numbers
                              + (scratch + workspace + sizeof(bint)) * job.n_threads)
        cdef char* block = <char*>malloc(total + CACHE_LINE)
        cdef char* start
        if block == NULL:
            raise MemoryError(
                f"A prediction could not allocate {total:,} bytes for {capacity} rows at a time "
                f"on {job.n_threads} threads.")
        start = block + CACHE_LINE - <uintptr_t>block % CACHE_LINE
        job.values = start
        job.gathered = start + values
        p.numbers = <int64_t*>(start + values + gathered) if number else NULL
        job.scratch = start + values + gathered + numbers
        job.workspaces = job.scratch + scratch * job.n_threads
        job.workspace_bytes = workspace
        p.refused = <bint*>(job.workspaces + workspace * job.n_threads)
        memset(p.refused, 0, sizeof(bint) * job.n_threads)
        return block


predictor_of = lru_cache(maxsize=64)(Predictor)


cdef inline int64_t itemsize(const Job* job) noexcept nogil:
    return sizeof(double) if job.double_precision else sizeof(float)


cdef inline int64_t whole_lines(int64_t n_bytes) noexcept nogil:
    return (n_bytes + CACHE_LINE - 1) // CACHE_LINE * CACHE_LINE


cdef bint in_range(const Prediction* p, int64_t begin, int64_t n) noexcept nogil:
    """Whether n rows of X are numbers that the compute type holds."""
    cdef const char* x = p.job.x + begin * p.job.x_row_bytes
    if p.job.x_type == FLOAT32:
        return KERNELS.within32(<const float*>x, n * p.job.n_features, FLT_MAX)
    return KERNELS.within64(<const double*>x, n * p.job.n_features, p.largest)


cdef void predict_chunks(Prediction* p, int thread, floating* arena) noexcept nogil:
    """Chunks of rows until there are none left, in an arena of this thread's: values that follow
    each other may lie in the same place, and threads do not wait for each other."""
    cdef Job job = p.job
    cdef Run run = job.run
    cdef floating* values = arena + thread * job.batch * p.row_size
    cdef int64_t m = p.output.channels, stride = p.output.sample_stride
    cdef int64_t begin = take(&p.next, job.batch)
    cdef int64_t i
    cdef int64_t* numbers = p.numbers + thread * job.batch
    cdef floating* result
    run.capacity = job.batch
    run.first_row = 0
    job.gathered = at(p.job.gathered, thread * job.batch * job.n_features, values)
    run.scratch = job.scratch + thread * KERNELS.scratch_bytes
    run.workspace = job.workspaces + thread * job.workspace_bytes
    while begin < job.n_rows:
        run.n_rows = run.n_batch_rows = min(job.batch, job.n_rows - begin)
        if p.check and not in_range(p, begin, run.n_rows):
            p.refused[thread] = True
            return
        if p.numbers != NULL:
            for i in range(run.n_rows):
                numbers[i] = begin + i
            job.order = numbers - begin
        bind_rows(&job, &run, begin, run.n_rows, 0, values)
        walk_forward(&job, job.passes.first_op, job.passes.end_op, &run, values)
        result = values + p.output.offset * run.capacity + p.output.start
        if stride == m:
            memcpy(at(p.out, begin * m, values), result, run.n_rows * m * sizeof(floating))
        else:
            for i in range(run.n_rows):
                memcpy(at(p.out, (begin + i) * m, values), result + i * stride,
                       m * sizeof(floating))
        begin = take(&p.next, job.batch)


cdef void predict_work(Prediction* p, int thread) noexcept nogil:
    cdef uint64_t before = float_control()
    set_float_control(flushing(before))
    if p.job.double_precision:
        predict_chunks(p, thread, <double*>p.job.values)
    else:
        predict_chunks(p, thread, <float*>p.job.values)
    set_float_control(before)


cdef bint run_blocks(Prediction* p, double row_flops) except -1:
    """All rows, some 0.05 s at a time so that Ctrl-C works; False if a thread refused one."""
    cdef Job* job = &p.job
    cdef int64_t n = job.n_rows
    cdef int64_t block = job.run.capacity * max(
        <int64_t>1, <int64_t>(BLOCK_FLOPS / (row_flops * job.run.capacity)))
    cdef int thread
    cdef bint started
    job.position = 0
    while job.position < n:
        PyErr_CheckSignals()
        job.n_rows = min(n, job.position + block)
        p.next = job.position
        if p.is_short:
            predict_work(p, 0)
        else:
            with nogil:
                started = run_workers(predict_work, p, job.n_threads, NULL)
            if not started:
                raise threads_refused(job.n_threads)
        for thread in range(job.n_threads):
            if p.refused[thread]:
                return False
        job.position = job.n_rows
    return True


def predict(program, cnp.ndarray parameters, X, cnp.ndarray rows=None, n_threads=None,
            bint check=False, cnp.ndarray state=None):
    """What a program predicts.

    Parameters
    ----------
    program : sknn._program.Program
        As lowered for the CPU.
    parameters : ndarray, the flat vector; its dtype is what is computed in
    X : as for `Executor.bind`
    rows : ndarray of int64, default=None
        Which rows of X; None is all.
    n_threads : int, default=None
    check : bool, default=False
        Whether to look for numbers that are not finite, or do not fit what is computed in,
        while X is read; only of an array that `is_plain`, and of all rows.
    state : ndarray of the same dtype, default=None
        Running statistics, for a program that has some.

    Returns
    -------
    predictions : ndarray of shape (n, n_outputs), or None if there is such a number
    """
    cdef Predictor predictor = predictor_of(program)
    cdef Prediction p = predictor.start
    cdef cnp.npy_intp shape[2]
    cdef cnp.ndarray out
    cdef bint complete = False
    shape[0] = X.shape[0] if rows is None else rows.shape[0]
    shape[1] = p.output.channels
    out = cnp.PyArray_SimpleNew(2, shape, cnp.PyArray_TYPE(parameters))
    p.out = cnp.PyArray_DATA(out)
    p.check = check
    predictor.bind(&p, parameters, X, rows, state)
    predictor.divide(&p, shape[0], n_threads)
    block = predictor.allocate(&p)
    try:
        # products of a few rows leave BLAS alone, and so do all that have tiles
        if p.is_short and (p.job.batch <= FEW_ROWS or KERNELS.scratch_bytes > 0):
            complete = run_blocks(&p, predictor.row_flops)
        else:
            with running():
                complete = run_blocks(&p, predictor.row_flops)
    finally:
        free(block)
    return out if complete else None


cdef void largest_rows(cnp.npy_intp* positions, const floating* p, Py_ssize_t n,
                       Py_ssize_t m) noexcept nogil:
    """Where each row of p (n, m) is largest: the first of equals, or the first NaN."""
    cdef Py_ssize_t i, j, best
    for i in range(n):
        best = 0
        for j in range(1, m):
            if p[best] != p[best]:
                break
            if not p[j] <= p[best]:
                best = j
        positions[i] = best
        p += m


def largest_columns(cnp.ndarray p):
    """``p.argmax(axis=1)`` of a C-ordered float array, for short rows."""
    cdef cnp.npy_intp n = p.shape[0], m = p.shape[1]
    cdef cnp.ndarray out = cnp.PyArray_SimpleNew(1, &n, cnp.NPY_INTP)
    cdef cnp.npy_intp* positions = <cnp.npy_intp*>cnp.PyArray_DATA(out)
    if cnp.PyArray_TYPE(p) == cnp.NPY_DOUBLE:
        largest_rows(positions, <const double*>cnp.PyArray_DATA(p), n, m)
    else:
        largest_rows(positions, <const float*>cnp.PyArray_DATA(p), n, m)
    return out


def is_plain(X, int64_t n_features):
    """Whether X is a C-ordered ndarray of float32 or float64, with rows of ``n_features``."""
    if type(X) is not cnp.ndarray:
        return False
    cdef cnp.ndarray array = X
    return (array.ndim == 2 and array.shape[0] > 0 and array.shape[1] == n_features
            and cnp.PyArray_TYPE(array) in (cnp.NPY_FLOAT, cnp.NPY_DOUBLE)
            and cnp.PyArray_ISCARRAY_RO(array))
