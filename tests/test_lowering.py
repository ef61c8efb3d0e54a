"""What the lowering makes of rows on images."""

import numpy as np
import pytest

from sknn import losses
from sknn._kernels.ops import Activation, Algorithm, Arena, ConvDim, Opcode, Phase
from sknn._lowering import lower_for_cpu
from sknn.layers import Activation as ActivationLayer
from sknn.layers import (
    BatchNorm,
    Concatenate,
    Conv,
    Dense,
    Flatten,
    MaxPool,
    Residual,
    sequential,
)


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
    wanted = program.ops["outputs"][:, 0]["grad_offset"]
    np.testing.assert_array_equal(wanted, program.ops["outputs"][:, 0]["offset"])


def test_values_of_a_prediction_share_their_place():
    layers = [Dense(64, "tanh") for _ in range(6)]
    train, predict = (lowered((64,), *layers, phase=p) for p in (Phase.TRAIN, Phase.PREDICT))
    assert train.value_size == 6 * 64 + 16
    assert predict.value_size == 2 * 64
