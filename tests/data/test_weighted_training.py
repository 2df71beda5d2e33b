"""Weights of rows and of classes, from every source, in training and evaluation.

The truth is a sum over rows, written out here, or scikit-learn. A row of weight 0 is left out.
"""

import inspect

import numpy as np
import pytest
from budgets import examples
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.utils.class_weight import compute_class_weight

import minigd as gd
from minigd.optim.gradient_transforms import Penalty

N = 23


def rows(n=N, width=4, seed=0):
    return np.random.default_rng(seed).normal(size=(n, width))


def classes(x):
    return (x[:, 0] > 0).astype(int) + (x[:, 1] > 0)


def some_weights(n=N, seed=3):
    """Return weights; every fourth one is 0."""
    weight = np.random.default_rng(seed).uniform(0.1, 4, size=n)
    weight[1::4] = 0
    return weight


TASKS = {
    "regression": (
        lambda: [gd.Dense(6), gd.Tanh(), gd.Dense(2)],
        "mse",
        lambda x: x[:, :2] ** 2,
        ["mae", "rmse", "r2"],
    ),
    "huber": (
        lambda: [gd.Dense(5), gd.LeakyReLU(), gd.Dense(1)],
        gd.Huber(0.5),
        lambda x: x[:, 0] + x[:, 1],
        ["mae", "r2"],
    ),
    "binary": (
        lambda: [gd.Dense(6), gd.Tanh(), gd.Dense(1), gd.Sigmoid()],
        "binary_crossentropy",
        lambda x: (x[:, 0] > 0).astype(int),
        ["accuracy", "precision", "f1", "roc_auc"],
    ),
    "classes": (
        lambda: [gd.Dense(6), gd.ReLU(), gd.Dense(3), gd.Softmax()],
        "categorical_crossentropy",
        classes,
        ["accuracy", "recall", "f1"],
    ),
    "one-hot": (
        lambda: [gd.Dense(6), gd.ReLU(), gd.Dense(3), gd.Softmax()],
        gd.CategoricalCrossEntropy(label_smoothing=0.1),
        lambda x: np.eye(3)[classes(x)],
        ["accuracy", "f1"],
    ),
}
tasks = pytest.mark.parametrize("task", TASKS)


def make_trainer(task="classes", updater=None, backend="numpy", dtype="float64", **options):
    layers, loss, _, metrics = TASKS[task]
    model = gd.Sequential(layers(), 4, backend=backend, dtype=dtype, seed=3)
    options = {"metrics": metrics, **options}
    return gd.Trainer(model, loss, updater or gd.Adam(0.05), **options)


def targets(task, x):
    return TASKS[task][2](x)


def params(trainer):
    return trainer.model.backend.to_numpy(trainer.model.flat_params).copy()


def bits(trainer):
    to_numpy = trainer.model.backend.to_numpy
    vectors = [trainer.model.flat_params, *trainer.updater.state.values()]
    return b"".join(to_numpy(vector).tobytes() for vector in vectors)


def measured(history):
    return {name: values for name, values in history.items() if name != "seconds"}


# One batch ---------------------------------------------------------------------------------------


@pytest.mark.few
@tasks
def test_a_batch_is_the_weighted_sum_of_its_rows_over_the_sum_of_weights(backend, task):
    x, weight = rows(), some_weights()
    y = targets(task, x)
    trainer = make_trainer(task, gd.SGD(0.0), backend)
    loss, gradient = 0.0, 0.0
    for i in range(N):
        value = trainer.step(backend.asarray(x[i : i + 1]), backend.asarray(y[i : i + 1]))
        loss += weight[i] * float(value)
        gradient += weight[i] * backend.to_numpy(trainer.model.flat_grads)
    value = trainer.step(backend.asarray(x), backend.asarray(y), weight)
    assert float(value) == pytest.approx(loss / weight.sum(), rel=1e-12)
    own = backend.to_numpy(trainer.model.flat_grads)
    expected = gradient / weight.sum()
    assert abs(own - expected).max() <= 1e-12 * abs(expected).max()


@examples(25)
@given(
    st.sampled_from(list(TASKS)),
    st.integers(1, 25),
    st.integers(0, 10**6),
    st.sampled_from([1, 3]),
)
def test_whole_weights_are_repeated_rows_in_full_batch_training(task, n, seed, epochs):
    x = rows(n, seed=seed)
    y = targets(task, x)
    weight = np.random.default_rng(seed).integers(0, 4, size=n)
    weight[0] += 1
    weighted, repeated = make_trainer(task), make_trainer(task)
    history = weighted.fit(x, y, sample_weight=weight, batch_size=None, epochs=epochs)
    twice = np.repeat(np.arange(n), weight)
    other = repeated.fit(x[twice], y[twice], batch_size=None, epochs=epochs)
    np.testing.assert_allclose(params(weighted), params(repeated), rtol=1e-9, atol=1e-11)
    for name in measured(other):
        np.testing.assert_allclose(history[name], other[name], rtol=1e-9, atol=1e-12)
    found = weighted.evaluate(x, y, sample_weight=weight, batch_size=4)
    for name, value in weighted.evaluate(x[twice], y[twice]).items():
        np.testing.assert_allclose(found[name], value, rtol=1e-9, atol=1e-12)


