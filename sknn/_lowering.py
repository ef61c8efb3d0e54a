"""Lowering: the rows of a program as the CPU runs them."""

from dataclasses import replace
from functools import lru_cache

import numpy as np

from sknn._kernels.cpu import variant
from sknn._kernels.ops import Activation, Arena, ConvDim, Opcode, Phase
from sknn._places import place_gradients, place_values
from sknn._program import Fold, normalized_layer, round_up, sole_writer

kernels = variant.load("kernels")

# ops that can apply an activation to what they write
FUSABLE = (
    Opcode.DENSE, Opcode.DENSE_CSR, Opcode.CONV, Opcode.BATCH_NORM, Opcode.LAYER_NORM, Opcode.ADD,
)  # fmt: skip
EVERY_SECOND_2X2 = (2, 2, 2, 2, 0, 0)  # dims of a pooling that a convolution can do itself


@lru_cache(maxsize=64)
def lower_for_cpu(program, sparse=False, phase=Phase.TRAIN, fold=False):
    """A copy of a program with the algorithms that the CPU takes.

    Parameters
    ----------
    program : Program
    sparse : bool, default=False
        Whether X comes in compressed sparse row format: the layers that read it become
        ``DENSE_CSR`` and never make its rows dense.
    phase : Phase, default=Phase.TRAIN
        What it will run; rows that take no part in predictions go.
    fold : bool, default=False
        Whether batch normalisations go, too, where `Program.folded` can have their effect.
        Only of a program of predictions.

    Raises
    ------
    ValueError
        If X is sparse and a layer other than ``Dense`` reads it.
    """
    if phase == Phase.PREDICT:
        program = without_rows(program, program.ops["phases"] & Phase.PREDICT == 0)
    if fold:
        program = fold_normalizations(program)
    program = fuse_additions(fuse_pooling(fuse_activations(program)))
    if sparse:
        program = read_csr(program)
    ops = program.ops.copy()
    for i in np.flatnonzero(ops["opcode"] == Opcode.CONV):
        choose_algorithm(ops[i])
    gate_gradients(ops)
    workspace = round_up(int(ops["workspace"].max()))
    program = replace(program, ops=ops, workspace=workspace)
    if phase == Phase.PREDICT:
        return place_values(program, share=True)
    return place_gradients(place_values(program, share=False))


@lru_cache(maxsize=64)
def read_csr(program):
    """A copy of a program whose first layers read rows in compressed sparse row format.

    Raises
    ------
    ValueError
        If a layer other than ``Dense`` reads X.
    """
    ops = program.ops.copy()
    reads_input = (ops["inputs"]["arena"] == Arena.INPUT).any(axis=1)
    if (ops["opcode"][reads_input] != Opcode.DENSE).any():
        raise unreadable_sparse()
    ops["opcode"][reads_input] = Opcode.DENSE_CSR
    return replace(program, ops=ops, sparse=True)


def unreadable_sparse():
    """The error of a sparse X for a network that cannot read it."""
    return ValueError(
        "Only dense layers read a sparse X. Begin the network with a Dense layer, or give X "
        "as an array with X.toarray()."
    )


def without_rows(program, gone):
    """A copy of a program without some rows; what read their output reads their input.

    Parameters
    ----------
    program : Program
    gone : ndarray of bool, one for each row
    """
    if not gone.any():
        return program
    ops, output, instead = program.ops.copy(), program.output.copy(), {}
    for op, goes in zip(ops, gone, strict=True):
        for operand in (*op["inputs"], *op["outputs"]):
            _redirect(operand, instead)
        if goes:
            instead[int(op["outputs"][0]["offset"])] = op["inputs"][0].copy()
    _redirect(output, instead)
    return replace(program, ops=ops, output=output).with_rows(~gone)


def _redirect(operand, instead):
    """Have an operand read another value of the same size."""
    if operand["arena"] == Arena.VALUE and int(operand["offset"]) in instead:
        other = instead[int(operand["offset"])]
        for name in ("arena", "offset", "start", "sample_stride", "grad_offset"):
            operand[name] = other[name]


@lru_cache(maxsize=64)
def fold_normalizations(program):
    """A copy of a program without the batch normalisations of a layer's sums.

    They are linear in a prediction, and so can be part of the layer's weights and biases, if
    nothing else reads the sums. `Program.folds` says which.
    """
    ops, folds = program.ops, []
    gone = np.zeros(len(ops), dtype=bool)
    for i in np.flatnonzero(ops["opcode"] == Opcode.BATCH_NORM):
        before = normalized_layer(ops, program.segments, ops[i])
        if before is not None:
            weights, own = before["segments"][:2], ops[i]["segments"][:2]
            epsilon = float(ops[i]["attributes"][0])
            folds.append(Fold(*weights.tolist(), *own.tolist(), int(ops[i]["state"]), epsilon))
            gone[i] = True
    return without_rows(replace(program, folds=tuple(folds)), gone)


