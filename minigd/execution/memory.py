"""How much memory training takes: what a pass of two rows asks for, times the batch size.

Where a snapshot is kept to go back to, it comes on top.
"""

import threading
from typing import Any

import numpy as np

from minigd.execution.fusion import fused_layers
from minigd.nn.layers.scaling import Adapted
from minigd.nn.losses import LOSSES, get_loss
from minigd.nn.objective import default_loss, is_paired
from minigd.optim.updaters import Updater


def work_bytes(model: Any, batch_size: int) -> int:
    """Return the bytes of the arrays that layers write into in a training pass.

    >>> import minigd as gd
    >>> work_bytes(gd.Sequential([gd.Dense(10), gd.Tanh()], inputs=2), 100)
    12000
    """
    twin = model.copy(backend="numpy")
    for layer in twin.layers:
        if isinstance(layer, Adapted):
            layer.buffers["rows"][...] = 1
    last = twin.layers[-1]
    loss = get_loss(default_loss(last)) if twin.loss is None else twin.loss
    layers = twin.layers[:-1] if is_paired(last, loss) else twin.layers
    if not model.backend.reads_are_free:
        layers = fused_layers(layers, type(loss) in LOSSES.values())
    twin.workspace.thread = threading.get_ident()
    with np.errstate(all="ignore"):
        y = twin.run_forward(layers, np.ones((2, twin.n_in), dtype=twin.dtype), train=True)
        twin.run_backward(layers, np.ones_like(y))
    nbytes: int = twin.workspace.nbytes
    return nbytes * batch_size // 2


def snapshot_bytes(model: Any, updater: Updater) -> int:
    """Return the bytes of a snapshot, of one batch for each update: none where none is taken."""
    if model.backend.reads_are_free:
        return 0
    running = [layer.buffers[name] for layer in model.layers for name in layer.running]
    vectors = (1 + len(updater.state_names)) * model.flat_params.nbytes
    return int(vectors + sum(buffer.nbytes for buffer in running))


def describe_out_of_memory(model: Any, n: int, error: Exception) -> str:
    """Say what a batch of n rows needs that did not fit, and which one would."""
    try:
        need = work_bytes(model, n)
    except Exception:
        # A layer from outside that can't be tried on its own hides nothing of what happened.
        return f"a step on a batch of {n:,} rows does not fit in memory ({error})"
    owned = model.workspace.nbytes
    free = model.backend.free_bytes()
    fits = max(1, min(n - 1, n * (free + owned) // max(1, need)))
    return (
        f"a step on a batch of {n:,} rows does not fit in memory ({error}): its work arrays "
        f"take {need:,} bytes, and {free:,} are free beside the {owned:,} they have. Batches of "
        f"{fits:,} fit: batch_size={fits}, with accumulate={-(-n // fits)} for the same update"
    )
