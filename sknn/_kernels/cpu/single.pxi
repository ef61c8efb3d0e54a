"""One kernel over given memory, for those who test or time it."""


cdef char* address_of(array) except? NULL:
    if array is None:
        return NULL
    return <char*><size_t>array.ctypes.data


cdef void call_kernel(int role, const Op* op, Run* run, floating* values) noexcept nogil:
    if floating is float:
        if role == 0:
            TABLE.forward32[op.opcode](op, run, values)
        elif role == 1:
            TABLE.backward32[op.opcode](op, run, values)
        else:
            TABLE.gradient32[op.opcode](op, run, values)
    else:
        if role == 0:
            TABLE.forward64[op.opcode](op, run, values)
        elif role == 1:
            TABLE.backward64[op.opcode](op, run, values)
        else:
            TABLE.gradient64[op.opcode](op, run, values)


def run_kernel(str role, op, values, *, gradients=None, parameters=None, input=None, bytes=None,
               workspace=None, destination=None, int64_t first=0, int64_t n=-1,
               int64_t capacity=1, int segment=0, bint accumulate=False, int phase=TRAIN):
    """Run one kernel of the table.

    Parameters
    ----------
    role : {'forward', 'backward', 'gradient'}
    op : ndarray of OP_DTYPE, 0-d
    values, gradients, parameters, input, workspace, destination : ndarray of one float type
        The arenas; ``values`` says which type it is.
    bytes : ndarray of uint8
    first, n : int
        The rows; by default all of the capacity.
    capacity : int
        Rows that the arenas were made for.
    segment : int
        Of which ``destination`` receives the gradient.
    accumulate : bool
        Whether it is added there.
    phase : int
    """
    cdef const unsigned char[::1] row = op.tobytes()
    cdef Run run
    memset(&run, 0, sizeof(Run))
    scratch = bytearray(TABLE.scratch_bytes + LINE)
    run.scratch = on_a_line(<char*>scratch)
    run.gradients, run.parameters = address_of(gradients), address_of(parameters)
    run.input, run.bytes = address_of(input), <uint8_t*>address_of(bytes)
    run.workspace, run.destination = address_of(workspace), address_of(destination)
    run.phase, run.capacity, run.segment, run.accumulate = phase, capacity, segment, accumulate
    run.first_row = run.gradient_first = first
    run.n_rows = run.gradient_rows = run.n_batch_rows = capacity - first if n < 0 else n
    cdef const Op* record = <const Op*>&row[0]
    cdef int index = ("forward", "backward", "gradient").index(role)
    cdef char* data = address_of(values)
    cdef bint single = values.itemsize == sizeof(float)
    with nogil:
        if single:
            call_kernel(index, record, &run, <float*>data)
        else:
            call_kernel(index, record, &run, <double*>data)
