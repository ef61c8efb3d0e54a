"""The kernels as source text and by name, each instantiated for what enumerations list."""

import re
from functools import cache
from pathlib import Path

import numpy as np

from sknn._kernels.ops import Activation, Opcode, Optimizer

FILES = (
    "activation.cu", "combine.cu", "conv.cu", "dropout.cu", "gather.cu", "loss.cu", "narrow.cu",
    "norm.cu", "optimizer.cu", "order.cu", "pool.cu", "sparse.cu",
)  # fmt: skip
HOPPER_FILES = ("product.cu",)
HERE = Path(__file__).parent
# threads of a block, as many as device.h says at most
THREADS = 256
C_TYPES = {
    np.dtype(np.float32): "float",
    np.dtype(np.float64): "double",
    np.dtype(np.uint8): "unsigned char",
}
# kernels that are instantiated for each activation
ACTIVATED = (
    "activated_sum", "activated_sum_gradient", "activation", "activation_gradient",
    "bias_activation", "csr_dense", "grouped_conv", "layer_norm",
)  # fmt: skip
# and those that are, for numbers of units
NARROW = ("narrow_dense", "narrow_gradient")
NARROW_UNITS = (4, 12, 16)
# and those of the element type alone
PLAIN = (
    "column_sums", "copy_rows", "csr_gradient", "dropout", "finish_moments", "finish_sums",
    "grouped_conv_gradient", "grouped_weight_gradient", "layer_norm_gradient",
    "softmax_log_loss",
)  # fmt: skip
# and those that take one channel at a time, or as many as `pack_size` says
PACKED = (
    "average_pool", "average_pool_gradient", "batch_moments", "batch_norm_gradient", "col2im",
    "direct_weight_gradient", "im2col", "max_pool", "max_pool_gradient",
)  # fmt: skip
PACKED_ACTIVATED = ("batch_norm", "batch_norm_sums", "direct_conv")
PACK_BYTES = 16
# activations whose derivative products on tensor cores take in
GATES = (Activation.RELU,)
ELEMENTWISE_LOSSES = (Opcode.SIGMOID_LOG_LOSS, Opcode.SQUARED_ERROR, Opcode.POISSON_DEVIANCE)
# the rules of formulas.h that an optimizer may be, by name
PLAIN_SGD = "PlainSgd"


def inlined(path, seen):
    """A file with those that it includes in quotes, each once: no paths to give a compiler."""
    if path in seen:
        return ""
    seen.add(path)
    text = path.read_text().replace("#pragma once\n", "")

    def include(match):
        name = match[1]
        return inlined(next(p for p in (HERE / name, HERE.parent / name) if p.exists()), seen)

    return re.sub(r'^#include "([\w.]+)"\n', include, text, flags=re.M)


@cache
def source(files=FILES):
    """All kernels; ``SKNN_SHARED`` is what the compiler at hand takes for shared memory."""
    seen = set()
    return "".join(inlined(HERE / name, seen) for name in files)


def hopper_source():
    """Kernels that need the tensor cores of compute capability 9.0 as they are."""
    return source(HOPPER_FILES)


CUDA_PRELUDE = """\
#define SKNN_SHARED(T, name, n) __shared__ T name[n]
#define SKNN_DYNAMIC_SHARED(T, name, n) extern __shared__ __align__(1024) T name[]
"""


def formula(member):
    """An enumeration's member as formulas.h calls it."""
    return "sknn::" + "".join(word.capitalize() for word in member.name.split("_"))


def kernel_name(kernel, *arguments):
    """A kernel with its template arguments: formulas by name, numbers, element types as dtypes."""
    texts = [str(a) if isinstance(a, (str, int)) else C_TYPES[np.dtype(a)] for a in arguments]
    return f"sknn::{kernel}<{', '.join(texts)}>" if texts else f"sknn::{kernel}"


def pack_size(dtype):
    """Elements that a thread reads and writes in one access, where they lie so."""
    return PACK_BYTES // np.dtype(dtype).itemsize


def packed(dtype, channels, addresses, strides):
    """Channels that a thread takes at a time: several if all matrices allow it."""
    n = pack_size(dtype)
    aligned = all(address % PACK_BYTES == 0 for address in addresses)
    return n if aligned and all(size % n == 0 for size in (channels, *strides)) else 1


def packed_name(kernel, dtype, n, activation=None):
    """A kernel that takes n channels at a time."""
    formulas = () if activation is None else (formula(activation),)
    return kernel_name(kernel, *formulas, dtype, str(n))


def rule_name(rule, dtype):
    """An optimizer's rule for an element type."""
    return f"sknn::{rule}<{C_TYPES[np.dtype(dtype)]}>"


def hopper_names():
    """Every kernel of `hopper_source`."""
    return tuple(kernel_name("gated_product", formula(gate)) for gate in GATES)


def kernel_names(dtype):
    """Every kernel for one compute type."""
    rules = [PLAIN_SGD, *(formula(o).removeprefix("sknn::") for o in Optimizer)]
    return (
        *(
            kernel_name(kernel, formula(activation), dtype)
            for activation in Activation
            for kernel in ACTIVATED
        ),
        *(
            kernel_name(kernel, units, formula(activation), dtype)
            for units in NARROW_UNITS
            for activation in Activation
            for kernel in NARROW
        ),
        *(kernel_name("narrow_softmax_log_loss", units, dtype) for units in NARROW_UNITS),
        *(kernel_name(kernel, dtype) for kernel in PLAIN),
        *(packed_name(kernel, dtype, n) for kernel in PACKED for n in (1, pack_size(dtype))),
        *(
            packed_name(kernel, dtype, n, activation)
            for kernel in PACKED_ACTIVATED
            for n in (1, pack_size(dtype))
            for activation in Activation
        ),
        *(kernel_name("elementwise_loss", formula(loss), dtype) for loss in ELEMENTWISE_LOSSES),
        *(kernel_name("gather", from_, dtype) for from_ in C_TYPES),
        *(kernel_name("update", rule_name(rule, dtype), dtype) for rule in rules),
        *(kernel_name(name) for name in ("finish_steps", "draw_order", "weight_sums")),
    )
