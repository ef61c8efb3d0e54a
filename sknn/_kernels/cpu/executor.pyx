"""The CPU executor: runs whole epochs of a program without the GIL, over buffers made once.

``steps.pxi`` has what its threads do, ``walk.pxi`` their rows through the program,
``shuffle.pxi`` the order of an epoch, ``predict.pxi`` predictions.
"""

cimport numpy as cnp
from cpython.exc cimport PyErr_CheckSignals
from cpython.pycapsule cimport PyCapsule_GetPointer
from cython cimport floating
from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t, uintptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset
from libcpp cimport bool as cpp_bool

from sknn._kernels.ops cimport (
    ALIGNMENT, FEW_ROWS, FLOAT32, FLOAT64, MAX_SEGMENTS, MAX_SLOTS, PREDICT, TRAIN, Kernel32,
    Kernel64, Kernels, Op, Operand, Run, Segment, Update,
)

import math
from functools import lru_cache

import numpy as np

from sknn._kernels.cpu import variant
from sknn._kernels.ops import ElementType
from sknn._places import stretches
from sknn._program import zero_weight
from sknn._threads import choose_n_threads, running

cnp.import_array()

cdef extern from "elementwise.h" namespace "sknn" nogil:
    double sum_of[T](const T*, Py_ssize_t)

cdef extern from "threads.h" namespace "sknn" nogil:
    cppclass Barrier:
        void wait()
    uint64_t float_control()
    uint64_t flushing(uint64_t)
    void set_float_control(uint64_t)
    double now()
    void fetch_to_write(void*, Py_ssize_t)
    int64_t take(int64_t*, int64_t)
    cpp_bool run_workers[J](void (*)(J*, int) noexcept nogil, J*, int, Barrier**)

# a call returns at least this often, so that Ctrl-C works
cdef double SECONDS_PER_CALL = 0.1
ELEMENT_TYPES = {
    np.dtype(np.float32): ElementType.FLOAT32,
    np.dtype(np.float64): ElementType.FLOAT64,
    np.dtype(np.uint8): ElementType.UINT8,
}

cdef const Kernels* KERNELS = <const Kernels*>PyCapsule_GetPointer(
    variant.load("kernels").table, b"sknn.Kernels")

include "steps.pxi"
include "walk.pxi"
include "shuffle.pxi"
include "predict.pxi"


def aligned_empty(n, dtype):
    """An uninitialised vector that starts at a multiple of 64 bytes."""
    buffer = np.empty(n * dtype.itemsize + 64, dtype=np.uint8)
    start = -buffer.ctypes.data % 64
    return buffer[start:start + n * dtype.itemsize].view(dtype)


cdef void* address_or_null(array):
    if array is None:
        return NULL
    return cnp.PyArray_DATA(array)


cdef int point_at_X(Job* job, X, bint sparse) except -1:
    """Have a job read X where it lies."""
    cdef cnp.ndarray dense
    if X.shape[1] != job.n_features:
        raise ValueError(
            f"X has {X.shape[1]} features, but the program takes {job.n_features}.")
    job.x = NULL
    if sparse:
        job.run.indptr = <const int64_t*>cnp.PyArray_DATA(X.indptr)
        job.run.indices = <const int32_t*>cnp.PyArray_DATA(X.indices)
        job.run.data = cnp.PyArray_DATA(X.data)
        return 0
    dense = X
    job.x = <const char*>cnp.PyArray_DATA(dense)
    job.x_type = ELEMENT_TYPES[dense.dtype]
    job.x_row_bytes = dense.shape[1] * cnp.PyArray_ITEMSIZE(dense)
    return 0


cdef check_vector(what, vector, size, dtype):
    """A vector of another type or length would be overrun."""
    if vector is None or vector.dtype != dtype or vector.shape != (size,):
        given = "nothing" if vector is None else f"shape {vector.shape} and {vector.dtype}"
        raise ValueError(f"The program has {size} {what} of {dtype}, but was given {given}.")


cdef threads_refused(int n_threads):
    """The error to raise."""
    return RuntimeError(
        f"The system refused to start {n_threads} threads. Set n_threads to a smaller number.")