@pytest.mark.few
@tasks
@pytest.mark.parametrize("accumulate", [1, 3])
def test_only_their_ratios_matter(backend, task, accumulate):
    # A power of 2 changes no digit of a weight.
    x, weight = rows(), some_weights()
    y, runs = targets(task, x), []
    for factor in (1.0, 2.0**40, 2.0**-40):
        trainer = make_trainer(task, backend=backend, dtype="float32", accumulate=accumulate)
        history = trainer.fit(x, y, sample_weight=weight * factor, batch_size=5, epochs=2)
        runs.append((bits(trainer), measured(history)))
    assert runs[0][0] == runs[1][0] == runs[2][0]
    for _, history in runs[1:]:
        for name, values in runs[0][1].items():
            np.testing.assert_allclose(history[name], values, rtol=1e-12)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_weights_far_from_1_fit_into_float32_as_their_ratios_do(accumulate):
    x, weight = rows(), some_weights()
    y, runs = classes(x), []
    for factor in (1.0, 2.0**-150, 2.0**150):
        trainer = make_trainer(dtype="float32", accumulate=accumulate)
        trainer.fit(x, y, sample_weight=weight * factor, batch_size=5)
        runs.append(bits(trainer))
    assert runs[0] == runs[1] == runs[2]


@pytest.mark.few
@tasks
def test_weights_of_1_are_no_weights_to_the_bit(backend, task):
    x, runs = rows(), []
    for weight in (None, np.ones(N), [1] * N):
        trainer = make_trainer(task, backend=backend, dtype="float32")
        history = trainer.fit(x, targets(task, x), sample_weight=weight, batch_size=5, epochs=2)
        runs.append((bits(trainer), measured(history)))
    assert runs[0] == runs[1] == runs[2]


# scikit-learn's MLP ------------------------------------------------------------------------------


def takes_weights(function):
    """Tell whether this scikit-learn is new enough for a function of it to take row weights."""
    return "sample_weight" in inspect.signature(function).parameters


def balanced(y, own):
    """Return the weight of each class from scikit-learn, if it takes weights of rows."""
    if takes_weights(compute_class_weight):
        return compute_class_weight("balanced", classes=np.unique(y), y=y, sample_weight=own)
    return own.sum() / (len(np.unique(y)) * np.bincount(y, own))


@pytest.mark.skipif(
    not takes_weights(MLPClassifier.partial_fit), reason="needs row weights of scikit-learn's MLP"
)
@pytest.mark.parametrize("alpha", [0.0, 2.0])
@pytest.mark.parametrize("batch_size", [N, 5])
@pytest.mark.parametrize("kind", ["classes", "binary", "regression"])
def test_training_is_that_of_scikit_learns_mlp(kind, batch_size, alpha):
    x, weight = rows(), some_weights()
    y = {"classes": classes(x), "binary": (x[:, 0] > 0).astype(int), "regression": x[:, 0]}[kind]
    make = MLPRegressor if kind == "regression" else MLPClassifier
    theirs = make(
        hidden_layer_sizes=(5,),
        activation="tanh",
        solver="sgd",
        alpha=alpha,
        batch_size=batch_size,
        learning_rate_init=1e-300,
        momentum=0.0,
        nesterovs_momentum=False,
        shuffle=False,
    )
    labels = {} if kind == "regression" else {"classes": np.unique(y)}
    theirs.partial_fit(x, y, sample_weight=weight, **labels)  # creates the initial parameters
    theirs._optimizer.learning_rate = 0.1

    last = {"classes": [gd.Dense(3), gd.Softmax()], "binary": [gd.Dense(1), gd.Sigmoid()]}
    layers = [gd.Dense(5), gd.Tanh(), *last.get(kind, [gd.Dense(1)])]
    model = gd.Sequential(layers, 4, dtype="float64")
    for i in (1, 2):
        model.params[f"dense{i}.W"] = theirs.coefs_[i - 1]
        model.params[f"dense{i}.b"] = theirs.intercepts_[i - 1]
    loss = {"classes": "categorical_crossentropy", "binary": "binary_crossentropy"}
    # Their loss is half the squared error.
    rate = 0.05 if kind == "regression" else 0.1
    trainer = gd.Trainer(model, loss.get(kind, "mse"), gd.SGD(rate))
    # Their penalty is divided by a batch's sum of weights.
    for start in range(0, N, batch_size):
        some = slice(start, start + batch_size)
        price = alpha / weight[some].sum() * 0.1 / rate
        trainer.penalty = Penalty(l2=price)
        value = float(trainer.step(x[some], y[some], weight[some]))
    theirs.partial_fit(x, y, sample_weight=weight)
    for i in (1, 2):
        np.testing.assert_allclose(model.params[f"dense{i}.W"], theirs.coefs_[i - 1], rtol=1e-10)
        b = theirs.intercepts_[i - 1]
        np.testing.assert_allclose(model.params[f"dense{i}.b"], b, rtol=1e-10, atol=1e-14)
    if batch_size == N and alpha == 0:
        half = 0.5 if kind == "regression" else 1.0
        assert half * value == pytest.approx(theirs.loss_, rel=1e-10)


# Every source ------------------------------------------------------------------------------------


