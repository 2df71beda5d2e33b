"""Compiled training: which runs are compiled, the rules they follow, and what does not change them.

`test_targets.py` compares their numbers with those of the plain step.
"""

import copy
import gc
import platform
import tracemalloc
import warnings

import numpy as np
import pytest
from oracles import same_bits
from oracles.interpreted import interpreted

import minigd as gd
from minigd.execution.targets import compiler
from minigd.execution.targets import numba as target
from minigd.execution.targets.cuda import CudaStep
from minigd.progress import Progress
from minigd.training import chunks
from minigd.training import trainer as trainer_module

pytestmark = pytest.mark.skipif(not compiler.available(), reason="needs Numba and SciPy")
x86 = pytest.mark.skipif(
    platform.machine().lower() not in ("x86_64", "amd64"),
    reason="compiled steps write 0 for subnormal numbers on an x86 alone",
)


@pytest.fixture
def in_python(monkeypatch):
    """Run the source of compiled steps as Python."""
    monkeypatch.setattr(target, "Compiled", interpreted)


def rows(n=230):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 6))
    return X, X[:, :3].argmax(axis=1)


def network(dtype="float64", hidden=gd.ReLU):
    layers = [gd.Dense(5), hidden(), gd.Dense(4), gd.Tanh(), gd.Dense(3), gd.Softmax()]
    return gd.Sequential(layers, inputs=6, dtype=dtype, seed=1)


def trained(updater, dtype="float64", n=60, epochs=3, model=None, **options):
    X, y = rows(n)
    trainer = gd.Trainer(model or network(dtype), "categorical_crossentropy", updater, **options)
    trainer.fit(X, y, batch_size=25, epochs=epochs)
    return trainer


def compiled_steps(trainer):
    return [step for step in trainer._loop.steps._compiled.values() if step is not None]


# Which runs are compiled ----------------------------------------------------------------------


@pytest.mark.few
@pytest.mark.parametrize("updater", ["sgd", "adam", "adamw", "rmsprop", "adagrad"])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-11), ("float32", 2e-4)])
def test_training_comes_to_the_same(updater, dtype, tolerance, in_python):
    plain, compiled = (trained(updater, dtype, fast=wanted) for wanted in (False, True))
    assert compiled.compiled
    assert compiled_steps(compiled)
    assert not plain.compiled
    np.testing.assert_allclose(
        plain.model.flat_params, compiled.model.flat_params, rtol=tolerance, atol=tolerance
    )