cdef class Executor:
    """Trains one program over buffers made once.

    Parameters
    ----------
    program : sknn._program.Program
        As lowered for the CPU.
    dtype : dtype, float32 or float64
        What it computes in.
    capacity : int
        Rows of a minibatch, at most.
    n_threads : int or None
        None takes, anew at each run, what the run is worth and other executors leave.

    Raises
    ------
    MemoryError
        If the buffers cannot be allocated; says how large.
    """

    cdef Job job
    cdef readonly object program, dtype
    cdef readonly int n_threads     # at most
    cdef object asked_threads
    cdef double flops_per_row
    cdef list buffers           # what the job points into
    cdef list bound             # X, targets and weights
    cdef object row_lengths, room, starts       # of a sparse X
    cdef dict splits            # its columns for each number of threads
    cdef cnp.ndarray penalties, losses

    def __cinit__(self, program, *, dtype, int64_t capacity, n_threads):
        self.program = program
        self.dtype = np.dtype(dtype)
        self.asked_threads = n_threads
        self.flops_per_row = program.flops_per_row(train=True)
        self.n_threads = n_threads = choose_n_threads(
            n_threads, self.flops_per_row * capacity, n_steps=math.inf, n_executors=1)
        self.buffers = []
        self.job.double_precision = self.dtype == np.float64
        self.job.n_threads = n_threads
        self.job.batch = capacity
        segments, self.job.own_size = program.own_gradients(capacity)
        self.job.own_gradients = self._allocate(self.job.own_size * n_threads)
        self._bind_program(segments)
        self.job.run.capacity = capacity
        self.job.values = self._allocate(program.value_size * capacity)
        self.job.scratch = <char*>self._allocate(
            KERNELS.scratch_bytes * n_threads // self.dtype.itemsize)
        self.job.run.gradients = self._allocate(program.gradient_size * capacity)
        slice_size = program.slice_size(SLICE_MAX, CSR_SLICE)
        self.job.slice_bytes = self.dtype.itemsize * slice_size
        self.job.slices = <char*>self._allocate(slice_size * n_threads)
        self.job.workspace_bytes = self.dtype.itemsize * program.workspace
        self.job.workspaces = <char*>self._allocate(program.workspace * n_threads)
        self.job.run.bytes = <uint8_t*>self._address(
            aligned_empty(program.bytes_size * capacity, np.dtype(np.uint8)))
        self.job.run.statistics_size = program.statistics_size
        self.job.run.statistics = <double*>self._address(
            aligned_empty(program.statistics_size * n_threads, np.dtype(np.float64)))
        self.job.run.row_loss = <double*>self._address(np.zeros(capacity))
        if not program.sparse:
            self.job.gathered = self._allocate(program.n_features * capacity)

    cdef void* _address(self, cnp.ndarray array):
        """Where an array lies; it is kept as long as the executor."""
        self.buffers.append(array)
        return cnp.PyArray_DATA(array)

    cdef void* _allocate(self, n) except? NULL:
        return self._address(aligned_empty(n, self.dtype))

    def _check_vector(self, vector):
        check_vector("parameters", vector, self.program.n_parameters, self.dtype)

    def _bind_program(self, segments):
        program = self.program
        self.job.ops = <const Op*>self._address(program.ops)
        self.job.segments = <const Segment*>self._address(segments)
        self.job.passes = <const PassRange*>self._address(program.pass_ranges)
        self.job.stretches = <const Stretch*>self._address(
            stretches(program, self.dtype.itemsize))
        self.job.n_passes = len(program.pass_ranges)
        self.job.pass_segments = <const int32_t*>self._address(program.pass_segments)
        self.job.n_features = program.n_features
        self.job.x_scale = program.x_scale
        self.penalties = np.zeros(self.n_threads)
        self.losses = np.zeros(self.job.n_passes)
        self.job.n_segments = len(program.segments)
        self.job.penalties = <double*>cnp.PyArray_DATA(self.penalties)
        self.job.losses = <double*>cnp.PyArray_DATA(self.losses)

    def bind(self, X, targets=None, weights=None, cnp.ndarray state=None, seed=0):
        """Take the data of the runs that follow, where they lie.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_features), C-ordered float32, float64 or uint8, or \
                CSR array with data of the executor's dtype, int32 indices and int64 indptr
        targets : ndarray, int32 class indices or C-ordered rows of the executor's dtype
        weights : ndarray of float64 of shape (n_samples,) or None
        state : ndarray of the executor's dtype or None
            Running statistics, which training changes in place.
        seed : int
            Of the program's random ops.
        """
        self.bound = [X, targets, weights, state]
        cdef Run* run = &self.job.run
        if self.program.n_state:
            check_vector("running statistics", state, self.program.n_state, self.dtype)
        run.state = address_or_null(state)
        run.seed = seed
        run.targets = address_or_null(targets)
        run.weights = <const double*>address_or_null(weights)
        point_at_X(&self.job, X, self.program.sparse)
        if self.program.sparse:
            self._bind_columns(X)

    def _bind_columns(self, X):
        """Room for the nonzeros of a minibatch by columns, and for each thread's columns."""
        cdef int64_t capacity = self.job.run.capacity
        shape = self.n_threads, self.job.n_segments
        self.starts = aligned_empty(X.shape[1] + 2 * self.n_threads, np.dtype(np.int64))
        self.splits = {}
        scales, squares = np.ones(shape), np.zeros(shape)
        self.job.column_starts = <int64_t*>address_or_null(self.starts)
        self.job.scales = <double*>address_or_null(scales)
        self.job.squares = <double*>address_or_null(squares)
        self.bound += [scales, squares]
        self.row_lengths = lengths = np.diff(X.indptr)
        if capacity < len(lengths):
            lengths = np.partition(lengths, -capacity)[-capacity:]
        self._make_room(lengths.sum())

    def _make_room(self, n_nonzeros):
        """For those of a minibatch, column by column."""
        rows = aligned_empty(n_nonzeros, np.dtype(np.int32))
        values = aligned_empty(n_nonzeros, self.dtype)
        following = aligned_empty(n_nonzeros, np.dtype(np.int64))
        self.job.run.column_rows = <int32_t*>address_or_null(rows)
        self.job.run.column_values = address_or_null(values)
        self.job.run.column_next = <int64_t*>address_or_null(following)
        self.room = rows, values, following

    cdef _point_at_order(self, order, bint in_order):
        """Rows of X in this order, or as they lie."""
        if self.program.sparse and self.job.run.gradients != NULL:
            batches = np.arange(0, len(order), self.job.batch)
            most = np.add.reduceat(self.row_lengths[order], batches).max()
            if most > len(self.room[0]):    # rows that come more than once
                self._make_room(most)
        self.job.order = <const int64_t*>address_or_null(order)
        self.job.in_place = (
            in_order and not self.program.sparse and self.bound[0].dtype == self.dtype
            and self.program.x_scale == 1)

    cdef _take_threads(self, int64_t n):
        """As many as n rows are worth now, if it is not the user who said how many."""
        n_threads = min(self.n_threads, choose_n_threads(
            self.asked_threads, self.flops_per_row * self.job.batch, <double>n / self.job.batch))
        self.job.n_threads = n_threads
        if self.program.sparse:
            if n_threads not in self.splits:
                self.splits[n_threads] = split_columns(self.bound[0], n_threads)
            self.job.column_splits = <const int64_t*>address_or_null(self.splits[n_threads])

    def train_epoch(self, cnp.ndarray parameters, optimizer, cnp.ndarray order,
                    int64_t batch_size, double alpha, bint in_order=False, int64_t n_seen=0):
        """One pass over the rows of ``order``, updating ``parameters`` after each minibatch.

        Parameters
        ----------
        parameters : ndarray of the executor's dtype, the flat vector
        optimizer : sknn.optimizers.Optimizer
        order : ndarray of int64, rows of the bound data
        batch_size : int, at most the capacity
        alpha : float, of the squared penalty
        in_order : bool, whether ``order`` is 0, 1, 2, ...
        n_seen : int, rows of earlier epochs: no two minibatches have the same random numbers

        Returns
        -------
        loss : float
            The minibatches' losses, each before its update, weighted by their rows.

        Raises
        ------
        ZeroDivisionError
            If the weights of a minibatch sum to zero.
        """
        cdef int64_t n = order.shape[0]
        cdef cnp.ndarray rates = optimizer.learning_rates((n + batch_size - 1) // batch_size)
        cdef cnp.ndarray slots = optimizer.slots
        cdef int k
        self.job.verb = TRAIN_EPOCH
        self.job.batch = batch_size
        self.job.n_seen = n_seen
        self._point_at_order(order, in_order)
        self.job.learning_rates = <const double*>cnp.PyArray_DATA(rates)
        self.job.update.optimizer = optimizer.opcode
        self.job.update.decay = alpha
        for k, coefficient in enumerate(optimizer.coefficients):
            self.job.update.coefficients[k] = coefficient
        self.job.n_slots = slots.shape[0]
        for k in range(self.job.n_slots):
            self._check_vector(slots[k])
            self.job.slots[k] = cnp.PyArray_DATA(slots[k])
        self.job.scaled = self.program.sparse and optimizer.is_plain_descent
        if self.job.scaled:
            self.starts.fill(-1)
        self._check_vector(parameters)
        self._take_threads(n)
        self._fold(parameters)
        try:
            self._run_rows(parameters, n)
        finally:
            self._fold(parameters)
            optimizer.advance((self.job.position + batch_size - 1) // batch_size)
        return self.losses.sum() / n

    def evaluate(self, cnp.ndarray parameters, cnp.ndarray gradient, cnp.ndarray order):
        """Loss of all rows, and its gradient.

        Returns
        -------
        loss : float
            The sum of the rows' losses times their weights, without penalty; ``gradient``
            receives the derivatives of that sum with respect to the parameters.
        """
        self._check_vector(gradient)
        gradient[:] = 0
        self.job.verb = EVALUATE
        self.job.n_seen = 0
        self.job.batch = self.job.run.capacity
        self._point_at_order(order, True)
        self.job.gradient = cnp.PyArray_DATA(gradient)
        self.job.scaled = False
        self._take_threads(order.shape[0])
        self._run_rows(parameters, order.shape[0])
        return self.losses.sum()

    def _fold(self, cnp.ndarray parameters):
        """What stands in ``parameters`` are the weights again, whatever has happened."""
        cdef int thread
        if not self.job.scaled:
            return
        self.job.run.parameters = cnp.PyArray_DATA(parameters)
        with nogil:
            for thread in range(self.job.n_threads):
                fold(&self.job, thread)

    def _run_rows(self, cnp.ndarray parameters, int64_t n):
        """Train or evaluate n rows of the order, a fraction of a second at a time."""
        self.losses[:] = 0
        self._check_vector(parameters)
        self.job.run.phase = TRAIN
        self.job.run.parameters = cnp.PyArray_DATA(parameters)
        self.job.n_rows = n
        self.job.position = 0
        self.job.failure = NO_FAILURE
        with running():
            while self.job.position < n:
                PyErr_CheckSignals()
                self.job.stop = False
                self.job.deadline = now() + SECONDS_PER_CALL
                self._work()
                if self.job.failure == ZERO_WEIGHT:
                    raise zero_weight(" of a minibatch", ", or raise batch_size")
        PyErr_CheckSignals()

    def _work(self):
        """One call of all threads, without the GIL."""
        cdef bint started = True
        with nogil:
            started = run_workers(
                work, &self.job, self.job.n_threads, &self.job.barrier)
        if not started:
            raise threads_refused(self.job.n_threads)


def split_columns(X, n_threads):
    """Where each thread's columns of a CSR matrix begin: as many nonzeros for each."""
    n, n_columns = X.shape
    indices = X.indices[:X.indptr[n]]       # there may be room behind them
    before = np.concatenate([[0], np.cumsum(np.bincount(indices, minlength=n_columns))])
    shares = len(indices) * np.arange(1, n_threads) / n_threads
    return np.concatenate([[0], np.searchsorted(before, shares), [n_columns]]).astype(np.int64)