def write_csv(folder, x, y):
    path = folder / "rows.csv"
    names = [f"x{i}" for i in range(x.shape[1])]
    lines = [",".join([*names, "y"])]
    lines += [
        ",".join(map(repr, [*map(float, row), t])) for row, t in zip(x, y.tolist(), strict=True)
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return gd.CsvSource(path, target="y", dtype="float64", block_size=200)


def write_npy(folder, x, y):
    np.save(folder / "x.npy", x)
    np.save(folder / "y.npy", y)
    return gd.NpySource(folder / "x.npy", folder / "y.npy")


def iterate(folder, x, y):
    pieces = [(x[a:b], y[a:b]) for a, b in ((0, 3), (3, 4), (4, 16), (16, len(x)))]
    return gd.IterableSource(pieces)


def table(folder, x, y):
    names = [f"x{i}" for i in range(x.shape[1])]
    pieces = [
        {**dict(zip(names, x[some].T, strict=True)), "y": y[some]}
        for some in (slice(0, 9), slice(9, None))
    ]
    return gd.IterableSource(pieces, target="y", dtype="float64")


SOURCES = {
    "array": lambda folder, x, y: (x, y),
    "csv": write_csv,
    "npy": write_npy,
    "pieces": iterate,
    "tables": table,
    "cached": lambda folder, x, y: write_csv(folder, x, y).cache(folder / "cache"),
}
sources = pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)


def make_batches(source, folder, x, y, **options):
    made = source(folder, x, y)
    data = made if isinstance(made, tuple) else (made, None)
    return gd.Batches(*data, **{"batch_size": 5, **options})


ORDERS = {"in order": {}, "shuffled": {"shuffle": True}, "ahead": {"shuffle": True, "prefetch": 2}}


def of_order(source, order):
    options = dict(ORDERS[order])
    if options.get("shuffle") and source in (iterate, table):
        options["buffer"] = 9
    return options


@pytest.mark.few
@pytest.mark.parametrize("order", ORDERS)
@sources
def test_a_batch_brings_the_weights_of_its_rows(tmp_path, source, order):
    x, weight = rows(), some_weights()
    y = classes(x)
    options = of_order(source, order)
    batches = make_batches(source, tmp_path, x, y, sample_weight=weight, **options)
    assert batches.weighted
    seen = []
    for batch in batches:
        own_x, own_y, own_weight = batch
        numbers = np.arange(N)[batch.rows]
        seen.extend(numbers)
        assert own_weight is batch.weight
        assert own_weight.dtype == "float64"
        np.testing.assert_array_equal(own_weight, weight[numbers])
        np.testing.assert_array_equal(own_x, x[numbers])
        np.testing.assert_array_equal(own_y, y[numbers])
    assert sorted(seen) == list(range(N))


@pytest.mark.each
@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("order", ORDERS)
@sources
def test_linear_regression_is_the_weighted_loop_of_the_textbook(
    tmp_path, source, order, accumulate
):
    x, weight = rows(), some_weights()
    y = x @ [1.0, -2.0, 0.5, 0.0] + rows(seed=4)[:, 0]
    batches = make_batches(source, tmp_path, x, y, sample_weight=weight, **of_order(source, order))
    model = gd.Sequential([gd.Dense(1)], 4, dtype="float64")
    W, b = model.params["dense1.W"][:, 0].copy(), float(model.params["dense1.b"][0])
    trainer = gd.Trainer(model, "mse", gd.SGD(0.1), metrics=["mae"], accumulate=accumulate)
    history = trainer.fit(batches, epochs=2)
    for epoch in range(2):
        loss = mae = 0.0
        waiting = []
        numbers = [np.arange(N)[batch.rows] for batch in batches.epoch(epoch)]
        for count, some in enumerate(numbers, start=1):
            waiting.extend(some)
            if count % accumulate and count < len(numbers):
                continue
            error = x[waiting] @ W + b - y[waiting]
            w = weight[waiting]
            loss += (w * error**2).sum()
            mae += (w * abs(error)).sum()
            W = W - 0.1 * 2 * (w * error) @ x[waiting] / w.sum()
            b = b - 0.1 * 2 * (w * error).sum() / w.sum()
            waiting = []
        # The weighted mean of the epoch's rows, not a mean of the batches' means.
        assert history["loss"][epoch] == pytest.approx(loss / weight.sum(), rel=1e-12)
        assert history["mae"][epoch] == pytest.approx(mae / weight.sum(), rel=1e-12)
    np.testing.assert_allclose(model.params["dense1.W"][:, 0], W, rtol=1e-12)
    np.testing.assert_allclose(model.params["dense1.b"], b, rtol=1e-12)