@pytest.mark.few
@pytest.mark.parametrize(
    "several",
    [
        [{"updater": gd.SGD(0.1, momentum=m)} for m in (0.9, 0.5)],
        [{"updater": gd.SGD(0.1, m, nesterov=True)} for m in (0.9, 0.5)],
        [{"updater": gd.Adam(0.01, b1, b2, e)} for b1, b2, e in ((0.9, 0.99, 1e-8), (0.5, 0.9, 1))],
        [{"updater": gd.AdamW(0.01, weight_decay=d)} for d in (0.5, 0.1)],
        [{"updater": gd.Adam(0.01, 0.5, b2, amsgrad=True)} for b2 in (0.5, 0.9)],
        [{"updater": gd.Nadam(0.01, b1, b2)} for b1, b2 in ((0.9, 0.99), (0.5, 0.9))],
        [{"updater": gd.RAdam(0.01, b1, b2)} for b1, b2 in ((0.9, 0.99), (0.5, 0.9))],
        [{"updater": gd.RMSprop(0.01, rho=r, epsilon=e)} for r, e in ((0.9, 1e-8), (0.8, 0.01))],
        [{"updater": gd.Adagrad(0.1, epsilon=e)} for e in (1e-8, 0.01)],
        [{"updater": "sgd", "l2": v} for v in (0.1, 0.001)],
        [{"updater": "sgd", "l1": v, "l2": v, "decay_bias": True} for v in (0.1, 0.001)],
        [{"updater": "sgd", "clip_norm": v} for v in (0.1, 0.5)],
        [{"updater": "sgd", "clip_value": v} for v in (0.1, 0.01)],
    ],
    ids=lambda several: " ".join(map(str, several[0].values())),
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_other_values_of_a_setting_compile_nothing_new(several, dtype, in_python):
    sources, tolerance = set(), 1e-11 if dtype == "float64" else 2e-4
    for options in several:
        plain, compiled = (trained(dtype=dtype, fast=fast, **options) for fast in (False, True))
        sources |= {step.source for step in compiled_steps(compiled)}
        np.testing.assert_allclose(
            plain.model.flat_params, compiled.model.flat_params, rtol=tolerance, atol=tolerance
        )
    assert len(sources) == 1


def test_a_short_run_is_not_compiled_and_a_long_one_is(monkeypatch, in_python):
    assert not trained("adam").compiled
    monkeypatch.setattr(trainer_module, "WORTH_COMPILING", 1000)
    assert trained("adam").compiled
    assert not trained("adam", fast=False).compiled


def test_the_choice_does_not_depend_on_how_epochs_are_split(monkeypatch, in_python):
    X, y = rows(60)
    batches = gd.Batches(X, y, batch_size=25)
    monkeypatch.setattr(trainer_module, "WORTH_COMPILING", 1000)
    found = []
    for calls in ((4,), (1, 3), (1, 1, 1, 1)):
        trainer = gd.Trainer(network(), "categorical_crossentropy", "adam")
        for epochs in calls:
            trainer.fit(batches, epochs=epochs)
        assert trainer.compiled
        found.append(trainer.model.flat_params)
    for other in found[1:]:
        np.testing.assert_array_equal(found[0], other)


def test_a_run_that_goes_on_keeps_to_what_it_used(monkeypatch, tmp_path, in_python):
    X, y = rows(60)
    batches = gd.Batches(X, y, batch_size=25, shuffle=True)

    def run(until, first=None):
        if first is None:
            trainer = gd.Trainer(network("float32"), "categorical_crossentropy", "adam")
        else:
            trainer = gd.Trainer.resume(first, batches)
        trainer.fit(batches, until_epoch=until)
        return trainer

    monkeypatch.setattr(trainer_module, "WORTH_COMPILING", 1000)
    straight, first = run(4), run(2)
    first.save(tmp_path / "compiled.npz")
    monkeypatch.setattr(trainer_module, "WORTH_COMPILING", 10**12)
    again = run(4, tmp_path / "compiled.npz")
    assert again.compiled
    np.testing.assert_array_equal(straight.model.flat_params, again.model.flat_params)

    plain = run(2)
    plain.save(tmp_path / "plain.npz")
    monkeypatch.setattr(trainer_module, "WORTH_COMPILING", 1000)
    assert not plain.compiled
    assert not run(4, tmp_path / "plain.npz").compiled


def test_without_numba_nothing_changes_but_speed(monkeypatch, tmp_path, in_python):
    compiled = trained("adam", fast=True)
    compiled.save(tmp_path / "run.npz")
    trainer = trained("adam")
    monkeypatch.setattr(trainer_module, "WORTH_COMPILING", 0)
    monkeypatch.setattr(compiler.importlib.util, "find_spec", lambda name: None)
    compiler.absent.cache_clear()
    try:
        plain = trained("adam")
        assert not plain.compiled
        np.testing.assert_array_equal(plain.model.flat_params, trainer.model.flat_params)
        with pytest.raises(gd.BackendError, match="pip install numba"):
            trained("adam", fast=True)
        # A run that used it continues without it, with a warning that its last digits may differ.
        X, y = rows(60)
        batches = gd.Batches(X, y, batch_size=25, shuffle=True, seed=1)
        with pytest.warns(UserWarning, match="pip install numba") as told:
            again = gd.Trainer.resume(tmp_path / "run.npz", batches)
        assert len(told) == 1
        assert not again.compiled
        # From there on, it is a plain run with the same bits as any other.
        other = gd.Trainer(network(), "categorical_crossentropy", "adam", fast=False)
        other.load_state_dict(compiled.state_dict() | {"compiled": False})
        for each in (again, other):
            each.fit(batches, until_epoch=6)
        assert again.updates == 18
        np.testing.assert_array_equal(again.model.flat_params, other.model.flat_params)
    finally:
        compiler.absent.cache_clear()


def test_a_compiled_run_of_the_version_before_goes_on_and_says_what_differs(in_python, tmp_path):
    # It was saved in the middle of an epoch, when Numba compiled single formulas.
    path, new = same_bits.SAVED / "compiled_run.npz", tmp_path / "run.npz"
    with pytest.warns(UserWarning, match="last digits may differ") as told:
        found = same_bits.go_on(path)
    assert len(told) == 1
    assert_goes_on_like_a_plain_run(found)
    with pytest.warns(UserWarning, match="another version of minigd"):
        trainer = gd.Trainer.resume(path, same_bits.saved_batches())
    assert trainer.compiled
    # A file of its own names no version that it would have to warn of.
    trainer.save(new)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert gd.Trainer.resume(new, same_bits.saved_batches()).compiled


def test_a_compiled_run_of_the_version_before_goes_on_without_numba(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(compiler.importlib.util, "find_spec", lambda name: None)
        compiler.absent.cache_clear()
        with pytest.warns(UserWarning, match="pip install numba") as told:
            found = same_bits.go_on(same_bits.SAVED / "compiled_run.npz")
    compiler.absent.cache_clear()
    assert len(told) == 1
    assert_goes_on_like_a_plain_run(found)


def assert_goes_on_like_a_plain_run(found):
    # The biases before a BatchNorm are some 1e-11 of rounding errors alone.
    for name, array in same_bits.go_on(same_bits.SAVED / "run.npz").items():
        np.testing.assert_allclose(found[name], array, rtol=1e-9, atol=1e-9, err_msg=name)


def test_on_a_gpu_numba_compiles_nothing(stand_in):
    X, y = rows(60)
    model = network("float32")
    trainer = gd.Trainer(model, "categorical_crossentropy", "adam", fast=True)
    model.to(stand_in)
    trainer.fit(X, y, batch_size=25)
    assert not trainer.compiled
    assert {type(step) for step in trainer._loop.steps._compiled.values()} <= {CudaStep}


@pytest.mark.parametrize(
    ("options", "layers"),
    [
        ({"updater": type("Own", (gd.SGD,), {})(0.1)}, []),
        ({"updater": "sgd"}, [type("Own", (gd.Tanh,), {})()]),
        ({"updater": "sgd", "reuse_buffers": False}, []),
    ],
    ids=["updater", "layer", "memory"],
)
def test_what_is_from_outside_is_run_plain(options, layers, in_python):
    model = gd.Sequential([gd.Dense(4), *layers, gd.Dense(3), gd.Softmax()], inputs=6)
    trainer = trained(model=model, fast=True, **options)
    assert not trainer._loop.steps._compiled


# Layers from outside that promise to be traceable ----------------------------------------------


class Annealed(gd.LeakyReLU):
    """A layer whose slope shrinks with each pass, by a Python counter."""

    def __init__(self):
        super().__init__(0.5)
        self.count = 0

    def forward(self, x, train=False):
        self.count += train
        slope = 0.5 / max(self.count, 1)
        y = np.where(x > 0, x, slope * x)
        if train:
            self.keep(np.where(x > 0, 1, slope).astype(x.dtype))
        return y.astype(x.dtype)

    def backward(self, dy):
        (slopes,) = self.kept()
        return dy * slopes


class Promising(Annealed):
    """The same layer with a promise that it does not keep."""

    traceable = True


class Scaled(gd.Layer):
    """A layer of a user's own: y = a x + b, by its first and its second parameter."""

    traceable = True

    def build(self, n_in):
        self.add_param("ab", (1, 2), "ones")
        return n_in

    def forward(self, x, train=False):
        if train:
            self.keep(x.copy())
        return self.params["ab"][0, 0] * x + self.params["ab"][0][1]

    def backward(self, dy):
        (x,) = self.kept()
        self.grads["ab"][0, 0] = (dy * x).sum(axis=1).mean()
        self.grads["ab"][0, 1] = dy.sum(axis=1).mean()
        return dy * self.params["ab"][0, 0]


class Projected(gd.Layer):
    """A layer that multiplies as users do: y = x @ W."""

    traceable = True

    def build(self, n_in):
        self.add_param("W", (n_in, 4), "glorot_uniform")
        return 4

    def forward(self, x, train=False):
        if train:
            self.keep(x)
        return x @ self.params["W"]

    def backward(self, dy):
        (x,) = self.kept()
        self.grads["W"] = x.T @ dy / len(x)
        return dy @ self.params["W"].T


class Inherited(Scaled):
    """A subclass of one that promises, which does not promise itself."""


def both_ways(layer, **options):
    """Return the trainers of a plain run and of another, with a layer from outside."""
    found = []
    for settings in ({"fast": False, "reuse_buffers": False}, options):
        layers = [gd.Dense(4), layer(), gd.Dense(3), gd.Softmax()]
        model = gd.Sequential(layers, inputs=6, dtype="float64", seed=1)
        found.append(trained(gd.SGD(0.1, momentum=0.9), model=model, **settings))
    return found


@pytest.mark.parametrize("fast", [False, True])
def test_a_layer_that_counts_is_run_plain(fast, in_python):
    plain, trainer = both_ways(Annealed, fast=fast)
    steps = trainer._loop.steps
    assert not steps._numpy
    assert not steps._compiled
    assert trainer.model.layers[1].count == plain.model.layers[1].count == 9
    np.testing.assert_array_equal(plain.model.flat_params, trainer.model.flat_params)


def test_a_promise_that_is_broken_shows_in_the_numbers(in_python):
    # What it promised not to do, it does: its counter stays where it was when it was traced.
    plain, trainer = both_ways(Promising, fast=True)
    assert compiled_steps(trainer)
    assert np.abs(plain.model.flat_params - trainer.model.flat_params).max() > 1e-6


@pytest.mark.parametrize("layer", [Scaled, Projected])
def test_a_layer_that_keeps_its_promise_is_traced(layer, in_python):
    plain, trainer = both_ways(layer, fast=False)
    assert all(trainer._loop.steps._numpy.values())
    np.testing.assert_array_equal(plain.model.flat_params, trainer.model.flat_params)
    plain, trainer = both_ways(layer, fast=True)
    assert trainer._loop.steps.reason is None
    assert compiled_steps(trainer)
    np.testing.assert_allclose(plain.model.flat_params, trainer.model.flat_params, rtol=1e-11)


def test_a_promise_is_not_inherited(in_python):
    _, trainer = both_ways(Inherited, fast=True)
    assert not trainer._loop.steps._numpy
    assert not trainer._loop.steps._compiled


def test_why_a_step_is_not_compiled_can_be_asked(in_python):
    class Sorted(gd.Tanh):
        traceable = True

        def forward(self, x, train=False):
            return super().forward(x + 0 * np.sort(x, axis=0), train)

    _, trainer = both_ways(Sorted, fast=True)
    assert not compiled_steps(trainer)
    assert trainer._loop.steps.reason == "NotTraceable: sort"


class Cubed(gd.Layer):
    """y = x³ by the operator, which is not compiled."""

    traceable = True

    def forward(self, x, train=False):
        if train:
            self.keep(x)
        return x**3

    def backward(self, dy):
        (x,) = self.kept()
        return 3 * x * x * dy


class Unpromised(gd.Tanh):
    """A layer that promises nothing."""


@pytest.mark.parametrize(
    ("layer", "says"),
    [
        (Cubed, "; not compiled: power (x ** 2): write x * x"),
        (Unpromised, "; not compiled: Unpromised does not declare traceable = True"),
        (gd.Tanh, ""),
    ],
)
def test_the_profile_says_why_no_step_is_compiled(layer, says, in_python, capsys):
    x, y = np.random.default_rng(0).normal(size=(12, 4)), np.zeros((12, 2))
    for fast in (True, False):
        layers = [gd.Residual([gd.Dense(4), layer()]), gd.Dense(2)]
        model = gd.Sequential(layers, inputs=4, dtype="float64", seed=1)
        trainer = gd.Trainer(model, "mse", gd.SGD(0.01), fast=fast)
        trainer.fit(x, y, batch_size=4, profile=True)
        line = capsys.readouterr().err.strip()
        assert not fast or line.endswith(says), line
        assert ("not compiled" in line) == bool(fast and says)


class Shifted(gd.Layer):
    """A layer that computes with large arrays of its own and a traced number."""

    traceable = True

    def forward(self, x, train=False):
        own = np.arange(201 * 200, dtype="float64").reshape(201, 200) / 40_000
        return x + (own * 2.0 + x.sum() / x.size)[: len(x), : x.shape[1]]

    def backward(self, dy):
        return dy + dy.mean()


@pytest.mark.each
@pytest.mark.parametrize("layer", [lambda: gd.Dropout(0.3), Shifted], ids=["dropout", "own"])
@pytest.mark.parametrize("n", [20, 161, 200])
def test_large_arrays_that_are_not_traced_stay_as_they_are(layer, n):
    # NumPy writes a result of 256 KiB or more into an operand without other references.
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(n, 4)), rng.normal(size=(n, 1))
    found = []
    for options in ({"fast": False, "reuse_buffers": False}, {"fast": False}, {"fast": True}):
        layers = [gd.Dense(200), layer(), gd.Tanh(), gd.Dense(1)]
        model = gd.Sequential(layers, inputs=4, dtype="float64", seed=1)
        trainer = gd.Trainer(model, "mse", gd.SGD(0.01), **options)
        trainer.fit(X, y, batch_size=n, shuffle=False, epochs=4)
        found.append(model.flat_params)
        steps = trainer._loop.steps
        assert steps.reason is None
        kept = {**steps._numpy, **steps._compiled}
        assert all(kept.values())
        assert bool(kept) == options.get("reuse_buffers", True)
    np.testing.assert_array_equal(found[1], found[0])
    np.testing.assert_allclose(found[2], found[0], rtol=1e-10, atol=1e-13)


@pytest.mark.slow
def test_a_compiled_step_holds_nothing_but_what_it_works_on(in_python):
    n = 500
    y = np.zeros((n, 1))
    layers = [gd.Dense(100), gd.Tanh(), gd.Dropout(0.5), gd.Dense(1)]
    trainer = gd.Trainer(gd.Sequential(layers, inputs=4), "mse", "adam", fast=True)
    change = trainer._transaction.change
    tracemalloc.start()
    try:
        step = target.NumbaStep(trainer.objective, change, y, n)
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 1.1 * sum(a.nbytes for a in step._arrays.values()) + 200_000


# Which epochs are ------------------------------------------------------------------------------


def events_at_epochs(callback):
    callback.events = {"epoch"}
    return callback


def rare(X):
    """Return weights of which whole batches of 7 in order are 0."""
    weight = np.random.default_rng(1).uniform(0.2, 2, size=len(X))
    weight[14:30] = 0
    weight[33::5] = 0
    return weight


EPOCHS = {
    "arrays": lambda X, y: {},
    "weights": lambda X, y: {"sample_weight": rare(X)},
    "weights of classes": lambda X, y: {"class_weight": {0: 2.0, 1: 0.0}},
    "balanced classes": lambda X, y: {"class_weight": "balanced"},
    "weights, accumulated": lambda X, y: {"accumulate": 4, "sample_weight": rare(X)},
    "accumulated": lambda X, y: {"accumulate": 2},
    "accumulated, clipped": lambda X, y: {"accumulate": 3, "clip_norm": 0.1, "clip_rows": 0.5},
    "more than an epoch accumulated": lambda X, y: {"accumulate": 100},
    "in order": lambda X, y: {"shuffle": False},
    "one batch": lambda X, y: {"batch_size": None},
    "ROC AUC": lambda X, y: {"metrics": ["roc_auc", "f1"], "sample_weight": rare(X)},
    "validation": lambda X, y: {"validation_data": (X, y, rare(X))},
    "norms of rows": lambda X, y: {"per_example": True},
    "callbacks of epochs": lambda X, y: {
        "callbacks": [gd.EarlyStopping("loss"), events_at_epochs(lambda event: None)]
    },
}
OF_TRAINER = ("accumulate", "clip_norm", "clip_rows", "metrics")


def fitted(fast, **options):
    """Return a trainer that has made three epochs, and the batches that were steps of their own."""
    layers = [gd.Dense(4), gd.Tanh(), gd.Dropout(0.2), gd.Dense(3), gd.Softmax()]
    model = gd.Sequential(layers, inputs=6, dtype="float64", seed=1)
    own = {name: options.pop(name) for name in OF_TRAINER if name in options}
    trainer = gd.Trainer(model, "categorical_crossentropy", "adam", fast=fast, **own)
    single, make = [], trainer._loop.make_step
    trainer._loop.make_step = lambda *a: single.append(trainer.batch) or make(*a)
    trainer.fit(*rows(60), **{"epochs": 3, "batch_size": 7, **options})
    return trainer, single


@pytest.mark.few
@pytest.mark.parametrize("kind", EPOCHS)
def test_all_of_an_epoch_of_rows_in_memory_is_compiled(kind, in_python):
    found = []
    for fast in (True, False):
        trainer, single = fitted(fast, **EPOCHS[kind](*rows(60)))
        assert bool(single) != fast
        columns = {name: column for name, column in trainer.history.items() if name != "seconds"}
        found.append((trainer.model.flat_params, np.array(list(columns.values())).T))
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    "callback",
    [
        lambda event: None,
        gd.PrintEvery(10**6),
        events_at_epochs(lambda event: None),
    ],
    ids=["function", "PrintEvery", "of epochs"],
)
def test_only_a_callback_that_wants_updates_forces_single_steps(callback, in_python):
    _, single = fitted(True, callbacks=[callback])
    assert bool(single) == (getattr(callback, "events", None) != {"epoch"})


