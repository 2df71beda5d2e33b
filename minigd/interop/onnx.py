"""Export to ONNX: a trained model as a file that other programs run, without minigd and Python.

A layer becomes the ONNX operators that compute its prediction, in the model's dtype. Operators for
a table's columns come before them; see `onnx_tables.py`.
"""

import json
import math
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minigd.errors import ShapeError, validated
from minigd.interop.onnx_graph import OPSET, Graph, Symbol
from minigd.interop.onnx_tables import add_outputs, encode
from minigd.nn.layers import (
    ELU,
    GELU,
    BatchNorm,
    Dense,
    Dropout,
    Layer,
    LayerNorm,
    LeakyReLU,
    ReLU,
    Rescale,
    Residual,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Standardize,
    Tanh,
)
from minigd.nn.sequential import Sequential
from minigd.storage.atomic_files import replacing

__all__ = ["OPSET", "export_onnx"]


@validated
def export_onnx(
    model: Sequential | Any,
    path: str | os.PathLike[str],
    *,
    names: Sequence[str] | None = None,
    classes: Sequence[Any] | None = None,
) -> None:
    """Write a model's predictions to an ONNX file.

    For a `Sequential` the graph has one input, ``x`` of shape (n, n_in), and one output, ``y`` of
    shape (n, n_out), which is the result of `minigd.Sequential.predict`; n is free. BatchNorm uses
    its running statistics, Dropout drops nothing, and Standardize and Rescale are included: x and y
    are in their original units. The operators are those of opset 9, `minigd.interop.onnx.OPSET`.

    For a `TableModel` it has an input of shape (n, 1) for each column of the table, with its name:
    numbers in the schema's dtype, NaN for a missing one, and texts, ``""`` for a missing one. The
    encoding of categories, dates, missing values and logarithms is included. The outputs are
    ``prediction`` of shape (n, 1), a number or a class as text, and for classes ``probabilities``
    of shape (n, K). A row that the schema drops, or whose date is invalid, gets NaN, and ``""`` as
    a class.

    Parameters
    ----------
    model : Sequential or TableModel
        A model in float32 or float64, on any backend.
    path : str or path-like
        By convention ending in ``.onnx``; written completely or not at all.
    names : sequence of str, optional
        Names of the columns of x, such as ``source.names``; stored in the file's metadata as JSON.
    classes : sequence, optional
        Names of the classes, such as ``source.classes``; stored likewise. A TableModel brings both.

    Raises
    ------
    ImportError
        If onnx is missing.
    TypeError
        If a layer is not from minigd, because its ONNX operators are unknown.
    DataError
        If a column is hashed, or holds dates in a format that ONNX has no operators for.
    RuntimeError
        If a Standardize or Rescale was not adapted.
    ShapeError
        If there are more or fewer names or classes than the model has.
    OSError
        If the file can't be written; an existing file stays unchanged.

    Examples
    --------
    >>> import tempfile, numpy as np, onnxruntime, minigd as gd
    >>> model = gd.Sequential([gd.Dense(1), gd.Sigmoid()], inputs=2)
    >>> model.params["dense1.W"][...] = [[1.0], [-1.0]]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     gd.export_onnx(model, f"{folder}/m.onnx", names=["age", "income"])
    ...     session = onnxruntime.InferenceSession(f"{folder}/m.onnx")
    >>> (y,) = session.run(["y"], {"x": np.array([[1.0, 1.0], [3.0, 1.0]], dtype="float32")})
    >>> y.round(4)
    array([[0.5   ],
           [0.8808]], dtype=float32)
    >>> session.get_modelmeta().custom_metadata_map
    {'names': '["age", "income"]'}

    Source: ONNX, "Operator schemas", https://onnx.ai/onnx/operators.
    """
    table: Any = model if hasattr(model, "schema") and hasattr(model, "model") else None
    if table is not None:
        if names is not None or classes is not None:
            raise TypeError("a TableModel brings its own names and classes: leave them out")
        model, names, classes = table.model, table.schema.names, table.classes
    _check(model)
    graph = Graph() if table is None else Graph(table.schema.features)
    metadata = _metadata(model, names, classes)
    if table is None:
        graph.dtype = model.dtype
        x = graph.input("x", model.dtype, model.n_in)
        y = _chain(graph, model.layers, x)
        graph.output("y", y, model.dtype, model.n_out)
    else:
        x, gap = encode(graph, table.schema.replace(unknown="other"), model.dtype)
        graph.dtype = model.dtype
        y = _chain(graph, model.layers, x)
        add_outputs(graph, table, y, gap)
    with replacing(path) as file:
        file.write(graph.serialized(metadata))


def _check(model: Any) -> None:
    """Refuse what has no ONNX form, before anything is written."""
    if not isinstance(model, Sequential):
        raise TypeError(f"export_onnx writes a minigd.Sequential, not {type(model).__name__}")
    if model.dtype.kind != "f":
        raise TypeError(
            f"the model's dtype is {model.dtype}, which ONNX Runtime does not compute in: export "
            "model.copy(dtype='float64')"
        )
    for layer in model.all_layers:
        # A subclass may compute something other than its base class.
        if type(layer) not in _WRITERS:
            raise TypeError(
                f"{layer.name} is a {type(layer).__name__}, a layer from outside the package, for "
                "which no ONNX operators are known: build the model from "
                f"{', '.join(kind.__name__ for kind in _WRITERS)}, or export a model of the layers "
                "before it and compute the rest elsewhere"
            )


