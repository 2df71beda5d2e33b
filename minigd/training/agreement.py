"""What must be the same in all processes of a run, and the error for a difference."""

import contextlib
import hashlib
import re
import textwrap
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from minigd.data.batches import Batches
from minigd.distributed.communicator import Communicator
from minigd.execution.finite_guard import Remembered
from minigd.nn.layers.base import Layer, with_inner
from minigd.nn.sequential import Sequential

MIXED = 1e-3
"""How much an output may change with other rows in the batch, relative to the largest one."""

_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_HIDDEN = frozenset({"data", "weights"})
_SHOWN = 200


def agree(communicator: Communicator, given: Mapping[str, Any]) -> None:
    """Refuse a call that differs between processes.

    Raises
    ------
    RuntimeError
        In all of them, with the first difference and its place.
    """
    own = tuple((name, _ADDRESS.sub("", str(value))) for name, value in given.items())
    found = communicator.gather(own)
    usual, others = _find_odd(found)
    if others:
        here, there = dict(found[usual]), dict(found[others[0]])
        name = next(name for name in here if there.get(name) != here[name])
        values = ""
        if name.split()[-1] not in _HIDDEN:
            short = [textwrap.shorten(str(each.get(name)), _SHOWN) for each in (there, here)]
            values = ": {}, and not {}".format(*short)
        raise RuntimeError(
            f"{_who(others, usual, len(found))} in {name}{values}. Make the same calls with the "
            "same arguments in all processes: each takes its own part of every batch"
        )


def agree_on_data(communicator: Communicator, batches: Batches, validation: Batches | None) -> None:
    """Let sources find what is needed, together, and refuse data that differ from rank 0's."""
    named = {"": batches, **({} if validation is None else {"validation ": validation})}
    agree(
        communicator,
        {
            "the validation": validation is not None,
            **{f"{word}kind of source": type(b.source).__name__ for word, b in named.items()},
            **{f"{word}number of rows": b.source.rows for word, b in named.items()},
            **{f"{word}columns": b.source.names for word, b in named.items()},
        },
    )
    settings: dict[str, Any] = {}
    for word, each in named.items():
        each.source.settle(communicator)
        settings |= {word + name: value for name, value in each.settings().items()}
        # Rows that all processes read are compared batch by batch.
        if each.source.random_access:
            settings[word + "the data"] = each.source.fingerprint()
    agree(communicator, settings)


def compare(communicator: Communicator, model: Sequential, place: tuple[int, int, int]) -> None:
    """Refuse to continue if processes have different parameters, or are at different positions."""
    digest = hashlib.sha256(model.backend.to_numpy(model.flat_params).tobytes())
    for name, array in model.arrays().items():
        digest.update(name.encode() + array.tobytes())
    found = communicator.gather((digest.hexdigest(), place))
    usual, others = _find_odd(found)
    if others:
        raise _ranks_differ(others, usual, found, place[-1])


def _find_odd(found: list[Any]) -> tuple[int, list[int]]:
    """Return the first rank with the most common value (rank 0 of two), and the other ranks."""
    value = Counter(found).most_common(1)[0][0] if len(found) > 2 else found[0]
    others = [rank for rank, each in enumerate(found) if each != value]
    return found.index(value), others


def _who(others: list[int], usual: int, size: int) -> str:
    ranks = f"rank{'s' * (len(others) > 1)} {' and '.join(map(str, others))} of {size}"
    return f"{ranks} differ{'s' * (len(others) == 1)} from rank {usual}"


def _ranks_differ(others: list[int], usual: int, found: list[Any], updates: int) -> RuntimeError:
    who = _who(others, usual, len(found))
    if found[others[0]][1] != found[usual][1]:
        (epoch, batch, made), (epochs, batches, most) = found[others[0]][1], found[usual][1]
        return RuntimeError(
            f"{who} in how far it has come: epoch {epoch}, batch {batch}, update {made}, and not "
            f"epoch {epochs}, batch {batches}, update {most}. Call fit alike in all processes, "
            "and resume all of them from the same checkpoint"
        )
    return RuntimeError(
        f"{who} in the parameters, after update {updates:,}: let all processes make the model "
        "with the same seed, or load the same file, and change nothing in one of them alone"
    )


def refuse_coupling(model: Sequential) -> None:
    """Refuse a custom layer whose outputs depend on other rows, unless it sets `couples`.

    Raises
    ------
    ValueError
        With what such a layer must do.
    """
    outside = [one for one in model.all_layers if not type(one).__module__.startswith("minigd.")]
    for layer in outside:
        if any(one.couples or one.draws for one in with_inner([layer])):
            continue
        mixes = False
        with Remembered(model), np.errstate(all="ignore"), contextlib.suppress(Exception):
            mixes = _mixes_rows(layer, model)
        if mixes:
            raise ValueError(
                f"{layer.name} takes sums over the rows of a batch, some of which are in other "
                f"processes: set couples = True in {type(layer).__name__}, and add the sums up by "
                "self.communicator.sum(vector)"
            )


def _mixes_rows(layer: Layer, model: Sequential) -> bool:
    """Return whether a training pass changes the outputs of two rows if two more follow them."""
    backend, draw = model.backend, np.random.default_rng(0).normal
    x = backend.asarray(draw(size=(4, layer.n_in)), dtype=model.dtype)
    alone, among = (backend.to_numpy(layer.forward(x[:n], train=True)[:2]).copy() for n in (2, 4))
    return bool((abs(alone - among) > MIXED * abs(among).max()).any())
