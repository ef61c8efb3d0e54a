"""What the lowering makes of rows on images."""

import numpy as np
import pytest

from sknn import _lowering, losses
from sknn._kernels.ops import Activation, Algorithm, Arena, ConvDim, Opcode, Phase
from sknn._lowering import lower_for_cpu
from sknn.architectures import resnet
from sknn.layers import Activation as ActivationLayer
from sknn.layers import (
    BatchNorm,
    Concatenate,
    Conv,
    Dense,
    Dropout,
    Flatten,
    LayerNorm,
    MaxPool,
    Residual,
    sequential,
)

from . import reference
from .kernels.cases import network_cases


def lowered(shape, *layers, phase=Phase.TRAIN):
    program = sequential(shape, (*layers, Dense(3)), losses.SOFTMAX_LOG_LOSS)
    return lower_for_cpu(program, phase=phase)


def opcodes(program):
    return [Opcode(code).name for code in program.ops["opcode"]]


def test_a_convolution_takes_the_maximum_itself():
    program = lowered((8, 8, 2), Conv(4, activation="relu"), MaxPool())
    assert opcodes(program) == ["CONV", "DENSE", "SOFTMAX_LOG_LOSS"]
    conv = program.ops[0]
    assert conv["dims"][ConvDim.CONV_POOL] == 2
    assert conv["activation"] == Activation.RELU
    assert conv["outputs"][0]["height"] == 4
    assert conv["outputs"][1]["arena"] == Arena.BYTES


@pytest.mark.parametrize(
    "layers",
    [
        (Conv(4, activation="tanh"), MaxPool()),
        (Conv(4), MaxPool(3)),
        (Conv(4), MaxPool(padding="same")),
        (Conv(4, groups=2), MaxPool()),
        (Concatenate([MaxPool(), MaxPool()]),),
    ],
)
def test_where_it_does_not(layers):
    program = lowered((7, 7, 2), *layers)
    assert "MAX_POOL" in opcodes(program)


def test_an_output_that_others_read_stays():
    program = lowered((1, 1, 4), Conv(4), Residual([Conv(4)]))
    assert opcodes(program).count("CONV") == 2
    assert "ADD" in opcodes(program)


def test_the_derivative_of_a_rectifier_is_taken_by_the_layer_behind():
    def gated(*layers):
        ops = lowered((1, 1, 4), *layers).ops
        dense = ops["opcode"] == Opcode.DENSE
        return [ops[side]["gated"][dense, 0].tolist() for side in ("inputs", "outputs")]

    relu, tanh = Dense(5, activation="relu"), Dense(5, activation="tanh")
    assert gated(relu, tanh, relu) == [[0, 1, 0, 1], [1, 0, 1, 0]]
    # nor where others read what the rectifier wrote, or it is no layer's own
    assert gated(relu, Residual([Dense(5)])) == [[0, 0, 0], [0, 0, 0]]
    assert gated(Residual([Dense(4)]), ActivationLayer("relu")) == [[0, 0], [0, 0]]


def test_biases_that_a_batch_normalisation_takes_away_rest():
    def frozen(*layers):
        program = sequential((8, 8, 2), (*layers, Dense(3)), losses.SOFTMAX_LOG_LOSS)
        names = [p.name for p in program.parameters]
        return [names[i] for i in np.flatnonzero(program.segments["frozen"])]

    assert frozen(Conv(4), BatchNorm()) == ["conv1.biases"]
    assert frozen(Residual([Conv(2), BatchNorm()]), Conv(4), Conv(4)) == ["residual1.conv1.biases"]
    assert frozen(Conv(4, activation="relu"), BatchNorm()) == []
    assert frozen(Conv(4), Flatten(), BatchNorm()) == []
    assert frozen(BatchNorm(), Conv(4)) == []


def test_the_algorithm():
    program = lowered((8, 8, 3), Conv(32), Conv(32), Conv(32, strides=2), Conv(32, 5))
    algorithms = [Algorithm(a) for a in program.ops["algorithm"][:4]]
    assert algorithms == [
        Algorithm.DIRECT, Algorithm.WINOGRAD, Algorithm.DIRECT, Algorithm.DIRECT,
    ]  # fmt: skip


def values(program):
    """Begin and end of each value, and the rows that touch it."""
    lives = {}
    for i, op in enumerate(program.ops):
        for x in (*op["inputs"], *op["outputs"]):
            if x["arena"] == Arena.VALUE:
                begin = int(x["offset"])
                first, _, end = lives.get(begin, (i, i, begin + int(x["sample_stride"])))
                lives[begin] = first, i, end
    return lives


