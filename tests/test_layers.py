"""Layers: shapes, names, parameters, equality, and what they emit."""

import inspect
import re
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone

from sknn import layers as module
from sknn._nested import emit_chain, named
from sknn._program import Builder, shape_of
from sknn._state import initial_parameters
from sknn.layers import (
    Activation,
    AveragePool,
    BatchNorm,
    Branch,
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
    sequential,
)
from sknn.losses import SOFTMAX_LOG_LOSS

PUBLIC = [getattr(module, name) for name in module.__all__]
KINDS = [kind for kind in PUBLIC if inspect.isclass(kind) and kind is not Layer]


def test_the_guide_has_every_layer_in_its_table():
    text = (Path(__file__).parent.parent / "docs" / "networks.md").read_text()
    cells = " ".join(re.findall(r"^\| (`[A-Z].*?) \|", text, re.M))
    assert set(re.findall(r"`(\w+)\(", cells)) == {kind.__name__ for kind in KINDS}


def test_all_names_every_layer():
    kinds = [v for v in vars(module).values() if inspect.isclass(v) and issubclass(v, Layer)]
    hidden = {kind.__name__ for kind in kinds if kind not in PUBLIC}
    assert hidden == {"LayerOfLayers", "_Pool"}
    brought = {}
    exec("from sknn.layers import *", brought)
    assert brought.keys() - {"__builtins__"} == set(module.__all__)


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
        (Residual([Flatten(), Dense(4)]), (1, 1, 4), (1, 1, 4)),
        (Concatenate([Branch([Conv(5, strides=2), MaxPool()])]), (2, 1, 5), (1, 1, 5)),
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


@pytest.mark.parametrize(
    "layer, wrong",
    [
        (Dense(7), Dense(7.0)),
        (Dense(1), Dense(True)),
        (Conv(3), Conv(3.0)),
        (Conv(3), Conv(3, (3, 3.0))),
        (Residual([Dense(7)]), Residual([Dense(7.0)])),
        (Concatenate([[Dense(7)]]), Concatenate([[Dense(7.0)]])),
    ],
    ids=str,
)
def test_numbers_of_another_type_are_another_parameter(layer, wrong):
    assert layer != wrong
    chain = (Conv(3), layer, Dense(2)) if isinstance(layer, Conv) else (layer, Dense(2))
    shape = (4, 4, 1) if isinstance(layer, Conv) else (3,)
    sequential(shape, chain, SOFTMAX_LOG_LOSS)
    with pytest.raises(ValueError, match=r"must be an integer.* got [\d.]+|got True"):
        sequential(shape, tuple(wrong if a is layer else a for a in chain), SOFTMAX_LOG_LOSS)


def test_numpys_numbers_are_pythons():
    for number in np.int64(7), np.uint8(7), np.array(7):
        assert Dense(number) == Dense(7) and hash(Dense(number)) == hash(Dense(7))
    assert Dropout(np.float64(0.5)) == Dropout(0.5)
    assert Dropout(spatial=np.True_) == Dropout(spatial=True)


def test_lists_are_equal_by_what_they_name():
    same = [
        Residual([Conv(3), Conv(4)]),
        Residual((Conv(3), Conv(4))),
        Residual([("conv1", Conv(3)), ("conv2", Conv(4))]),
    ]
    assert len(set(same)) == 1
    assert Residual([Conv(3)]) != Residual([("first", Conv(3))]) != Branch([("first", Conv(3))])
    branches = [
        Concatenate([[Conv(3), Dropout()], Conv(1)]),
        Concatenate([("branch1", [("conv1", Conv(3)), Dropout()]), ("conv1", Conv(1))]),
        Concatenate([Branch([Conv(3), ("dropout1", Dropout())]), Conv(1)]),
    ]
    assert len(set(branches)) == 1
    assert branches[0] != Concatenate([[Conv(3), Dropout(0.1)], Conv(1)])


@pytest.mark.parametrize(
    "layer",
    [
        Conv(2, (1, 3)), Residual([Conv(3), ("last", Conv(3))]),
        Concatenate([[Conv(4, 1), Residual([Conv(4)])], Conv(2), [Conv(1)]]),
    ],
    ids=str,
)  # fmt: skip
def test_parameters_set_as_they_are_change_nothing(layer):
    copied = clone(layer)
    assert copied.set_params(**copied.get_params()) == layer
    assert hash(copied) == hash(layer)


