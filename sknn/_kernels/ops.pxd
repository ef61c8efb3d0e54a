"""What a program is made of: the one home of opcodes, records and enumerations.

A program is an array of `Op`. In NumPy it is a structured array of `OP_DTYPE`, the same memory.
Every option that a user can name (an activation, a loss, an optimizer) is a value of an
enumeration here; tests, option lists and docs follow from them.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t
from libcpp cimport bool as cpp_bool

cpdef enum Opcode:
    DENSE               # y = activation(x W + b)
    DENSE_CSR           # the same for rows in compressed sparse row format
    CONV                # y = activation(x * W + b), * a convolution
    MAX_POOL            # y = the largest of each window
    AVERAGE_POOL        # y = the mean of each window
    ACTIVATE            # y = activation(x)
    ADD                 # y = activation(x + x2)
    COPY                # y = x, where y may be a part of the channels of a wider value
    DROPOUT             # y = x / (1 - rate) or 0, at random
    BATCH_NORM          # y = activation(gamma (x - mean) / deviation + beta), by channel
    LAYER_NORM          # the same, by pixel
    SOFTMAX_LOG_LOSS    # p = softmax(z); targets are class indices
    SIGMOID_LOG_LOSS    # p = sigmoid(z), element by element; targets are 0 or 1
    SQUARED_ERROR       # p = z
    POISSON_DEVIANCE    # p = exp(z)

cpdef enum Activation:
    IDENTITY
    LOGISTIC
    TANH
    RELU

cpdef enum Optimizer:
    SGD
    ADAM

cpdef enum Algorithm:   # of a convolution, chosen by the CPU's lowering
    DIRECT
    WINOGRAD            # float32 only

cpdef enum Phase:       # bits: an op takes part in some of them
    TRAIN = 1
    PREDICT = 2

cpdef enum Arena:       # which memory an operand lies in
    NONE                # the operand is not there
    VALUE               # [capacity, size] at offset * capacity, one per value
    INPUT               # the rows of X
    BYTES               # one byte per element (positions of a maximum)

cpdef enum ElementType:     # of X
    FLOAT32
    FLOAT64
    UINT8

cdef enum:
    MAX_OPCODES = 64
    MAX_ACTIVATIONS = 32
    MAX_OPTIMIZERS = 16
    MAX_ELEMENT_TYPES = 8
    MAX_INPUTS = 3
    MAX_OUTPUTS = 2
    MAX_SEGMENTS = 4
    MAX_DIMS = 12
    MAX_ATTRIBUTES = 6
    MAX_SLOTS = 2
    # forward products of at most so many rows are loops that need neither scratch nor BLAS
    FEW_ROWS = 4
    # arenas, segments and values start at a multiple of this many elements
    ALIGNMENT = 16


# Where an operand lies. A table is 1 x 1 x width; a view (one part of a concatenation) has the
# strides of the buffer it looks into.
cdef packed struct Operand:
    int32_t arena           # Arena
    int32_t height
    int32_t width
    int32_t channels
    int64_t offset          # of the buffer, elements per row of capacity
    int64_t start           # of the view inside a row of the buffer
    int64_t pixel_stride    # elements from one pixel to the next
    int64_t row_stride      # elements from one row of pixels to the next
    int64_t sample_stride   # elements from one sample to the next
    int64_t grad_offset     # of its gradient, like offset; -1: none wanted
    int32_t accumulate      # add to the gradient rather than overwrite it
    int32_t gated           # made by a rectifier, whose derivative is in the gradient already


# Integers of a convolution, Op.dims.
cpdef enum ConvDim:
    CONV_KERNEL_HEIGHT
    CONV_KERNEL_WIDTH
    CONV_STRIDE_HEIGHT
    CONV_STRIDE_WIDTH
    CONV_DILATION_HEIGHT
    CONV_DILATION_WIDTH
    CONV_PAD_TOP
    CONV_PAD_LEFT
    CONV_GROUPS
    CONV_HEIGHT             # of its result, before any pooling
    CONV_WIDTH
    CONV_POOL               # 1, or 2 where a 2 x 2 maximum was fused into it

# Integers of a pooling.
cpdef enum PoolDim:
    POOL_HEIGHT
    POOL_WIDTH
    POOL_STRIDE_HEIGHT
    POOL_STRIDE_WIDTH
    POOL_PAD_TOP
    POOL_PAD_LEFT


cdef packed struct Op:
    int32_t opcode          # Opcode
    int32_t activation      # Activation, applied to the output
    int32_t phases          # bits of Phase
    int32_t sync            # needs the whole minibatch: one more barrier
    Operand inputs[MAX_INPUTS]
    Operand outputs[MAX_OUTPUTS]
    int32_t segments[MAX_SEGMENTS]          # indices into the segments; -1: unused
    int64_t parameters[MAX_SEGMENTS]        # their offsets in the flat vector
    int64_t state                           # offset in the state vector; -1: none
    int64_t statistics                      # of a sync op: offset in each thread's statistics
    int64_t workspace                       # elements of scratch that a thread needs
    int32_t dims[MAX_DIMS]
    double attributes[MAX_ATTRIBUTES]
    int32_t stream                          # of random numbers; -1: none
    int32_t algorithm                       # Algorithm


# Vectors that a thread has for a batch normalisation, each as long as the channels rounded up.
cpdef enum Statistic:
    WEIGHT              # its first number: of all pixels
    MEAN
    DEVIATIONS          # sums of squared ones
    GRADIENT_SUM
    PRODUCT_SUM         # of the gradient and the normalised x
    # those that only this thread reads
    BATCH_MEAN
    BATCH_INVERSE       # 1 / sqrt(variance + epsilon)
    SCRATCH_1
    SCRATCH_2
    SCRATCH_3
    N_STATISTICS


# A named part of the flat vector of parameters, rows x columns.
cdef packed struct Segment:
    int64_t offset
    int64_t rows
    int64_t columns
    int32_t decayed         # whether the penalty applies
    int32_t frozen
    int32_t op              # the op whose gradient kernel serves it
    int32_t index           # which of that op's segments it is
    int32_t whole           # its gradient is made at once, not slice by slice
    int32_t reserved        # so that the next begins at a multiple of 8 bytes
    int64_t own_gradient    # offset in each thread's own gradient; -1: made in slices


# What a kernel sees of one step: whose rows, which memory.
cdef struct Run:
    int32_t phase
    int64_t capacity        # rows the value arena was made for
    int64_t n_batch_rows    # rows of the whole minibatch
    int64_t first_row       # this thread's share of it ...
    int64_t n_rows          # ... may be empty
    bint continued          # part of that share, and not the first of it
    # arenas; that of the values is an argument of each kernel
    void* gradients
    void* parameters
    void* state
    bint update_state           # whether running statistics follow the minibatch's
    uint8_t* bytes
    void* workspace             # this thread's, as large as the op that needs most
    void* scratch               # of one matrix product
    # what threads tell each other of a sync op: statistics_size numbers of each thread
    double* statistics
    int64_t statistics_size
    int thread
    int n_threads
    # X: dense rows of the minibatch, or the whole of a CSR matrix
    const void* input
    const int64_t* indptr
    const int32_t* indices
    const void* data
    # their nonzeros in the minibatch, column by column
    int64_t* column_starts
    int32_t* column_rows
    void* column_values
    int64_t* column_next
    # of segments: the weights are scale times what the vector holds; NULL: they are in it
    const double* scales
    # row i of the minibatch is row samples[i] of X, y and the weights
    const int64_t* samples
    const void* targets         # int32 class indices (n_samples,) or rows (n_samples, n_outputs)
    const double* weights       # (n_samples,) or NULL
    double* row_loss            # (capacity,)
    # gradient, over these rows of the minibatch, of rows begin..end of one of the op's
    # segments into destination
    int64_t gradient_first
    int64_t gradient_rows
    int segment
    int64_t begin
    int64_t end
    bint accumulate
    void* destination
    # random ops
    uint64_t seed
    uint64_t step


# One step of an optimizer over a slice of the parameters.
cdef struct Update:
    int32_t optimizer
    double learning_rate
    double coefficients[MAX_ATTRIBUTES]     # see optimizers.py
    double decay                            # alpha, 0 for segments that are not decayed
    double weight_sum                       # the gradient is a sum over rows; divide by this


ctypedef void (*Kernel32)(const Op*, Run*, float*) noexcept nogil
ctypedef void (*Kernel64)(const Op*, Run*, double*) noexcept nogil
# rows of X at samples -> rows of the compute type, times a scale; then samples that follow
ctypedef void (*Gather32)(
    float*, const void*, const int64_t*, Py_ssize_t, Py_ssize_t, double,
    const int64_t*, Py_ssize_t) noexcept nogil
ctypedef void (*Gather64)(
    double*, const void*, const int64_t*, Py_ssize_t, Py_ssize_t, double,
    const int64_t*, Py_ssize_t) noexcept nogil
# elements, their number, limit -> whether all are numbers of at most that magnitude
ctypedef cpp_bool (*Within32)(const float*, Py_ssize_t, float) noexcept nogil
ctypedef cpp_bool (*Within64)(const double*, Py_ssize_t, double) noexcept nogil
# parameters, gradient, slots, elements -> sum of the squared parameters before the update
ctypedef double (*Update32)(
    const Update*, float*, const float*, float**, Py_ssize_t) noexcept nogil
ctypedef double (*Update64)(
    const Update*, double*, const double*, double**, Py_ssize_t) noexcept nogil


# nonzeros of columns begin..end of the minibatch, column by column
ctypedef void (*Group32)(Run*, float*) noexcept nogil
ctypedef void (*Group64)(Run*, double*) noexcept nogil
# subtract the rate times the gradient from rows begin..end of the weights of a sparse layer
# -> what that adds to the sum of their squares
ctypedef double (*Descend32)(const Op*, Run*, double, float*) noexcept nogil
ctypedef double (*Descend64)(const Op*, Run*, double, double*) noexcept nogil
# vector, factor, elements -> sum of the squares after the multiplication
ctypedef double (*Scale32)(float*, double, Py_ssize_t) noexcept nogil
ctypedef double (*Scale64)(double*, double, Py_ssize_t) noexcept nogil


# The table through which an executor reaches the kernels of one instruction set.
cdef struct Kernels:
    Kernel32 forward32[MAX_OPCODES]
    Kernel64 forward64[MAX_OPCODES]
    Kernel32 backward32[MAX_OPCODES]
    Kernel64 backward64[MAX_OPCODES]
    # of sync ops: this thread's part of what the forward and the backward need of all rows
    Kernel32 forward_statistics32[MAX_OPCODES]
    Kernel64 forward_statistics64[MAX_OPCODES]
    Kernel32 backward_statistics32[MAX_OPCODES]
    Kernel64 backward_statistics64[MAX_OPCODES]
    Kernel32 gradient32[MAX_OPCODES]
    Kernel64 gradient64[MAX_OPCODES]
    Gather32 gather32[MAX_ELEMENT_TYPES]
    Gather64 gather64[MAX_ELEMENT_TYPES]
    Within32 within32
    Within64 within64
    Update32 update32[MAX_OPTIMIZERS]
    Update64 update64[MAX_OPTIMIZERS]
    int64_t scratch_bytes       # that a matrix product needs
    Group32 group32
    Group64 group64
    Descend32 descend32
    Descend64 descend64
    Scale32 scale32
    Scale64 scale64