def test_nothing_is_left_of_values_that_no_row_touches():
    program = lowered((28, 28, 1), Conv(32, activation="relu"), MaxPool())
    sizes = sum(end - begin for begin, (*_, end) in values(program).items())
    assert program.value_size == sizes < 2 * 14 * 14 * 32


def test_values_of_a_prediction_share_their_place():
    layers = [Dense(64, "tanh") for _ in range(6)]
    train, predict = (lowered((64,), *layers, phase=p) for p in (Phase.TRAIN, Phase.PREDICT))
    assert train.value_size == 6 * 64 + 16
    assert predict.value_size == 2 * 64


# a branch that is added, with a normalisation last and another branch that is normalised, too
BRANCHES = [
    (Residual([Conv(4), BatchNorm(), ActivationLayer("relu"), Conv(4), BatchNorm()]),) * 2,
    (Conv(4), Residual([Conv(4), BatchNorm()]), ActivationLayer("tanh"), BatchNorm()),
    (Conv(4), Residual([BatchNorm()]), Residual([Dropout(0.1)]), Residual([LayerNorm()])),
    (Residual([Conv(8, strides=2), BatchNorm()]), Residual([Residual([BatchNorm()])])),
    (Conv(3), Concatenate([Conv(4), [BatchNorm(), ActivationLayer("relu")]]), BatchNorm()),
    (Residual([Dense(48, "tanh"), BatchNorm()]), Residual([Residual([Dense(48)])]), BatchNorm()),
    tuple(layer for _, layer in resnet(20)),
]


def test_a_normalisation_adds_the_other_branch():
    program = lowered((4, 4, 3), *BRANCHES[0])
    assert opcodes(program).count("ADD") == 0
    adding = program.ops[program.ops["inputs"][:, 1]["arena"] == Arena.VALUE]
    assert [Opcode(op["opcode"]).name for op in adding] == ["BATCH_NORM"] * 2
    for segment in program.segments:
        own = program.ops[segment["op"]]["segments"]
        assert program.segments[own[segment["index"]]]["offset"] == segment["offset"]


def test_it_does_not_where_another_row_between_reads_what_it_normalises():
    layers = Conv(4), Concatenate([BatchNorm(), Conv(4)])
    program = lowered((4, 4, 3), *layers)
    assert opcodes(program).count("BATCH_NORM") == 1


def gradients_read(program):
    """What each row finds in the gradient of its output: the rows that wrote it."""
    memory, found = {}, []
    for i, op in reversed(list(enumerate(program.ops))):
        y = op["outputs"][0]
        if y["grad_offset"] < 0:
            continue
        place = int(y["grad_offset"])
        content = memory.get(place, frozenset())
        if op["activation"] != Activation.IDENTITY:
            content = memory[place] = content | {("activation", i)}
        found.append(content)
        normalizes = op["opcode"] == Opcode.BATCH_NORM
        for k, x in reversed(list(enumerate(op["inputs"]))):
            if x["arena"] == Arena.VALUE and x["grad_offset"] >= 0:
                before = memory.get(int(x["grad_offset"])) if x["accumulate"] else frozenset()
                written = {(i, k == 0 and normalizes, content)}
                memory[int(x["grad_offset"])] = before | written
    return found


@pytest.mark.parametrize("layers", BRANCHES)
def test_gradients_that_share_a_place_do_not_meet(monkeypatch, layers):
    program = lowered((4, 4, 3), *layers)
    monkeypatch.setattr(_lowering, "place_gradients", lambda program: program)
    apart = _lowering.lower_for_cpu.__wrapped__(
        sequential((4, 4, 3), (*layers, Dense(3)), losses.SOFTMAX_LOG_LOSS)
    )
    assert gradients_read(program) == gradients_read(apart)
    assert program.gradient_size <= apart.gradient_size


def test_gradients_take_a_small_part_of_the_values():
    """Three images of each size, and the last layers."""
    program = lowered((32, 32, 3), *(layer for _, layer in resnet(20)))
    assert program.gradient_size < program.value_size / 4


@pytest.mark.parametrize("case", list(network_cases()), ids=str)
def test_a_lowered_program_computes_the_same(case):
    X, y, weights = case.data(6)
    losses_ = [
        reference.walk(program, case.parameters(), X, y, weights, case.state())[1]
        for program in (case.logical, case.program)
    ]
    assert losses_[1] == pytest.approx(losses_[0], rel=1e-12)
