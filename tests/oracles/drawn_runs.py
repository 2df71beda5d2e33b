"""Random training runs over everything that determines a step, run in each way, and their results.

A run is a choice for each name of `CHOICES`. A choice that conflicts with others is ignored.
"""

import functools
import itertools
from typing import Any

import numpy as np

import minigd as gd


class Shares(gd.Softmax):
    """A Softmax from outside, which no loss is paired with, and which a trace shows all of."""

    traceable = True


LAYERS = {
    "tanh": gd.Tanh,
    "sigmoid": gd.Sigmoid,
    "relu": gd.ReLU,
    "leaky relu": lambda: gd.LeakyReLU(0.1),
    "softmax": gd.Softmax,
    "elu": lambda: gd.ELU(0.7),
    "gelu": gd.GELU,
    "gelu by tanh": lambda: gd.GELU(approximate=True),
    "silu": gd.SiLU,
    "softplus": gd.Softplus,
    "layer norm": gd.LayerNorm,
    "batch norm": gd.BatchNorm,
    "dropout": lambda: gd.Dropout(0.3),
    "residual": lambda: gd.Residual([gd.LayerNorm(), gd.Residual([gd.Dropout(0.3), gd.Tanh()])]),
    "dense": lambda: gd.Dense(3),
}
# The loss, the layers that the model ends in, its outputs, and what the targets are.
LOSSES = {
    "mse": (gd.MeanSquaredError, [], 2, "numbers"),
    "mse of one": (gd.MeanSquaredError, [], 1, "one number"),
    "mse rescaled": (gd.MeanSquaredError, [gd.Rescale], 2, "numbers"),
    "huber": (lambda: gd.Huber(0.7), [], 2, "numbers"),
    "absolute": (gd.MeanAbsoluteError, [], 2, "numbers"),
    "quantiles": (lambda: gd.Quantile([0.1, 0.5, 0.9]), [], 3, "one number"),
    "poisson": (gd.Poisson, [], 2, "labels"),
    "hinge": (gd.Hinge, [], 1, "one label"),
    "hinge of classes": (gd.Hinge, [], 3, "classes"),
    "focal": (gd.Focal, [gd.Sigmoid], 2, "labels"),
    "binary": (gd.BinaryCrossEntropy, [gd.Sigmoid], 1, "one label"),
    "binary logits": (lambda: gd.BinaryCrossEntropy(True, 0.1), [], 2, "labels"),
    "binary smoothed": (lambda: gd.BinaryCrossEntropy(False, 0.1), [gd.Sigmoid], 3, "labels"),
    "binary probabilities": (gd.BinaryCrossEntropy, [gd.Softmax], 3, "soft"),
    "categorical": (gd.CategoricalCrossEntropy, [gd.Softmax], 3, "classes"),
    "categorical one-hot": (gd.CategoricalCrossEntropy, [gd.Softmax], 3, "one-hot"),
    "categorical soft": (lambda: gd.CategoricalCrossEntropy(True), [], 3, "soft"),
    "categorical smoothed": (lambda: gd.CategoricalCrossEntropy(True, 0.1), [], 3, "classes"),
    "categorical probabilities": (
        gd.CategoricalCrossEntropy,
        [Shares],
        3,
        "classes",
    ),
}
# Where a gradient is nothing but rounding, a small epsilon would make an update of it.
UPDATERS = {
    "sgd": gd.SGD,
    "momentum": lambda rate: gd.SGD(rate, momentum=0.9),
    "nesterov": lambda rate: gd.SGD(rate, momentum=0.9, nesterov=True),
    "adam": lambda rate: gd.Adam(rate, epsilon=1e-3),
    "adamw": lambda rate: gd.AdamW(rate, epsilon=1e-3, weight_decay=0.1),
    "adamw on biases": lambda rate: gd.AdamW(rate, epsilon=1e-3, decay_bias=True),
    "amsgrad": lambda rate: gd.Adam(rate, beta2=0.8, epsilon=1e-3, amsgrad=True),
    "nadam": lambda rate: gd.Nadam(rate, epsilon=1e-3),
    "radam": lambda rate: gd.RAdam(rate, beta2=0.9, epsilon=1e-3),
    "rmsprop": lambda rate: gd.RMSprop(rate, epsilon=1e-3),
    "adagrad": lambda rate: gd.Adagrad(rate, epsilon=1e-3),
}
SCHEDULES = {
    "constant": lambda: 0.05,
    "by update": lambda: gd.InverseTimeDecay(0.05, updates=2),
    "by epoch": lambda: gd.StepDecay(0.05, 0.5, epochs=1),
    "warm-up": lambda: gd.WarmUp(gd.CosineDecay(0.05, updates=20), updates=3),
}
PENALTIES = {
    "none": {},
    "l1": {"l1": 0.01},
    "l2": {"l2": 0.02},
    "both, on biases": {"l1": 0.02, "l2": 0.01, "decay_bias": True},
}
CLIPPINGS = {
    "none": {},
    "value": {"clip_value": 0.02},
    "norm": {"clip_norm": 0.05},
    "rows": {"clip_rows": 0.1},
    "all": {"clip_value": 0.05, "clip_norm": 0.1, "clip_rows": 0.2},
}
KINDS = ["same", "float32", "float64", "int16", "columns first", "every other", "read-only"]
CHOICES: dict[str, list[Any]] = {
    "first": ["none", "standardize", "dropout", "batch norm"],
    "hidden": list(LAYERS),
    "second": ["none", *LAYERS],
    "loss": list(LOSSES),
    "updater": list(UPDATERS),
    "schedule": list(SCHEDULES),
    "weights": ["none", "none", "some 0", "most 0", "all above 0"],
    "accumulate": [1, 1, 2, 3],
    "penalty": list(PENALTIES),
    "clipping": list(CLIPPINGS),
    "dtype": ["float32", "float64"],
    "kind of x": KINDS,
    "bias": [True, False],
    # Rows, and rows of a batch: a tail of one, none, of several, one batch, batches of one row.
    "sizes": [(13, 4), (12, 4), (11, 3), (5, 10), (3, 1), (9, 8)],
    "shuffle": [True, False],
    "seed": list(range(8)),
}
EPOCHS = 2


