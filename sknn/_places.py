"""Where values and their gradients lie, and how many rows are taken at once."""

from dataclasses import replace
from functools import lru_cache

import numpy as np

from sknn._kernels.ops import Activation, Arena, Opcode

STRETCH_DTYPE = np.dtype(
    [("first_op", "i4"), ("end_op", "i4"), ("forward_rows", "i8"), ("backward_rows", "i8")]
)
HANDING_ON = (Opcode.ADD, Opcode.ACTIVATE, Opcode.BATCH_NORM)
# bytes of a second-level cache that the rows of a stretch may take beside an op's workspace
CACHE_BYTES = 1 << 20
# elements of rows for each parameter, which the ops of a stretch read or pack for every chunk
ELEMENTS_PER_PARAMETER = 16


def place_values(program, share):
    """A copy of a program without room for values that no row touches any more.

    Parameters
    ----------
    program : Program
    share : bool
        Whether values that are not needed at the same time may lie in the same place, so that
        more rows fit into the cache: in predictions, which have no backward pass.
    """
    ops, output = program.ops.copy(), program.output.copy()
    operands = [(i, x) for i, op in enumerate(ops) for x in (*op["inputs"], *op["outputs"])] + [
        (len(ops), output)
    ]
    operands = [(i, x) for i, x in operands if x["arena"] == Arena.VALUE]
    last = {int(x["offset"]): i for i, x in operands}  # row that needs it
    placed, end = {}, 0  # offset -> begin and end of its new place
    for i, x in operands:
        old, size, begin = int(x["offset"]), int(x["sample_stride"]), 0
        if old in placed:
            continue
        for other in sorted(placed, key=placed.get):
            if share and last[other] < i:
                continue
            if begin + size <= placed[other][0]:
                break
            begin = max(begin, placed[other][1])
        placed[old] = begin, begin + size
        end = max(end, begin + size)
    for _, x in operands:
        x["offset"] = placed[int(x["offset"])][0]
    return replace(program, ops=ops, output=output, value_size=end)


def place_gradients(program):
    """A copy of a program in which gradients that are not wanted at the same time share a place.

    Only those of the same size do: a row of one then lies where that row of the other lay, and
    so threads and chunks of rows, which are at different ops, do not meet. What is added hands
    its gradient on where it lies, and a batch normalisation makes the one of its input there.
    """
    ops = program.ops.copy()
    gradients = _Gradients(ops, program.segments)
    for i in range(len(ops) - 1, -1, -1):
        for x in _with_gradient([*ops[i]["outputs"], *ops[i]["inputs"][::-1]]):
            gradients.place(i, x)
        gradients.release(i)
    for op in ops:
        for x in _with_gradient([*op["outputs"], *op["inputs"]]):
            x["grad_offset"] = gradients.places[int(x["grad_offset"])]
    return replace(program, ops=ops, gradient_size=gradients.end)


def _with_gradient(operands):
    return [x for x in operands if x["arena"] == Arena.VALUE and x["grad_offset"] >= 0]


class _Gradients:
    """Where gradients lie, while the rows are walked backward; their keys are their old offsets.

    ``needed`` is the row that needs one last, -1 if that is after all rows; ``changed`` are the
    rows that write it.
    """

    def __init__(self, ops, segments):
        self.ops, self.places, self.sizes = ops, {}, {}
        self.living, self.free, self.end = {}, {}, 0
        self.needed, self.changed = {}, {}
        for i, op in enumerate(ops):
            own = segments[op["segments"][op["segments"] >= 0]]
            sliced = not op["sync"] and not (own["whole"] | own["frozen"]).all()
            for y in _with_gradient(op["outputs"]):
                key = int(y["grad_offset"])
                self.needed[key] = min(self.needed.get(key, i), -1 if sliced else i)
                self.changed.setdefault(key, set())
                if op["activation"] != Activation.IDENTITY or op["opcode"] == Opcode.BATCH_NORM:
                    self.changed[key].add(i)
            for x in _with_gradient(op["inputs"]):
                self.changed.setdefault(int(x["grad_offset"]), set()).add(i)

    def place(self, i, x):
        """Find a place for the gradient of an operand of row i, if it has none."""
        key, size = int(x["grad_offset"]), int(x["sample_stride"])
        if key in self.places:
            return
        place = self._handed_on(i, x)
        if place is None and self.free.get(size):
            place = self.free[size].pop()
        if place is None:
            place = self.end
            self.end += size
        self.places[key], self.sizes[place] = place, size
        self.living.setdefault(place, set()).add(key)

    def release(self, i):
        """Forget what rows before i do not need."""
        for place, keys in list(self.living.items()):
            self.living[place] = {key for key in keys if self.needed[key] < i}
            if not self.living[place]:
                del self.living[place]
                self.free.setdefault(self.sizes[place], []).append(place)

    def _handed_on(self, i, x):
        """The place of the gradient of row i's output, if that of its input x can be there, too.

        It must not change what others that lie there still need, nor they it.
        """
        op, key = self.ops[i], int(x["grad_offset"])
        normalizes = op["opcode"] == Opcode.BATCH_NORM
        if op["opcode"] not in HANDING_ON or (op["inputs"]["grad_offset"] == key).sum() > 1:
            return None
        place = self.places[int(op["outputs"][0]["grad_offset"])]
        overwrites = normalizes and x["offset"] == op["inputs"][0]["offset"]
        for other in self.living[place]:
            if self.needed[other] >= i:
                continue
            if overwrites or self._disturbs(i, key, other) or self._disturbs(i, other, key):
                return None
        return place

    def _disturbs(self, i, one, other):
        """Whether one is written before row i while the other is still needed."""
        return any(self.needed[other] <= row < i for row in self.changed[one])


@lru_cache(maxsize=64)
def stretches(program, itemsize):
    """The rows between sync ops, and how many rows of a minibatch a thread takes through them.

    What an op wrote is then in the cache when the next one reads it. There are so many that the
    parameters, which are read or packed each time, are little beside them.

    Returns
    -------
    stretches : ndarray of STRETCH_DTYPE
        Pass by pass; each begins with a sync op, but the first of a pass.
    """
    found = []
    for p in program.passes:
        starts = [p.ops.start, *(i for i in p.ops if program.ops["sync"][i])]
        for first, end in zip(starts, [*starts[1:], p.ops.stop], strict=True):
            backward = program.ops[first : min(end + 1, p.ops.stop)]
            found.append(
                (
                    first,
                    end,
                    _rows_at_once(program, program.ops[first:end], itemsize, ["offset"]),
                    _rows_at_once(program, backward, itemsize, ["offset", "grad_offset"]),
                )
            )
    return np.array(found, dtype=STRETCH_DTYPE)


def _rows_at_once(program, ops, itemsize, places):
    operands = np.concatenate([ops["inputs"].ravel(), ops["outputs"].ravel()])
    operands = operands[operands["arena"] == Arena.VALUE]
    size = 0
    for place in places:
        used = operands[operands[place] >= 0]
        size += sum(
            dict(zip(used[place].tolist(), used["sample_stride"].tolist(), strict=True)).values()
        )
    own = ops["segments"][ops["segments"] >= 0]
    parameters = (program.segments["rows"] * program.segments["columns"])[own].sum()
    size = max(1, size)  # before a sync op at the start of a program are no ops
    fit = CACHE_BYTES // (itemsize * size)
    return max(1, fit, ELEMENTS_PER_PARAMETER * int(parameters) // size)
