"""Programs: a network as rows of operations over named parameters.

Layers emit rows into a `Builder`; `Builder.build` lays out memory and returns a `Program`,
which `print` shows. A program holds logical shapes; `_lowering.py` adapts a copy to the CPU.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import NamedTuple

import numpy as np

from sknn._kernels.ops import (
    ALIGN,
    OP_DTYPE,
    OPERAND_DTYPE,
    SEGMENT_DTYPE,
    Activation,
    Arena,
    ConvDim,
    Opcode,
    Phase,
    PoolDim,
)

PASS_DTYPE = np.dtype(
    [("first_op", "i4"), ("end_op", "i4"), ("first_segment", "i4"), ("end_segment", "i4"),
     ("first_stretch", "i4"), ("end_stretch", "i4")]
)  # fmt: skip
LARGEST = np.iinfo(np.int32).max
PAGE = 4096 // 8  # elements of float64 in 4 KiB
# parameters of a segment of which each thread may have a gradient of its own
OWN_GRADIENT_MAX = 1 << 16
ALL_PHASES = Phase.TRAIN | Phase.PREDICT
# of an element of what an op writes, or of a pooling's window: in the time that it takes a product
# makes so many floating-point operations
COSTS = {
    Opcode.MAX_POOL: 32, Opcode.AVERAGE_POOL: 16, Opcode.ACTIVATE: 16, Opcode.ADD: 8,
    Opcode.COPY: 8, Opcode.DROPOUT: 16, Opcode.BATCH_NORM: 16, Opcode.LAYER_NORM: 16,
}  # fmt: skip


def round_up(n):
    """The next multiple of the alignment."""
    return -(-n // ALIGN) * ALIGN


def row_stride(width):
    """Elements from one row of a value to the next.

    Rows begin on a cache line, and not at a multiple of 4 KiB from each other, where they
    would drive each other out of the cache.
    """
    stride = round_up(width)
    return stride if stride % PAGE else stride + ALIGN


def zero_weight(of="", otherwise=""):
    """The error of sample weights that sum to zero."""
    return ZeroDivisionError(
        f"The sample weights{of} sum to zero, so the loss is not defined. "
        f"Leave out samples of zero weight{otherwise}."
    )


def cost_besides_products(op):
    """What an op that is no product takes for a row, in operations of products.

    Those of an activation or a loss behind a product are too few to count.
    """
    cost, y = COSTS.get(op["opcode"], 0), op["outputs"][0]
    if op["opcode"] not in (Opcode.MAX_POOL, Opcode.AVERAGE_POOL):
        return cost * size_of(y)
    height, width, channels = shape_of(y)  # whole vectors of channels, pixel by pixel
    window = int(op["dims"][[PoolDim.POOL_HEIGHT, PoolDim.POOL_WIDTH]].prod())
    return cost * height * width * round_up(channels) * window


def make_operand(arena, shape, stride, offset=0, grad_offset=-1):
    """An operand of one contiguous (height, width, channels) per sample, ``stride`` apart."""
    operand = np.zeros((), OPERAND_DTYPE)
    operand["arena"] = arena
    operand["offset"] = offset
    operand["height"], operand["width"], operand["channels"] = shape
    operand["pixel_stride"] = shape[2]
    operand["row_stride"] = shape[1] * shape[2]
    operand["sample_stride"] = stride
    operand["grad_offset"] = grad_offset
    return operand


def shape_of(operand):
    """(height, width, channels)"""
    return int(operand["height"]), int(operand["width"]), int(operand["channels"])


def size_of(operand):
    """Elements of one sample."""
    return prod(shape_of(operand))


def as_table(operand):
    """A view of a contiguous operand as one row of numbers."""
    view = operand.copy()
    view["height"] = view["width"] = 1
    view["channels"] = view["pixel_stride"] = view["row_stride"] = size_of(operand)
    return view


def _place(operand):
    return int(operand["arena"]), int(operand["offset"])


def slice_channels(operand, first, channels):
    """A view of some channels of each pixel."""
    view = operand.copy()
    view["start"] += first
    view["channels"] = channels
    return view


@dataclass(frozen=True)
class Pass:
    """A range of rows, and the segments that it updates; it has a loss of its own.

    A classifier has one pass; two networks trained against each other have two over shared
    parameters.
    """

    name: str
    ops: range
    segments: tuple


class Parameter(NamedTuple):
    """A segment as a layer asks for it."""

    name: str
    shape: tuple
    initial: str  # key of initializers.INITIALIZERS
    fans: tuple  # units before and after the weights it belongs to
    decayed: bool  # whether the penalty applies
    whole: bool  # whether its gradient is made at once
    frozen: bool


class Fold(NamedTuple):
    """A batch normalisation that predictions find in the parameters of the layer before it.

    The first four are segments.
    """

    weights: int
    biases: int
    scales: int
    shifts: int
    state: int  # offset of the running means
    epsilon: float


class LayerRows(NamedTuple):
    """What a layer put into a program."""

    name: str
    kind: str  # its class
    ops: range
    parameters: range
    output: np.ndarray  # operand


class Builder:
    """Collects the rows that layers emit.

    Parameters
    ----------
    shape : tuple of int
        Of one sample of X: (height, width, channels), (length, channels) or (features,).
    x_scale : float, default=1.0
        What X is multiplied by when it is read.
    frozen : tuple of str, default=()
        Names of layers whose parameters stay as they are.
    initializer : str, default='glorot'
        How dense layers start that do not say it themselves, see `initializers`.
    """

    def __init__(self, shape, *, x_scale=1.0, frozen=(), initializer="glorot"):
        self.input_shape = (1,) * (3 - len(shape)) + tuple(shape)
        self.n_spatial = len(shape) - 1  # axes that a convolution slides along
        self.x_scale, self.frozen = x_scale, frozenset(frozen)
        self.initializer = initializer
        self.ops, self.parameters, self.initial_state = [], [], []
        self.layers, self._begun = [], []
        self._tables = set()  # where rows of numbers are
        self.value_size = self.bytes_size = self.statistics_size = self.n_streams = 0

    def input(self):
        """The operand of X."""
        width = prod(self.input_shape)
        if width > LARGEST:
            raise ValueError(
                f"X has {width} features, but networks take at most {LARGEST}. Make fewer, for "
                "example with the n_features of sklearn.feature_extraction.FeatureHasher."
            )
        return make_operand(Arena.INPUT, self.input_shape, width)

    def value(self, shape):
        """A new value of this shape per row, with a gradient of the same shape."""
        width = prod(shape)
        if width > LARGEST:
            raise MemoryError(
                f"A layer of {width} units needs more than {width * 4 / 2**30:.0f} GiB a row; "
                f"layers have at most {LARGEST} units."
            )
        stride = row_stride(width)
        operand = make_operand(Arena.VALUE, shape, stride, self.value_size, self.value_size)
        self.value_size += stride
        return operand

    def table(self, operand):
        """Note that an operand is a row of numbers, and no image or signal of one pixel."""
        self._tables.add(_place(operand))
        return operand

    def is_table(self, operand):
        """Whether an operand is a row of numbers, and no image or signal, even of one pixel."""
        one_pixel = shape_of(operand)[:2] == (1, 1)
        return one_pixel and (self.n_spatial == 0 or _place(operand) in self._tables)

    def bytes(self, shape):
        """One byte for each element of a value of this shape."""
        stride = round_up(prod(shape))
        operand = make_operand(Arena.BYTES, shape, stride, self.bytes_size)
        self.bytes_size += stride
        return operand

    def parameter(self, name, shape, initial, *, fans=(0, 0), decayed=False, whole=False):
        """The index of a new segment; its last axis are the columns."""
        frozen = name.split(".")[0] in self.frozen
        self.parameters.append(
            Parameter(name, tuple(shape), initial, fans, decayed, whole, frozen)
        )
        return len(self.parameters) - 1

    def state(self, initial):
        """The offset of numbers that are kept but not trained, and what they are at first."""
        offset = len(self.initial_state)
        self.initial_state += [*initial, *[0.0] * (round_up(len(initial)) - len(initial))]
        return offset

    def stream(self):
        """The number of a new stream of random numbers."""
        self.n_streams += 1
        return self.n_streams - 1

    def statistics(self, size):
        """The offset of what a thread tells the others of a sync op."""
        offset = self.statistics_size
        self.statistics_size += round_up(size)
        return offset

    def op(self, opcode, inputs, outputs, *, activation=Activation.IDENTITY, segments=(),
           dims=(), attributes=(), phases=ALL_PHASES, **fields):  # fmt: skip
        """Append a row; ``fields`` are further ones of an op, such as its state."""
        row = np.zeros((), OP_DTYPE)
        row["opcode"], row["activation"], row["phases"] = opcode, activation, phases
        row["segments"] = row["state"] = row["stream"] = -1
        for i, operand in enumerate(inputs):
            row["inputs"][i] = operand
        for i, operand in enumerate(outputs):
            row["outputs"][i] = operand
        row["segments"][: len(segments)] = segments
        row["dims"][: len(dims)] = dims
        row["attributes"][: len(attributes)] = attributes
        for name, value in fields.items():
            row[name] = value
        self.ops.append(row)
        if any(map(self.is_table, inputs)):  # then so are the outputs
            self._tables.update(map(_place, outputs))

    def layer_begins(self, name, kind):
        """Note where the rows of a layer begin."""
        self._begun.append((name, kind, len(self.ops), len(self.parameters)))

    def layer_ends(self, name, output):
        """Note where they end, and the layer's output."""
        begun, kind, first_op, first_parameter = self._begun.pop()
        assert begun == name
        ops = range(first_op, len(self.ops))
        parameters = range(first_parameter, len(self.parameters))
        self.layers.append(LayerRows(name, kind, ops, parameters, output))

    def build(self, output):
        """Lay the segments out, all weights before all biases, and return the program."""
        ops = np.array(self.ops, dtype=OP_DTYPE)
        segments = np.zeros(len(self.parameters), SEGMENT_DTYPE)
        offset = 0
        order = sorted(range(len(segments)), key=lambda i: not self.parameters[i].decayed)
        for i in order:
            p = self.parameters[i]
            rows, columns = prod(p.shape[:-1]), p.shape[-1]
            segments[i] = (
                offset, rows, columns, p.decayed, p.frozen, -1, -1, p.whole, 0, -1,
            )  # fmt: skip
            offset += round_up(rows * columns)
        for o, op in enumerate(ops):
            for index, i in enumerate(op["segments"]):
                if i >= 0:
                    op["parameters"][index] = segments["offset"][i]
                    segments["op"][i], segments["index"][i] = o, index
        _hold_biases(ops, segments)
        _route_gradients(ops, segments)
        trained = tuple(i for i in order if not segments["frozen"][i])
        return Program(
            ops=ops,
            segments=segments,
            parameters=tuple(self.parameters),
            layers=tuple(self.layers),
            passes=(Pass("train", range(len(ops)), trained),),
            output=output,
            input_shape=self.input_shape,
            value_size=self.value_size,
            gradient_size=self.value_size,
            n_parameters=offset,
            initial_state=tuple(self.initial_state),
            bytes_size=self.bytes_size,
            statistics_size=self.statistics_size,
            x_scale=self.x_scale,
        )


