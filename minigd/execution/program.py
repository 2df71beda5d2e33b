"""A training step as a program: a fixed list of operations on fixed arrays.

`tracer.py` writes it, `passes.py` shortens it, and the modules of `targets/` run it or print it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from minigd.types import Array


class Operation(NamedTuple):
    """One call of the list: ``function(*arguments)``, which writes into ``arguments[last]``."""

    name: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    last: int

    @property
    def out(self) -> Array:
        """The array that it writes into."""
        array: Array = self.arguments[self.last]
        return array

    @property
    def inputs(self) -> tuple[Any, ...]:
        """The other arguments."""
        return self.arguments[: self.last] + self.arguments[self.last + 1 :]


@dataclass
class Program:
    """The operations of one training step for batches of one size, and the arrays they work on.

    Attributes
    ----------
    x, y : Array
        The batch.
    scale : Array or None
        n w_i/Σw of each row, where rows have weights.
    operations : list of Operation
        Forward, loss and backward, in their order.
    window, update : list of Operation
        What follows the cut, where several processes would put their gradients together: adding
        the gradient to those of the batches before, where several make an update; and penalty,
        clipping, and the updater's formula.
    scalars : dict of str to Array
        Numbers that change with each step, as arrays without axes that are filled from outside.
    value, z, norms : Array
        The mean loss, the outputs, and the norms of the rows where they were asked for.
    """

    x: Array
    y: Array
    scale: Array | None = None
    operations: list[Operation] = field(default_factory=list)
    window: list[Operation] = field(default_factory=list)
    update: list[Operation] = field(default_factory=list)
    scalars: dict[str, Array] = field(default_factory=dict)
    value: Any = None
    z: Any = None
    norms: Any = None

    @property
    def sections(self) -> tuple[list[Operation], list[Operation], list[Operation]]:
        """The operations of a batch, of adding its gradient to others, and of an update."""
        return self.operations, self.window, self.update

    @property
    def results(self) -> list[Array]:
        """The arrays that are read when the step is done."""
        return [a for a in (self.value, self.z, self.norms) if a is not None]


def address(array: Array) -> int:
    """Return where the numbers of an array begin."""
    place: int = array.__array_interface__["data"][0]
    return place
