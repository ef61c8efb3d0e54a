"""Layers: shapes, names, parameters, equality, and what they emit."""

import inspect

import numpy as np
import pytest
from sklearn.base import clone

from sknn import layers as module
from sknn._program import Builder, shape_of
from sknn._state import initial_parameters
from sknn.layers import (
    Activation,
    AveragePool,
    BatchNorm,
    Concatenate,
    Conv,
    Dense,
    Dropout,
    Flatten,
    GlobalAveragePool,
    Layer,
    LayerNorm,
    MaxPool,
    Residual,
    emit_chain,
    named,
    sequential,
)
from sknn.losses import SOFTMAX_LOG_LOSS

KINDS = [
    kind
    for kind in vars(module).values()
    if inspect.isclass(kind) and issubclass(kind, Layer) and not kind.__name__.startswith("_")
    and kind is not Layer
]  # fmt: skip


def output_of(shape, *chain):
    """Shape of what layers make of a sample."""
    builder = Builder(shape)
    return shape_of(emit_chain(builder, builder.input(), list(chain)))


@pytest.mark.parametrize("kind", KINDS)
def test_every_layer_is_documented_with_an_example(kind):
    text = inspect.getdoc(kind)
    assert ">>> " in text
    for parameter in inspect.signature(kind).parameters:
        assert f"\n{parameter} : " in text


@pytest.mark.parametrize(
    "layer, images, signals",
    [
        (Conv(4), (9, 6, 4), (1, 6, 4)),
        (Conv(4, strides=2), (5, 3, 4), (1, 3, 4)),
        (Conv(4, 3, padding="valid"), (7, 4, 4), (1, 4, 4)),
        (Conv(4, 2, dilation=3, padding="valid"), (6, 3, 4), (1, 3, 4)),
        (Conv(3, groups=3, strides=4), (3, 2, 3), (1, 2, 3)),
        (MaxPool(), (4, 3, 3), (1, 3, 3)),
        (MaxPool(padding="same"), (5, 3, 3), (1, 3, 3)),
        (MaxPool(3, strides=2), (4, 2, 3), (1, 2, 3)),
        (AveragePool(20), (1, 1, 3), (1, 1, 3)),
        (GlobalAveragePool(), (1, 1, 3), (1, 1, 3)),
        (Flatten(), (1, 1, 162), (1, 1, 18)),
        (Dense(5), (1, 1, 5), (1, 1, 5)),
        (BatchNorm(), (9, 6, 3), (1, 6, 3)),
        (Residual([Conv(5, strides=2)]), (5, 3, 5), (1, 3, 5)),
        (Residual([GlobalAveragePool()]), (1, 1, 3), (1, 1, 3)),
        (Concatenate([Conv(5), [Dropout(0.5), Conv(2)]]), (9, 6, 7), (1, 6, 7)),
    ],
    ids=str,
)
def test_shapes(layer, images, signals):
    assert output_of((9, 6, 3), layer) == images
    assert output_of((6, 3), layer) == signals


