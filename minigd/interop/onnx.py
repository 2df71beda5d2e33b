"""Export to ONNX: a trained model as a file that other programs run, without minigd and Python.

A layer becomes the ONNX operators that compute its prediction, in the model's own dtype.
"""

import json
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minigd.backends.on_demand import optional
from minigd.errors import ShapeError, validated
from minigd.nn.layers import (
    BatchNorm,
    Dense,
    Dropout,
    Layer,
    LeakyReLU,
    ReLU,
    Rescale,
    Sigmoid,
    Softmax,
    Standardize,
    Tanh,
)
from minigd.nn.sequential import Sequential
from minigd.storage.atomic_files import replacing
from minigd.types import Array
from minigd.version import __version__

OPSET = 9
"""Version of ONNX's operators, of 2019: the oldest in whose files a constant is not an input."""

# The file format that came with it: a newer one is refused by runtimes that know the operators.
_FORMAT = 4


@validated
def export_onnx(
    model: Sequential | Any,
    path: str | os.PathLike[str],
    *,
    names: Sequence[str] | None = None,
    classes: Sequence[Any] | None = None,
) -> None:
    """Write a model's predictions to an ONNX file.

    The graph has one input, ``x`` of shape (n, n_in), and one output, ``y`` of shape (n, n_out),
    what `minigd.Sequential.predict` returns; n is open. BatchNorm uses its running statistics,
    Dropout leaves out nothing, and Standardize and Rescale are inside, so that x and y are in their
    own units. The operators are those of opset 9, `minigd.interop.onnx.OPSET`.

    Parameters
    ----------
    model : Sequential
        Of float32 or float64, on any backend.
    path : str or path-like
        By convention ending in ``.onnx``; written whole or not at all.
    names : sequence of str, optional
        What the columns of x are, such as ``source.names``; kept in the file's metadata as JSON.
    classes : sequence, optional
        What the classes are, such as ``source.classes``; likewise.

    Raises
    ------
    ImportError
        If onnx is missing.
    TypeError
        If a layer is not one of the package's, and ONNX has no operators that are known to be it.
    RuntimeError
        If a Standardize or Rescale was not adapted.
    ShapeError
        If there are more or fewer names or classes than the model has.
    OSError
        If the file can't be written; one that was there stays as it was.

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
    helper = optional("onnx.helper", "export_onnx")
    numpy_helper = optional("onnx.numpy_helper", "export_onnx")
    _check(model)
    metadata = _metadata(model, names, classes)
    graph = _Graph(model)
    element = helper.np_dtype_to_tensor_dtype(model.dtype)
    proto = helper.make_model(
        helper.make_graph(
            [
                helper.make_node(operator, inputs, [output], name=name, **attributes)
                for operator, inputs, output, name, attributes in graph.nodes
            ],
            "minigd",
            [helper.make_tensor_value_info("x", element, ["n", model.n_in])],
            [helper.make_tensor_value_info("y", element, ["n", model.n_out])],
            [numpy_helper.from_array(value, name) for name, value in graph.constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=_FORMAT,
        producer_name="minigd",
        producer_version=__version__,
    )
    helper.set_model_props(proto, metadata)
    with replacing(path) as file:
        file.write(proto.SerializeToString())


def _check(model: Any) -> None:
    """Refuse what has no ONNX form, before anything is written."""
    if not isinstance(model, Sequential):
        raise TypeError(f"export_onnx writes a minigd.Sequential, not {type(model).__name__}")
    if model.dtype.kind != "f":
        raise TypeError(
            f"the model's dtype is {model.dtype}, which ONNX Runtime does not compute in: export "
            "model.copy(dtype='float64')"
        )
    for layer in model.layers:
        # A subclass may compute something else than the layer it comes from.
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
            raise TypeError(f"{what} is a list, [{values!r}], and not one text")
        if len(values) != expected[what]:
            raise ShapeError(
                f"there are {len(values)} {what}, and the model has {expected[what]} "
                f"{'columns of x' if what == 'names' else 'classes'}"
            )
        metadata[what] = json.dumps(np.asarray(values).tolist(), ensure_ascii=False)
    return metadata


class _Graph:
    """What a model computes, as ONNX operators and constants."""

    def __init__(self, model: Sequential) -> None:
        self.nodes: list[tuple[str, list[str], str, str, dict[str, Any]]] = []
        self.constants: dict[str, Array] = {}
        self._model = model
        x = "x"
        for self._layer in model.layers:
            x = _WRITERS[type(self._layer)](self, self._layer, x)
        operator, inputs, _, name, attributes = self.nodes[-1]
        self.nodes[-1] = operator, inputs, "y", name, attributes

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add an operator of the layer at hand, and return the name of its result."""
        name = f"{self._layer.name}.{len(self.nodes)}"
        self.nodes.append((operator, list(inputs), name, name, attributes))
        return name

    def constant(self, name: str, value: Any) -> str:
        """Add a constant of the layer at hand, in the model's dtype, and return its whole name."""
        whole = f"{self._layer.name}.{name}"
        backend = self._model.backend
        host = backend.to_numpy(value) if backend.holds(value) else value
        self.constants[whole] = np.asarray(host, dtype=self._model.dtype)
        return whole


def _dense(graph: _Graph, layer: Any, x: str) -> str:
    # Gemm with zeros where there is no bias: ONNX Runtime fuses a MatMul with a factor after it,
    # which it then keeps in float32.
    W = layer.params["W"]
    b = layer.params["b"] if layer.bias else np.zeros(layer.units)
    return graph.add("Gemm", x, graph.constant("W", W), graph.constant("b", b))


def _leaky_relu(graph: _Graph, layer: Any, x: str) -> str:
    # ONNX's LeakyRelu keeps its slope in float32, and ONNX Runtime has none for float64.
    return graph.add("Max", x, graph.add("Mul", x, graph.constant("slope", layer.slope)))


def _batch_norm(graph: _Graph, layer: Any, x: str) -> str:
    # ONNX's BatchNormalization takes x · scale − mean · scale, which cancels for a large mean.
    spread = layer.buffers["variance"] + layer.epsilon
    x = graph.add("Sub", x, graph.constant("mean", layer.buffers["mean"]))
    x = graph.add("Mul", x, graph.constant("scale", 1 / np.sqrt(spread)))
    x = graph.add("Mul", x, graph.constant("gamma", layer.params["gamma"]))
    return graph.add("Add", x, graph.constant("beta", layer.params["beta"]))


def _standardize(graph: _Graph, layer: Any, x: str) -> str:
    layer.check_ready()
    x = graph.add("Sub", x, graph.constant("mean", layer.buffers["mean"]))
    return graph.add("Div", x, graph.constant("std", layer.buffers["std"]))


def _rescale(graph: _Graph, layer: Any, x: str) -> str:
    layer.check_ready()
    x = graph.add("Mul", x, graph.constant("std", layer.buffers["std"]))
    return graph.add("Add", x, graph.constant("mean", layer.buffers["mean"]))


def _one(operator: str, **attributes: Any) -> Callable[[_Graph, Any, str], str]:
    return lambda graph, layer, x: graph.add(operator, x, **attributes)


_WRITERS: dict[type[Layer], Callable[[_Graph, Any, str], str]] = {
    Dense: _dense,
    Tanh: _one("Tanh"),
    Sigmoid: _one("Sigmoid"),
    ReLU: _one("Relu"),
    LeakyReLU: _leaky_relu,
    Softmax: _one("Softmax", axis=1),
    BatchNorm: _batch_norm,
    Dropout: _one("Identity"),
    Standardize: _standardize,
    Rescale: _rescale,
}