def test_steps_by_hand_before_an_epoch_are_part_of_its_first_window(in_python):
    X, y = rows(60)
    found = []
    for fast, callbacks in ((True, []), (True, [lambda event: None]), (False, [])):
        trainer = gd.Trainer(network(), "categorical_crossentropy", "adam", accumulate=4, fast=fast)
        trainer.step(X[:5], y[:5])
        trainer.step(X[5:9], y[5:9], np.arange(4))
        trainer.fit(X, y, batch_size=7, epochs=2, callbacks=callbacks, sample_weight=rare(X))
        found.append((trainer.model.flat_params, trainer.updates))
    assert len({updates for _, updates in found}) == 1
    np.testing.assert_array_equal(found[0][0], found[1][0])
    np.testing.assert_allclose(found[0][0], found[2][0], rtol=1e-9, atol=1e-11)


def test_an_epoch_of_which_no_row_counts_has_no_batch_and_later_ones_are_compiled(in_python):
    X, y = rows(16)
    batches = gd.Batches(X, y, 7, tail="drop", sample_weight=np.arange(16) > 13)
    trainer = gd.Trainer(network(), "categorical_crossentropy", "adam", fast=True)
    with pytest.raises(gd.DataError, match="do not fill one batch"):
        trainer.fit(batches)
    assert trainer._loop.steps.reason is None
    trainer.fit(X, y, batch_size=7, sample_weight=np.arange(16) > 5)
    assert compiled_steps(trainer)


