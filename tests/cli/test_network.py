"""The first and last layers of a network depend on the columns, and categories stay 0 and 1."""

import io

import numpy as np
import pytest

import minigd as gd
from minigd.cli.train import adapt_numbers, build_network
from minigd.data.tables.schema import Schema
from minigd.nn.objective import default_loss


@pytest.mark.parametrize(
    ("classes", "last", "outputs", "loss"),
    [
        (None, "rescale1", 1, "mse"),
        (["a", "b"], "sigmoid1", 1, "binary_crossentropy"),
        (["a", "b", "c"], "softmax1", 3, "categorical_crossentropy"),
    ],
)
def test_the_last_layer_and_the_loss_go_with_the_classes(classes, last, outputs, loss):
    schema = Schema(["x"], ["y"], {}, classes, integer=False)
    model = build_network(schema, "classification" if classes else "regression", hidden=[5, 4])
    assert (model.layers[-1].name, model.n_out, default_loss(model.layers[-1])) == (
        last,
        outputs,
        loss,
    )
    assert [layer.n_out for layer in model.layers if isinstance(layer, gd.Dense)] == [5, 4, outputs]


def test_without_hidden_layers_the_model_is_linear():
    schema = Schema(["x", "z"], ["y"], {}, None, integer=False)
    model = build_network(schema, "regression", hidden=[])
    assert [type(layer) for layer in model.layers] == [gd.Standardize, gd.Dense, gd.Rescale]
    with pytest.raises(ValueError, match="the width of a hidden layer must be an integer"):
        build_network(schema, "regression", hidden=[0])


def test_numbers_are_standardised_and_categories_stay_as_they_are():
    text = b"a,color,b,y\n1,red,10,100\n2,blue,20,300\n6,red,60,200\n"
    source = gd.CsvSource(io.BytesIO(text), target="y")
    model = build_network(source.schema, "regression", hidden=[])
    adapt_numbers(model, gd.Batches(source), source.schema)
    x, y = source.take(slice(0, 3))
    z = model.layers[0].forward(x)
    expected = (x - x.mean(axis=0)) / x.std(axis=0)
    np.testing.assert_allclose(z[:, [0, 3]], expected[:, [0, 3]], rtol=1e-6)
    np.testing.assert_array_equal(z[:, 1:3], x[:, 1:3])
    assert model.layers[-1].buffers["mean"].tolist() == [y.mean()]