@pytest.mark.few
@sources
@tasks
def test_an_evaluation_is_scikit_learns(tmp_path, source, task):
    if task in ("one-hot", "regression") and source in (write_csv, table, SOURCES["cached"]):
        pytest.skip("a file has one column of targets here")
    x, weight = rows(), some_weights()
    y = targets(task, x)
    trainer = make_trainer(task)
    batches = make_batches(source, tmp_path, x, y, sample_weight=weight)
    trainer.fit(batches, epochs=2)
    found = trainer.evaluate(batches)
    assert found == trainer.model.evaluate(batches)
    p = trainer.model.predict(x)
    if task in ("regression", "huber"):
        p = p if y.ndim == 2 else p[:, 0]
        expected = {
            "mae": sk.mean_absolute_error(y, p, sample_weight=weight),
            "r2": sk.r2_score(y, p, sample_weight=weight),
        }
        if task == "regression":
            error = sk.mean_squared_error(y, p, sample_weight=weight)
            expected |= {"loss": error, "rmse": np.sqrt(error)}
    else:
        true = y.argmax(axis=1) if y.ndim == 2 else y
        label = (p[:, 0] > 0.5).astype(int) if task == "binary" else p.argmax(axis=1)
        of = {"sample_weight": weight}
        average = {"average": "binary" if task == "binary" else "macro", "zero_division": 0}
        expected = {
            "accuracy": sk.accuracy_score(true, label, **of),
            "precision": sk.precision_score(true, label, **of, **average),
            "recall": sk.recall_score(true, label, **of, **average),
            "f1": sk.f1_score(true, label, **of, **average),
        }
        if task == "binary":
            expected["roc_auc"] = sk.roc_auc_score(true, p[:, 0], **of)
        if task != "one-hot":
            expected["loss"] = sk.log_loss(true, p, **of)
    for name in found.keys() & expected.keys():
        assert found[name] == pytest.approx(expected[name], rel=1e-10), name
    assert len(found.keys() & expected.keys()) >= 2


@pytest.mark.few
@tasks
def test_validation_goes_by_its_weights(backend, task):
    x, held_out = rows(), rows(11, seed=5)
    y = targets(task, held_out)
    weight = some_weights(11)
    results = []
    for data in ((held_out, y, weight), gd.Batches(held_out, y, sample_weight=weight)):
        trainer = make_trainer(task, backend=backend)
        history = trainer.fit(x, targets(task, x), epochs=2, validation_data=data)
        last = trainer.evaluate(held_out, y, sample_weight=weight)
        assert history["val_loss"][-1] == pytest.approx(last["loss"], rel=1e-12)
        assert last["loss"] != pytest.approx(trainer.evaluate(held_out, y)["loss"], rel=1e-3)
        results.append(measured(history))
    for name, values in results[0].items():
        np.testing.assert_allclose(results[1][name], values, rtol=1e-12)


def test_fit_and_evaluate_of_the_model_take_weights_too():
    x, weight = rows(), some_weights()
    y = classes(x)
    trainer = make_trainer(dtype="float32")
    model = make_trainer(dtype="float32").model
    trainer.fit(x, y, batch_size=5, sample_weight=weight, class_weight="balanced")
    model.fit(
        x,
        y,
        loss="categorical_crossentropy",
        updater=gd.Adam(0.05),
        batch_size=5,
        sample_weight=weight,
        class_weight="balanced",
        metrics=TASKS["classes"][3],
    )
    assert model.flat_params.tobytes() == trainer.model.flat_params.tobytes()
    found = model.evaluate(x, y, sample_weight=weight)
    assert found == trainer.evaluate(x, y, sample_weight=weight)


@pytest.mark.few
@tasks
@pytest.mark.parametrize("shuffle", [False, True])
def test_the_loop_by_hand_gives_the_same_bits(backend, task, shuffle):
    x, weight = rows(), some_weights()
    y = targets(task, x)
    batches = gd.Batches(x, y, batch_size=5, shuffle=shuffle, sample_weight=weight)
    trainer, stepped = (make_trainer(task, backend=backend, dtype="float32") for _ in range(2))
    trainer.fit(batches, epochs=2)
    for _ in range(2):
        for own_x, own_y, own_weight in batches:
            stepped.step(backend.asarray(own_x), backend.asarray(own_y), own_weight)
    assert bits(trainer) == bits(stepped)


def test_weights_may_live_beside_the_rows_on_the_device(backend):
    x, weight = rows(), some_weights()
    y, runs = classes(x), []
    for move in (lambda w: w, backend.asarray, list):
        trainer = make_trainer(backend=backend)
        data = backend.asarray(x), backend.asarray(y)
        trainer.fit(*data, sample_weight=move(weight), batch_size=5)
        if move is not list:
            trainer.step(*data, move(weight))
        else:
            trainer.step(*data, weight)
        runs.append(bits(trainer))
    assert runs[0] == runs[1] == runs[2]


# Rows of weight 0 --------------------------------------------------------------------------------

# What x and the target of a row of weight 0 may contain.
JUNK = {
    "nan": (np.nan, np.nan),
    "inf": (np.inf, -np.inf),
    "too large for float32": (1e300, 1e300),
    "no class": (0.0, 17.0),
    "no class but below": (-1e30, -3.0),
}


def junk_in(x, y, weight, junk):
    """Return copies with other content in rows of weight 0."""
    in_x, in_y = junk
    x, y = x.copy(), y.astype(float) if not np.isfinite(in_y) or abs(in_y) > 100 else y.copy()
    x[weight == 0], y[weight == 0] = in_x, in_y
    return x, y


