"""A layer that records what another one does: what went in and what came out, forward and backward.

Copies are kept on the host, so nothing later changes them.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from minigd.backends.base import Backend, Views
from minigd.nn.layers import Layer
from minigd.types import Array


class Recorder(Layer):
    """A layer that does what another one does, and records it.

    Attributes
    ----------
    layer : Layer
        The recorded layer, of a model that may be changed.
    k, names : str and (str, str)
        Its number, and the names of its input and its output in formulas.
    x, y, dy, dx : Array
        What went in and came out; dx is None if it is not wanted.
    inner : sequence of Recorder
        Those of its inner layers, in order, if formulas show these.
    inside : list of Array
        The arrays that it kept for `backward`.
    params, buffers : dict of str to Array
        As they were before the step.
    grads, buffers_after : dict of str to Array
        As they were after it; before that, `grads` says whether there are any.
    """

    def __init__(self, layer: Layer, k: str, *names: str, inner: Sequence["Recorder"] = ()) -> None:
        self.inner = inner
        self.layer, self.k, self.names = layer, k, names
        self.name, self.n_in, self.n_out = layer.name, layer.n_in, layer.n_out
        self.backend, self.is_frozen = layer.backend, layer.is_frozen
        self.params = all_on_host(self.backend, layer.params)
        self.buffers = all_on_host(self.backend, layer.buffers)
        self.grads = all_on_host(self.backend, {} if self.is_frozen else layer.grads)
        self.dy: Array | None = None
        self.dx: Array | None = None

    def forward(self, x: Array, train: bool = False) -> Array:
        """Return what the layer returns."""
        self.x = on_host(self.backend, x)
        y = self.layer.forward(x, train)
        self.y = on_host(self.backend, y)
        self.inside = [on_host(self.backend, a) for a in self.layer.held or ()]
        self.buffers_after = all_on_host(self.backend, self.layer.buffers)
        return y

    def backward(self, dy: Array) -> Array | None:
        """Return what the layer returns."""
        self.dy = on_host(self.backend, dy)
        self.layer.wants_dx = self.wants_dx
        dx = self.layer.backward(dy)
        self.dx = on_host(self.backend, dx) if self.wants_dx else None
        self.grads = all_on_host(self.backend, {} if self.is_frozen else self.layer.grads)
        return dx

    def forget(self) -> None:
        """Let the layer drop the arrays that it kept."""
        self.layer.forget()


def on_host(backend: Backend, x: Array) -> Array:
    """Return a copy on the host."""
    return np.array(backend.to_numpy(x))


def all_on_host(backend: Backend, arrays: Mapping[str, Array]) -> Views:
    """Return copies on the host, by name."""
    return Views({name: on_host(backend, array) for name, array in arrays.items()})
