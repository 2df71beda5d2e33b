"""The updaters, one rule per file: from the mean gradient of a batch to new parameters.

It may import what `optim` may.
Start with `sgd.py`, then `base.py`; `names.py` finds an updater by its name.
"""

from minigd.optim.updaters.adam import Adam, AdamW
from minigd.optim.updaters.adaptive import Adagrad, RMSprop
from minigd.optim.updaters.base import Parameters, Updater
from minigd.optim.updaters.nadam import Nadam
from minigd.optim.updaters.names import UPDATERS, get_updater
from minigd.optim.updaters.per_layer import PerLayer
from minigd.optim.updaters.radam import RAdam
from minigd.optim.updaters.sgd import SGD

__all__ = [
    "SGD",
    "UPDATERS",
    "Adagrad",
    "Adam",
    "AdamW",
    "Nadam",
    "Parameters",
    "PerLayer",
    "RAdam",
    "RMSprop",
    "Updater",
    "get_updater",
]
