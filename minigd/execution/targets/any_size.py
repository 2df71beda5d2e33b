"""A step and its update as one program for batches of any size, which targets compile."""

import contextlib
import threading
from typing import Any, NamedTuple

import numpy as np

from minigd.backends.workspace import Workspace
from minigd.execution.finite_guard import Remembered
from minigd.execution.per_example import RowClipping
from minigd.execution.program import Program
from minigd.execution.targets.lowering import Form, General, target_dtype
from minigd.execution.tracer import NotTraceable, Update, trace, trace_update
from minigd.nn.objective import Objective
from minigd.types import Array


class Made(NamedTuple):
    """What a call came to: how many steps were made, the loss of each, and the outputs of rows."""

    steps: int
    losses: Array
    largest: float
    outputs: Array | None


class AnySize:
    """The program of a step and its update, and the numbers in it that depend on the batch.

    Parameters
    ----------
    objective : Objective
    update : Update
    y : Array
        Targets, of which the dtype and the width are taken.
    rows : int
        The most rows of a batch.
    weighted : bool
        Whether rows have weights.
    by_row : RowClipping, optional
        Set where the norm of each row's own gradient is needed.

    Attributes
    ----------
    source : str
        What is compiled.
    mean : Array
        The mean gradient of the batches before, where several make an update.

    Raises
    ------
    NotTraceable
        If the step does what a program can't do.
    """

    source: str

    def __init__(
        self,
        objective: Objective,
        update: Update,
        y: Array,
        rows: int,
        weighted: bool = False,
        by_row: RowClipping | None = None,
    ) -> None:
        self._updater = update.updater
        objective, update = self._on_host(objective, update, y)
        self._objective, self._update, self._model = objective, update, objective.model
        self._weighted, self._by_row, self.rows = weighted, by_row, max(rows, 2)
        self._y = np.empty((0, *y.shape[1:]), target_dtype(y.dtype))
        self._drawing = [layer for layer in self._model.all_layers if layer.draws]
        self._accumulates = update.parts > 1
        size = self._accumulates * self._model.flat_params.size
        self.mean = self._mean = np.zeros(size, self._model.dtype)
        self._program = self._trace(self.rows)
        self._form = Form(self._program)
        try:
            self._general = General(self._form, Form(self._trace(self.rows + 1)))
        except NotTraceable:
            self._general = General(self._form)
        self._state = list(self._updater.state.values())
        self._compile()

    def _on_host(self, objective: Objective, update: Update, y: Array) -> tuple[Objective, Update]:
        """Return an objective and an update whose arrays are on the host, to be traced."""
        return objective, update

    def _compile(self) -> None:
        """Print the program, and compile what is printed."""
        raise NotImplementedError

    def _trace(self, n: int) -> Program:
        """Trace a step of n rows, after which everything is as it was."""
        model, updater = self._model, self._update.updater
        updater.attach(model)
        vectors = model.flat_params, model.flat_grads, self._mean, *updater.state.values()
        x = np.zeros((n, model.n_in), model.dtype)
        y = np.zeros((n, *self._y.shape[1:]), self._y.dtype)
        scale = np.ones(n, model.dtype) if self._weighted else None
        workspace = Workspace(model.backend)
        workspace.thread = threading.get_ident()
        with Remembered(model, *vectors), np.errstate(all="ignore"):
            program = trace(self._objective, x, y, scale, self._by_row, workspace, elementwise=True)
            trace_update(program, model, self._update, self._mean)
        return program

    def _numbers(self, n: int) -> list[float] | None:
        """Return the numbers that depend on how many rows there are, if it is the program."""
        # A method that was changed since may not be traced: the layers do it, or say why not.
        with contextlib.suppress(Exception):
            return self._general.sizes(Form(self._trace(n)))
        return None

    def is_current(self, rows: int) -> bool:
        """Tell whether it has room for so many rows, and works on the updater's own state."""
        state = self._updater.state.values()
        return rows <= self.rows and list(map(id, state)) == list(map(id, self._state))

    def _scalars_of(self, model: Any, share: float) -> dict[str, Any]:
        """Return the numbers that change with each step, for the next one of a model."""
        updater = self._updater
        keys = {f"{a.name}.key": a.key(model.passes + 1) for a in self._drawing}
        rate = updater.learning_rate
        updater.step += 1
        _, constants = updater.formula(rate)
        updater.step -= 1
        varying = {name: constants[name] for name in updater.varying}
        return keys | varying | ({"share": share} if self._accumulates else {})
