"""The network that `minigd train` makes for a table: what its ends are, the columns decide."""

from collections.abc import Sequence

from minigd.backends.base import Backend
from minigd.cli.tables import Task
from minigd.data.batches import Batches
from minigd.data.tables.schema import Schema
from minigd.errors import check_integer
from minigd.nn.layers import Dense, Dropout, Layer, ReLU, Rescale, Sigmoid, Softmax, Standardize
from minigd.nn.sequential import Sequential

HIDDEN = (100, 100)
DROPOUT = 0.1
METRICS = {"regression": ["r2", "mae", "rmse"], "classification": ["accuracy"]}


def network(
    schema: Schema,
    task: Task,
    hidden: Sequence[int] = HIDDEN,
    backend: str | Backend = "numpy",
    seed: int = 0,
) -> Sequential:
    """Return a new network for the columns of a schema.

    Examples
    --------
    >>> schema = Schema(["area"], ["heating"], {}, ["gas", "oil"], integer=False)
    >>> [layer.name for layer in network(schema, "classification", hidden=[8]).layers]
    ['standardize1', 'dense1', 'relu1', 'dropout1', 'dense2', 'sigmoid1']
    """
    layers: list[Layer] = [Standardize()]
    for width in hidden:
        width = check_integer("the width of a hidden layer", width)
        layers += [Dense(width, "he_normal"), ReLU(), Dropout(DROPOUT)]
    classes = len(schema.classes or [])
    if task == "regression":
        layers += [Dense(1), Rescale()]
    elif classes == 2:
        layers += [Dense(1), Sigmoid()]
    else:
        layers += [Dense(classes), Softmax()]
    return Sequential(layers, inputs=len(schema.names), backend=backend, seed=seed)


def adapt(model: Sequential, batches: Batches, schema: Schema) -> None:
    """Fit the first layer, and a last Rescale, to the rows; categories stay 0 and 1."""
    model.adapt(batches)
    buffers = model.layers[0].buffers
    at = 0
    for feature in schema.features:
        width = len(schema.levels.get(feature, [feature]))
        if feature in schema.levels:
            buffers["mean"][at : at + width] = 0
            buffers["std"][at : at + width] = 1
        at += width
