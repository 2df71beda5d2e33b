"""The memory that training needs: that of a pass of two rows, scaled to the batch size.

A snapshot, if there is one, is added.
"""

import contextlib
import threading
from typing import Any

import numpy as np

from minigd.backends.on_demand import call
from minigd.execution.tracer import Update
from minigd.nn.layers.scaling import Adapted
from minigd.nn.losses import CategoricalCrossEntropy, get_loss
from minigd.nn.objective import Objective, default_loss, is_paired
from minigd.optim.gradient_transforms import Clipping, Penalty
from minigd.optim.updaters import SGD, Updater


def work_bytes(model: Any, batch_size: int) -> int:
    """Return the bytes of the arrays that a training step writes, without the parameters.

    >>> import minigd as gd
    >>> work_bytes(gd.Sequential([gd.Dense(10), gd.Tanh()], inputs=2), 100)
    12000
    """
    if not model.backend.reads_are_free:
        # A custom layer may not be a program. Then the layers themselves are measured.
        with contextlib.suppress(Exception):
            return _compiled_bytes(model, batch_size)
    twin = model.copy(backend="numpy")
    for layer in twin.layers:
        if isinstance(layer, Adapted):
            layer.buffers["rows"][...] = 1
    last = twin.layers[-1]
    loss = get_loss(default_loss(last)) if twin.loss is None else twin.loss
    layers = twin.layers[:-1] if is_paired(last, loss) else twin.layers
    twin.workspace.thread = threading.get_ident()
    with np.errstate(all="ignore"):
        y = twin.run_forward(layers, np.ones((2, twin.n_in), dtype=twin.dtype), train=True)
        twin.run_backward(layers, np.ones_like(y))
    nbytes: int = twin.workspace.nbytes
    return nbytes * batch_size // 2


def _compiled_bytes(model: Any, batch_size: int) -> int:
    """Return the bytes of a compiled step, extrapolated from those of two rows and three."""
    twin = model.copy()
    for layer in twin.layers:
        if isinstance(layer, Adapted):
            layer.buffers["rows"][...] = 1
    objective = Objective(twin, default_loss(twin.layers[-1]) if twin.loss is None else twin.loss)
    update = Update(Penalty(), Clipping(), SGD())
    classes = isinstance(objective.loss, CategoricalCrossEntropy)
    y = np.zeros((1,) if classes else (1, twin.n_out), "int64" if classes else twin.dtype)
    given = "minigd.execution.targets.cuda", "CudaStep", objective, update, y
    two, three = (call(*given, rows).nbytes for rows in (2, 3))
    nbytes: int = two + (three - two) * (max(batch_size, 2) - 2)
    return nbytes


def snapshot_bytes(model: Any, updater: Updater) -> int:
    """Return the bytes of a snapshot with one batch per update, or 0 if none is taken."""
    if model.backend.reads_are_free:
        return 0
    running = [layer.buffers[name] for layer in model.layers for name in layer.running]
    vectors = (1 + len(updater.state_names)) * model.flat_params.nbytes
    return int(vectors + sum(buffer.nbytes for buffer in running))


def describe_out_of_memory(model: Any, n: int, error: Exception) -> str:
    """Describe the memory for a batch of n rows that did not fit, and a batch that would."""
    try:
        need = work_bytes(model, n)
    except Exception:
        # If a custom layer can't be tried alone, the original error must not be hidden.
        return f"a step on a batch of {n:,} rows does not fit in memory ({error})"
    owned = model.workspace.nbytes
    free = model.backend.free_bytes()
    fits = max(1, min(n - 1, n * (free + owned) // max(1, need)))
    return (
        f"a step on a batch of {n:,} rows does not fit in memory ({error}): its work arrays "
        f"take {need:,} bytes, and {free:,} are free in addition to the {owned:,} in use. "
        f"Batches of {fits:,} fit: use batch_size={fits} with accumulate={-(-n // fits)} for the "
        "same update"
    )
