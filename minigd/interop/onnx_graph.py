"""An ONNX graph while it is built: operators, constants, inputs and outputs."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from minigd.backends.base import get_backend
from minigd.backends.on_demand import optional
from minigd.types import Array
from minigd.version import __version__

OPSET = 9
"""Version of ONNX's operators, from 2019: the oldest in which a constant is not an input."""

OPSET_OF_TEXTS = 20
"""Version of the operators that cut texts, used in a file that reads dates."""

OPSET_OF_TABLES = 2
"""Version of the operators of ``ai.onnx.ml``: the oldest that maps texts to numbers."""


class Graph:
    """Operators in the order in which they run.

    Parameters
    ----------
    taken : iterable of str
        Names of inputs, which nothing else may use.

    Attributes
    ----------
    part : str
        The current layer or column, with which the names of operators begin.
    dtype : dtype
        The dtype of new constants.
    """

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self.part, self.dtype = "", np.dtype("float32")
        self._nodes: list[tuple[str, list[str], list[str], dict[str, Any]]] = []
        self._constants: dict[str, Array] = {}
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []
        self._taken = set(taken)
        self._helper = optional("onnx.helper", "export_onnx")

    def input(self, name: str, dtype: Any, width: int) -> str:
        """Add an input of shape (n, width); of texts, if the dtype is `str`."""
        self._inputs.append(self._value(name, dtype, width))
        return name

    def output(self, name: str, value: str, dtype: Any, width: int) -> None:
        """Make the result of an operator an output of shape (n, width)."""
        name = self._free(name)
        for _, inputs, outputs, _ in self._nodes:
            for names in (inputs, outputs):
                names[:] = [name if each == value else each for each in names]
        self._outputs.append(self._value(name, dtype, width))

    def add(self, operator: str, *inputs: str, more: int = 0, **attributes: Any) -> str:
        """Add an operator of the current part, and return the name of its first result."""
        name = self._free(f"{self.part}.{len(self._nodes)}")
        outputs = [name, *(self._free(f"{name}.{k}") for k in range(more))]
        self._nodes.append((operator, list(inputs), outputs, {"name": name, **attributes}))
        return name

    def input_of(self, value: str) -> str:
        """Return the first input of the operator whose result is this value."""
        return next(inputs[0] for _, inputs, outputs, _ in self._nodes if value in outputs)

    def constant(self, name: str, value: Any, dtype: Any = None) -> str:
        """Add a constant of the current part, and return its whole name."""
        whole = self._free(f"{self.part}.{name}")
        dtype = self.dtype if dtype is None else dtype
        self._constants[whole] = get_backend("numpy").asarray(value, dtype)
        return whole

    def cast(self, x: str, dtype: Any) -> str:
        """Add a conversion to a dtype."""
        return self.add("Cast", x, to=self._element(dtype))

    def serialized(self, metadata: Mapping[str, str]) -> bytes:
        """Return the bytes of a file."""
        helper, from_array = self._helper, optional("onnx.numpy_helper", "export_onnx").from_array
        nodes = [
            helper.make_node(operator, inputs, outputs, **attributes)
            for operator, inputs, outputs, attributes in self._nodes
        ]
        cuts = any(operator == "StringSplit" for operator, *_ in self._nodes)
        opsets = [helper.make_opsetid("", OPSET_OF_TEXTS if cuts else OPSET)]
        if any(node.domain for node in nodes):
            opsets.append(helper.make_opsetid("ai.onnx.ml", OPSET_OF_TABLES))
        constants = [from_array(value, name) for name, value in self._constants.items()]
        proto = helper.make_model(
            helper.make_graph(nodes, "minigd", self._inputs, self._outputs, constants),
            opset_imports=opsets,
            # Runtimes that know the operators may refuse a newer format.
            ir_version=helper.find_min_ir_version_for(opsets),
            producer_name="minigd",
            producer_version=__version__,
        )
        helper.set_model_props(proto, metadata)
        written: bytes = proto.SerializeToString()
        return written

    def _value(self, name: str, dtype: Any, width: int) -> Any:
        self._taken.add(name)
        return self._helper.make_tensor_value_info(name, self._element(dtype), ["n", width])

    def _element(self, dtype: Any) -> int:
        element: int = self._helper.np_dtype_to_tensor_dtype(
            np.dtype(object if dtype is str else dtype)
        )
        return element

    def _free(self, name: str) -> str:
        """Return the name, or a similar one that is not used yet."""
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        return name


_OPERATORS: dict[Any, str] = {
    np.add: "Add",
    np.subtract: "Sub",
    np.multiply: "Mul",
    np.divide: "Div",
    np.negative: "Neg",
    np.exp: "Exp",
    np.log: "Log",
    np.tanh: "Tanh",
    np.minimum: "Min",
    np.maximum: "Max",
    np.less: "Less",
    np.greater: "Greater",
}


class Symbol(NDArrayOperatorsMixin):
    """A value of a graph; a formula of `minigd.formulas` that gets it adds operators to the graph.

    >>> from minigd import formulas
    >>> graph = Graph()
    >>> y = formulas.silu(Symbol(graph, graph.input("x", "float32", 3)))
    """

    def __init__(self, graph: Graph, name: str) -> None:
        self.graph, self.name = graph, name

    @property
    def real(self) -> "Symbol":
        """The value itself: a graph has only real numbers."""
        return self

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any) -> Any:
        if ufunc is np.log1p:
            return np.log(1 + inputs[0])
        return self._add(_OPERATORS[ufunc], *inputs)

    def __array_function__(self, function: Any, types: Any, inputs: Any, settings: Any) -> Any:
        if function is not np.where:
            return NotImplemented
        return self._add("Where", *inputs)

    def _add(self, operator: str, *inputs: Any) -> "Symbol":
        graph = self.graph
        names = [a.name if isinstance(a, Symbol) else graph.constant(repr(a), a) for a in inputs]
        return Symbol(graph, graph.add(operator, *names))