@pytest.mark.each
@pytest.mark.parametrize("junk", JUNK.values(), ids=JUNK)
@tasks
def test_a_row_of_weight_zero_may_hold_anything(backend, task, junk):
    x, weight = rows(), some_weights()
    y = targets(task, x)
    if task == "classes" and junk[1] not in (17.0, -3.0):
        junk = (junk[0], 17.0)  # classes are integers
    runs = []
    for data in ((x, y), junk_in(x, y, weight, junk)):
        trainer = make_trainer(task, backend=backend, dtype="float32")
        options = {"sample_weight": weight, "batch_size": 5, "validation_data": (*data, weight)}
        for shuffle in (False, True):
            history = trainer.fit(*data, shuffle=shuffle, **options)
        last = trainer.evaluate(*data, sample_weight=weight, batch_size=4)
        value = trainer.step(backend.asarray(data[0]), backend.asarray(data[1]), weight)
        runs.append((bits(trainer), measured(history), last, float(value)))
    assert repr(runs[0]) == repr(runs[1])
    assert np.isfinite(params(trainer)).all()


@pytest.mark.each
@pytest.mark.parametrize("task", ["classes", "huber"])
@pytest.mark.parametrize("junk", JUNK.values(), ids=JUNK)
@sources
def test_a_row_of_weight_zero_may_hold_anything_in_every_source(tmp_path, source, junk, task):
    if source in (write_csv, table, SOURCES["cached"]) and not np.isfinite(junk).all():
        pytest.skip("what is missing in a file is refused when it is read, or filled in")
    x, weight = rows(), some_weights()
    y = targets(task, x)
    if task == "classes" and junk[1] not in (17.0, -3.0):
        junk = (junk[0], 17.0)
    runs = []
    for i, data in enumerate(((x, y), junk_in(x, y, weight, junk))):
        (tmp_path / str(i)).mkdir()
        batches = make_batches(source, tmp_path / str(i), *data, sample_weight=weight)
        trainer = make_trainer(task, dtype="float32")
        history = trainer.fit(batches, epochs=2)
        runs.append((bits(trainer), measured(history), trainer.evaluate(batches)))
    assert repr(runs[0]) == repr(runs[1])


def test_a_row_of_weight_zero_is_not_adapted_to(backend):
    x, weight = rows(), some_weights()
    y, counts = x[:, 0] * 7 + 3, weight > 0
    models = []
    for junk in (x[4], np.nan, 1e30):
        own_x, own_y = x.copy(), y.copy()
        own_x[~counts], own_y[~counts] = junk, np.mean(junk)
        layers = [gd.Standardize(), gd.Dense(1), gd.Rescale()]
        model = gd.Sequential(layers, 4, backend=backend, dtype="float64")
        model.adapt(gd.Batches(own_x, own_y, batch_size=5, sample_weight=weight))
        models.append(model.arrays())
    for arrays in models:
        expected = {"standardize1": x[counts], "rescale1": y[counts][:, None]}
        for layer, values in expected.items():
            found = arrays[f"buffers/{layer}.mean"], arrays[f"buffers/{layer}.std"]
            np.testing.assert_allclose(found[0], values.mean(axis=0), rtol=1e-12)
            np.testing.assert_allclose(found[1], values.std(axis=0), rtol=1e-12)


@tasks
def test_a_full_batch_is_that_of_the_rows_that_count_to_the_bit(backend, task):
    x, weight = rows(), some_weights()
    y, counts = targets(task, x), weight > 0
    runs = []
    for data in ((x, y, weight), (x[counts], y[counts], weight[counts])):
        trainer = make_trainer(task, backend=backend, dtype="float32")
        options = {"batch_size": None, "shuffle": False, "epochs": 3}
        history = trainer.fit(*data[:2], sample_weight=data[2], **options)
        runs.append((bits(trainer), measured(history)))
    assert runs[0] == runs[1]


def test_a_number_that_is_not_finite_is_refused_in_a_row_that_counts():
    weight = some_weights()
    assert weight[5] == weight[9] == 0 < weight[17 - 1]
    for bad in (np.nan, np.inf):
        x = rows()
        x[5] = np.nan
        x[16, 2] = bad
        with pytest.raises(gd.DataError, match=f"x holds {bad} at row 16, column 2"):
            gd.Batches(x, rows()[:, 0], sample_weight=weight)
        with pytest.raises(gd.DataError, match=f"x holds {bad} at row 16, column 2"):
            make_trainer("huber").step(x, rows()[:, 0], weight)
        y = rows()[:, 0]
        y[5], y[16] = np.nan, bad
        with pytest.raises(gd.DataError, match=f"y holds {bad} at row 16"):
            make_trainer("huber").fit(rows(), y, sample_weight=weight)


@pytest.mark.parametrize("source", [write_npy, iterate], ids=["npy", "pieces"])
def test_a_streams_bad_number_is_placed_by_its_row(tmp_path, source):
    weight = some_weights()
    x = rows()
    x[5] = np.nan
    x[16, 2] = np.inf
    batches = make_batches(source, tmp_path, x, x[:, 0], sample_weight=weight)
    with pytest.raises(gd.DataError, match=r"[xy] holds inf at row 16|x holds inf at row 16, col"):
        make_trainer("huber").fit(batches)


def test_a_label_that_is_none_is_refused_in_a_row_that_counts():
    x, weight = rows(), some_weights()
    y = classes(x)
    y[5] = 99
    y[16] = 7
    trainer = make_trainer()
    with pytest.raises(gd.DataError, match="for classes 0 to 2, and y holds 7"):
        trainer.fit(x, y, sample_weight=weight)
    with pytest.raises(gd.DataError, match="for classes 0 to 2, and y holds 7"):
        trainer.step(x, y, weight)
    with pytest.raises(gd.DataError, match="for classes 0 to 2, and y holds 7"):
        trainer.evaluate(x, y, sample_weight=weight)
    assert trainer.updates == 0