def _metadata(
    model: Sequential, names: Sequence[str] | None, classes: Sequence[Any] | None
) -> dict[str, str]:
    expected = {"names": model.n_in, "classes": max(2, model.n_out)}
    metadata = {}
    for what, values in (("names", names), ("classes", classes)):
        if values is None:
            continue
        if isinstance(values, str):
            raise TypeError(f"{what} must be a list, [{values!r}], not one text")
        if len(values) != expected[what]:
            raise ShapeError(
                f"there are {len(values)} {what}, but the model has {expected[what]} "
                f"{'columns of x' if what == 'names' else 'classes'}"
            )
        metadata[what] = json.dumps(np.asarray(values).tolist(), ensure_ascii=False)
    return metadata


def _chain(graph: Graph, layers: Sequence[Layer], x: str) -> str:
    """Add layers one after another, and return the name of the last output."""
    for layer in layers:
        graph.part = layer.name
        x = _WRITERS[type(layer)](graph, layer, x)
    return x


def _dense(graph: Graph, layer: Any, x: str) -> str:
    # Gemm with zeros where there is no bias: ONNX Runtime fuses a MatMul with a factor after it,
    # which it then keeps in float32.
    W = layer.params["W"]
    b = layer.params["b"] if layer.bias else np.zeros(layer.units)
    return graph.add("Gemm", x, graph.constant("W", W), graph.constant("b", b))


def _leaky_relu(graph: Graph, layer: Any, x: str) -> str:
    # ONNX's LeakyRelu keeps its slope in float32, and ONNX Runtime has none for float64.
    return graph.add("Max", x, graph.add("Mul", x, graph.constant("slope", layer.slope)))


def _by_formula(graph: Graph, layer: Any, x: str) -> str:
    # ONNX Runtime has no Elu, Erf and Softplus for float64.
    y: Symbol = layer.formula(Symbol(graph, x), **layer.constants)
    return y.name


def _gelu(graph: Graph, layer: Any, x: str) -> str:
    if layer.approximate or graph.dtype == "float64":
        return _by_formula(graph, layer, x)
    # In the form that runtimes know as one operation.
    erf = graph.add("Erf", graph.add("Mul", x, graph.constant("root", math.sqrt(0.5))))
    y = graph.add("Mul", x, graph.add("Add", erf, graph.constant("one", 1)))
    return graph.add("Mul", y, graph.constant("half", 0.5))


def _batch_norm(graph: Graph, layer: Any, x: str) -> str:
    # ONNX's BatchNormalization takes x · scale − mean · scale, which cancels for a large mean.
    spread = layer.buffers["variance"] + layer.epsilon
    x = graph.add("Sub", x, graph.constant("mean", layer.buffers["mean"]))
    x = graph.add("Mul", x, graph.constant("scale", 1 / np.sqrt(spread)))
    x = graph.add("Mul", x, graph.constant("gamma", layer.params["gamma"]))
    return graph.add("Add", x, graph.constant("beta", layer.params["beta"]))


def _layer_norm(graph: Graph, layer: Any, x: str) -> str:
    x = graph.add("Sub", x, graph.add("ReduceMean", x, axes=[1], keepdims=1))
    spread = graph.add("ReduceMean", graph.add("Mul", x, x), axes=[1], keepdims=1)
    spread = graph.add("Add", spread, graph.constant("epsilon", layer.epsilon))
    x = graph.add("Div", x, graph.add("Sqrt", spread))
    x = graph.add("Mul", x, graph.constant("gamma", layer.params["gamma"]))
    return graph.add("Add", x, graph.constant("beta", layer.params["beta"]))


def _residual(graph: Graph, layer: Any, x: str) -> str:
    inner = _chain(graph, layer.layers, x)
    graph.part = layer.name
    return graph.add("Add", x, inner)


def _standardize(graph: Graph, layer: Any, x: str) -> str:
    layer.check_ready()
    x = graph.add("Sub", x, graph.constant("mean", layer.buffers["mean"]))
    return graph.add("Div", x, graph.constant("std", layer.buffers["std"]))


def _rescale(graph: Graph, layer: Any, x: str) -> str:
    layer.check_ready()
    x = graph.add("Mul", x, graph.constant("std", layer.buffers["std"]))
    return graph.add("Add", x, graph.constant("mean", layer.buffers["mean"]))


def _one(operator: str, **attributes: Any) -> Callable[[Graph, Any, str], str]:
    return lambda graph, layer, x: graph.add(operator, x, **attributes)


_WRITERS: dict[type[Layer], Callable[[Graph, Any, str], str]] = {
    Dense: _dense,
    Tanh: _one("Tanh"),
    Sigmoid: _one("Sigmoid"),
    ReLU: _one("Relu"),
    LeakyReLU: _leaky_relu,
    ELU: _by_formula,
    GELU: _gelu,
    SiLU: _by_formula,
    Softplus: _by_formula,
    Softmax: _one("Softmax", axis=1),
    BatchNorm: _batch_norm,
    LayerNorm: _layer_norm,
    Dropout: _one("Identity"),
    Residual: _residual,
    Standardize: _standardize,
    Rescale: _rescale,
}
