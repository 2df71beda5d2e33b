"""A snapshot of a run within an epoch: all that a batch changes, to make batches again from there.

It is taken where the arrays are, so that a GPU copies them without making the host wait.
"""

from minigd.execution.finite_guard import Remembered, Written
from minigd.training.epoch_totals import Totals
from minigd.training.transaction import Transaction

BATCHES, SECONDS = 2_000, 60
"""After how many batches, or how much time, a snapshot is taken anew, and a GPU is asked for it
whether all was finite."""


class NotFinite(Exception):
    """A batch since the snapshot has led to a number that is not finite."""


class Snapshot:
    """What batches change, as it was when the snapshot was taken.

    Parameters
    ----------
    transaction : Transaction
        It has the parameters, the updater and the window.
    """

    batch, seconds = 0, 0.0

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction
        transaction.updater.attach(transaction.model)
        self._arrays: tuple[Written, Remembered] | None = None

    def take(self, totals: Totals, batch: int, seconds: float) -> None:
        """Take it anew, with the totals of the epoch and how far it is."""
        transaction, model = self._transaction, self._transaction.model
        self._arrays = None  # so that their memory is used again
        self._arrays = Written(model, transaction.updater), Remembered(model)
        self._updates, self._window = transaction.updates, transaction.window.copy()
        self._totals, self.batch, self.seconds = totals.copy(), batch, seconds

    def restore(self) -> tuple[Totals, int, float]:
        """Take back what has changed since, and return what `take` was given."""
        for arrays in self._arrays or ():
            arrays.restore()
        self._transaction.updates, self._transaction.window = self._updates, self._window
        return self._totals, self.batch, self.seconds