# Batches of weight 0 -----------------------------------------------------------------------------


@pytest.mark.few
@pytest.mark.parametrize("order", ["in order", "ahead"])
@sources
def test_a_batch_whose_weights_are_all_zero_makes_no_update(tmp_path, source, order):
    x = rows(20)
    y, weight = classes(x), np.ones(20)
    weight[5:10] = weight[15:20] = 0
    x[7], y[16] = 1e300, 99

    def network():
        layers = [gd.Dense(5), gd.BatchNorm(), gd.ReLU(), gd.Dropout(0.3), gd.Dense(3)]
        model = gd.Sequential([*layers, gd.Softmax()], 4, seed=3)
        updater = gd.AdamW(gd.CosineDecay(0.05, updates=6))
        return gd.Trainer(model, "categorical_crossentropy", updater, metrics=["accuracy"])

    options = {"prefetch": 2} if order == "ahead" else {}
    trainer, fewer, events = network(), network(), []
    batches = make_batches(source, tmp_path, x, y, sample_weight=weight, **options)
    history = trainer.fit(batches, epochs=2, callbacks=[events.append])
    names = [event.name for event in events if event.name in ("batch", "update")]
    assert names == ["update", "batch", "update", "batch"] * 2
    for event in events:
        if event.name == "batch":
            assert event.x is event.y is event.loss is None
            assert len(np.arange(20)[event.rows]) == 5
    assert trainer.updates == trainer.updater.step == trainer.model.passes == 4

    some = weight > 0
    other = fewer.fit(gd.Batches(x[some], y[some], batch_size=5), epochs=2)
    # Each batch has the same rows, and Dropout draws in the same passes.
    assert bits(trainer) == bits(fewer)
    for mine, theirs in zip(trainer.model.layers, fewer.model.layers, strict=True):
        for name in mine.buffers:
            np.testing.assert_array_equal(mine.buffers[name], theirs.buffers[name])
    assert measured(history) == measured(other)


def test_a_step_whose_weights_are_all_zero_is_refused_and_changes_nothing(backend):
    x, trainer = rows(), make_trainer(backend=backend)
    before = bits(trainer)
    with pytest.raises(gd.DataError, match="all of sample_weight is 0: there is nothing to train"):
        trainer.step(backend.asarray(x), backend.asarray(classes(x)), np.zeros(N))
    assert trainer.updates == trainer.updater.step == trainer.model.passes == 0
    assert bits(trainer) == before


# Weights of classes ------------------------------------------------------------------------------


