"""A program's rows as the GPU executor walks them."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from sknn._kernels.gpu.table import TABLE
from sknn._kernels.ops import Activation, Arena, Opcode, Phase
from sknn._lowering import fuse_activations, without_rows
from sknn._places import place_values
from sknn._program import round_up, shape_of, size_of, sole_writer


@dataclass(frozen=True)
class Operand:
    """Of each row ``width`` elements from ``start`` of a buffer, whose rows are ``stride`` apart.

    They are (height, width, channels); a table's row is 1 x 1 pixels.
    """

    arena: Arena
    offset: int
    start: int
    width: int
    stride: int
    grad_offset: int
    accumulate: bool
    shape: tuple
    pixel_stride: int


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
    x2, y2 : Operand or None
        Second ones.
    dims : tuple of int
    segments : tuple of int
    attributes : tuple of float
    stream : int
        Of random numbers; -1: none.
    state, statistics : int
        Of a normalisation: offsets of its running statistics, and of a minibatch's.
    trains : tuple of bool
        Which of its segments do.
    before : int
        The op that alone writes ``x``, which nothing else reads; -1 if there is none. This op may
        make the gradient before that op's activation, rather than behind it.
    """

    index: int
    opcode: Opcode
    activation: Activation
    phases: int
    x: Operand
    y: Operand
    x2: Operand
    y2: Operand
    dims: tuple
    segments: tuple
    attributes: tuple
    stream: int
    state: int
    statistics: int
    trains: tuple
    before: int


@dataclass(frozen=True)
class GpuProgram:
    """What `Executor` walks.

    Attributes
    ----------
    ops : tuple of Op
    segments : tuple of (offset, rows, columns)
        Parts of the flat vector of parameters.
    ranges : tuple of (end, is decayed, is frozen)
        Of parameters that an update treats alike, one after the other.
    sum_offsets : dict of int to int
        Where the column sums of an op's gradient lie, in elements per block.
    sum_width : int
        Of all of them.
    most_pixels : int
        Of a value's row.
    output : Operand
    n_features, input_stride, value_size, bytes_size, n_parameters, n_state : int
    statistics_size : int
    x_scale : float
    """

    ops: tuple
    segments: tuple
    ranges: tuple
    sum_offsets: dict
    sum_width: int
    most_pixels: int
    output: Operand
    n_features: int
    input_stride: int
    value_size: int
    bytes_size: int
    n_parameters: int
    n_state: int
    statistics_size: int
    x_scale: float


def operands_of(program):
    """All of them, in the order of the rows."""
    return [*(x for op in program.ops for x in (*op["inputs"], *op["outputs"])), program.output]


def pack_values(program, share):
    """A copy of a program whose values lie as near to each other as alignment allows.

    Images of a value follow each other without a gap, so that the pixels of a minibatch are the
    rows of one matrix; a table's rows begin where alignment has them. Gradients lie as values do:
    those of parameters, made beside the backward pass, read them later than it does.
    """
    strides, images = {}, set()
    for x in operands_of(program):
        buffer = int(x["arena"]), int(x["offset"])
        strides[buffer] = int(x["height"]) * int(x["row_stride"])
        if x["height"] * x["width"] > 1:
            images.add(buffer)
    strides = {b: n if b in images else round_up(n) for b, n in strides.items()}
    packed = [strides[int(x["arena"]), int(x["offset"])] for x in operands_of(program)]
    program = place_values(program, share)
    for x, stride in zip(operands_of(program), packed, strict=True):
        x["sample_stride"] = stride
        if x["grad_offset"] >= 0:
            x["grad_offset"] = x["offset"]
    return program


def operand(x):
    """A row's operand; None if there is none."""
    arena = Arena(x["arena"])
    if arena == Arena.NONE:
        return None
    return Operand(
        arena, int(x["offset"]), int(x["start"]), size_of(x),
        int(x["sample_stride"]), int(x["grad_offset"]), bool(x["accumulate"]), shape_of(x),
        int(x["pixel_stride"]),
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
                "sknn/_kernels/gpu/table.py. Use device='cpu'."
            )
    if len(program.passes) != 1:
        raise NotImplementedError(
            f"The GPU runs programs of one pass, but this one has {len(program.passes)}. "
            "Use device='cpu'."
        )


def update_ranges(segments):
    """Neighbours in the flat vector that are treated alike, as one range."""
    ranges = []
    for segment in np.sort(segments, order="offset"):
        end = int(segment["offset"]) + round_up(int(segment["rows"] * segment["columns"]))
        kind = bool(segment["decayed"]), bool(segment["frozen"])
        if ranges and ranges[-1][1:] == kind:
            ranges.pop()
        ranges.append((end, *kind))
    return tuple(ranges)


@lru_cache(maxsize=64)
def lower_for_gpu(program, phase=Phase.TRAIN):
    """A program as the GPU executor walks it, in training and predictions or in these alone."""
    if phase == Phase.PREDICT:
        program = without_rows(program, program.ops["phases"] & Phase.PREDICT == 0)
    check(program)
    program = pack_values(fuse_activations(program), share=phase == Phase.PREDICT)
    ops, offsets, width = [], {}, 0
    for i, row in enumerate(program.ops):
        ops.append(lower_op(program, i, row))
        offsets[i] = width
        width += TABLE[ops[i].opcode].n_sums(ops[i]) * ops[i].y.shape[2]
    segments = tuple(
        (int(s["offset"]), int(s["rows"]), int(s["columns"])) for s in program.segments
    )
    most_pixels = max(int(x["height"] * x["width"]) for x in operands_of(program))
    read = [x for x in operands_of(program) if x["arena"] == Arena.INPUT]
    input_stride = int(read[0]["sample_stride"]) if read else round_up(program.n_features)
    return GpuProgram(
        tuple(ops), segments, update_ranges(program.segments), offsets, width, most_pixels,
        operand(program.output), program.n_features, input_stride, program.value_size,
        program.bytes_size, program.n_parameters, program.n_state, program.statistics_size,
        program.x_scale,
    )  # fmt: skip


def lower_op(program, i, row):
    """A row as an `Op`."""
    frozen = program.segments["frozen"]
    (x, x2, _), (y, y2) = ([operand(x) for x in row[k]] for k in ("inputs", "outputs"))
    return Op(
        i, Opcode(row["opcode"]), Activation(row["activation"]), Phase(row["phases"]),
        x, y, x2, y2, tuple(int(d) for d in row["dims"]),
        tuple(int(s) for s in row["segments"]), tuple(float(a) for a in row["attributes"]),
        int(row["stream"]), int(row["state"]), int(row["statistics"]),
        tuple(bool(s >= 0 and not frozen[s]) for s in row["segments"]),
        index_before(program.ops, row["inputs"][0]),
    )  # fmt: skip


def index_before(ops, x):
    """`Op.before` of the op that reads x."""
    before = sole_writer(ops, x)
    if before is None or before["outputs"][0]["channels"] != x["channels"]:
        return -1
    return int(np.flatnonzero(ops["outputs"][:, 0]["offset"] == x["offset"])[0])
