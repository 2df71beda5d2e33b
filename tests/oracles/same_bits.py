"""Small models trained with everything that determines a number, and files saved by them.

`tests/test_same_bits.py` trains them again and compares with the files in `saved/`, bit for bit.
These were written before the package was divided into folders. If a change is meant to change
numbers, write them again with `python tests/oracles/same_bits.py`. To add a new case, use `python
tests/oracles/same_bits.py "its name"`.
"""

import csv
import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import minigd as gd

SAVED = Path(__file__).with_name("saved")
ROWS, WIDTH, CLASSES, EPOCHS = 60, 4, 3, 3


def primitives():
    """Return a hash of what NumPy and its BLAS give here for numbers that are always the same."""
    digest = hashlib.sha256()
    for dtype in (np.float32, np.float64):
        # Square roots are rounded alike everywhere, and their products are rounded.
        x = np.sqrt(np.arange(320) * 7919 % 641, dtype=dtype) - dtype(12)
        for function in (np.exp, np.tanh, np.log1p, np.log, np.sqrt, np.reciprocal):
            for n in (320, 12, 5):
                digest.update(function(np.abs(x[:n]) + dtype(0.25)).tobytes())
        for n, k, m in ((16, 4, 6), (12, 4, 6), (4, 16, 6), (6, 12, 1), (1, 6, 4), (16, 6, 3)):
            a, b = x[: n * k].reshape(n, k), x[-k * m :].reshape(k, m)
            for product in (a @ b, a.T.copy().T @ b, a @ b.T.copy().T):
                digest.update(product.tobytes())
            digest.update(a.sum(axis=0).tobytes() + a.mean(axis=1).tobytes())
        digest.update(np.dot(x, x).tobytes() + x.sum().tobytes())
    rng = np.random.default_rng(0)
    digest.update(rng.random(5).tobytes() + rng.standard_normal(5).tobytes())
    digest.update(rng.permutation(ROWS).tobytes())
    return digest.hexdigest()


# Rows ------------------------------------------------------------------------------------------


def rows(dtype="float32"):
    """Return x, without any generator: multiples of 1/64."""
    numbers = np.arange(ROWS * WIDTH) * 7919 % 509 - 254
    return (numbers.reshape(ROWS, WIDTH) / 128).astype(dtype)


def targets(kind, dtype="float32"):
    x = rows("float64")
    if kind == "numbers":
        return np.stack([x[:, 0] - x[:, 1] * x[:, 2], x[:, 3] / 2], axis=1).astype(dtype)
    if kind == "classes":
        return np.digitize(x[:, 0] + x[:, 1], [-0.75, 0.75])
    return (x[:, 0] * x[:, 1] > 0).astype("int64")


