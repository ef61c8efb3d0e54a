"""The kernels of one instruction set and the table that executors reach them through.

A kernel has one signature, ``(const Op*, Run*, values)``; outputs come first, then inputs,
then sizes; shapes stand in comments. It allocates nothing and checks nothing.
"""

from cpython.pycapsule cimport PyCapsule_New
from cython cimport floating
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from scipy.linalg.cython_blas cimport dgemm, sgemm

from sknn._kernels.ops cimport (
    ADAM, DENSE, DENSE_CSR, FLOAT32, FLOAT64, IDENTITY, INPUT, LOGISTIC, MAX_ACTIVATIONS, MAX_OPCODES,
    POISSON_DEVIANCE, RELU, SGD, SIGMOID_LOG_LOSS, SOFTMAX_LOG_LOSS, SQUARED_ERROR, TANH,
    TRAIN, UINT8, Kernel32, Kernel64, Kernels, Op, Operand, Run, Update,
)

cdef Kernels TABLE

include "operands.pxi"
include "activation.pxi"
include "dense.pxi"
include "loss.pxi"
include "gather.pxi"
include "optimizer.pxi"
include "random.pxi"

# the table as the executor takes it
table = PyCapsule_New(&TABLE, b"sknn.Kernels", NULL)
