"""A program's rows as the GPU executor walks them."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from sknn._kernels.gpu.kernels import TABLE
from sknn._kernels.ops import Activation, Arena, Opcode, Phase
from sknn._lowering import fuse_activations, without_rows
from sknn._program import round_up, row_stride, shape_of


@dataclass(frozen=True)
class Operand:
    """A table of ``width`` elements per row, ``stride`` apart, from ``start`` of a buffer."""

    arena: Arena
    offset: int
    start: int
    width: int
    stride: int
    grad_offset: int
    accumulate: bool


@dataclass(frozen=True)
class Op:
    """A row.

    Attributes
    ----------
    index : int
    opcode : Opcode
    activation : Activation
    phases : int
    x, y : Operand
        First input and first output.
    segments : tuple of int
    attributes : tuple of float
    stream : int
        Of random numbers; -1: none.
    trains : bool
        Whether its parameters do.
    """

    index: int
    opcode: Opcode
    activation: Activation
    phases: int
    x: Operand
    y: Operand
    segments: tuple
    attributes: tuple
    stream: int
    trains: bool


@dataclass(frozen=True)
class GpuProgram:
    """What `Executor` walks.

    Attributes
    ----------
    ops : tuple of Op
    segments : tuple of (offset, rows, columns)
        Parts of the flat vector of parameters.
    ranges : tuple of (end, is decayed, learning rate factor)
        Of parameters that an update treats alike, one after the other.
    sum_offsets : dict of int to int
        Where the column sums of an op's gradient lie, in elements per block.
    sum_width : int
        Of all of them.
    output : Operand
    n_features, input_stride, value_size, n_parameters : int
    x_scale : float
    """

    ops: tuple
    segments: tuple
    ranges: tuple
    sum_offsets: dict
    sum_width: int
    output: Operand
    n_features: int
    input_stride: int
    value_size: int
    n_parameters: int
    x_scale: float


def operand(row):
    """A row's operand, its elements as near to each other as alignment allows."""
    width = int(row["channels"])
    stride = int(row["sample_stride"])
    # of a whole buffer; a view keeps the stride of what it looks into
    if row["arena"] == Arena.INPUT or stride == row_stride(width):
        stride = round_up(width)
    return Operand(
        Arena(row["arena"]), int(row["offset"]), int(row["start"]), width, stride,
        int(row["grad_offset"]), bool(row["accumulate"]),
    )  # fmt: skip


def check(program):
    """Refuse what has no GPU side.

    Raises
    ------
    NotImplementedError
        Naming the op.
    """
    for row in program.ops:
        opcode = Opcode(row["opcode"])
        if opcode not in TABLE:
            raise NotImplementedError(
                f"The op {opcode.name} has no GPU side: it is not in the table of "
                "sknn/_kernels/gpu/kernels.py. Use device='cpu'."
            )
        if any(shape_of(x)[:2] != (1, 1) for x in (row["inputs"][0], row["outputs"][0])):
            raise NotImplementedError(
                f"The op {opcode.name} takes tables on a GPU, but reads or writes an image or a "
                "signal here. Use device='cpu'."
            )
    if len(program.passes) != 1:
        raise NotImplementedError(
            f"The GPU runs programs of one pass, but this one has {len(program.passes)}. "
            "Use device='cpu'."
        )


def update_ranges(segments):
    """Neighbours in the flat vector with the same decay and learning rate, as one range."""
    ranges = []
    for segment in np.sort(segments, order="offset"):
        end = int(segment["offset"]) + round_up(int(segment["rows"] * segment["columns"]))
        factor = 0.0 if segment["frozen"] else float(segment["learning_rate_factor"])
        kind = bool(segment["decayed"]), factor
        if ranges and ranges[-1][1:] == kind:
            ranges.pop()
        ranges.append((end, *kind))
    return tuple(ranges)


@lru_cache(maxsize=64)
def lower_for_gpu(program, phase=Phase.TRAIN):
    """A program as the GPU executor walks it, in training and predictions or in these alone."""
    if phase == Phase.PREDICT:
        program = without_rows(program, program.ops["phases"] & Phase.PREDICT == 0)
    program = fuse_activations(program)
    check(program)
    ops, offsets, width = [], {}, 0
    for i, row in enumerate(program.ops):
        op = Op(
            i, Opcode(row["opcode"]), Activation(row["activation"]), Phase(row["phases"]),
            operand(row["inputs"][0]), operand(row["outputs"][0]),
            tuple(int(s) for s in row["segments"]), tuple(float(a) for a in row["attributes"]),
            int(row["stream"]),
            bool((program.segments["frozen"][row["segments"][row["segments"] >= 0]] == 0).any()),
        )  # fmt: skip
        ops.append(op)
        offsets[i] = width
        width += TABLE[op.opcode].n_sums * op.y.width
    segments = tuple(
        (int(s["offset"]), int(s["rows"]), int(s["columns"])) for s in program.segments
    )
    return GpuProgram(
        tuple(ops), segments, update_ranges(program.segments), offsets, width,
        operand(program.output), program.n_features, round_up(program.n_features),
        program.value_size, program.n_parameters, program.x_scale,
    )  # fmt: skip
