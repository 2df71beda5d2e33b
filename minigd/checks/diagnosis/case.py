"""What is known about one wrong gradient in one batch: the numbers and their factors.

A large array is known in a block of rows and columns, which is enough to tell slips apart.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from minigd.checks.diagnosis.slopes import Block, take_block
from minigd.types import Array


@dataclass(frozen=True)
class Case:
    """One array's gradient in one batch: the one given, the true one, and what they are made of.

    Attributes
    ----------
    given, true : Array
        Of a parameter; or with `by_row` of the rows of a batch, (n, width). Of a large array only
        the entries of `block`.
    n : int
        Rows of the batch.
    by_row : bool
        Whether row i is example i's own and is not divided by n, as in dx.
    each : Array, shape (n, ...), optional
        What each row adds to a parameter's gradient: `true` is its mean, times `scale`, plus the
        penalty.
    before : Array, optional
        What the array held before `backward`.
    value : Array, optional
        The parameter itself.
    scale, weight : Array, shape (n,), optional
        n w_i / Σ w and w_i, where rows have weights.
    l1, l2 : float
        λ₁ and λ₂ of a penalty.
    penalized : bool
        Whether the penalty is part of `true`.
    x, y, dy : Array, shape (n, width), optional
        A layer's input, its output, and the gradient with respect to that. Without dy a loss's
        input and targets.
    delta : Array, shape (n, n_out), optional
        dy times the slope of what comes after a product with a matrix.
    params : dict of str to Array
        The layer's parameters.
    jacobian : Array, shape (rows, columns, n_out), optional
        ∂y_ik / ∂x_ij, of each row alone.
    seen : tuple of int
        Sizes of the batches that came before this one.
    unused : bool
        Whether a layer gives the same output whatever the array holds.
    others : dict of str to Array
        Gradients that other batches or other targets would give, by a sentence.
    block : tuple of Array, optional
        Along each axis, the places that `given` and `true` hold.
    tolerance : float
        How far apart two gradients may lie that are the same, as a share of the largest entry.
    noise : float
        And how far whatever their size: what rounding does to a sum whose terms cancel.
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
        """Tell whether a guess is the gradient given, to rounding."""
        if guess.shape != self.given.shape or not np.isfinite(guess).all():
            return False
        size = max(abs(a).max(initial=0.0) for a in (self.given, self.true, guess))
        return bool((abs(self.given - guess) <= self.tolerance * size + self.noise).all())

    @property
    def right(self) -> bool:
        """Whether the gradient given is the true one."""
        return self.is_like(self.true)

    @property
    def places(self) -> tuple[Array, ...]:
        """Along each axis, which entries of the whole gradient these are."""
        return self.block or tuple(np.arange(size) for size in self.true.shape)

    @property
    def matrices(self) -> dict[str, Array]:
        """The layer's parameters of two dimensions."""
        return {name: value for name, value in self.params.items() if value.ndim == 2}

    @property
    def elementwise(self) -> bool:
        """Whether each number of x decides the one number of y that stands in its place."""
        if self.jacobian is None or self.x is None or self.dy is None:
            return False
        if self.x.shape != self.dy.shape:
            return False
        others = self.jacobian.copy()
        others[:, np.arange(others.shape[1]), self.places[1]] = 0
        alone = np.einsum("ijk,ik->ij", self.jacobian, self.dy[self.places[0]])
        # A layer that couples rows, such as BatchNorm, has more to its gradient than this.
        near = self.tolerance * abs(self.true).max(initial=0.0) + self.noise
        return not others.any() and bool((abs(alone - self.true) <= near).all())

    @property
    def is_complete(self) -> bool:
        """Whether no entry was left out."""
        return self.block is None

    def diagonal_of(self, jacobian: Array) -> Array:
        """Return ∂y_ij / ∂x_ij of a Jacobian, of a layer that keeps the width."""
        diagonal: Array = jacobian[:, np.arange(jacobian.shape[1]), self.places[1]]
        return diagonal

    def take_block(self, whole: Array) -> Array:
        """Return the block of an array as large as the gradient, or the array if it is not."""
        try:
            return take_block(whole, self.block)
        except IndexError:
            return whole