WEIGHTS = np.array([0.0, 1.0, 2.5, 0.25, 1.0, 3.0] * (ROWS // 6))


def write_csv(path):
    """Write the rows with a target of text, a column of text and a missing number."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["a", "b", "c", "d", "color", "label"])
        for i, (x, y) in enumerate(zip(rows().tolist(), targets("classes"), strict=True)):
            table.writerow([*x, ("red", "green", "blue")[i % 3], f"kind {y}"])
    return path


# Models ----------------------------------------------------------------------------------------

HIDDEN = {
    "tanh": lambda: [gd.Dense(6), gd.Tanh()],
    "relu": lambda: [gd.Dense(6, initializer="he_normal"), gd.ReLU()],
    "leaky": lambda: [gd.Dense(6), gd.LeakyReLU(0.1)],
    "sigmoid": lambda: [gd.Dense(6), gd.Sigmoid(), gd.Dense(4, bias=False), gd.Tanh()],
    "normed": lambda: [gd.Dense(6, bias=False), gd.BatchNorm(), gd.ReLU()],
    "dropped": lambda: [gd.Dense(6), gd.Tanh(), gd.Dropout(0.25)],
    "softmax": lambda: [gd.Dense(6), gd.Softmax()],
    "none": lambda: [],
}
OUTPUTS = {
    "mse": ("numbers", lambda: [gd.Dense(2)], lambda: "mse"),
    "rescaled": ("numbers", lambda: [gd.Dense(2), gd.Rescale()], lambda: "mse"),
    "huber": ("numbers", lambda: [gd.Dense(2)], lambda: gd.Huber(0.5)),
    "binary": ("two", lambda: [gd.Dense(1), gd.Sigmoid()], lambda: "binary_crossentropy"),
    "logits": ("two", lambda: [gd.Dense(1)], lambda: gd.BinaryCrossEntropy(from_logits=True)),
    "smooth": (
        *("two", lambda: [gd.Dense(1), gd.Sigmoid()]),
        lambda: gd.BinaryCrossEntropy(label_smoothing=0.1),
    ),
    "classes": (
        *("classes", lambda: [gd.Dense(CLASSES), gd.Softmax()]),
        lambda: "categorical_crossentropy",
    ),
    "class_logits": (
        *("classes", lambda: [gd.Dense(CLASSES)]),
        lambda: gd.CategoricalCrossEntropy(from_logits=True, label_smoothing=0.1),
    ),
    "squares": ("two", lambda: [gd.Dense(1), gd.Sigmoid()], lambda: "mse"),
}
UPDATERS = {
    "sgd": lambda: gd.SGD(0.1),
    "momentum": lambda: gd.SGD(0.05, momentum=0.9),
    "nesterov": lambda: gd.SGD(gd.StepDecay(0.05, 0.5, updates=5), momentum=0.9, nesterov=True),
    "adam": lambda: gd.Adam(0.01),
    "adamw": lambda: gd.AdamW(gd.CosineDecay(0.01, updates=12), weight_decay=0.1),
    "rmsprop": lambda: gd.RMSprop(gd.ExponentialDecay(0.01, epochs=2)),
    "adagrad": lambda: gd.Adagrad(gd.WarmUp(gd.InverseTimeDecay(0.1, updates=9), updates=4)),
    "poly": lambda: gd.SGD(gd.PolynomialDecay(0.2, end=0.01, power=2.0, updates=10)),
}


def trained(
    hidden="tanh",
    output="binary",
    updater="adam",
    dtype="float64",
    data=None,
    callbacks=None,
    **more,
):
    """Train on the path of a trainer's `options`, and return every number that comes of it."""

    def run(folder, path):
        kind, last, loss = OUTPUTS[output]
        of_batches = {"shuffle": True, "seed": 3, **more.get("batches", {})}
        x, y = (rows(dtype), targets(kind, dtype)) if data is None else (data(folder), None)
        batches = gd.Batches(x, y, batch_size=16, **of_batches)
        width = WIDTH if data is None else WIDTH + 3  # three colors
        model = gd.Sequential([*more.get("first", list)(), *HIDDEN[hidden](), *last()],
                              inputs=width, dtype=dtype, seed=5)  # fmt: skip
        if any(isinstance(layer, gd.Standardize | gd.Rescale) for layer in model.layers):
            model.adapt(batches)
        metrics = ["rmse", "r2"] if kind == "numbers" else ["accuracy"]
        trainer = gd.Trainer(
            *(model, loss(), UPDATERS[updater](), metrics),
            **{**more.get("options", {}), **path},
        )
        given = () if callbacks is None else callbacks()
        of_fit = {"validation_data": (rows(dtype), targets(kind, dtype))} if given else {}
        trainer.fit(batches, epochs=more.get("epochs", EPOCHS), callbacks=given, **of_fit)
        seen = next(iter(gd.Batches(x, batch_size=9))).x
        return numbers(trainer, model.predict(seen))

    return run


def numbers(trainer, predicted):
    """Return parameters, buffers, moments, history and predictions as one dict of arrays."""
    model = trainer.model
    history = {k: v for k, v in sorted(trainer.history.items()) if k != "seconds"}
    moments = {k: v for k, v in sorted(trainer.updater.state_dict().items()) if is_array(v)}
    buffers = [a for layer in model.layers for _, a in sorted(layer.buffers.items())]
    return {
        "params": model.flat_params,
        "buffers": np.concatenate([np.zeros(0), *map(np.ravel, buffers)]),
        f"history of {', '.join(history)}": np.array(list(history.values())),
        f"updater's {', '.join(moments)}": np.array(list(moments.values())),
        "predicted": predicted,
        "updates": np.array(trainer.updates),
    }


def is_array(value):
    return isinstance(value, np.ndarray)


def by_hand(folder, path):
    """Train as a textbook writes it, with weights in every other batch."""
    model = gd.Sequential([gd.Dense(6), gd.Tanh(), gd.Dense(1)], inputs=WIDTH, dtype="float64")
    loss, updater = gd.BinaryCrossEntropy(from_logits=True), gd.SGD(0.1, momentum=0.9)
    values = []
    for x, y, weight in gd.Batches(rows("float64"), targets("two"), 16, sample_weight=WEIGHTS):
        z = model.forward(x, train=True)
        values.append(float(loss.forward(z, y, weight * (len(x) / weight.sum()))))
        model.backward(loss.backward())
        updater.update(model)
    return {"params": model.flat_params, "grads": model.flat_grads, "losses": np.array(values)}


def by_steps(folder, path):
    """Call the steps of a trainer, with the norms of each row's own gradient."""
    model = gd.Sequential([gd.Dense(6), gd.Tanh(), gd.Dense(2)], inputs=WIDTH, dtype="float64")
    trainer = gd.Trainer(model, "mse", gd.SGD(0.1), clip_rows=0.5, **path)
    x, y, found = rows("float64"), targets("numbers", "float64"), []
    for start in range(0, ROWS, 16):
        part = slice(start, start + 16)
        value, norms = trainer.step(x[part], y[part], WEIGHTS[part], per_example=True)
        found += [np.array(float(value)), norms]
    return {"params": model.flat_params, "found": np.concatenate([np.ravel(a) for a in found])}


def estimator(folder, path):
    """Fit the estimators for scikit-learn."""
    found = {}
    for made, kind in (
        (gd.MiniBatchClassifier(epochs=3, class_weight="balanced", random_state=0), "classes"),
        (gd.MiniBatchRegressor(epochs=3, random_state=0), "numbers"),
    ):
        made.fit(rows(), targets(kind))
        name = type(made).__name__
        found[f"{name} predicted"] = made.predict(rows()[:9])
        found[f"{name} scored"] = np.array(made.score(rows(), targets(kind)))
    return found


def csv_source(**settings):
    return lambda folder: gd.CsvSource(
        write_csv(folder / "rows.csv"), "label", dtype="float64", **settings
    )


CASES = {
    **{f"hidden {h}": trained(hidden=h, updater="momentum") for h in HIDDEN},
    **{f"output {o}": trained(output=o) for o in OUTPUTS},
    **{f"updater {u}": trained(updater=u) for u in UPDATERS},
    "float32": trained(dtype="float32", updater="momentum"),
    "float32 classes": trained("relu", "classes", "sgd", dtype="float32"),
    "float32 normed": trained("normed", "mse", "momentum", dtype="float32"),
    "standardize": trained(first=lambda: [gd.Standardize()], updater="sgd"),
    "accumulate": trained(options={"accumulate": 3}),
    "penalties": trained(options={"l1": 0.01, "l2": 0.1}, updater="sgd"),
    "penalties with biases": trained(options={"l2": 0.1, "decay_bias": True}),
    "clip_value": trained(options={"clip_value": 0.05}),
    "clip_norm": trained(options={"clip_norm": 0.1, "accumulate": 2}),
    "clip_rows": trained(options={"clip_rows": 0.3}, output="classes", updater="sgd"),
    "weights": trained(batches={"sample_weight": WEIGHTS}, output="mse"),
    "weights of classes": trained(batches={"class_weight": "balanced"}, output="classes"),
    "weights and accumulate": trained(
        "normed", options={"accumulate": 2}, batches={"sample_weight": WEIGHTS}
    ),
    "weights and rows": trained(
        options={"clip_rows": 0.3}, batches={"sample_weight": WEIGHTS}, output="huber"
    ),
    "in order": trained(batches={"shuffle": False}),
    "dropped tail": trained(batches={"tail": "drop"}, output="mse"),
    "fetched ahead": trained(batches={"prefetch": 2}),
    "callbacks": trained(
        updater="nesterov",
        epochs=8,
        callbacks=lambda: [
            gd.EarlyStopping(patience=2),
            gd.ReduceOnPlateau(patience=1, min_delta=0.01),
        ],
    ),
    "csv": trained(data=csv_source(), output="classes", batches={"shuffle": False}),
    "csv shuffled": trained(data=csv_source(block_size=512), output="classes"),
    "csv in a buffer": trained(data=csv_source(), output="classes", batches={"buffer": 20}),
    "by hand": by_hand,
    "by steps": by_steps,
    "estimator": estimator,
}
PATHS = {"recorded": {}, "plain": {"reuse_buffers": False}}


# Files -----------------------------------------------------------------------------------------


class Stop(Exception):
    """Raised by a callback, in place of a process that is killed."""


def new_trainer():
    """Return the trainer of the saved run and its batches."""
    layers = [gd.Dense(6), gd.BatchNorm(), gd.Tanh(), gd.Dropout(0.25), gd.Dense(1), gd.Sigmoid()]
    model = gd.Sequential(layers, inputs=WIDTH, dtype="float64", seed=5)
    updater = gd.Adam(gd.WarmUp(gd.CosineDecay(0.02, updates=20), updates=4))
    trainer = gd.Trainer(
        model, "binary_crossentropy", updater, ["accuracy"], accumulate=2, clip_norm=1.0
    )
    return trainer, saved_batches()


def saved_batches():
    return gd.Batches(
        *(rows("float64"), targets("two"), 8), shuffle=True, seed=3, sample_weight=WEIGHTS
    )


def halved_when_it_stalls():
    """Return the callback of the saved run, which has a state of its own."""
    return gd.ReduceOnPlateau("loss", factor=0.5, patience=1, min_delta=0.1)


def write_run(path):
    """Save a run in the middle of an epoch, with half an update done, as a callback does it."""
    trainer, batches = new_trainer()

    def stop(event):
        if event.name == "batch" and trainer.epoch == 1 and trainer.batch == 3:
            trainer.save(path)
            raise Stop

    try:
        trainer.fit(batches, epochs=3, callbacks=[stop, halved_when_it_stalls()])
    except Stop:
        return
    raise AssertionError("the run was not stopped")


def go_on(path):
    """Go on with the saved run to the end of its third epoch."""
    trainer = gd.Trainer.resume(path, saved_batches())
    trainer.fit(saved_batches(), until_epoch=3, callbacks=[halved_when_it_stalls()])
    return numbers(trainer, trainer.model.predict(rows("float64")[:9]))


def write_model(path):
    """Save a model that the command has trained on a table."""
    with tempfile.TemporaryDirectory() as folder:
        table = str(write_csv(Path(folder) / "rows.csv"))
        options = ["--hidden", "6", "--epochs", "3", "--seed", "1", "--out", str(path)]
        shell("train", table, "--target", "label", *options)


def predict_rows(path):
    """Return what the command predicts with a saved model."""
    with tempfile.TemporaryDirectory() as folder:
        table, out = str(write_csv(Path(folder) / "rows.csv")), Path(folder) / "out.csv"
        shell("predict", str(path), table, "--out", str(out))
        return out.read_text(encoding="utf-8")


def shell(*arguments):
    subprocess.run([sys.executable, "-m", "minigd", *arguments], check=True, capture_output=True)


FILES = {"run": write_run, "model": write_model}


def read(path):
    """Return the description in a file of minigd's, without what differs by machine, and arrays."""
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files if name != "sha256"}
    return untimed(json.loads(arrays.pop("description.json").tobytes())), arrays


MACHINE = ("seconds", "threads", "minigd_version", "largest")
LATER = {"amsgrad": False}
"""Arguments that the version of the files did not have, and the values that do what it did."""


def untimed(tree):
    if isinstance(tree, dict):
        kept = {k: v for k, v in tree.items() if k not in LATER or v != LATER[k]}
        return {k: untimed(v) for k, v in kept.items() if k not in MACHINE}
    return [untimed(v) for v in tree] if isinstance(tree, list) else tree


# What is kept ----------------------------------------------------------------------------------


def load():
    """Return the hash of the writer's primitives, and arrays by case and name."""
    with np.load(SAVED / "numbers.npz", allow_pickle=False) as file:
        kept = {name: file[name] for name in file.files}
    return bytes(kept.pop("primitives")).decode(), kept


def compute(name):
    with tempfile.TemporaryDirectory() as folder:
        return {f"{name}: {k}": v for k, v in CASES[name](Path(folder), PATHS["plain"]).items()}


def write(names):
    """Write all cases, or add the results of the named ones."""
    SAVED.mkdir(exist_ok=True)
    if names:
        known, kept = load()
        if known != primitives():
            raise SystemExit("add a case on a machine whose primitives are those of the fixture")
    else:
        kept = {}
        for name, writer in FILES.items():
            writer(SAVED / f"{name}.npz")
        kept |= {f"run goes on: {k}": v for k, v in go_on(SAVED / "run.npz").items()}
        (SAVED / "predicted.csv").write_text(predict_rows(SAVED / "model.npz"), encoding="utf-8")
    for name in names or CASES:
        kept |= compute(name)
    kept["primitives"] = np.frombuffer(primitives().encode(), dtype=np.uint8)
    np.savez_compressed(SAVED / "numbers.npz", **kept)


if __name__ == "__main__":
    write(sys.argv[1:])