def unbalanced(n=60):
    x = rows(n, seed=6)
    return x, np.repeat([0, 1, 2], [n // 2, n // 2 - 4, 4])[np.random.default_rng(1).permutation(n)]


FORMS = {
    "integers": lambda y: y,
    "int8": lambda y: y.astype("int8"),
    "floats": lambda y: y.astype(float),
    "a column": lambda y: y.reshape(-1, 1),
    "one-hot": lambda y: np.eye(3)[y],
    "one-hot int": lambda y: np.eye(3, dtype=int)[y],
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_balanced_is_scikit_learns(backend, form):
    x, y = unbalanced()
    kinds = np.unique(y)
    weights = compute_class_weight("balanced", classes=kinds, y=y)
    batches = gd.Batches(backend.asarray(x), backend.asarray(form(y)), class_weight="balanced")
    (batch,) = batches
    np.testing.assert_allclose(batch.weight, weights[y], rtol=1e-14)


@pytest.mark.few
@sources
@pytest.mark.parametrize("order", ORDERS)
def test_balanced_is_scikit_learns_in_every_source(tmp_path, source, order):
    x, y = unbalanced()
    weights = compute_class_weight("balanced", classes=np.unique(y), y=y)
    options = of_order(source, order)
    batches = make_batches(source, tmp_path, x, y, class_weight="balanced", **options)
    for batch in batches:
        expected = weights[y[np.arange(60)[batch.rows]]]
        np.testing.assert_allclose(batch.weight, expected, rtol=1e-14)


@sources
def test_balanced_counts_rows_by_their_own_weight(tmp_path, source):
    x, y = unbalanced()
    own = np.random.default_rng(2).integers(0, 3, size=60).astype(float)
    weights = balanced(y, own)
    options = {"sample_weight": own, "class_weight": "balanced"}
    batches = make_batches(source, tmp_path, x, y, **options)
    found = np.concatenate([batch.weight for batch in batches])
    np.testing.assert_allclose(found, weights[y] * own, rtol=1e-14)
    totals = [found[y == k].sum() for k in range(3)]
    np.testing.assert_allclose(totals, totals[0], rtol=1e-12)


@sources
def test_a_class_that_is_not_named_counts_one(tmp_path, source):
    x, y = unbalanced()
    own = np.random.default_rng(2).uniform(0, 3, size=60)
    options = {"sample_weight": own, "class_weight": {2: 7.5, 0: 0.5}}
    batches = make_batches(source, tmp_path, x, y, **options)
    found = np.concatenate([batch.weight for batch in batches])
    np.testing.assert_allclose(found, own * np.array([0.5, 1.0, 7.5])[y], rtol=1e-14)


@sources
def test_class_weights_are_the_sample_weights_they_stand_for(tmp_path, source):
    x, y = unbalanced()
    table = {0: 0.5, 1: 0.0, 2: 8.0}
    runs = []
    for weights in ({"class_weight": table}, {"sample_weight": [table[k] for k in y]}):
        trainer = make_trainer(dtype="float32", accumulate=2)
        batches = make_batches(source, tmp_path, x, y, **weights)
        history = trainer.fit(batches, epochs=2)
        runs.append((bits(trainer), measured(history), trainer.evaluate(batches)))
    assert runs[0] == runs[1]


@pytest.mark.parametrize("given_by", ["fit", "Batches"])
def test_balanced_training_is_that_of_scikit_learns_weights(backend, given_by):
    x, y = unbalanced()
    weights = compute_class_weight("balanced", classes=np.unique(y), y=y)[y]
    one, two = (make_trainer(backend=backend) for _ in range(2))
    one.fit(x, y, sample_weight=weights, batch_size=7, epochs=2)
    if given_by == "fit":
        two.fit(x, y, class_weight="balanced", batch_size=7, epochs=2)
    else:
        options = {"shuffle": True, "seed": 3, "class_weight": "balanced"}
        two.fit(gd.Batches(x, y, batch_size=7, **options), epochs=2)
    np.testing.assert_allclose(params(two), params(one), rtol=1e-12)


def test_a_row_that_weighs_nothing_needs_no_class():
    x, y = unbalanced()
    own = np.ones(60)
    own[3] = 0
    labels = y.astype(float)
    labels[3] = np.nan
    batches = gd.Batches(x, labels, batch_size=60, sample_weight=own, class_weight="balanced")
    (batch,) = batches
    weights = balanced(y, own)
    np.testing.assert_allclose(batch.weight, weights[y] * own, rtol=1e-14)


# Refusals ----------------------------------------------------------------------------------------

BAD = {
    "negative": (lambda w: np.where(np.arange(N) == 4, -0.5, w), r"holds -0.5 at row 4 .*at least"),
    "nan": (lambda w: np.where(np.arange(N) == 4, np.nan, w), "sample_weight holds nan at row 4"),
    "inf": (lambda w: np.where(np.arange(N) == 4, np.inf, w), "sample_weight holds inf at row 4"),
    "too short": (lambda w: w[1:], r"sample_weight has shape \(22,\).*each row"),
    "too long": (lambda w: np.append(w, 1), r"sample_weight has shape \(24,\).*each row"),
    "a column": (lambda w: w[:, None], r"sample_weight has shape \(23, 1\).*each row"),
    "a number": (lambda w: 2.0, r"sample_weight has shape \(\).*each row"),
    "zeros": (lambda w: 0 * w, "all of sample_weight is 0: there is nothing to train on"),
    "text": (lambda w: ["a"] * N, "sample_weight must hold numbers"),
    "an array of text": (lambda w: np.array(["a"] * N), "sample_weight must hold numbers"),
    "text that looks like numbers": (lambda w: w.astype(str), "sample_weight must hold numbers"),
    "complex": (lambda w: w + 1j, "sample_weight must hold numbers"),
    "durations": (lambda w: w.astype("m8[s]"), "sample_weight must hold numbers"),
    "objects": (lambda w: np.array([None] * N), "sample_weight must hold numbers|holds nan at row"),
}
CALLS = {
    "fit": lambda trainer, x, y, w: trainer.fit(x, y, sample_weight=w),
    "step": lambda trainer, x, y, w: trainer.step(x, y, w),
    "evaluate": lambda trainer, x, y, w: trainer.evaluate(x, y, sample_weight=w),
    "validation": lambda trainer, x, y, w: trainer.fit(x, y, validation_data=(x, y, w)),
    "batches": lambda trainer, x, y, w: gd.Batches(x, y, sample_weight=w),
    "source": lambda trainer, x, y, w: gd.ArraySource(x, y, w),
    "stream": lambda trainer, x, y, w: gd.Batches(iterate(None, x, y), sample_weight=w),
    "loss": lambda trainer, x, y, w: gd.MeanSquaredError().forward(x[:, :1], y, w),
}


@pytest.mark.few
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize(("spoil", "message"), BAD.values(), ids=BAD)
def test_weights_that_are_none_are_refused(call, spoil, message):
    trainer, x = make_trainer(), rows()
    before = bits(trainer)
    with pytest.raises(gd.DataError, match=message):
        call(trainer, x, classes(x), spoil(some_weights()))
    assert trainer.updates == 0
    assert bits(trainer) == before


@pytest.mark.parametrize("weights", [{"sample_weight": np.ones(N)}, {"class_weight": "balanced"}])
def test_a_batches_brings_its_own_weights(weights):
    x = rows()
    batches, trainer = gd.Batches(x, classes(x)), make_trainer()
    message = r"a Batches brings its own weights: give them to Batches\(...\)"
    with pytest.raises(TypeError, match=message):
        trainer.fit(batches, **weights)
    trainer.fit(batches)
    with pytest.raises(TypeError, match=message):
        trainer.fit(**weights)
    if "sample_weight" in weights:
        with pytest.raises(TypeError, match=message):
            trainer.evaluate(batches, **weights)


@pytest.mark.parametrize("given", ["unbalanced", [1, 2], 3.0])
def test_class_weights_that_are_none_are_refused(given):
    x = rows()
    with pytest.raises(
        TypeError, match=r"class_weight must be a dict from class to weight, .* or 'bal"
    ):
        gd.Batches(x, classes(x), class_weight=given)


@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf])
def test_a_weight_of_a_class_that_makes_no_sense_is_refused(value):
    x = rows()
    with pytest.raises(
        ValueError, match="the weight of class 1 must be a number, at least 0 and finite"
    ):
        gd.Batches(x, classes(x), class_weight={1: value})


def test_class_weights_are_for_classes():
    x = rows()
    with pytest.raises(gd.DataError, match="class_weight is for classes, which are integers, but"):
        gd.Batches(x, x[:, 0], class_weight="balanced")
    with pytest.raises(gd.DataError, match="class_weight is for classes, but the rows of y are no"):
        gd.Batches(x, x[:, :2], class_weight="balanced")
    with pytest.raises(gd.DataError, match="there is no y"):
        gd.Batches(x, class_weight="balanced")
    with pytest.raises(gd.DataError, match="weights are for rows with targets"):
        gd.Batches(x, sample_weight=np.ones(N))


def test_class_weights_that_leave_no_row_are_refused():
    x = rows()
    with pytest.raises(gd.DataError, match="leaves no row with a weight above 0"):
        gd.Batches(x, classes(x), class_weight={0: 0, 1: 0, 2: 0})


def test_a_source_that_has_weights_is_not_given_others_in_silence():
    x, own, other = rows(), some_weights(), some_weights(seed=8)
    source = gd.ArraySource(x, classes(x), own)
    np.testing.assert_array_equal(next(iter(gd.Batches(source))).weight, own)
    # Either a refusal, or both weights apply; neither may be ignored.
    try:
        (batch,) = gd.Batches(source, sample_weight=other)
    except (TypeError, ValueError):
        return
    np.testing.assert_allclose(batch.weight, own * other)


# Resumed runs ------------------------------------------------------------------------------------


def stop_at(update):
    def callback(event):
        if event.name == "update" and event.trainer.updates == update:
            event.trainer.stop()

    return callback


WEIGHTED = {
    "sample": {"sample_weight": some_weights()},
    "class": {"class_weight": {0: 2.0, 1: 0.5}},
    "both": {"sample_weight": some_weights(), "class_weight": "balanced"},
}
weighted = pytest.mark.parametrize("weights", WEIGHTED.values(), ids=WEIGHTED)


@pytest.mark.each
@weighted
@sources
def test_a_weighted_run_is_resumed_to_the_bit(tmp_path, source, weights):
    x = rows()
    y = classes(x)
    whole, cut = (make_trainer(accumulate=2, dtype="float32") for _ in range(2))
    whole.fit(make_batches(source, tmp_path, x, y, **weights), epochs=3)
    batches = make_batches(source, tmp_path, x, y, **weights)
    cut.fit(batches, epochs=3, callbacks=[stop_at(4)])
    cut.save(tmp_path / "run.npz")
    batches = make_batches(source, tmp_path, x, y, **weights)
    again = gd.Trainer.resume(tmp_path / "run.npz", batches)
    again.fit(until_epoch=3)
    assert bits(again) == bits(whole)
    assert measured(again.history) == measured(whole.history)


@pytest.mark.each
@weighted
@sources
def test_a_run_with_other_weights_is_not_resumed(tmp_path, source, weights):
    x = rows()
    y = classes(x)
    trainer = make_trainer()
    batches = make_batches(source, tmp_path, x, y, **weights)
    trainer.fit(batches, epochs=3, callbacks=[stop_at(4)])
    trainer.save(tmp_path / "run.npz")
    changed = some_weights()
    changed[0] += 1e-9
    for other in ({}, {"sample_weight": changed}, {"class_weight": {0: 2.0, 1: 0.5000001}}):
        batches = make_batches(source, tmp_path, x, y, **other)
        with pytest.raises(gd.CheckpointError, match="the weights differ"):
            gd.Trainer.resume(tmp_path / "run.npz", batches)


def test_half_an_epoch_is_not_finished_with_other_weights():
    x = rows()
    y = classes(x)
    trainer = make_trainer()
    trainer.fit(gd.Batches(x, y, batch_size=5), callbacks=[stop_at(2)])
    trainer.fit(gd.Batches(x, y, batch_size=5, sample_weight=np.arange(1.0, 24.0)))
    assert trainer.updates == 2 + 5


def test_a_class_of_weight_0_may_hold_anything():
    x = rows()
    y = (x[:, 0] > 0).astype(int)
    spoilt = x.copy()
    spoilt[y == 1] = np.nan
    model = gd.Sequential([gd.Dense(1), gd.Sigmoid()], inputs=x.shape[1])
    model.fit(spoilt, y, loss="binary_crossentropy", class_weight={1: 0.0}, epochs=2)
    assert np.isfinite(model.flat_params).all()


def test_products_of_weights_out_of_range_are_refused():
    x = rows()
    y = (x[:, 0] > 0).astype(int)
    with pytest.raises(gd.DataError, match=r"sample_weight holds inf|divide it by that"):
        gd.Batches(x, y, class_weight={0: 1e190}, sample_weight=np.full(len(x), 1e150))
