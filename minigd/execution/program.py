"""A training step as a program: a fixed list of operations on fixed arrays.

`tracer.py` records it, `passes.py` simplifies it, and the modules of `targets/` run or print it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from minigd.types import Array


class Operation(NamedTuple):
    """One call in the list: ``function(*arguments)``, which writes into ``arguments[last]``."""

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
        n w_i/Σw of each row, if rows have weights.
    operations : list of Operation
        Forward, loss and backward, in their order.
    window, update : list of Operation
        The operations after the cut, which is where several processes would combine their
        gradients: first those that add the gradient to the window of accumulation, then penalty,
        clipping, and the updater's formula.
    scalars : dict of str to Array
        Numbers that change with each step, as arrays without axes that the caller fills.
    value, z, norms : Array
        The mean loss, the outputs, and the norms of the rows if they are wanted.
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
        """The arrays that are read after the step."""
        return [a for a in (self.value, self.z, self.norms) if a is not None]


def address(array: Array) -> int:
    """Return the address of an array's numbers."""
    place: int = array.__array_interface__["data"][0]
    return place
