"""Losses: an output z (n, m) becomes the prediction p = link(z) in place.

In training the forward also writes each row's loss, and the backward the gradient with
respect to z. attributes[0] is the factor of the reported loss.
"""

cdef extern from "elementwise.h" namespace "sknn" nogil:
    cppclass LossLoops[T]:
        void link(T*, Py_ssize_t, Py_ssize_t, Py_ssize_t)
        void row_loss(double*, const T*, const void*, const int64_t*, const double*, double,
                      Py_ssize_t, Py_ssize_t, Py_ssize_t)
        void gradient(T*, const T*, const void*, const int64_t*, const double*, Py_ssize_t,
                      Py_ssize_t, Py_ssize_t, Py_ssize_t)
    ctypedef struct LossTable "sknn::Loss":
        LossLoops[float] loops32
        LossLoops[double] loops64
    LossTable softmax_loss()
    LossTable elementwise_loss[L]()
    cppclass SigmoidLogLoss
    cppclass SquaredError
    cppclass PoissonDeviance

cdef LossTable LOSSES[MAX_OPCODES]


cdef inline LossLoops[floating]* loops_of(int opcode, floating* values) noexcept nogil:
    if floating is float:
        return &LOSSES[opcode].loops32
    else:
        return &LOSSES[opcode].loops64


cdef void loss_forward(const Op* op, Run* run, floating* values) noexcept nogil:
    cdef const Operand* z = &op.inputs[0]
    cdef floating* p = rows(z, run, values, run.first_row)
    cdef LossLoops[floating]* loops = loops_of(op.opcode, values)
    loops.link(p, run.n_rows, z.channels, z.sample_stride)
    if run.phase == TRAIN:
        loops.row_loss(run.row_loss + run.first_row, p, run.targets,
                       run.samples + run.first_row, run.weights, op.attributes[0],
                       run.n_rows, z.channels, z.sample_stride)


cdef void loss_backward(const Op* op, Run* run, floating* values) noexcept nogil:
    cdef const Operand* z = &op.inputs[0]
    loops_of(op.opcode, values).gradient(
        gradient_rows(z, run, values, run.first_row), rows(z, run, values, run.first_row),
        run.targets, run.samples + run.first_row, run.weights, run.n_rows, z.channels,
        z.sample_stride, z.sample_stride)


cdef void add(int opcode, LossTable loops) noexcept:
    LOSSES[opcode] = loops
    TABLE.forward32[opcode] = loss_forward[float]
    TABLE.forward64[opcode] = loss_forward[double]
    TABLE.backward32[opcode] = loss_backward[float]
    TABLE.backward64[opcode] = loss_backward[double]


add(SOFTMAX_LOG_LOSS, softmax_loss())
add(SIGMOID_LOG_LOSS, elementwise_loss[SigmoidLogLoss]())
add(SQUARED_ERROR, elementwise_loss[SquaredError]())
add(POISSON_DEVIANCE, elementwise_loss[PoissonDeviance]())
