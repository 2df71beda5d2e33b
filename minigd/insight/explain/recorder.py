"""A layer that records what another one does: what went in and what came out, forward and backward.

Copies are kept on the host, so that nothing that happens later changes them.
"""

from collections.abc import Mapping

import numpy as np

from minigd.backends.base import Backend
from minigd.insight.explain.table import LayerRun
from minigd.nn.layers import Layer
from minigd.types import Array


class Recorder(Layer):
    """A layer that does what another one does, and records it.

    Parameters
    ----------
    layer : Layer
        Of a model that may be changed.
    """

    def __init__(self, layer: Layer) -> None:
        self.layer = layer
        self.name, self.n_in, self.n_out = layer.name, layer.n_in, layer.n_out
        self.backend, self.params = layer.backend, layer.params
        self.params_before = all_on_host(self.backend, layer.params)
        self.buffers_before = all_on_host(self.backend, layer.buffers)
        self.dy: Array | None = None
        self.dx: Array | None = None

    def forward(self, x: Array, train: bool = False) -> Array:
        """Return what the layer returns."""
        self.x = on_host(self.backend, x)
        y = self.layer.forward(x, train)
        self.y = on_host(self.backend, y)
        self.inside = [on_host(self.backend, a) for a in self.layer._kept or ()]
        return y

    def backward(self, dy: Array) -> Array | None:
        """Return what the layer returns."""
        self.dy = on_host(self.backend, dy)
        self.layer.wants_dx = self.wants_dx
        dx = self.layer.backward(dy)
        self.dx = on_host(self.backend, dx) if self.wants_dx else None
        return dx

    def forget(self) -> None:
        """Let the layer drop what it kept."""
        self.layer.forget()

    def run(self, k: str, x: str, y: str) -> LayerRun:
        """Return what was recorded, under the names that formulas have for input and output."""
        return LayerRun(
            layer=self.layer,
            k=k,
            names=(x, y),
            x=self.x,
            y=self.y,
            dx=self.dx,
            kept=self.inside,
            params=self.params_before,
            grads=all_on_host(self.backend, self.layer.grads),
            buffers=self.buffers_before,
            buffers_after=all_on_host(self.backend, self.layer.buffers),
        )


def on_host(backend: Backend, x: Array) -> Array:
    """Return a copy on the host."""
    return np.array(backend.to_numpy(x))


def all_on_host(backend: Backend, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Return copies on the host, by name."""
    return {name: on_host(backend, array) for name, array in arrays.items()}
