"""Bugs of the epoch: rows lost, seen twice or not shuffled, and means of means.

Each is planted in the batches, the trainer or its guard.
"""

from functools import partial

import numpy as np
from gradients import mean_checks
from gradients import training_checks as t
from gradients.planting import Bug, put

import minigd as gd
from minigd.data import batches
from minigd.data.sources.array import ArraySource
from minigd.execution.finite_guard import Guard
from minigd.training.epoch_totals import Totals

compose = mean_checks.batches_compose_to_the_full_batch


def every_batch_alike(monkeypatch):
    right = Totals.add

    def wrong(self, batch, weight):
        right(self, {name: total / weight * 2300 / 5 for name, total in batch.items()}, weight)

    monkeypatch.setattr(Totals, "add", wrong)


def slices_without_tail(n, batch_size):
    return (slice(i, i + batch_size) for i in range(0, n - batch_size + 1, batch_size))


def slices_with_a_full_tail(n, batch_size):
    return (slice(min(i, n - batch_size), min(i, n - batch_size) + batch_size)
            for i in range(0, n, batch_size))  # fmt: skip


def slices_that_overlap(n, batch_size):
    return (slice(max(i - 1, 0), min(i + batch_size, n)) for i in range(0, n, batch_size))


def order_of_batches(self, epoch):
    rng = np.random.default_rng([self.seed, epoch])
    parts = np.split(np.arange(self.source.rows), np.cumsum(self.sizes)[:-1])
    return np.concatenate([parts[i] for i in rng.permutation(len(parts))])


def order_within_batches(self, epoch):
    rng = np.random.default_rng([self.seed, epoch])
    parts = np.split(np.arange(self.source.rows), np.cumsum(self.sizes)[:-1])
    return np.concatenate([rng.permutation(part) for part in parts])


def one_order_for_all(self, epoch):
    return np.random.default_rng(self.seed).permutation(self.source.rows)


def rows_drawn_again(self, epoch):
    return np.random.default_rng([self.seed, epoch]).integers(0, self.source.rows, self.source.rows)


def targets_left_in_order(monkeypatch):
    right = ArraySource.take

    def wrong(self, rows, workspace=None):
        x, y = right(self, rows, workspace)
        return x, y if isinstance(rows, slice) else self.y[np.sort(rows)]

    monkeypatch.setattr(ArraySource, "take", wrong)


def update_twice(monkeypatch):
    right = Guard.update

    def wrong(self, value):
        right(self, value)
        return right(self, value)

    monkeypatch.setattr(Guard, "update", wrong)


sees = t.epoch_sees_every_row_once
EPOCHS = [
    Bug(
        "epoch loss a mean of batch means",
        every_batch_alike,
        (t.epoch_loss_is_the_mean_over_rows,),
    ),
    Bug("tail dropped", put(batches, "batch_slices", slices_without_tail), (sees, compose)),
    Bug("tail filled up", put(batches, "batch_slices", slices_with_a_full_tail), (sees, compose)),
    Bug("slices overlap by a row", put(batches, "batch_slices", slices_that_overlap), (sees,)),
    Bug(
        "batches shuffled and not rows",
        put(gd.Batches, "order", order_of_batches),
        (t.shuffling_mixes_rows,),
    ),
    Bug(
        "rows shuffled within their batch",
        put(gd.Batches, "order", order_within_batches),
        (t.shuffling_mixes_rows,),
    ),
    Bug(
        "the same order each epoch",
        put(gd.Batches, "order", one_order_for_all),
        (t.shuffling_mixes_rows,),
    ),
    Bug(
        "rows drawn with replacement",
        put(gd.Batches, "order", rows_drawn_again),
        (sees, partial(compose, shuffle=True)),
    ),
    Bug(
        "targets not shuffled with their rows",
        targets_left_in_order,
        (sees, partial(compose, shuffle=True), t.trainer_gradients_compose),
    ),
    Bug("updated twice a batch", update_twice, (t.trainer_is_the_loop_by_hand,)),
]
