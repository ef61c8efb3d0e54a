"""The enumerations of ``ops.pxd`` for Python, and the record types as NumPy sees them."""

import numpy as np

cdef extern from *:
    """
    static int sknn_cpu_level() {
    #if defined(__x86_64__)
        __builtin_cpu_init();
        if (!(__builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("popcnt"))) return 1;
        if (!(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")
              && __builtin_cpu_supports("bmi2"))) return 2;
        if (!(__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
              && __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq")
              && __builtin_cpu_supports("avx512vl"))) return 3;
        return 4;
    #else
        return 0;
    #endif
    }
    """
    int sknn_cpu_level() nogil

OPERAND_DTYPE = np.dtype([
    ("arena", "i4"), ("height", "i4"), ("width", "i4"), ("channels", "i4"),
    ("offset", "i8"), ("start", "i8"),
    ("pixel_stride", "i8"), ("row_stride", "i8"), ("sample_stride", "i8"),
    ("grad_offset", "i8"), ("accumulate", "i4"), ("gated", "i4"),
])

OP_DTYPE = np.dtype([
    ("opcode", "i4"), ("activation", "i4"), ("phases", "i4"), ("sync", "i4"),
    ("inputs", OPERAND_DTYPE, MAX_INPUTS), ("outputs", OPERAND_DTYPE, MAX_OUTPUTS),
    ("segments", "i4", MAX_SEGMENTS), ("parameters", "i8", MAX_SEGMENTS),
    ("state", "i8"), ("statistics", "i8"), ("workspace", "i8"),
    ("dims", "i4", MAX_DIMS), ("attributes", "f8", MAX_ATTRIBUTES),
    ("stream", "i4"), ("algorithm", "i4"),
])

SEGMENT_DTYPE = np.dtype([
    ("offset", "i8"), ("rows", "i8"), ("columns", "i8"),
    ("decayed", "i4"), ("frozen", "i4"), ("op", "i4"), ("index", "i4"),
    ("whole", "i4"), ("reserved", "i4"),
    ("own_gradient", "i8"),
])

assert OPERAND_DTYPE.itemsize == sizeof(Operand)
assert OP_DTYPE.itemsize == sizeof(Op)
assert SEGMENT_DTYPE.itemsize == sizeof(Segment)

# offsets are multiples of this many elements
ALIGN = ALIGNMENT


def cpu_runs(variant):
    """Whether this processor has the instructions that ``variant`` was compiled for.

    Parameters
    ----------
    variant : {'generic', 'v2', 'v3', 'v4'}
        'generic' is what the compiler assumes by default; the others are the levels of
        the x86-64 psABI.
    """
    return variant == "generic" or sknn_cpu_level() >= int(variant[1:])