def fuse_activations(program):
    """A copy of a program in which the op before an activation applies it.

    That op writes where the activation would, if nothing else reads what it writes.
    """
    ops = program.ops.copy()
    gone = np.zeros(len(ops), dtype=bool)
    for i in np.flatnonzero(ops["opcode"] == Opcode.ACTIVATE):
        before = sole_writer(ops, ops[i]["inputs"][0])
        if before is not None and before["opcode"] in FUSABLE:
            if before["activation"] == Activation.IDENTITY:
                before["activation"] = ops[i]["activation"]
                gone[i] = True
    return without_rows(replace(program, ops=ops), gone)


def gate_gradients(ops):
    """Have a dense layer multiply by the derivative of the rectifier before it, in place.

    It does that to the gradient it makes while that is in registers; the layer before does not.
    """
    for i in np.flatnonzero(ops["opcode"] == Opcode.DENSE):
        x = ops[i]["inputs"][0]
        before = sole_writer(ops, x)
        if before is None or before["opcode"] not in (Opcode.DENSE, Opcode.DENSE_CSR):
            continue
        y = before["outputs"][0]
        if before["activation"] == Activation.RELU and x["channels"] == y["channels"]:
            x["gated"] = y["gated"] = True


def fuse_additions(program):
    """A copy of a program in which a batch normalisation adds the other branch itself.

    It moves down to where the sum was, if nothing else reads what it writes.
    """
    ops, segments = program.ops.copy(), program.segments.copy()
    gone = np.zeros(len(ops), dtype=bool)
    for i in np.flatnonzero(ops["opcode"] == Opcode.ADD):
        for k in range(2):
            before = sole_writer(ops, ops[i]["inputs"][k])
            if before is None or before["opcode"] != Opcode.BATCH_NORM:
                continue
            if before["inputs"][1]["arena"] != Arena.NONE:  # it adds something already
                continue
            own = before["segments"][:2]
            first, x = int(segments["op"][own[0]]), before["inputs"][0]
            read_between = (ops["inputs"][first + 1 : i]["offset"] == x["offset"]).any()
            if before["activation"] == Activation.IDENTITY and not read_between:
                row, add = before.copy(), ops[i]
                row["inputs"][1], row["outputs"] = add["inputs"][1 - k], add["outputs"]
                row["activation"] = add["activation"]
                ops[i], segments["op"][own], gone[first] = row, i, True
                break
    return without_rows(replace(program, ops=ops, segments=segments), gone)


def fuse_pooling(program):
    """A copy of a program in which convolutions take the maximum of each 2 x 2 themselves.

    They write where the pooling would, if nothing else reads what they write.
    """
    ops = program.ops.copy()
    gone = np.zeros(len(ops), dtype=bool)
    for i in np.flatnonzero(ops["opcode"] == Opcode.MAX_POOL):
        pool = ops[i]
        if tuple(pool["dims"][:6]) != EVERY_SECOND_2X2:
            continue
        before = sole_writer(ops, pool["inputs"][0])
        if before is not None and _can_pool(before, pool):
            before["outputs"] = pool["outputs"]
            before["dims"][ConvDim.CONV_POOL] = 2
            pool["inputs"][0] = pool["outputs"][0]  # nobody is redirected
            gone[i] = True
    return without_rows(replace(program, ops=ops), gone)


def _can_pool(op, pool):
    """Whether a row is a convolution that can, and no window reaches beyond its result."""
    size = op["dims"][[ConvDim.CONV_HEIGHT, ConvDim.CONV_WIDTH]]
    pooled = [pool["outputs"][0][name] for name in ("height", "width")]
    return (
        op["opcode"] == Opcode.CONV
        and op["activation"] in (Activation.IDENTITY, Activation.RELU)
        and op["dims"][ConvDim.CONV_GROUPS] == 1
        and list(size // 2) == pooled
    )


def choose_algorithm(op):
    """Set the algorithm of a convolution and the workspace that it needs, in place."""
    op["algorithm"] = kernels.conv_algorithm(op.tobytes())
    op["workspace"] = kernels.conv_workspace(op.tobytes())