@pytest.mark.parametrize("weights", [None, rare(np.empty((60, 1)))], ids=["none", "weights"])
def test_the_loss_of_a_window_that_began_in_a_compiled_chunk(weights, monkeypatch, in_python):
    X, y = rows(60)
    batches = gd.Batches(X, y, batch_size=7, shuffle=True, seed=2, sample_weight=weights)
    monkeypatch.setattr(chunks, "ROWS", 7)
    found = []
    for stop in (True, False):
        trainer = gd.Trainer(network(), "categorical_crossentropy", "adam", accumulate=3, fast=True)
        losses = []
        if stop:
            make = trainer._loop._make_chunk
            trainer._loop._make_chunk = lambda *a, m=make, t=trainer: (m(*a), t.stop())[0]
            trainer.fit(batches)
            assert (trainer.batch, trainer.updates) == (1, 0)

        def note(event, to=losses):
            if event.name == "update":
                to.append(event.loss)

        trainer.fit(batches, until_epoch=1, callbacks=[note])
        found.append((losses, trainer.model.flat_params))
    assert found[0][0] == found[1][0]
    assert len(losses) == trainer.updates == 3
    np.testing.assert_array_equal(found[0][1], found[1][1])


@pytest.mark.parametrize("single", [True, False], ids=["single steps", "epochs"])
@pytest.mark.parametrize("bad", [6, 7, 8])
@pytest.mark.parametrize("updater", ["adam", "sgd"])
def test_an_update_that_a_window_makes_too_large_is_not_stored(bad, updater, single, in_python):
    # Of rows of 0 the outputs are 0, and so is the gradient of a bias that is not there.
    x, y = np.zeros((20, 3), "float32"), np.ones((20, 1), "float32")
    x[bad], rate = 1e25, 0.1 if updater == "adam" else 1e30
    said, states = [], []
    for options in ({"fast": True}, {"fast": False, "reuse_buffers": False}):
        model = gd.Sequential([gd.Dense(1, "zeros", bias=False)], inputs=3)
        maker = gd.Adam if updater == "adam" else gd.SGD
        trainer = gd.Trainer(model, "mse", maker(rate), accumulate=3, **options)
        callbacks = [lambda event: None] if single else []
        with np.errstate(all="ignore"), pytest.raises(gd.DivergenceError) as caught:
            trainer.fit(x, y, batch_size=1, shuffle=False, callbacks=callbacks)
        said.append(str(caught.value))
        states.append((trainer.updates, trainer.batch, trainer.updater.step, model.passes))
        assert np.isfinite(model.flat_params).all()
        assert all(np.isfinite(vector).all() for vector in trainer.updater.state.values())
    assert "the update is too large for float32 at epoch 1, update 3" in said[0]
    assert said[0] == said[1]
    assert states[0] == states[1]


