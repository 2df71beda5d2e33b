"""The report at the end of `minigd train`: the scores of the network next to simple baselines.

All scores are computed on the same held-out rows, and all models were trained on the other rows.
"""

import contextlib
import os
import shlex
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from minigd.cli.held_out import Measures, describe_class, of_one_class
from minigd.cli.messages import counted, number
from minigd.cli.stopping import Stop
from minigd.cli.tables import Table
from minigd.cli.trained import TableModel
from minigd.data.sources.base import Source
from minigd.data.tables.schema import Schema
from minigd.insight.importance import permutation_importance
from minigd.nn.sequential import Sequential
from minigd.optim.schedules import CosineDecay
from minigd.optim.updaters import Adam
from minigd.progress import log
from minigd.training.trainer import Trainer
from minigd.types import Array

_MOST_NUMBERS = 20_000_000
"""At most this many numbers of x are used for the comparison, from evenly spaced held-out rows."""

_UPDATES, _BATCH, _RATE, _L2 = 1000, 200, 0.1, 1e-4
"""A linear model is trained by Adam for this many updates, and for one pass over all rows at least.
Its learning rate falls to 0."""

_MATTER_MOST = 5
_BEHIND = 0.02  # share of its loss by which a network is worse than a linear model


class Report(NamedTuple):
    """The results of a training.

    Attributes
    ----------
    task : str
    target : str
    model : str
        The file.
    rows : dict of str to int
        ``trained``, ``held_out``, ``scored``.
    left_out : dict of str to int
        Rows that were left out, by reason.
    columns_left_out : dict of str to str
        Columns that were left out, and why.
    columns : int
        The number of columns of x.
    scores : dict of str to dict of str to float
        Loss and metrics of the ``network``, a ``linear`` model, and a ``constant``.
    constant : str
        What the constant predicts.
    classes : dict of str to float, or None
        The share of each class in the training rows.
    of_class : str or None
        The class that precision, recall, F1 and average precision are of.
    importance : dict of str to float
        How much the loss rises when a column is shuffled, largest first.
    epochs, best_epoch, updates : int
    seconds : float
    next : list of str
        Commands.
    """

    task: str
    target: str
    model: str
    rows: dict[str, int]
    left_out: dict[str, int]
    columns_left_out: dict[str, str]
    columns: int
    scores: dict[str, dict[str, float]]
    constant: str
    classes: dict[str, float] | None
    of_class: str | None
    importance: dict[str, float]
    epochs: int
    best_epoch: int
    updates: int
    seconds: float
    next: list[str]

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> list[str]:
        lines = [f"held out: {_figures(self.scores['network'])}"]
        if self.rows["scored"] < self.rows["held_out"]:
            lines[0] += f"  (on {self.rows['scored']:,} of these rows)"
        if "linear" in self.scores:
            lines.append(f"a linear model: {_figures(self.scores['linear'])}")
        if "constant" in self.scores:
            lines.append(f"always {self.constant}: {_figures(self.scores['constant'])}")
        if self.of_class is not None:
            names = [name for name in self.scores["network"] if name in _ONE_CLASS]
            lines.append(describe_class(names, self.of_class))
        if self._behind_linear:
            lines.append("the linear model does as well or better here: --hidden 0 trains one")
        rises = [(c, rise) for c, rise in self.importance.items() if rise > 0][:_MATTER_MOST]
        if rises:
            shown = ", ".join(f"{c} {number(rise)}" for c, rise in rises)
            lines.append(
                f"columns that matter most, by the rise of the loss when each is shuffled: {shown}"
            )
        rows = [f"{counted(self.rows['trained'], 'row')} of {counted(self.columns, 'column')}"]
        rows.append(f"{self.rows['held_out']:,} held out")
        rows += [f"{count:,} left out because {why}" for why, count in self.left_out.items()]
        lines += [
            f"{self.task} of {self.target!r}: {', '.join(rows)}",
            f"best of {counted(self.epochs, 'epoch')}: {self.best_epoch}  "
            f"({counted(self.updates, 'update')}, {self.seconds:.1f} seconds)",
            f"saved: {self.model}",
            *(f"next: {command}" for command in self.next),
        ]
        return lines

    @property
    def _behind_linear(self) -> bool:
        losses = {name: scores["loss"] for name, scores in self.scores.items()}
        return "linear" in losses and losses["linear"] < (1 - _BEHIND) * losses["network"]


_ONE_CLASS = ("precision", "recall", "f1", "average_precision")


