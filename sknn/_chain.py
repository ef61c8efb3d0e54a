"""A network as it was fitted, its parts by name, and what they cost."""

from dataclasses import dataclass, fields, replace
from functools import cached_property, lru_cache
from math import prod
from typing import NamedTuple

import numpy as np

from sknn._kernels.ops import Arena, Phase
from sknn._program import as_table, shape_of, size_of
from sknn.layers import sequential
from sknn.losses import Loss


@dataclass(frozen=True)
class Chain:
    """The layers of a fitted network, which later changes of parameters do not reach.

    Attributes
    ----------
    shape : tuple of int
        Of a sample.
    layers : tuple of (name, layer) pairs
        The output layer is the last.
    loss : sknn.losses.Loss
    x_scale : float
        What X is multiplied by.
    frozen : tuple of str
        Names of layers that are not trained.
    initializer : str
        Of the dense layers that name none.
    """

    shape: tuple
    layers: tuple
    loss: Loss
    x_scale: float = 1.0
    frozen: tuple = ()
    initializer: str = "glorot"

    @cached_property
    def program(self):
        """Shared by equal networks."""
        return sequential(
            self.shape, self.layers, self.loss, x_scale=self.x_scale, frozen=self.frozen,
            initializer=self.initializer,
        )  # fmt: skip

    def __getstate__(self):
        return {field.name: getattr(self, field.name) for field in fields(self)}


@lru_cache(maxsize=64)
def up_to(program, name):
    """The program that ends with a layer and predicts what this writes, as a table.

    Raises
    ------
    ValueError
        If there is no such layer, or it hands on X as it is.
    """
    outputs = {rows.name: rows for rows in program.layers}
    if name not in outputs:
        raise ValueError(f"There is no layer {name!r}; the layers are {', '.join(outputs)}.")
    rows = outputs[name]
    needed = _rows_before(program.ops, rows)
    if not (program.ops["phases"][needed] & Phase.PREDICT).any():
        raise ValueError(f"The layer {name!r} hands X on as it is. Name a layer after it.")
    return replace(program.with_rows(needed), output=as_table(rows.output))


def _rows_before(ops, layer):
    """Which rows the output of a layer is made of.

    Not those of a branch beside it: they would be taken for the only readers of what they read.
    """
    needed, values = np.zeros(len(ops), dtype=bool), set()

    def read(operand):
        if operand["arena"] == Arena.VALUE:
            values.add(int(operand["offset"]))

    read(layer.output)
    for i in reversed(range(layer.ops.stop)):
        if int(ops[i]["outputs"][0]["offset"]) in values:
            needed[i] = True
            for x in ops[i]["inputs"]:
                read(x)
    return needed


class LayerSummary(NamedTuple):
    """What a layer makes of one sample, and at which cost.

    Attributes
    ----------
    name : str
        A dot separates the name of a layer from that of the one it is in.
    kind : str
    output_shape : tuple of int
    n_parameters : int
    flops : int
        Floating-point operations of its products in a prediction; in training up to three
        times as many.
    n_bytes : int
        What it writes, if no other layer does its work; in training, a gradient as large is
        there while it is wanted.
    """

    name: str
    kind: str
    output_shape: tuple
    n_parameters: int
    flops: int
    n_bytes: int


class Summary(NamedTuple):
    """The layers of a network one by one; ``print`` shows a table."""

    input_shape: tuple
    layers: tuple

    @property
    def total(self):
        """The whole network; a layer within another is counted with that."""
        outer = [row for row in self.layers if "." not in row.name]
        sums = (sum(getattr(row, name) for row in outer) for name in LayerSummary._fields[3:])
        return LayerSummary("total", "", outer[-1].output_shape, *sums)

    def __str__(self):
        head = ("layer", "kind", "output", "parameters", "flops", "bytes")
        first = ("input", "", _shape(self.input_shape), "", "", "")
        rows = [head, first, *map(_cells, self.layers), _cells(self.total)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(
            "  ".join(
                cell.ljust(width) if i < 3 else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        )


def _shape(shape):
    return " x ".join(map(str, shape))


def _cells(row):
    return (row.name, row.kind, _shape(row.output_shape), *(f"{n:,}" for n in row[3:]))


def summarize(chain, dtype):
    """The `Summary` of a chain that computes in this type."""
    program = chain.program
    rows = []
    for layer in program.layers:
        ops = program.ops[layer.ops.start : layer.ops.stop]
        shapes = [program.parameters[i].shape for i in layer.parameters]
        shape = shape_of(layer.output)
        rows.append(
            LayerSummary(
                layer.name,
                layer.kind,
                shape[2:] if shape[:2] == (1, 1) else shape[3 - len(chain.shape) :],
                sum(map(prod, shapes)),
                sum(map(program.flops_of, ops)),
                sum(_written(op, np.dtype(dtype).itemsize) for op in ops),
            )
        )
    return Summary(chain.shape, tuple(rows))


def _written(op, itemsize):
    sizes = {Arena.VALUE: itemsize, Arena.BYTES: 1}
    return sum(size_of(y) * sizes.get(int(y["arena"]), 0) for y in op["outputs"])
