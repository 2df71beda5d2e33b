"""A step and its update as one program for batches of any size, which targets compile."""

import contextlib
import threading
from abc import ABC, abstractmethod
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
    """The results of a call: the number of steps, the loss of each, and the outputs of rows."""

    steps: int
    losses: Array
    largest: float
    outputs: Array | None


class AnySize(ABC):
    """The program of a step and its update, and the numbers in it that depend on the batch.

    Parameters
    ----------
    objective : Objective
    update : Update
    y : Array
        Targets, for their dtype and width.
    rows : int
        The largest number of rows in a batch.
    weighted : bool
        Whether rows have weights.
    by_row : RowClipping, optional
        Set if the norm of each row's own gradient is needed.

    Attributes
    ----------
    source : str
        The compiled text.
    mean : Array
        The mean gradient of the window so far, with accumulation.

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

    @abstractmethod
    def _compile(self) -> None:
        """Write the source of the program, and compile it."""

    def _trace(self, n: int) -> Program:
        """Trace a step of n rows, and restore everything afterwards."""
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
        """Return the numbers that depend on the number of rows, if the program is the same."""
        # A method that was changed since then may not be traceable: the layers run it, or raise the
        # error.
        with contextlib.suppress(Exception):
            return self._general.sizes(Form(self._trace(n)))
        return None

    def is_current(self, rows: int) -> bool:
        """Return whether it has room for this many rows, and works on the updater's own state."""
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