@pytest.mark.parametrize("accumulate", [1, 2, 4])
def test_progress_counts_updates_and_not_batches(accumulate, monkeypatch, in_python):
    made = []
    monkeypatch.setattr(
        Progress, "update", lambda self, loss, rows=0, updates=1: made.append((loss, rows, updates))
    )
    trainer, _ = fitted(True, accumulate=accumulate, progress=True, epochs=1)
    counted = sum(updates for loss, _, updates in made if loss is not None)
    assert counted == trainer.updates == -(-9 // accumulate)
    assert sum(rows for _, rows, _ in made) == 60


# What changes no bit -----------------------------------------------------------------------------


def test_a_prediction_is_the_same_with_and_without(in_python):
    trainer = trained("adam", "float32", fast=True)
    X, _ = rows()
    again = trainer.model.copy()
    np.testing.assert_array_equal(trainer.model.predict(X), again.predict(X))


def test_an_evaluation_in_between_changes_no_bit(in_python):
    X, y = rows(60)
    found = []
    for look in (True, False):
        layers = [gd.Dense(4), gd.Tanh(), gd.Dropout(0.2), gd.Dense(3), gd.Softmax()]
        model = gd.Sequential(layers, inputs=6, seed=1)

        def evaluate(event, look=look):
            if look and event.name == "epoch":
                event.trainer.model.evaluate(X, y)

        evaluate.events = {"epoch"}
        trainer = gd.Trainer(model, "categorical_crossentropy", "adam", fast=True)
        trainer.fit(X, y, batch_size=25, epochs=3, callbacks=[evaluate])
        assert compiled_steps(trainer)
        found.append(model.flat_params)
    np.testing.assert_array_equal(*found)


def test_a_batch_that_is_larger_than_those_before_is_another_trace(in_python):
    X, y = rows(90)
    trainers = []
    for fast in (True, False):
        trainer = gd.Trainer(network(), "categorical_crossentropy", gd.SGD(0.1), fast=fast)
        for n in (3, 40, 1, 90, 2):
            trainer.step(X[:n], y[:n])
        trainer.fit(X, y, batch_size=89)
        trainers.append(trainer)
    assert trainers[0]._loop.steps.reason is None
    params = [trainer.model.flat_params for trainer in trainers]
    np.testing.assert_allclose(*params, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("dtype", ["uint8", "int16", ">f4", "float16", "bool"])
def test_rows_and_targets_of_any_dtype_are_compiled(dtype, in_python):
    rng = np.random.default_rng(0)
    X = rng.integers(0, 2 if dtype == "bool" else 9, size=(30, 6)).astype(dtype)
    y = rng.integers(0, 2, size=30).astype(dtype)
    params = []
    for fast in (True, False):
        model = gd.Sequential([gd.Dense(4), gd.Dense(1), gd.Sigmoid()], inputs=6, seed=0)
        trainer = gd.Trainer(model, "binary_crossentropy", gd.SGD(0.01), fast=fast)
        trainer.fit(X, y, batch_size=7, epochs=2)
        params.append(model.flat_params)
    assert trainer._loop.steps.reason is None
    np.testing.assert_allclose(*params, rtol=1e-4, atol=1e-5)


@pytest.mark.few
@pytest.mark.parametrize("single", [False, True], ids=["epochs", "steps"])
@pytest.mark.parametrize("label", [3, 7, -1, -3, -4, 10**12])
def test_a_label_that_no_longer_is_a_class_is_left_to_the_plain_step(label, single, in_python):
    found = []
    for plain in (True, False):
        X, y = rows(60)
        trainer = gd.Trainer(network(), "categorical_crossentropy", "adam", fast=True)

        def change(event, y=y):
            if event.name == "epoch" and event.trainer.epoch == 1:
                y[30:33] = label

        if not single:
            change = Named(change, {"epoch"})
        try:
            trainer.fit(X, y, batch_size=25, epochs=3, plain=plain, callbacks=[change])
            error = None
        except IndexError as e:
            error = str(e)
        assert plain or compiled_steps(trainer)
        found.append((error, trainer.epoch, trainer.updates, trainer.history["loss"], trainer))
    (*expected, losses, plain), (*numbers, others, compiled) = found
    assert numbers == expected
    np.testing.assert_allclose(others, losses, rtol=1e-11)
    np.testing.assert_allclose(compiled.model.flat_params, plain.model.flat_params, atol=1e-11)


class Named:
    """A function as a callback that wants some events."""

    def __init__(self, function, events):
        self.function, self.events = function, frozenset(events)

    def __call__(self, event):
        self.function(event)


class Given(gd.optim.schedules.Schedule):
    """A schedule whose rate is 0.1, but from one update on."""

    def __init__(self, then):
        super().__init__(updates=1, epochs=None)
        self.then = then

    def rate(self, t):
        return self.then() if t >= 4 else np.float32(0.1)


@pytest.mark.each
@pytest.mark.parametrize("single", [False, True], ids=["epochs", "steps"])
@pytest.mark.parametrize("updater", [gd.SGD, gd.Adam, gd.AdamW, gd.Nadam, gd.RAdam])
@pytest.mark.parametrize("then", [-np.inf, np.inf, np.nan, -1e308, 1e308, -0.1, np.float32(0.01)])
def test_a_rate_of_ones_own_schedule_leaves_the_parameters_finite(then, updater, single, in_python):
    X, y = rows(60)
    found = []
    callbacks = [Named(lambda event: None, {"update"} if single else {"epoch"})]
    for plain in (True, False):
        updater_ = updater(Given(lambda: then))
        trainer = gd.Trainer(network(), "categorical_crossentropy", updater_, fast=True)
        error = None
        try:
            trainer.fit(X, y, batch_size=20, epochs=3, plain=plain, callbacks=callbacks)
        except gd.DivergenceError as e:
            error = str(e)
        assert np.isfinite(trainer.model.flat_params).all()
        found.append((error, trainer.updates, updater_.step, trainer.model.flat_params))
    (*expected, params), (*numbers, others) = found
    assert numbers == expected
    np.testing.assert_allclose(others, params, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("updater", [gd.SGD, gd.Adam])
def test_a_schedule_that_raises_leaves_the_updater_at_the_updates_made(updater, in_python):
    X, y = rows(60)
    trainer = gd.Trainer(
        network(), "categorical_crossentropy", updater(Given(lambda: 1 / 0)), fast=True
    )
    with pytest.raises(ZeroDivisionError):
        trainer.fit(X, y, batch_size=20, epochs=3)
    assert trainer.updater.step == trainer.updates == 3
    assert compiled_steps(trainer)


@pytest.mark.parametrize("accumulate", [1, 2, 5])
@pytest.mark.parametrize("updater", [gd.SGD, gd.Adam])
def test_a_schedule_is_not_asked_for_more_updates_than_are_made(updater, accumulate, in_python):
    X, y = rows(60)
    per_epoch = -(-3 // accumulate)
    table = [0.1] * (3 * per_epoch)

    class Table(gd.optim.schedules.Schedule):
        def rate(self, t):
            return table[int(t)]

    trainer = gd.Trainer(
        network(),
        "categorical_crossentropy",
        updater(Table(updates=1, epochs=None)),
        accumulate=accumulate,
        fast=True,
    )
    trainer.fit(X, y, batch_size=20, epochs=3)
    assert trainer.updates == 3 * per_epoch
    assert compiled_steps(trainer)


@pytest.mark.parametrize("name", ["penalty", "clipping"])
def test_a_fit_that_is_to_be_plain_stays_plain_where_a_callback_sets_a_limit(name, in_python):
    calls, (X, y) = [], rows(60)
    trainer = gd.Trainer(network(), "categorical_crossentropy", "adam", fast=True)
    loop = trainer._loop

    def change(event):
        setattr(trainer, name, getattr(trainer, name))
        calls.append(loop.steps.plain)

    trainer.fit(X, y, batch_size=20, epochs=3, plain=True, callbacks=[Named(change, {"epoch"})])
    assert calls == [True] * 3
    assert not loop.steps.plain
    assert not compiled_steps(trainer)


def doubled_at_times(owner, name):
    """Return a method that counts its calls, and doubles every second result."""
    old, calls = getattr(owner, name), []

    def method(*args, **kwargs):
        result = old(*args, **kwargs)
        # A prediction is not a step.
        if name != "forward" or kwargs.get("train") or args[-1] is True:
            calls.append(name)
            result = result * (1 + len(calls) % 2)
        return result

    return method


def at_layer(number, name):
    """Return what puts such a method into one layer."""

    def change(trainer, monkeypatch):
        layer = trainer.model.layers[number]
        monkeypatch.setattr(layer, name, doubled_at_times(layer, name), raising=False)

    return change


def change_class(trainer, monkeypatch):
    monkeypatch.setattr(gd.Tanh, "backward", doubled_at_times(gd.Tanh, "backward"))


def change_loss(trainer, monkeypatch):
    loss = trainer.objective.loss
    monkeypatch.setattr(loss, "gradient", doubled_at_times(loss, "gradient"))


def change_updater(trainer, monkeypatch):
    updater, formula, calls = trainer.updater, trainer.updater.formula, []
    monkeypatch.setattr(
        updater, "formula", lambda rate: calls.append(rate) or formula(rate * (1 + len(calls) % 2))
    )


def change_penalty(trainer, monkeypatch):
    penalty, add, calls = trainer.penalty, trainer.penalty.add_gradient, []
    monkeypatch.setattr(
        penalty,
        "add_gradient",
        lambda model: calls.append(1) or [add(model) for _ in range(1 + len(calls) % 2)],
    )


@pytest.mark.few
@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize(
    "change",
    [
        at_layer(3, "forward"),
        at_layer(3, "backward"),
        at_layer(4, "_draw"),
        *(change_class, change_loss, change_updater, change_penalty),
    ],
)
def test_a_method_that_was_put_in_and_counts_its_calls_is_called_in_each_step(
    change, fast, in_python
):
    X, y = rows(60)
    found = []
    for plain in (True, False):
        layers = [gd.Dense(5), gd.ReLU(), gd.Dense(4), gd.Tanh(), gd.Dropout(0.2), gd.Dense(3)]
        model = gd.Sequential([*layers, gd.Softmax()], inputs=6, dtype="float64", seed=1)
        trainer = gd.Trainer(model, "categorical_crossentropy", "adam", l2=0.01, fast=fast)
        with pytest.MonkeyPatch.context() as monkeypatch:

            def at_epoch(event, trainer=trainer, monkeypatch=monkeypatch):
                if trainer.epoch == 2:
                    change(trainer, monkeypatch)

            callbacks = [Named(at_epoch, {"epoch"})]
            trainer.fit(X, y, batch_size=20, epochs=5, plain=plain, callbacks=callbacks)
        found.append(model.flat_params)
    np.testing.assert_allclose(*found, atol=1e-11)


def test_a_method_changed_within_an_epoch_that_can_not_be_traced_ends_nothing(in_python):
    X, y = rows(60)
    results = []
    for plain in (True, False):
        trainer = gd.Trainer(network(), "categorical_crossentropy", "adam", fast=True)
        calls = []

        def watch(event, trainer=trainer, calls=calls):
            if trainer.updates == 1:
                layer = trainer.model.layers[3]
                backward = layer.backward
                layer.backward = lambda dy: calls.append(len(dy)) or backward(dy)

        # The last batch has another size, which is traced after the change.
        trainer.fit(X, y, batch_size=25, epochs=3, plain=plain, callbacks=[watch])
        assert len(calls) >= 6
        results.append(trainer.model.flat_params)
    np.testing.assert_allclose(*results, atol=1e-11)


def test_rows_that_are_converted_in_pieces_come_to_the_same_bits(monkeypatch, in_python):
    X, y = rows(60)
    found = []
    for numbers, x in ((10**6, X), (200, X), (10**6, X.astype("float32"))):
        monkeypatch.setattr(target, "NUMBERS", numbers)
        model = network("float32")
        trainer = gd.Trainer(
            model, "categorical_crossentropy", "adam", fast=True, metrics=["accuracy"]
        )
        history = trainer.fit(x, y, batch_size=7, epochs=2)
        found.append((model.flat_params, history["loss"], history["accuracy"]))
    for one in found[1:]:
        np.testing.assert_array_equal(one[0], found[0][0])
        assert one[1:] == found[0][1:]


@x86
@pytest.mark.parametrize(
    "how",
    [{"fast": False}, {"plain": True}, pytest.param({"fast": True}, marks=x86)],
)
@pytest.mark.parametrize("updater", [gd.SGD(0.01, momentum=0.9), gd.Adam(0.01, beta2=0.9)])
def test_running_means_that_fade_end_at_0_however_a_run_is_made(how, updater):
    X, y = np.zeros((2000, 1), "float32"), np.zeros(2000, "float32")
    X[0] = y[0] = 1
    model = gd.Sequential([gd.Dense(1, bias=False)], inputs=1, seed=1)
    plain = how.get("plain", False)
    trainer = gd.Trainer(model, "mse", copy.deepcopy(updater), fast=how.get("fast"))
    trainer.fit(gd.Batches(X, y, batch_size=1), plain=plain)
    assert not any(vector.any() for vector in trainer.updater.state.values())


def test_a_velocity_that_fades_ends_at_0_and_not_at_a_subnormal_number():
    X, y = np.zeros((1200, 1), "float32"), np.zeros(1200, "float32")
    X[0] = y[0] = 1
    for callbacks in ([], [lambda event: None]):
        model = gd.Sequential([gd.Dense(1, bias=False)], inputs=1, seed=1)
        trainer = gd.Trainer(model, "mse", gd.SGD(0.01, momentum=0.9), fast=True)
        trainer.fit(X, y, batch_size=1, shuffle=False, callbacks=callbacks)
        assert compiled_steps(trainer)
        (velocity,) = trainer.updater.state.values()
        assert not velocity.any()
        # Elsewhere in the process, subnormal numbers are what they were.
        assert np.float32(1e-38) / np.float32(2) > 0
