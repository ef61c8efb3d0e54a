"""Programs: a network as rows of operations over named parameters.

Layers emit rows into a `Builder`; `Builder.build` lays out memory and returns a `Program`,
which `print` shows. A program holds logical shapes; `lower_for_cpu` adapts a copy to the CPU.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from sknn._kernels.ops import (
    ALIGN,
    OP_DTYPE,
    OPERAND_DTYPE,
    SEGMENT_DTYPE,
    Activation,
    Arena,
    Opcode,
    Phase,
)

PASS_DTYPE = np.dtype(
    [("first_op", "i4"), ("end_op", "i4"), ("first_segment", "i4"), ("end_segment", "i4")]
)
LARGEST = np.iinfo(np.int32).max
PAGE = 4096 // 8  # elements of float64 in 4 KiB
# parameters of a segment of which each thread may have a gradient of its own
OWN_GRADIENT_MAX = 1 << 16


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


def table(arena, width, stride, offset=0, grad_offset=-1):
    """An operand of one row of ``width`` elements per sample, ``stride`` apart."""
    operand = np.zeros((), OPERAND_DTYPE)
    operand["arena"] = arena
    operand["offset"] = offset
    operand["height"] = operand["width"] = 1
    operand["channels"] = operand["pixel_stride"] = operand["row_stride"] = width
    operand["sample_stride"] = stride
    operand["grad_offset"] = grad_offset
    return operand


@dataclass(frozen=True)
class Pass:
    """A range of rows, and the segments that it updates; it has a loss of its own.

    A classifier has one pass; two networks trained against each other have two over shared
    parameters.
    """

    name: str
    ops: range
    segments: tuple


class Builder:
    """Collects the rows that layers emit."""

    def __init__(self, n_features):
        self.n_features = n_features
        self.ops = []
        self.segments = []  # (name, rows, columns, is_bias)
        self.value_size = 0

    def input(self):
        """The operand of X."""
        return table(Arena.INPUT, self.n_features, self.n_features)

    def value(self, width):
        """A new value of ``width`` elements per row, with a gradient of the same shape."""
        if width > LARGEST:
            raise MemoryError(
                f"A layer of {width} units needs more than {width * 4 / 2**30:.0f} GiB a row; "
                f"layers have at most {LARGEST} units."
            )
        stride = row_stride(width)
        operand = table(Arena.VALUE, width, stride, self.value_size, self.value_size)
        self.value_size += stride
        return operand

    def parameter(self, name, rows, columns, *, is_bias=False):
        """The index of a new segment of ``rows`` x ``columns`` parameters."""
        self.segments.append((name, rows, columns, is_bias))
        return len(self.segments) - 1

    def op(self, opcode, inputs, outputs, *, activation=Activation.IDENTITY, segments=(),
           attributes=(), phases=Phase.TRAIN | Phase.PREDICT):  # fmt: skip
        """Append a row."""
        row = np.zeros((), OP_DTYPE)
        row["opcode"], row["activation"], row["phases"] = opcode, activation, phases
        row["segments"] = row["state"] = row["stream"] = -1
        for i, operand in enumerate(inputs):
            row["inputs"][i] = operand
        for i, operand in enumerate(outputs):
            row["outputs"][i] = operand
        row["segments"][: len(segments)] = segments
        row["attributes"][: len(attributes)] = attributes
        self.ops.append(row)

    def build(self, output):
        """Lay the segments out, all weights before all biases, and return the program."""
        ops = np.array(self.ops, dtype=OP_DTYPE)
        segments = np.zeros(len(self.segments), SEGMENT_DTYPE)
        offset = 0
        order = sorted(range(len(segments)), key=lambda i: self.segments[i][3])
        for i in order:
            _, rows, columns, is_bias = self.segments[i]
            segments[i] = (offset, rows, columns, 1.0, not is_bias, False, -1, -1, -1)
            offset += round_up(rows * columns)
        for o, op in enumerate(ops):
            for index, i in enumerate(op["segments"]):
                if i >= 0:
                    op["parameters"][index] = segments["offset"][i]
                    segments["op"][i], segments["index"][i] = o, index
        only = Pass("train", range(len(ops)), tuple(order))
        names = tuple(name for name, *_ in self.segments)
        return Program(
            ops, segments, names, (only,), output, self.n_features, self.value_size, offset
        )


@dataclass(frozen=True, eq=False)
class Program:
    """Rows of operations, their parameters and the memory they work in.

    Attributes
    ----------
    ops : ndarray of OP_DTYPE
    segments : ndarray of SEGMENT_DTYPE
        Parts of the flat vector of parameters.
    names : tuple of str
        Of the segments.
    passes : tuple of Pass
    output : ndarray of OPERAND_DTYPE, 0-d
        What `predict` returns.
    n_features : int
        Width of a row of X.
    value_size : int
        Elements of all values of one row.
    n_parameters : int
        Length of the flat vector, padding included.
    sparse : bool
        Whether X is in compressed sparse row format.
    """

    ops: np.ndarray
    segments: np.ndarray
    names: tuple
    passes: tuple
    output: np.ndarray
    n_features: int
    value_size: int
    n_parameters: int
    sparse: bool = False

    @cached_property
    def pass_segments(self):
        """The segments of all passes, one after the other."""
        return np.array([i for p in self.passes for i in p.segments], dtype=np.int32)

    @cached_property
    def pass_ranges(self):
        """The passes as the executor reads them."""
        ranges, first = np.zeros(len(self.passes), PASS_DTYPE), 0
        for row, p in zip(ranges, self.passes, strict=True):
            end = first + len(p.segments)
            row["first_op"], row["end_op"] = p.ops.start, p.ops.stop
            row["first_segment"], row["end_segment"] = first, end
            first = end
        return ranges

    @cached_property
    def reads_csr(self):
        """Of each segment, whether it is the weights of a layer that reads sparse rows."""
        opcodes = self.ops["opcode"][self.segments["op"]]
        return (opcodes == Opcode.DENSE_CSR) & (self.segments["index"] == 0)

    def views(self, vector):
        """The segments of a flat vector as arrays; biases are one-dimensional."""
        arrays = []
        for segment in self.segments:
            rows, columns = segment["rows"], segment["columns"]
            part = vector[segment["offset"] : segment["offset"] + rows * columns]
            arrays.append(part.reshape(rows, columns) if segment["decayed"] else part)
        return arrays

    def slice_size(self, limit, csr_limit):
        """Elements of the largest part of a segment that is updated at once."""
        columns = self.segments["columns"]
        rows = np.where(
            self.reads_csr, np.maximum(1, csr_limit // columns), np.maximum(8, limit // columns)
        )
        return int((np.minimum(self.segments["rows"], rows) * columns).max())

    def own_gradients(self, batch_size):
        """Which segments have a gradient per thread, when several threads run.

        Slices of a segment's gradient are made over the whole minibatch, and so every thread
        reads the values and gradients of all rows. Where these are more than the parameters,
        each thread makes the gradient of its own rows and another reads that. For weights
        that sparse rows meet it never is: a thread reads the rows that concern its slice.

        Returns
        -------
        segments : ndarray of SEGMENT_DTYPE
            A copy that says where each segment lies in a thread's own gradient.
        size : int
            Elements of a thread's own gradient.
        """
        segments, size = self.segments.copy(), 0
        for segment in (segments[i] for i in np.flatnonzero(~self.reads_csr)):
            rows, columns = int(segment["rows"]), int(segment["columns"])
            values = batch_size * (rows + columns)
            if rows * columns <= min(OWN_GRADIENT_MAX, values):
                segment["own_gradient"] = size
                size += round_up(rows * columns)
        return segments, size

    def flops_per_row(self, train=False):
        """Floating-point operations of the products for one row of X."""
        return self._flops_per_row[train]

    @cached_property
    def _flops_per_row(self):
        """In prediction, and in training, which has up to two more products for each."""
        predict = train = 0
        for op in self.ops:
            if op["opcode"] in (Opcode.DENSE, Opcode.DENSE_CSR):
                x, y = op["inputs"][0], op["outputs"][0]
                product = 2 * int(x["channels"]) * int(y["channels"])
                predict += product
                train += product * (3 if x["grad_offset"] >= 0 else 2)
        return predict, train

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
            rows, columns = self.segments[i]["rows"], self.segments[i]["columns"]
            shape = f"{rows}x{columns}" if self.segments[i]["decayed"] else f"{columns}"
            text += f"  {self.names[i]}[{shape}]"
        if op["activation"] != Activation.IDENTITY:
            text += f"  {Activation(op['activation']).name.lower()}"
        phases = Phase.TRAIN | Phase.PREDICT
        return text if op["phases"] == phases else f"{text}  {Phase(op['phases']).name.lower()}"


def _operand(operand):
    """An operand as text: where it lies and its shape."""
    shape = [int(operand[name]) for name in ("height", "width", "channels")]
    shape = shape[2:] if shape[:2] == [1, 1] else shape
    where = Arena(operand["arena"]).name.lower()
    if operand["arena"] == Arena.VALUE:
        where += f"@{operand['offset']}"
    return f"{where}[{'x'.join(map(str, shape))}]"


@lru_cache(maxsize=64)
def lower_for_cpu(program, sparse):
    """A copy of a program with the algorithms that the CPU takes.

    Parameters
    ----------
    program : Program
    sparse : bool
        Whether X comes in compressed sparse row format: the layers that read it become
        ``DENSE_CSR`` and never make its rows dense.
    """
    ops = program.ops.copy()
    if sparse:
        reads_input = ops["inputs"]["arena"][:, 0] == Arena.INPUT
        ops["opcode"][reads_input & (ops["opcode"] == Opcode.DENSE)] = Opcode.DENSE_CSR
    return Program(
        ops, program.segments, program.names, program.passes, program.output,
        program.n_features, program.value_size, program.n_parameters, sparse,
    )  # fmt: skip
