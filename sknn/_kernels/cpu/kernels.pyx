"""The kernels of one instruction set and the table that executors reach them through.

A kernel has one signature, ``(const Op*, Run*, values)``; outputs come first, then inputs,
then sizes; shapes stand in comments. It allocates nothing and checks nothing.
"""

from cpython.pycapsule cimport PyCapsule_New
from cython cimport floating
from libc.math cimport sqrt
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memset
from libcpp cimport bool as cpp_bool
from scipy.linalg.cython_blas cimport dgemm, sgemm

from sknn._kernels.ops cimport *

cdef Kernels TABLE

include "operands.pxi"
include "product.pxi"
include "activation.pxi"
include "dense.pxi"
include "dense_csr.pxi"
include "combine.pxi"
include "dropout.pxi"
include "norm.pxi"
include "pool.pxi"
include "conv.pxi"
include "loss.pxi"
include "gather.pxi"
include "optimizer.pxi"
include "random.pxi"
include "single.pxi"

# the table as the executor takes it
table = PyCapsule_New(&TABLE, b"sknn.Kernels", NULL)
