"""Rows that work on images, and guarded memory to run one of them in."""

from dataclasses import dataclass, field

import numpy as np

from sknn._kernels.cpu import variant
from sknn._kernels.ops import OP_DTYPE, Activation, Arena, Opcode
from sknn._program import round_up, row_stride

from .cases import GuardedMemory

kernels = variant.load("kernels")


def operand(arena, shape, offset, *, stride=None, accumulate=False, gradient=True):
    """An image (height, width, channels) as `Builder` makes it."""
    height, width, channels = shape
    out = np.zeros((), OP_DTYPE["inputs"].subdtype[0].base)
    out["arena"], out["offset"] = arena, offset
    out["height"], out["width"], out["channels"] = shape
    out["pixel_stride"], out["row_stride"] = channels, width * channels
    out["sample_stride"] = row_stride(height * width * channels) if stride is None else stride
    out["grad_offset"] = offset if gradient else -1
    out["accumulate"] = accumulate
    return out


@dataclass
class Images:
    """One op with random data in poisoned memory; the first row of the arena is not used.

    ``shape`` and ``out`` are (height, width, channels) of x and y. ``exact`` data are so short
    that float32 adds them up without an error, and the same unit is off in every type.
    """

    opcode: Opcode
    shape: tuple
    out: tuple
    dims: tuple
    n: int = 3
    activation: Activation = Activation.IDENTITY
    weights: tuple = None  # rows, columns
    positions: bool = False
    accumulate: bool = False
    from_input: bool = False
    dtype: type = np.float64
    seed: int = 0
    algorithm: int = 0
    exact: bool = False
    memory: GuardedMemory = field(default_factory=GuardedMemory)

    def __post_init__(self):
        self.rng = np.random.default_rng(self.seed)
        self.capacity = self.n + 1
        self.op = op = np.zeros((), OP_DTYPE)
        op["opcode"], op["activation"] = self.opcode, self.activation
        op["dims"][: len(self.dims)] = self.dims
        op["algorithm"] = self.algorithm
        x = operand(Arena.INPUT if self.from_input else Arena.VALUE, self.shape, 0,
                    stride=int(np.prod(self.shape)) if self.from_input else None,
                    accumulate=self.accumulate, gradient=not self.from_input)  # fmt: skip
        y = operand(Arena.VALUE, self.out, 0 if self.from_input else x["sample_stride"])
        op["inputs"][0], op["outputs"][0] = x, y
        if self.positions:
            op["outputs"][1] = operand(
                Arena.BYTES, self.out, 0, stride=round_up(np.prod(self.out))
            )
        size = int(x["sample_stride"] + y["sample_stride"]) * self.capacity
        dtype = np.dtype(self.dtype)
        self.values = self.memory.allocate(size, dtype)
        self.gradients = self.memory.allocate(size, dtype)
        self.input = self.memory.allocate(self.capacity * int(np.prod(self.shape)), dtype)
        n_bytes = int(op["outputs"][1]["sample_stride"]) * self.capacity if self.positions else 1
        self.bytes = self.memory.allocate(n_bytes, np.dtype(np.uint8))
        self._fill(x, y)

    def _draw(self, shape):
        if self.exact:
            return self.rng.integers(-8, 9, shape) / 8
        return self.rng.uniform(-1, 1, shape)

    def _fill(self, x, y):
        arena = self.input if self.from_input else self.values
        self._rows(arena, x)[...] = self._draw((self.n, *self.shape))
        self._rows(self.gradients, y)[...] = self._draw((self.n, *self.out))
        self.before = None
        if self.accumulate:
            self._rows(self.gradients, x)[...] = self._draw((self.n, *self.shape))
            self.before = self.dx.copy()
        self.parameters = self.workspace = None
        if self.weights:
            rows, columns = self.weights
            first = -(-rows * columns // 16) * 16
            self.parameters = self.memory.allocate(first + columns, np.dtype(self.dtype))
            self.op["segments"][:2] = 0, 1
            self.op["parameters"][:2] = 0, first
            self.w = self.parameters[: rows * columns].reshape(rows, columns)
            self.b = self.parameters[first:]
            self.w[...] = self._draw(self.w.shape) / (1 if self.exact else np.sqrt(rows))
            self.b[...] = self._draw(columns)

    def _rows(self, arena, x):
        """The rows in use, as images."""
        stride, size = (
            int(x["sample_stride"]),
            int(np.prod(x[["height", "width", "channels"]].item())),
        )
        offset = int(x["offset"]) * self.capacity
        rows = arena[offset : offset + stride * self.capacity].reshape(self.capacity, stride)
        shape = x[["height", "width", "channels"]].item()
        return rows[1:, :size].reshape(self.n, *shape)

    @property
    def x(self):
        return self._rows(self.input if self.from_input else self.values, self.op["inputs"][0])

    @property
    def y(self):
        return self._rows(self.values, self.op["outputs"][0])

    @property
    def dx(self):
        return self._rows(self.gradients, self.op["inputs"][0])

    @property
    def dy(self):
        return self._rows(self.gradients, self.op["outputs"][0])

    def allocate_workspace(self, n):
        self.op["workspace"] = n
        self.workspace = self.memory.allocate(n, np.dtype(self.dtype))

    def run(self, role, **arguments):
        kernels.run_kernel(
            role, self.op, self.values, gradients=self.gradients, parameters=self.parameters,
            input=self.input, bytes=self.bytes, workspace=self.workspace, first=1, n=self.n,
            capacity=self.capacity, **arguments,
        )  # fmt: skip
        self.memory.check()

    def gradient(self, segment, accumulate=False):
        """Of the weights or the biases, added to ones if it accumulates."""
        view = (self.w, self.b)[segment]
        out = self.memory.allocate(view.size, view.dtype).reshape(view.shape)
        if accumulate:
            out[...] = 1
        self.run("gradient", segment=segment, accumulate=accumulate, destination=out)
        return out - 1 if accumulate else out