def _hold_biases(ops, segments):
    """Freeze biases behind which a batch normalisation takes the mean away, in place.

    Their gradient is zero but for rounding, of which Adam would make steps.
    """
    for op in ops[ops["opcode"] == Opcode.BATCH_NORM]:
        before = normalized_layer(ops, segments, op)
        if before is not None:
            segments["frozen"][before["segments"][1]] = True


def normalized_layer(ops, segments, normalization):
    """The row of a linear layer whose sums a batch normalisation alone reads; or None."""
    x = normalization["inputs"][0]
    before = sole_writer(ops, x)
    if before is None or before["opcode"] not in (Opcode.DENSE, Opcode.CONV):
        return None
    same_channels = segments["columns"][before["segments"][0]] == x["channels"]
    return before if before["activation"] == Activation.IDENTITY and same_channels else None


def sole_writer(ops, x):
    """The row that alone writes an operand, if nothing else reads it; or None."""
    if x["arena"] != Arena.VALUE:
        return None
    inputs, outputs = ops["inputs"], ops["outputs"][:, 0]
    reads = (inputs["arena"] == Arena.VALUE) & (inputs["offset"] == x["offset"])
    writes = (outputs["arena"] == Arena.VALUE) & (outputs["offset"] == x["offset"])
    return ops[np.argmax(writes)] if reads.sum() == writes.sum() == 1 else None