def _figures(scores: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {number(value)}" for name, value in scores.items())


class Comparison:
    """Compares a trained model with simpler ones on the held-out rows.

    Parameters
    ----------
    trained : TableModel
    linear : Sequential
        A new linear model for the same columns.
    part, held_out : Source
        The training rows and the held-out rows.
    measures : Measures
    """

    def __init__(
        self,
        trained: TableModel,
        linear: Sequential,
        part: Source,
        held_out: Source,
        measures: Measures,
    ) -> None:
        self.trained, self.linear, self.part, self.held_out = trained, linear, part, held_out
        self.measures, self.classes = measures, measures.classes
        assert trained.model.loss is not None
        self._loss = trained.model.loss
        # The first and last layers are adapted to the same rows.
        arrays = trained.model.arrays()
        fitted = {name: array for name, array in arrays.items() if name.startswith("buffers/")}
        linear.load_arrays({**linear.arrays(), **fitted})

    def report(self, table: Table, out: str) -> Report:
        """Return the report; after Ctrl-C it lacks what is not known yet."""
        trained, schema = self.trained, self.trained.schema
        history = trained.history
        x, y = self._rows()
        scores = {"network": self._score(trained.model, x, y)}
        importance: dict[str, float] = {}
        with Stop() as stop:
            scores["constant"] = self._score(self._constant(), x, y)
            if len(trained.model.params) > len(self.linear.params):
                log("a linear model is trained on the same rows, to compare")
                with contextlib.suppress(FloatingPointError):
                    self._fit_linear(stop)
                    if stop.number is None:
                        scores["linear"] = self._score(self.linear, x, y)
            if stop.number is None:
                own = Trainer(trained.model, self._loss, "sgd")
                importance = permutation_importance(
                    own, x, y, columns_of_x(schema), going_on=lambda: stop.number is None
                )
        metrics = trained.model.metrics
        classes = self.classes
        named = of_one_class(metrics, classes and classes.names)
        return Report(
            task=trained.task,
            target=schema.targets[0],
            model=os.fspath(out),
            rows={
                "trained": self.part.count(),
                "held_out": self.held_out.count(),
                "scored": len(x),
            },
            left_out=_why_left_out(table, schema.targets[0]),
            columns_left_out=dict(table.left_out),
            columns=len(schema.names),
            scores={name: scores[name] for name in _ORDER if name in scores},
            constant=self._always(),
            classes=None
            if classes is None
            else dict(zip(classes.names, classes.shares, strict=True)),
            of_class=classes.names[classes.rarest] if classes is not None and named else None,
            importance=importance,
            epochs=history.epochs,
            best_epoch=trained.best + 1,
            updates=int(history["updates"][-1]),
            seconds=sum(history["seconds"]),
            next=_next(out),
        )

    def _rows(self) -> tuple[Array, Any]:
        """Return the rows that are scored, in memory."""
        n = self.held_out.count()
        width = max(1, len(self.trained.schema.names))
        most = max(1000, _MOST_NUMBERS // width)
        if n <= most:
            pieces = list(self.held_out.chunks())
            return np.concatenate([x for x, _ in pieces]), np.concatenate([y for _, y in pieces])
        return self.held_out.take(np.linspace(0, n - 1, most).astype(np.int64))

    def _score(self, model: Sequential, x: Array, y: Any) -> dict[str, float]:
        own = self.trained.model
        return Trainer(model, self._loss, "sgd", metrics=own.metrics).evaluate(x, y)

    def _fit_linear(self, stop: Stop) -> None:
        batches = self.measures.batches(self.part, _BATCH, shuffle=True)
        epochs = -(-_UPDATES // len(batches))
        trainer = Trainer(self.linear, self._loss, Adam(CosineDecay(_RATE, epochs=epochs)), l2=_L2)
        trainer.fit(batches, epochs=epochs, callbacks=[stop], progress=False)

    def _constant(self) -> Sequential:
        """Return the untrained linear model with only a bias: the mean, or class shares."""
        model = self.linear
        for name, values in model.params.items():
            values[...] = 0
            if name.endswith(".b") and self.classes is not None:
                p = np.array(self.classes.shares).clip(1e-7)
                bias = np.log(p[1:] / p[:1]) if len(p) == 2 else np.log(p)
                values[...] = model.backend.asarray(bias, dtype=str(model.dtype))
        return model

    def _always(self) -> str:
        if self.classes is not None:
            most = self.classes.most_frequent
            share = self.classes.shares[most]
            return f"{self.classes.names[most]!r}, {share:.1%} of the rows"
        scale = self.linear.layers[-1]
        return number(float(self.linear.backend.to_numpy(scale.buffers["mean"])[0]))


_ORDER = ("network", "linear", "constant")


def columns_of_x(schema: Schema) -> dict[str, list[int]]:
    """Return the columns of x that each column of the table became.

    >>> schema = Schema(["area", "heating"], ["y"], {"heating": ["gas", "oil"]}, None, False)
    >>> columns_of_x(schema)
    {'area': [0], 'heating': [1, 2]}
    """
    starts = [schema._starts[feature] for feature in schema.features]
    ends = [*starts[1:], len(schema.names)]
    return {
        feature: list(range(start, end))
        for feature, start, end in zip(schema.features, starts, ends, strict=True)
    }


def _why_left_out(table: Table, target: str) -> dict[str, int]:
    """Return the number of rows that were left out, by reason."""
    return {
        "the target is missing" if column == target else f"{column!r} is missing": count
        for column, count in table.dropped_by.items()
    }


def _next(out: str) -> list[str]:
    model = shlex.quote(os.fspath(out))
    return [
        f"minigd predict {model} NEW.csv --out predictions.csv",
        f"minigd evaluate {model} NEW.csv",
    ]
