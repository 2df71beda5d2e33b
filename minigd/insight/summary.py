"""The layers of a model as a table, and the memory that its training takes."""

import dis
import math
import sys
from types import FrameType
from typing import Any

from minigd.errors import check_integer
from minigd.execution.memory import snapshot_bytes, work_bytes
from minigd.nn.layers.activations import Softmax
from minigd.optim.updaters import Updater, get_updater
from minigd.progress import printable


class Summary(str):
    """A text that shows itself as a table, in a session and in a notebook."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def summarize(model: Any, batch_size: int, updater: str | Updater) -> Summary:
    """Return the table of `Sequential.summary`, and print it if the caller does not use it."""
    summary = _table(model, batch_size, updater)
    # Above this function are `on_demand.call`, `Sequential.summary` and its caller.
    if _is_statement(sys._getframe(3)):
        print(summary)
    return summary


def _is_statement(frame: FrameType) -> bool:
    """Tell whether the current call is a statement whose value is not used.

    An interactive session shows such a value itself, because it is compiled to do so.
    """
    after = (op for op in dis.get_instructions(frame.f_code) if op.offset > frame.f_lasti)
    return next(after).opname == "POP_TOP"


def _table(model: Any, batch_size: int, updater: str | Updater) -> Summary:
    batch_size = check_integer("batch_size", batch_size)
    given = get_updater(updater)
    rows = [("layer", "output", "parameters", "")]
    for layer in model.all_layers:
        size = sum(math.prod(spec.shape) for spec in layer.declared_params)
        name = "  " * layer.name.count(".") + layer.name.rpartition(".")[2]
        rows.append((name, f"(n, {layer.n_out})", f"{size:,}", ""))
    size, each = model.flat_params.size, model.flat_params.nbytes
    whole_size = sum(int(p.size) for p in model.params.values())
    vectors = (len(given.state_names) + len(given.fixed(model))) * each
    work, snapshot = work_bytes(model, batch_size), snapshot_bytes(model, given)
    held = whole_size * model.dtype.itemsize
    rows.append(("total", "", f"{whole_size:,}", f"{held:,} bytes of {model.dtype}"))
    if size < whole_size:
        rows.append(("of these not trained", "", f"{whole_size - size:,}", ""))
    rows.append(("gradients", "", f"{size:,}", f"{each:,} bytes"))
    name = type(given).__name__
    rows.append(
        (f"state of {name}", "", f"{vectors // model.dtype.itemsize:,}", f"{vectors:,} bytes")
    )
    if snapshot:
        rows.append(("snapshot of what updates change", "", "", f"{snapshot:,} bytes"))
    rows.append((f"work arrays, n = {batch_size:,}", "", "", f"{work:,} bytes"))
    # The loss works with about three arrays of the outputs' shape at once; on a GPU those are among
    # the work arrays, and targets have that shape if they are not classes.
    classes = isinstance(model.layers[-1], Softmax)
    arrays = 3 if model.backend.reads_are_free else 0 if classes else 1
    batch = batch_size * (model.n_in + arrays * model.n_out) * model.dtype.itemsize
    rows.append(("the batch and its loss", "", "", f"{batch:,} bytes"))
    whole = held + each + vectors + snapshot + work + batch
    rows.append(("total, without the data", "", "", f"{whole:,} bytes"))
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    lines = [f"{a:{widths[0]}}   {b:{widths[1]}}   {c:>{widths[2]}}   {d}" for a, b, c, d in rows]
    return Summary(printable("\n".join(line.rstrip() for line in lines)))