def _route_gradients(ops, segments):
    """Which gradients are wanted, and which are added to one that is there.

    Nothing wants those of values before the first parameters that are trained. Backward walks
    the rows from the last to the first: of several that read a value, the last writes its
    gradient and the others add to it.
    """
    wanted = set()  # gradients, by their offset
    for op in ops:
        inputs = [x for x in op["inputs"] if x["arena"] == Arena.VALUE]
        outputs = [y for y in op["outputs"] if y["arena"] == Arena.VALUE]
        own = op["segments"][op["segments"] >= 0]
        reads_wanted = any(int(x["grad_offset"]) in wanted for x in inputs)
        if reads_wanted or not segments["frozen"][own].all():
            wanted.update(int(y["grad_offset"]) for y in outputs)
        else:
            for y in outputs:
                y["grad_offset"] = -1
        for x in inputs:
            if int(x["grad_offset"]) not in wanted:
                x["grad_offset"] = -1
    written = set()
    for op in ops[::-1]:
        for x in op["inputs"]:
            if x["arena"] == Arena.VALUE and x["grad_offset"] >= 0:
                x["accumulate"] = int(x["grad_offset"]) in written
                written.add(int(x["grad_offset"]))


@dataclass(frozen=True, eq=False)
class Program:
    """Rows of operations, their parameters and the memory they work in.

    Attributes
    ----------
    ops : ndarray of OP_DTYPE
    segments : ndarray of SEGMENT_DTYPE
        Parts of the flat vector of parameters.
    parameters : tuple of Parameter
        What the layers asked for: a segment's name, shape and start.
    layers : tuple of LayerRows
        In the order in which they end: a layer within another comes before it.
    passes : tuple of Pass
    output : ndarray of OPERAND_DTYPE, 0-d
        What `predict` returns.
    input_shape : tuple of int
        (height, width, channels) of a row of X.
    value_size, gradient_size : int
        Elements of all values of one row, and of their gradients.
    n_parameters : int
        Length of the flat vector, padding included.
    initial_state : tuple of float
        What is kept but not trained, before any training.
    bytes_size : int
        Bytes that one row needs beside the values.
    statistics_size : int
        Numbers that a thread tells the others, of all sync ops.
    x_scale : float
        What X is multiplied by when it is read.
    workspace : int
        Elements of scratch that a thread needs; known after the lowering.
    sparse : bool
        Whether X is in compressed sparse row format.
    folds : tuple of Fold
        What `folded` has to do to the parameters before this program predicts with them.
    """

    ops: np.ndarray
    segments: np.ndarray
    parameters: tuple
    layers: tuple
    passes: tuple
    output: np.ndarray
    input_shape: tuple
    value_size: int
    gradient_size: int
    n_parameters: int
    initial_state: tuple = ()
    bytes_size: int = 0
    statistics_size: int = 0
    x_scale: float = 1.0
    workspace: int = 0
    sparse: bool = False
    folds: tuple = ()

    @property
    def n_features(self):
        """Numbers in a row of X."""
        return prod(self.input_shape)

    @property
    def n_state(self):
        """Length of the vector that is kept but not trained."""
        return len(self.initial_state)

    @property
    def names(self):
        """Of the segments."""
        return tuple(p.name for p in self.parameters)

    @property
    def is_random(self):
        """Whether training draws random numbers within the program."""
        return bool((self.ops["stream"] >= 0).any())

    @cached_property
    def pass_segments(self):
        """The segments of all passes, one after the other."""
        return np.array([i for p in self.passes for i in p.segments], dtype=np.int32)

    @cached_property
    def pass_ranges(self):
        """The passes as the executor reads them."""
        ranges, segment, stretch = [], 0, 0
        for p in self.passes:
            end_segment = segment + len(p.segments)
            end_stretch = stretch + 1 + np.count_nonzero(self.ops["sync"][p.ops])
            ranges.append((p.ops.start, p.ops.stop, segment, end_segment, stretch, end_stretch))
            segment, stretch = end_segment, end_stretch
        return np.array(ranges, dtype=PASS_DTYPE)

    @cached_property
    def reads_csr(self):
        """Of each segment, whether it is the weights of a layer that reads sparse rows."""
        opcodes = self.ops["opcode"][self.segments["op"]]
        return (opcodes == Opcode.DENSE_CSR) & (self.segments["index"] == 0)

    def with_rows(self, kept):
        """A copy that has only some rows: those of which ``kept``, one bool for each, is true.

        They must not read what the others write.
        """
        ops, segments = self.ops[kept], self.segments.copy()
        # of rows that are gone any number will do: none reads their parameters
        segments["op"] = np.maximum(np.cumsum(kept)[segments["op"]] - 1, 0)
        passes = tuple(replace(p, ops=range(len(ops))) for p in self.passes)
        return replace(self, ops=ops, segments=segments, passes=passes)

    def views(self, vector):
        """The segments of a flat vector as arrays of their shapes."""
        return [
            vector[offset : offset + prod(p.shape)].reshape(p.shape)
            for offset, p in zip(self.segments["offset"].tolist(), self.parameters, strict=True)
        ]

    def folded(self, vector, state):
        """A flat vector in which normalisations are part of the layers before them."""
        if not self.folds:
            return vector
        vector = vector.copy()
        views = self.views(vector)
        for fold in self.folds:
            weights, biases, scales, shifts = (views[i] for i in fold[:4])
            variances = fold.state + round_up(scales.size)
            mean = state[fold.state : fold.state + scales.size]
            variance = state[variances : variances + scales.size]
            factor = scales / np.sqrt(variance.astype(np.float64) + fold.epsilon)
            weights *= factor.astype(vector.dtype)
            biases[...] = (biases - mean) * factor + shifts
        return vector

    def slice_size(self, limit, csr_limit):
        """Elements of the largest part of a segment that is updated at once."""
        columns = self.segments["columns"]
        rows = np.where(
            self.reads_csr, np.maximum(1, csr_limit // columns), np.maximum(8, limit // columns)
        )
        rows = np.where(self.segments["whole"], self.segments["rows"], rows)
        return round_up(int((np.minimum(self.segments["rows"], rows) * columns).max()))

    def own_gradients(self, batch_size):
        """Which segments have a gradient per thread.

        Slices of a segment's gradient are made over the whole minibatch, and so every thread
        reads the values and gradients of all rows. Where these are more than the parameters,
        each thread makes the gradient of its own rows while they are in cache, and another
        reads that. A segment whose gradient is made at once always has one. Weights that sparse
        rows meet never have: a thread reads the rows that concern its slice. Nor have those of
        a sync op, whose threads have told each other.

        Returns
        -------
        segments : ndarray of SEGMENT_DTYPE
            A copy that says where each segment lies in a thread's own gradient.
        size : int
            Elements of a thread's own gradient.
        """
        segments, size = self.segments.copy(), 0
        synced = self.ops["sync"][self.segments["op"]] != 0
        for segment in (segments[i] for i in np.flatnonzero(~self.reads_csr & ~synced)):
            rows, columns = int(segment["rows"]), int(segment["columns"])
            values = batch_size * (rows + columns)
            if segment["whole"] or rows * columns <= min(OWN_GRADIENT_MAX, values):
                segment["own_gradient"] = size
                size += round_up(rows * columns)
        return segments, size

    def flops_per_row(self, train=False):
        """What a row of X costs: operations of products, and of what takes as long."""
        return self._flops_per_row[train]

    @cached_property
    def _flops_per_row(self):
        """In prediction, and in training, which has up to two more products for each."""
        predict = train = 0
        for op in self.ops:
            flops = self.flops_of(op) + cost_besides_products(op)
            predict += flops
            train += flops * (3 if op["inputs"][0]["grad_offset"] >= 0 else 2)
        return predict, train

    def flops_of(self, op):
        """Floating-point operations of an op's products for one row of X."""
        if op["opcode"] not in (Opcode.DENSE, Opcode.DENSE_CSR, Opcode.CONV):
            return 0
        weights = self.segments[op["segments"][0]]
        pixels = 1
        if op["opcode"] == Opcode.CONV:
            pixels = int(op["dims"][[ConvDim.CONV_HEIGHT, ConvDim.CONV_WIDTH]].prod())
        return 2 * int(weights["rows"]) * int(weights["columns"]) * pixels

    def __str__(self):
        n = sum(int(s["rows"] * s["columns"]) for s in self.segments)
        width = int(self.output["channels"])
        lines = [f"Program {self.n_features} -> {width}: {len(self.ops)} ops, {n:,} parameters"]
        for p in self.passes:
            lines.append(f"pass {p.name}: updates {', '.join(self.names[i] for i in p.segments)}")
            lines += [f"{i:4} {self._row(self.ops[i])}" for i in p.ops]
        return "\n".join(lines)

    def _row(self, op):
        """One op as text."""
        inputs = ", ".join(_operand(x) for x in op["inputs"] if x["arena"] != Arena.NONE)
        outputs = ", ".join(_operand(y) for y in op["outputs"] if y["arena"] != Arena.NONE)
        text = f"{Opcode(op['opcode']).name:<18} {inputs} -> {outputs}"
        for i in op["segments"][op["segments"] >= 0]:
            shape = "x".join(map(str, self.parameters[i].shape))
            text += f"  {self.parameters[i].name}[{shape}]"
        if op["activation"] != Activation.IDENTITY:
            text += f"  {Activation(op['activation']).name.lower()}"
        if op["phases"] != ALL_PHASES:
            text += f"  {Phase(op['phases']).name.lower()}"
        return text


def _operand(operand):
    """An operand as text: where it lies and its shape."""
    shape = shape_of(operand)
    shape = shape[2:] if shape[:2] == (1, 1) else shape
    where = Arena(operand["arena"]).name.lower()
    if operand["arena"] == Arena.VALUE:
        where += f"@{operand['offset']}"
    return f"{where}[{'x'.join(map(str, shape))}]"
