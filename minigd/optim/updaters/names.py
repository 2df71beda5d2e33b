"""The updaters by their common names."""

from minigd.errors import find_by_name
from minigd.optim.updaters.adam import Adam, AdamW
from minigd.optim.updaters.adaptive import Adagrad, RMSprop
from minigd.optim.updaters.base import Updater
from minigd.optim.updaters.nadam import Nadam
from minigd.optim.updaters.radam import RAdam
from minigd.optim.updaters.sgd import SGD

UPDATERS: dict[str, type[Updater]] = {
    "sgd": SGD,
    "adam": Adam,
    "adamw": AdamW,
    "nadam": Nadam,
    "radam": RAdam,
    "rmsprop": RMSprop,
    "adagrad": Adagrad,
}


def get_updater(which: str | Updater) -> Updater:
    """Return the updater with this name and the defaults of its paper, or the updater itself.

    Raises
    ------
    ValueError
        If the name is not known; the message lists the ones that are.

    Examples
    --------
    >>> get_updater("adam")
    Adam(learning_rate=0.001, beta1=0.9, beta2=0.999, epsilon=1e-08, amsgrad=False)
    """
    if isinstance(which, Updater):
        return which
    return find_by_name("updater", which, UPDATERS)()  # type: ignore[call-arg]