@pytest.mark.parametrize("axis", [(1, 3), (3, 1)])
def test_sizes_along_each_axis(axis):
    assert output_of((9, 6, 3), Conv(2, axis, padding="valid"))[:2] == (
        10 - axis[0], 7 - axis[1]
    )  # fmt: skip
    assert output_of((9, 6, 3), MaxPool(axis))[:2] == (9 // axis[0], 6 // axis[1])
    for sizes in list(axis), np.array(axis):
        assert Conv(2, sizes) == Conv(2, axis) and hash(Conv(2, sizes)) == hash(Conv(2, axis))
        assert output_of((9, 6, 3), MaxPool(sizes)) == output_of((9, 6, 3), MaxPool(axis))
    with pytest.raises(ValueError, match="an integer or 1 of them"):
        output_of((9, 3), MaxPool(axis))


def test_parameters_of_layers():
    layer = Conv(4, 5, strides=(1, 2), activation="tanh")
    copied = clone(layer)
    assert copied == layer and copied is not layer and hash(copied) == hash(layer)
    assert copied.set_params(filters=5) != layer
    assert Dense(3) != Flatten() and Dense(3) != 3
    assert Residual([Dense(3)]) == Residual([Dense(3)]) != Residual([Dense(4)])
    nested = Concatenate([("left", Dense(2)), [Dense(3)]])
    assert nested.get_params()["left__units"] == 2
    assert clone(nested).set_params(left=Flatten()).layers[0] == ("left", Flatten())
    assert nested.layers[0] == ("left", Dense(2))


def test_names():
    chain = [Conv(1), Dense(1), ("x", Dense(2)), Conv(3), [Dense(1)]]
    names = [name for name, _ in named(chain, branches=True)]
    assert names == ["conv1", "dense1", "x", "conv2", "branch1"]


def test_equal_networks_share_a_program():
    def program(units, **options):
        chain = (Dense(units, "relu"), Residual([Dense(4)]), Dense(2))
        return sequential((3,), chain, SOFTMAX_LOG_LOSS, **options)

    assert program(4) is program(4)
    assert program(4) is not program(5)
    assert program(4) is not program(4, frozen=("dense1",))
    assert program(4) is not program(4, x_scale=0.5)


def test_frozen_layers_take_no_part():
    chain = (("a", Dense(4, "relu")), ("b", Dense(4, "relu")), ("c", Dense(2)))
    program = sequential((3,), chain, SOFTMAX_LOG_LOSS, frozen=("a", "c"))
    updated = {program.names[i] for i in program.passes[0].segments}
    assert updated == {"b.weights", "b.biases"}
    assert program.ops["inputs"][1, 0]["grad_offset"] == -1  # nothing before b is trained
    assert program.ops["inputs"][2, 0]["grad_offset"] >= 0


@pytest.mark.parametrize(
    "layer, message",
    [
        (Activation("sine"), "function must be one of"),
        (BatchNorm(momentum=0), r"momentum must be above 0 and at most 1"),
        (BatchNorm(momentum=1.5), r"momentum must be above 0 and at most 1"),
        (LayerNorm(epsilon=0), "epsilon must be above 0"),
        (Dropout(-0.5), r"rate must be in \[0, 1\)"),
        (Conv(2, padding="full"), "padding must be one of"),
        (Conv(True), "filters must be an integer"),
        (Conv(2, dilation=0), "dilation"),
        (Conv(2, strides=1.5), "strides"),
        (Conv(2, groups=2), "cannot divide its 3 channels"),
        (MaxPool(20, padding="half"), "padding"),
        (Residual([]), "empty"),
        (Residual(Dense(3)), "must come in a list"),
        (Residual([[Conv(3), Conv(3)]]), r"'branch1' is no layer but the list.*with \*"),
        (Concatenate([[Conv(3), [Conv(3)]]]), "'branch1' is no layer but the list"),
        (Residual([("shortcut", Conv(2))]), "'shortcut'.*Rename"),
        (Dense(2, ["relu"]), r"activation must be one of .* got \['relu'\]"),
    ],
    ids=str,
)
def test_refused(layer, message):
    with pytest.raises(ValueError, match=message):
        output_of((9, 6, 3), layer)


def test_a_window_has_to_fit_a_byte():
    with pytest.raises(ValueError, match="at most 255 pixels"):
        output_of((20, 20, 1), MaxPool(16))
    assert output_of((20, 20, 1), MaxPool(15)) == (1, 1, 1)
    assert np.prod(output_of((20, 20, 1), AveragePool(16))) == 1


# fan_in 4 x 25 for a filter of 5 x 5 over 4 channels, 200 for a layer of 8 units over 5 x 10 x 4
SQUARED_BOUNDS = {  # initializer -> (of fan_in and fan_out, whether the biases are drawn, too)
    "fan_in": (lambda n, m: 1 / n, True),
    "glorot": (lambda n, m: 6 / (n + m), True),
    "he": (lambda n, m: 6 / n, False),
    "lecun": (lambda n, m: 3 / n, False),
}


@pytest.mark.parametrize("name", SQUARED_BOUNDS)
@pytest.mark.parametrize("of_the_network", [True, False])
def test_parameters_start_as_their_initializer_says(name, of_the_network):
    squared_bound, draws_biases = SQUARED_BOUNDS[name]
    dense = Dense(8) if of_the_network else Dense(8, initializer=name)
    initializer = name if of_the_network else "glorot"
    layers = (Conv(6, 5, initializer=name), Conv(4), Residual([dense, Dense(200)]), Dense(3))
    program = sequential((5, 10, 4), layers, SOFTMAX_LOG_LOSS, initializer=initializer)
    vector = initial_parameters(program, np.random.RandomState(0), np.float64, 6.0)
    own = dict(zip(program.names, program.views(vector), strict=True))
    asked = {"conv1": (100, 150), "residual1.dense1": (200, 8)}
    for layer, fans in asked.items():
        bound = np.sqrt(squared_bound(*fans))
        assert 0.95 * bound < np.abs(own[f"{layer}.weights"]).max() <= bound
        biases = np.abs(own[f"{layer}.biases"]).max()
        assert 0 < biases <= bound if draws_biases else biases == 0
    he = np.sqrt(6 / 54)
    assert 0.95 * he < np.abs(own["conv2.weights"]).max() <= he


@pytest.mark.parametrize("layer", [Conv(2, initializer="zeros"), Dense(2, initializer="large")])
def test_an_unknown_initializer_is_refused(layer):
    with pytest.raises(ValueError, match=r"initializer must be one of .*'fan_in', 'glorot'"):
        output_of((4, 4, 1), layer)
