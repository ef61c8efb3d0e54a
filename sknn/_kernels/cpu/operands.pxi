"""From operands to pointers."""


cdef inline floating* rows(const Operand* x, const Run* run, floating* values,
                           int64_t first) noexcept nogil:
    """Row ``first`` of the minibatch of an operand."""
    if x.arena == INPUT:
        return <floating*>run.input + first * x.sample_stride
    return values + x.offset * run.capacity + x.start + first * x.sample_stride


cdef inline floating* gradient_rows(const Operand* x, const Run* run, floating* values,
                                    int64_t first) noexcept nogil:
    """The same of its gradient; ``values`` only names the float type."""
    return (<floating*>run.gradients + x.grad_offset * run.capacity + x.start
            + first * x.sample_stride)


cdef inline int64_t pixels(const Operand* x) noexcept nogil:
    return <int64_t>x.height * x.width


cdef inline int64_t size(const Operand* x) noexcept nogil:
    """Elements of one sample."""
    return pixels(x) * x.channels


cdef inline double weight_of_row(const Run* run, int64_t row) noexcept nogil:
    """Sample weight of a row of the minibatch."""
    return 1 if run.weights == NULL else run.weights[run.samples[row]]


cdef inline floating* parameters(const Op* op, int index, const Run* run,
                                 floating* values) noexcept nogil:
    return <floating*>run.parameters + op.parameters[index]
