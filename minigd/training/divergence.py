"""Where the numbers of a training became infinite or NaN, and what to do."""

import numpy as np

from minigd.errors import DivergenceError
from minigd.nn.objective import Objective
from minigd.types import Array


def divergence_error(
    reason: str, epoch: int, update: int, rate: float, objective: Objective
) -> DivergenceError:
    """Return the error for an update that was not made."""
    return DivergenceError(
        f"{reason} at epoch {epoch}, update {update}: the parameters were restored to the values "
        f"before this update. Lower the learning rate (now {rate:g}), or scale x "
        "and y" + (", or use from_logits=True" if objective.loss.takes_probabilities else "")
    )


def name_layer(objective: Objective, x: Array) -> str:
    """Describe the first layer whose output is not finite, in a batch with a bad loss."""
    with np.errstate(all="ignore"):
        name = objective.first_nonfinite(x)
    return "" if name is None else f", and the output of {name} is the first that is not finite"