def test_names_reach_into_branches():
    branches = [[Conv(4, 1), Conv(8)], Conv(2), ("deep", [Residual([Conv(8)])])]
    layer = Concatenate(branches)
    params = layer.get_params()
    assert params["branch1__conv2"] == Conv(8) and params["branch1__conv1__kernel_size"] == 1
    assert params["deep__residual1__conv1__filters"] == 8
    layer.set_params(branch1__conv1__filters=2, deep__residual1__conv1=Dropout(0.2))
    layer.set_params(branch1__conv2=Conv(5))
    assert layer == Concatenate(
        [[Conv(2, 1), Conv(5)], Conv(2), ("deep", [Residual([("conv1", Dropout(0.2))])])]
    )
    layer.set_params(branch1=[Conv(7), Conv(6)], branch1__conv2=MaxPool(1), conv1=Conv(1))
    assert layer == Concatenate(
        [
            [Conv(7), ("conv2", MaxPool(1))], Conv(1),
            ("deep", [Residual([("conv1", Dropout(0.2))])]),
        ]
    )  # fmt: skip
    assert branches[0][1] == Conv(8)  # the caller's list is left alone
    with pytest.raises(ValueError, match="Invalid parameter 'conv9'"):
        layer.set_params(branch1__conv9__filters=2)


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
        (Residual([Branch([Conv(3)])]), "'branch1' is no layer but the list"),
        (Dense(2, ["relu"]), r"activation must be one of .* got \['relu'\]"),
        (Dense({3}), r"units must be an integer of at least 1, got \{3\}"),
        (Activation({}), r"function must be one of .* got \{\}"),
        (Conv(2, 2**31), f"kernel_size must be .*at most {2**31 - 1}, got {2**31}"),
        (Conv(2, strides=(1, 2**31)), f"strides must be .*at most {2**31 - 1}, got {2**31}"),
        (Conv(2, dilation=2**40), f"dilation must be .*at most {2**31 - 1}, got {2**40}"),
        (Conv(2, dilation=2**30), f"reads {2**31 + 1} x {2**31 + 1} pixels.*smaller kernel_size"),
        (MaxPool(2**31), f"pool_size must be .*at most {2**31 - 1}, got {2**31}"),
        (AveragePool(2, strides=2**31), f"strides must be .*at most {2**31 - 1}, got {2**31}"),
        (Residual([Conv]), r"'type1' is no layer but <class"),
    ],
    ids=str,
)
def test_refused(layer, message):
    with pytest.raises(ValueError, match=message):
        output_of((9, 6, 3), layer)


def test_what_cannot_be_hashed_is_refused_by_the_layer():
    """And not by the cache of programs."""
    with pytest.raises(ValueError, match=r"Layer 'dense1': units .* got \{3\}"):
        sequential((3,), (Dense({3}), Dense(2)), SOFTMAX_LOG_LOSS)
    with pytest.raises(ValueError, match=r"Layer 'activation1': function .* got \{\}"):
        sequential((3,), (Activation({}), Dense(2)), SOFTMAX_LOG_LOSS)


@pytest.mark.parametrize("shape", [(9, 6, 3), (6, 3), (1, 1, 3), (1, 3)])
@pytest.mark.parametrize(
    "before",
    [
        [Dense(4)], [GlobalAveragePool()], [Dense(4), Activation("tanh"), BatchNorm(), Dropout()],
        [Residual([Dense(3)])], [Concatenate([Dense(2), [Dense(3), LayerNorm()]])],
    ],
    ids=str,
)  # fmt: skip
def test_nothing_slides_along_a_table(shape, before):
    for layer in Conv(2), MaxPool(), AveragePool(1), GlobalAveragePool():
        with pytest.raises(ValueError, match=r"1 x 1 x .* needs images.*Put it before Dense"):
            output_of(shape, *before, ("last", layer))


@pytest.mark.parametrize("shape", [(9, 6, 3), (6, 3)])
def test_nothing_slides_along_what_is_flattened(shape):
    with pytest.raises(ValueError, match=r"needs images.*Put it before Dense, Flatten"):
        output_of(shape, Conv(2), Flatten(), LayerNorm(), Conv(2))
    beside = Concatenate([[Flatten(), Dense(3)], [Conv(2), Flatten()]])  # the other still may
    assert output_of(shape, beside)[:2] == (1, 1)


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 3), (2, 2, 3), (2, 3)])
def test_an_image_of_one_pixel_is_no_table(shape):
    chain = [AveragePool(2), BatchNorm(), Dropout(), Concatenate([Conv(2), MaxPool()]), Conv(4)]
    assert output_of(shape, *chain) == (1, 1, 4)
    beside = Concatenate([[Flatten(), Dense(3)], [Conv(2, strides=2), Flatten()]])
    assert output_of(shape, beside) == (1, 1, 5)


def shortcut_of(shape, *layers):
    """Shape of the weights of what adapts the input of a residual connection."""
    program = sequential(shape, (Residual(list(layers)), Dense(2)), SOFTMAX_LOG_LOSS)
    return dict(zip(program.names, program.parameters, strict=True))[
        "residual1.shortcut.weights"
    ].shape


def test_shortcuts_are_convolutions_where_maps_are_added():
    assert shortcut_of((4, 4, 3), Conv(5, strides=2)) == (1, 1, 3, 5)
    assert shortcut_of((2, 2, 3), Conv(5, strides=2)) == (1, 1, 3, 5)  # one pixel is left
    assert shortcut_of((1, 1, 3), Conv(5)) == (1, 1, 3, 5)
    assert shortcut_of((2, 3), Conv(5, strides=2)) == (1, 1, 3, 5)
    assert shortcut_of((3,), Dense(5)) == (3, 5)
    assert shortcut_of((4, 4, 3), Flatten(), Dense(5)) == (48, 5)
    assert shortcut_of((4, 4, 3), Conv(5), GlobalAveragePool()) == (48, 5)


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