@functools.cache
def table(seed: int) -> list[dict[str, Any]]:
    """Return runs in which each two values of two choices meet in one at least."""
    rng = np.random.default_rng(seed)
    names = list(CHOICES)
    missing = {
        (a, i, b, k)
        for a, b in itertools.combinations(names, 2)
        for i in range(len(CHOICES[a]))
        for k in range(len(CHOICES[b]))
    }
    runs = []
    while missing:
        # The best of some that begin with a pair that is missing.
        best: tuple[set[Any], dict[str, int]] = set(), {}
        one = min(missing)
        for _ in range(30):
            run = {name: int(rng.integers(len(CHOICES[name]))) for name in names}
            run[one[0]], run[one[2]] = one[1], one[3]
            pairs = {(a, run[a], b, run[b]) for a, b in itertools.combinations(names, 2)}
            best = max(best, (pairs & missing, run), key=lambda found: len(found[0]))
        missing -= best[0]
        runs.append({name: CHOICES[name][i] for name, i in best[1].items()})
    return runs


def each_once(seed: int) -> list[dict[str, Any]]:
    """Return few runs in which each value of each choice comes."""
    rng = np.random.default_rng(seed)
    count = max(map(len, CHOICES.values()))
    orders = {}
    for name, values in CHOICES.items():
        places = [
            int(i) for _ in range(-(-count // len(values))) for i in rng.permutation(len(values))
        ]
        orders[name] = [values[i] for i in places[:count]]
    return [{name: orders[name][i] for name in CHOICES} for i in range(count)]


def settled(run: dict[str, Any]) -> dict[str, Any]:
    """Return a run without the choices that others of it rule out."""
    couples = "batch norm" in (run["first"], run["hidden"], run["second"])
    if couples and run["clipping"] in ("rows", "all"):
        run = run | {"clipping": "value"}
    return run


def network(run: dict[str, Any]) -> gd.Sequential:
    """Return the model of a run."""
    _, ends, outputs, _ = LOSSES[run["loss"]]
    layers: list[Any] = {
        "none": [],
        "standardize": [gd.Standardize()],
        "dropout": [gd.Dropout(0.2)],
        "batch norm": [gd.BatchNorm(0.8)],
    }[run["first"]]
    layers += [gd.Dense(4, bias=run["bias"]), LAYERS[run["hidden"]]()]
    if run["second"] != "none":
        layers += [gd.Dense(3, bias=not run["bias"]), LAYERS[run["second"]]()]
    layers += [gd.Dense(outputs), *[end() for end in ends]]
    return gd.Sequential(layers, inputs=3, dtype=run["dtype"], seed=run["seed"])


def data(run: dict[str, Any]) -> tuple[Any, Any, Any]:
    """Return x, y, and weights or None."""
    rng = np.random.default_rng([run["seed"], 7])
    n, outputs, kind = run["sizes"][0], LOSSES[run["loss"]][2], LOSSES[run["loss"]][3]
    x = rng.normal(size=(n, 3))
    other = {"float32": "float64", "float64": "float32"}[run["dtype"]]
    x = {
        "same": lambda: x.astype(run["dtype"]),
        "float32": lambda: x.astype("float32"),
        "float64": lambda: x,
        "int16": lambda: (3 * x).astype("int16"),
        "columns first": lambda: np.asfortranarray(x.astype(run["dtype"])),
        "every other": lambda: np.repeat(x.astype(other), 2, axis=0)[::2],
        "read-only": lambda: x.astype(run["dtype"]),
    }[run["kind of x"]]()
    if run["kind of x"] == "read-only":
        x.flags.writeable = False
    y = rng.normal(size=(n, outputs))
    y = {
        "numbers": lambda: 3 * y + 1,
        "one number": lambda: y[:, 0],
        "one label": lambda: y[:, 0] > 0,
        "labels": lambda: (y > 0).astype("int64"),
        "soft": lambda: rng.dirichlet(np.ones(outputs), size=n),
        "classes": lambda: y.argmax(axis=1),
        "one-hot": lambda: np.eye(outputs, dtype="float32")[y.argmax(axis=1)],
    }[kind]()
    weight = None if run["weights"] == "none" else rng.uniform(0.2, 2.0, size=n)
    zeros = {"some 0": 0.3, "most 0": 0.8}
    if run["weights"] in zeros:
        weight[rng.random(n) < zeros[run["weights"]]] = 0
        weight[0] = 1
    return x, y, weight


def trainer_of(run: dict[str, Any], model: gd.Sequential, **options: Any) -> gd.Trainer:
    """Return the trainer of a run on a model."""
    updater = UPDATERS[run["updater"]](SCHEDULES[run["schedule"]]())
    _, _, outputs, kind = LOSSES[run["loss"]]
    classes = kind in ("classes", "one-hot", "one label")
    one_each = kind != "one number" or outputs == 1
    return gd.Trainer(
        model,
        LOSSES[run["loss"]][0](),
        updater,
        metrics=["accuracy" if classes else "mae"] if one_each else [],
        accumulate=run["accumulate"],
        **PENALTIES[run["penalty"]],
        **CLIPPINGS[run["clipping"]],
        **options,
    )


def rounded(a: Any, rng: Any) -> Any:
    """Return numbers each of which is moved by one rounding, up, down or not."""
    u = np.finfo(a.dtype).eps
    return (a * (1 + u * rng.integers(-1, 2, size=a.shape))).astype(a.dtype)


def results(trainer: gd.Trainer) -> dict[str, Any]:
    """Return all that a run came to, by name."""
    model, host = trainer.model, trainer.model.backend.to_numpy
    found = {"params": model.flat_params, "grads": model.flat_grads}
    # Before the first update some ways have no state yet, and others have zeros.
    if trainer.updater.step:
        found |= {f"state {name}": vector for name, vector in trainer.updater.state.items()}
    for layer in model.layers:
        found |= {f"{layer.name}.{name}": b for name, b in layer.buffers.items()}
    history = trainer.history
    found |= {f"history {name}": np.array(history[name]) for name in history if name != "seconds"}
    found |= {"passes": np.array(model.passes), "step": np.array(trainer.updater.step)}
    return {name: host(a).copy() if model.backend.holds(a) else a for name, a in found.items()}


def count_chunks(trainer: Any, stop: bool) -> None:
    """Let a trainer count the steps that compiled epochs make, as `chunked`; stop after a chunk.

    The compiled step that each epoch begins with, if there is one, is in `step_of`.
    """
    loop = trainer._loop
    make, trainer.chunked = loop._make_chunk, 0
    cut, trainer.step_of = loop._cut, {}

    def noted(session: Any) -> Any:
        found = cut(session)
        trainer.step_of[loop.epoch] = next(iter(loop.steps._compiled.values()), None)
        return found

    def counted(*arguments: Any) -> Any:
        first = loop.batch
        loss = make(*arguments)
        trainer.chunked += loop.batch - first
        if stop:
            trainer.stop()
        return loss

    loop._make_chunk, loop._cut = counted, noted


def train(
    run: dict[str, Any],
    how: str = "epochs",
    moved: int | None = None,
    backend: Any = None,
    **options: Any,
) -> tuple[gd.Trainer, dict[str, Any]]:
    """Train as a run says; return the trainer, and what it came to.

    Parameters
    ----------
    run : dict
    how : {"epochs", "pieces", "updates", "steps"}
        By `fit`; by `fit` in two pieces, of which the first ends after a chunk of compiled steps;
        by `fit` with a callback that wants all events; by `step`, in the order of rows.
    moved : int, optional
        The seed by which each parameter and each number of x is moved by one rounding.
    backend : Backend, optional
        Where to train, but for `step`.
    **options
        Of the trainer.
    """
    run = settled(run)
    model, (x, y, weight) = network(run), data(run)
    n, batch_size = run["sizes"]
    if run["first"] == "standardize" or run["loss"] == "mse rescaled":
        model.adapt(gd.Batches(x, y))
    if moved is not None:
        rng = np.random.default_rng([moved, 5])
        model.flat_params[...] = rounded(model.flat_params, rng)
        x = rounded(x, rng) if x.dtype.kind == "f" else x
    if backend is not None:
        model.to(backend)
    trainer = trainer_of(run, model, **options)
    if how == "steps":
        for _ in range(EPOCHS):
            for rows in gd.batch_slices(n, batch_size):
                w = None if weight is None else weight[rows]
                if w is None or w.any():
                    trainer.step(x[rows], y[rows], w)
    else:
        batches = gd.Batches(
            x, y, batch_size=batch_size, shuffle=run["shuffle"], seed=1, sample_weight=weight
        )
        callbacks = [lambda event: None] if how == "updates" else []
        count_chunks(trainer, stop=how == "pieces")
        trainer.fit(batches, until_epoch=EPOCHS, callbacks=callbacks)
        if how == "pieces" and trainer.epoch < EPOCHS:
            state = trainer.state_dict()
            trainer = trainer_of(run, network(run), **options)
            trainer.load_state_dict(state)
            trainer.fit(batches, until_epoch=EPOCHS)
    return trainer, results(trainer)


class Bounds:
    """How far numbers that were computed in another order may be from those of the plain step.

    Each parameter and each number of x is moved by one rounding of the dtype, several times, and
    the plain run is made again. Another order of sums and another exp round each intermediate
    number once or a few times more, so what they may change is a multiple of what that changed;
    and each number itself is rounded, in units of the largest of its array.
    """

    FACTOR = 64

    def __init__(self, run: dict[str, Any], how: str = "epochs") -> None:
        _, self.plain = train(run, how, reuse_buffers=False, fast=False)
        u = float(np.finfo(run["dtype"]).eps)
        self._most = {name: u * max(1.0, _size(a)) for name, a in self.plain.items()}
        for seed in range(3):
            _, moved = train(run, how, seed, reuse_buffers=False, fast=False)
            for name, a in moved.items():
                difference = np.abs(a.astype(float) - self.plain[name].astype(float))
                self._most[name] = max(self._most[name], float(difference.max(initial=0.0)))

    def check(self, found: dict[str, Any], what: str) -> None:
        """Compare what another way of running came to."""
        assert found.keys() == self.plain.keys()
        for name, a in found.items():
            expected, message = self.plain[name], f"{what}: {name}"
            assert (a.shape, a.dtype) == (expected.shape, expected.dtype), message
            most = self.FACTOR * self._most[name]
            np.testing.assert_allclose(a, expected, rtol=0, atol=most, err_msg=message)


def check_same(found: dict[str, Any], expected: dict[str, Any], what: str) -> None:
    """Compare two runs to the bit."""
    assert found.keys() == expected.keys()
    for name, a in found.items():
        np.testing.assert_array_equal(a, expected[name], f"{what}: {name}", strict=True)


def _size(a: Any) -> float:
    return float(np.abs(a).max(initial=0.0))
