"""A snapshot within an epoch: everything that a batch changes, to repeat batches from there.

It is taken on the device of the arrays: a GPU copies them without making the host wait.
"""

from minigd.errors import BackendError
from minigd.execution.finite_guard import Remembered, Written
from minigd.optim.updaters import Updater
from minigd.training.epoch_totals import Totals
from minigd.training.transaction import Transaction

BATCHES, SECONDS = 2_000, 60
"""The number of batches and the seconds after which a new snapshot is taken. Before that, the host
checks that all numbers on the GPU were finite."""


class NotFinite(Exception):
    """A batch since the snapshot gave a number that is not finite."""


class Snapshot:
    """The values of everything that batches change, at the time of the snapshot.

    Parameters
    ----------
    transaction : Transaction
        It has the parameters, the updater and the window.
    """

    batch, seconds = 0, 0.0

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction
        self._arrays: list[Written | Remembered] = []

    @property
    def taken(self) -> bool:
        """Whether there is a snapshot."""
        return len(self._arrays) > 0

    def take(self, totals: Totals, batch: int, seconds: float) -> None:
        """Take a new snapshot, with the totals of the epoch and its position."""
        transaction, model = self._transaction, self._transaction.model
        self._updates, self._window = transaction.updates, transaction.window.copy()
        self._totals, self.batch, self.seconds = totals.copy(), batch, seconds
        self._arrays = []  # so their memory is reused
        transaction.updater.attach(model)
        try:
            self._arrays = [Written(model, transaction.updater), Remembered(model)]
        except model.backend.out_of_memory as error:
            raise _no_room(transaction.updater, error) from error

    def restore(self) -> tuple[Totals, int, float]:
        """Undo all changes since then, and return the arguments of `take`."""
        for arrays in self._arrays:
            arrays.restore()
        self._transaction.updates, self._transaction.window = self._updates, self._window
        return self._totals, self.batch, self.seconds


def _no_room(updater: Updater, error: Exception) -> BackendError:
    return BackendError(
        f"a copy of the parameters and of the state of {type(updater).__name__} does not fit in "
        f"memory ({error}): make the model smaller, or use an updater with less state, such as SGD"
    )
