"""What is known about one wrong gradient in one batch: the numbers and their factors.

Of a large array, a block of rows and columns is known, which is enough to distinguish mistakes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from minigd.checks.diagnosis.slopes import Block, take_block
from minigd.types import Array


@dataclass(frozen=True)
class Case:
    """One array's gradient in one batch: the given one, the true one, and their factors.

    Attributes
    ----------
    given, true : Array
        Of a parameter, or with `by_row` of the rows of a batch, (n, width). Of a large array, only
        the entries of `block`.
    n : int
        Rows of the batch.
    by_row : bool
        Whether row i is example i's own and is not divided by n, as in dx.
    each : Array, shape (n, ...), optional
        The contribution of each row to a parameter's gradient. `true` is the mean of these, times
        `scale`, plus the penalty.
    before : Array, optional
        The values of the array before `backward`.
    value : Array, optional
        The parameter itself.
    scale, weight : Array, shape (n,), optional
        n w_i / Σ w and w_i, if rows have weights.
    l1, l2 : float
        λ₁ and λ₂ of a penalty.
    penalized : bool
        Whether the penalty is part of `true`.
    x, y, dy : Array, shape (n, width), optional
        A layer's input, its output, and the gradient with respect to that. Without dy a loss's
        input and targets.
    delta : Array, shape (n, n_out), optional
        dy times the slope of the function after a matrix product.
    params : dict of str to Array
        The layer's parameters.
    jacobian : Array, shape (rows, columns, n_out), optional
        ∂y_ik / ∂x_ij, of each row alone.
    seen : tuple of int
        Sizes of the batches before this one.
    unused : bool
        Whether a layer's output does not depend on the array.
    others : dict of str to Array
        Gradients of other batches or other targets, by a sentence.
    block : tuple of Array, optional
        Along each axis, the positions of the entries in `given` and `true`.
    tolerance : float
        The allowed difference of equal gradients, relative to the largest entry.
    noise : float
        The allowed absolute difference: the rounding of a sum whose terms cancel.
    """

    given: Array
    true: Array
    n: int
    by_row: bool = False
    each: Array | None = None
    before: Array | None = None
    value: Array | None = None
    scale: Array | None = None
    weight: Array | None = None
    l1: float = 0.0
    l2: float = 0.0
    penalized: bool = False
    x: Array | None = None
    y: Array | None = None
    dy: Array | None = None
    delta: Array | None = None
    params: Mapping[str, Array] = field(default_factory=dict)
    jacobian: Array | None = None
    seen: tuple[int, ...] = ()
    unused: bool = False
    others: Mapping[str, Array] = field(default_factory=dict)
    block: Block = None
    tolerance: float = 1e-8
    noise: float = 0.0

    def is_like(self, guess: Array) -> bool:
        """Return whether a guess equals the given gradient up to rounding."""
        if guess.shape != self.given.shape or not np.isfinite(guess).all():
            return False
        size = max(abs(a).max(initial=0.0) for a in (self.given, self.true, guess))
        return bool((abs(self.given - guess) <= self.tolerance * size + self.noise).all())

    @property
    def right(self) -> bool:
        """Whether the given gradient is the true one."""
        return self.is_like(self.true)

    @property
    def places(self) -> tuple[Array, ...]:
        """Along each axis, the positions of these entries in the whole gradient."""
        return self.block or tuple(np.arange(size) for size in self.true.shape)

    @property
    def matrices(self) -> dict[str, Array]:
        """The layer's parameters of two dimensions."""
        return {name: value for name, value in self.params.items() if value.ndim == 2}

    @property
    def elementwise(self) -> bool:
        """Whether each number of y depends only on the number of x at the same place."""
        if self.jacobian is None or self.x is None or self.dy is None:
            return False
        if self.x.shape != self.dy.shape:
            return False
        others = self.jacobian.copy()
        others[:, np.arange(others.shape[1]), self.places[1]] = 0
        alone = np.einsum("ijk,ik->ij", self.jacobian, self.dy[self.places[0]])
        # The gradient of a layer that couples rows, such as BatchNorm, has more terms.
        near = self.tolerance * abs(self.true).max(initial=0.0) + self.noise
        return not others.any() and bool((abs(alone - self.true) <= near).all())

    @property
    def is_complete(self) -> bool:
        """Whether no entry was left out."""
        return self.block is None

    def diagonal_of(self, jacobian: Array) -> Array:
        """Return ∂y_ij / ∂x_ij from a Jacobian, for a layer that keeps the width."""
        diagonal: Array = jacobian[:, np.arange(jacobian.shape[1]), self.places[1]]
        return diagonal

    def take_block(self, whole: Array) -> Array:
        """Return the block of an array of the gradient's shape, and other arrays unchanged."""
        try:
            return take_block(whole, self.block)
        except IndexError:
            return whole
