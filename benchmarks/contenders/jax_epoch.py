"""JAX: rows on the device, Adam by hand, and one jitted function, of a step or of a whole epoch.

Its state is donated, so that it is updated in place, and the loss is added up in it and read once
an epoch. The last, shorter batch is a second shape, compiled for itself.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks.workloads import Data, Workload

ACTIVATIONS = {"tanh": jnp.tanh, "relu": jax.nn.relu}


def mean_loss(params: Any, x: Any, y: Any, activation: str, loss: str) -> Any:
    """Return the mean loss of a batch, from logits."""
    *hidden, (W, b) = params
    for V, c in hidden:
        x = ACTIVATIONS[activation](x @ V + c)
    z = x @ W + b
    if loss == "binary":
        return jnp.mean(jnp.logaddexp(0.0, z) - y * z)
    return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(z), y, axis=1))


def adam(params: Any, grads: Any, m: Any, v: Any, t: Any, learning_rate: float) -> Any:
    """Return parameters and moments after update number t, as in Algorithm 1 of the paper."""
    m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, grads)
    v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, grads)
    m_scale, v_scale = 1 / (1 - 0.9**t), 1 / (1 - 0.999**t)
    params = jax.tree.map(
        lambda p, m, v: p - learning_rate * (m * m_scale) / (jnp.sqrt(v * v_scale) + 1e-8),
        params,
        m,
        v,
    )
    return params, m, v


class Training:
    """The state of a run, its rows, and its compiled functions."""

    def __init__(self, workload: Workload, data: Data, scan: bool) -> None:
        self.rows, self.batch_size = workload.rows, workload.batch_size
        y = data.y.astype(np.float32) if workload.loss == "binary" else data.y.astype(np.int32)
        self.x, self.y = jnp.asarray(data.x), jnp.asarray(y.reshape(-1, 1))
        self.rng = np.random.default_rng(0)
        # Arrays of its own: what is donated can't be used again.
        params = jax.tree.map(lambda array: jnp.array(array, copy=True), data.weights)
        zeros = partial(jax.tree.map, jnp.zeros_like)
        self.state = (params, zeros(params), zeros(params), jnp.zeros((), jnp.int32))
        gradient = jax.value_and_grad(
            partial(mean_loss, activation=workload.activation, loss=workload.loss)
        )

        def step(state: Any, total: Any, x: Any, y: Any, rows: Any) -> Any:
            params, m, v, t = state
            t = t + 1
            value, grads = gradient(params, x[rows], y[rows])
            params, m, v = adam(params, grads, m, v, t, workload.learning_rate)
            return (params, m, v, t), total + value * len(rows)

        def epoch(state: Any, x: Any, y: Any, order: Any) -> Any:
            whole = len(order) // self.batch_size * self.batch_size

            def body(carry: Any, rows: Any) -> Any:
                return step(*carry, x, y, rows), None

            batches = order[:whole].reshape(-1, self.batch_size)
            carry, _ = lax.scan(body, (state, jnp.zeros(())), batches, unroll=2)
            return carry if whole == len(order) else step(*carry, x, y, order[whole:])

        self._step = jax.jit(step, donate_argnums=(0, 1))
        self._scan = jax.jit(epoch, donate_argnums=0) if scan else None

    @property
    def updates(self) -> int:
        return int(self.state[3])

    def train(self, epochs: int) -> list[float]:
        return [self._epoch() for _ in range(epochs)]

    def _epoch(self) -> float:
        order = self.rng.permutation(self.rows).astype(np.int32)
        if self._scan is not None:
            self.state, total = self._scan(self.state, self.x, self.y, order)
        else:
            total = jnp.zeros(())
            for start in range(0, self.rows, self.batch_size):
                rows = order[start : start + self.batch_size]
                self.state, total = self._step(self.state, total, self.x, self.y, rows)
        return float(total) / self.rows

    def weights(self) -> list[tuple[np.ndarray, np.ndarray]]:
        return [(np.asarray(W), np.asarray(b)) for W, b in self.state[0]]


def prepare(workload: Workload, data: Data, scan: bool) -> Training:
    return Training(workload, data, scan)
