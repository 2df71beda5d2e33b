"""The gradient of each example: its norm as in batches of one, its limit, its line in a file."""

import numpy as np
import pytest
from budgets import examples
from hypothesis import given
from hypothesis import strategies as st

import minigd as gd
from minigd.backends.base import get_backend

HIDDEN = {
    "tanh": lambda: [gd.Tanh()],
    "relu": lambda: [gd.ReLU()],
    "dropout": lambda: [gd.Sigmoid(), gd.Dropout(0.3)],
    "layer norm": lambda: [gd.Dense(4), gd.LayerNorm(), gd.GELU()],
    "residual": lambda: [
        gd.Residual([gd.Dense(3), gd.Tanh(), gd.Residual([gd.Dense(3)]), gd.Dense(5)])
    ],
    "no bias": lambda: [gd.Dense(4, bias=False), gd.LeakyReLU()],
}
LOSSES = {"mse": 2, "huber": 2, "binary_crossentropy": 1, "categorical_crossentropy": 3}
LOSSES |= {"mae": 2, "quantile": 2, "poisson": 1, "hinge": 3, "focal": 1}


def network(hidden, loss, seed=0, start=(), backend="numpy"):
    end = {
        "binary_crossentropy": [gd.Sigmoid()],
        "focal": [gd.Sigmoid()],
        "categorical_crossentropy": [gd.Softmax()],
    }
    layers = [*start, gd.Dense(5), *HIDDEN[hidden](), gd.Dense(LOSSES[loss]), *end.get(loss, [])]
    return gd.Sequential(layers, inputs=4, dtype="float64", seed=seed, backend=backend)


def rows(n, loss, seed=0):
    rng = np.random.default_rng([seed, n])
    x = rng.normal(size=(n, 4))
    if loss in ("categorical_crossentropy", "hinge"):
        return x, rng.integers(0, 3, n)
    if loss in ("binary_crossentropy", "focal", "poisson"):
        return x, rng.integers(0, 2, n)
    return x, rng.normal(size=(n, 2))


def gradient(model, loss, x, y):
    """Return the mean gradient of a batch, by hand."""
    objective = gd.Objective(model, loss)
    objective.forward(x, y)
    objective.backward()
    return model.flat_grads.copy()


@given(
    n=st.integers(1, 9),
    hidden=st.sampled_from(["tanh", "relu", "no bias"]),
    loss=st.sampled_from(sorted(LOSSES)),
    seed=st.integers(0, 99),
)
@examples(25)
def test_norms_are_those_of_batches_of_one(n, hidden, loss, seed):
    x, y = rows(n, loss, seed)
    model = network(hidden, loss, seed)
    alone = [
        np.linalg.norm(gradient(model.copy(), loss, x[[i]], y[[i]])) for i in range(n)
    ]  # fmt: skip
    together = model.copy()
    mean = gradient(together, loss, x, y)
    trainer = gd.Trainer(model, loss, gd.SGD(0.0))
    value, norms = trainer.step(x, y, per_example=True)
    assert norms.shape == (n,)
    np.testing.assert_allclose(norms, alone, rtol=0, atol=1e-12 * max(alone))
    np.testing.assert_array_equal(model.flat_grads, mean)
    assert value == gd.Trainer(together, loss, gd.SGD(0.0)).step(x, y)


def test_dropout_leaves_out_the_same_units_as_in_the_step():
    loss = "mse"
    x, y = rows(6, loss)
    model = network("dropout", loss)
    trainer = gd.Trainer(model, loss, gd.SGD(0.0))
    _, norms = trainer.step(x, y, per_example=True)
    # Σ of squares over both layers, the first through the mask that the pass drew.
    twin = network("dropout", loss)
    objective = gd.Objective(twin, loss)
    objective.forward(x, y)
    dense = twin.layers[3]
    (a,) = dense.held
    assert (a == 0).any()
    dz = objective.loss.backward()
    last = ((a * a).sum(1) + 1) * (dz * dz).sum(1)
    dy = dz @ dense.params["W"].T * (a != 0) / 0.7
    s = a * 0.7
    first = ((x * x).sum(1) + 1) * ((dy * s * (1 - s)) ** 2).sum(1)
    np.testing.assert_allclose(norms, np.sqrt(first + last), rtol=1e-12)


def test_weights_scale_a_rows_own_gradient():
    x, y = rows(5, "mse")
    weight = np.array([2.0, 0.0, 1.0, 0.5, 1.5])
    trainer = gd.Trainer(network("tanh", "mse"), "mse", gd.SGD(0.0))
    _, plain = trainer.step(x, y, per_example=True)
    _, weighted = trainer.step(x, y, weight, per_example=True)
    # Of the four rows that count, row i is scaled by n wᵢ / Σ w.
    np.testing.assert_allclose(weighted, plain * weight * 4 / weight.sum(), rtol=1e-12)


def test_every_backend_gives_the_same_norms(backend):
    x, y = rows(7, "mse")
    model = network("tanh", "mse", backend=backend)
    trainer = gd.Trainer(model, "mse", gd.SGD(0.0))
    _, norms = trainer.step(backend.asarray(x), backend.asarray(y), per_example=True)
    assert backend.holds(norms)
    _, expected = gd.Trainer(network("tanh", "mse"), "mse", gd.SGD(0.0)).step(
        x, y, per_example=True
    )
    np.testing.assert_allclose(backend.to_numpy(norms), expected, rtol=1e-10)


def test_a_limit_holds_each_row_alone():
    x, y = rows(8, "mse")
    y[3] *= 100
    model = network("tanh", "mse")
    each = np.array([gradient(model.copy(), "mse", x[[i]], y[[i]]) for i in range(8)])
    norms = np.linalg.norm(each, axis=1)
    limit = float(np.median(norms))
    trainer = gd.Trainer(model, "mse", gd.SGD(0.0), clip_rows=limit)
    trainer.step(x, y)
    expected = (each * np.minimum(1, limit / norms)[:, None]).mean(axis=0)
    np.testing.assert_allclose(model.flat_grads, expected, rtol=1e-12, atol=1e-14)


def test_a_row_without_a_gradient_is_left_as_it_is():
    model = gd.Sequential([gd.Dense(1)], inputs=2, dtype="float64")
    x = np.array([[1.0, 2.0], [0.5, -1.0]])
    y = model.forward(x)
    y[1] += 1
    trainer = gd.Trainer(model, "mse", gd.SGD(0.0), clip_rows=0.5)
    _, norms = trainer.step(x, y, per_example=True)
    assert norms[0] == 0
    assert np.linalg.norm(model.flat_grads) == pytest.approx(0.5 / 2)


def test_a_limit_goes_with_a_saved_run(tmp_path):
    x, y = rows(50, "mse")
    batches = gd.Batches(x, y, batch_size=20, shuffle=True)
    runs = []
    for stop in (False, True):
        trainer = gd.Trainer(network("tanh", "mse"), "mse", "adam", clip_rows=0.3)
        trainer.fit(batches, epochs=1 if stop else 3)
        if stop:
            trainer.save(tmp_path / "run.npz")
            trainer = gd.Trainer.resume(tmp_path / "run.npz", batches)
            assert trainer.row_clipping.limit == 0.3
            trainer.fit(batches, epochs=2)
        runs.append(trainer.model.flat_params)
    np.testing.assert_array_equal(*runs)


@pytest.mark.parametrize("limit", [0, -1, "one", float("nan")])
def test_a_limit_that_is_none_is_refused(limit):
    with pytest.raises((ValueError, TypeError), match="clip_rows"):
        gd.Trainer(network("tanh", "mse"), "mse", "sgd", clip_rows=limit)


class Scale(gd.Layer):
    """A layer from outside, with a parameter, that says nothing of its rows."""

    def build(self, n_in):
        self.add_param("s", (n_in,), "ones")
        return n_in

    def forward(self, x, train=False):
        if train:
            self.keep(x)
        return x * self.params["s"]

    def backward(self, dy):
        (x,) = self.kept()
        self.grads["s"] = (dy * x).mean(axis=0)
        return dy * self.params["s"]


class Told(Scale):
    """The same, and it says what each row adds."""

    def row_squares(self, dy):
        (x,) = self.held
        return ((dy * x) ** 2).sum(axis=1)


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (gd.BatchNorm, "batchnorm1 couples the rows of a batch"),
        (Scale, r"scale1 cannot compute the gradient of each row.*row_squares\(dy\)"),
    ],
)
def test_a_layer_without_gradients_of_rows_is_refused(layer, reason):
    x, y = rows(6, "mse")
    model = network("tanh", "mse", start=[layer()])
    before = model.flat_params.copy()
    for options, settings_ in (({"clip_rows": 1.0}, {}), ({}, {"per_example": True})):
        trainer = gd.Trainer(model, "mse", "sgd", **options)
        with pytest.raises(ValueError, match=reason):
            trainer.fit(x, y, **settings_)
        np.testing.assert_array_equal(model.flat_params, before)
        assert trainer.updates == 0


@pytest.mark.parametrize("replay", [True, False])
@pytest.mark.parametrize("limit", [None, 0.5])
@pytest.mark.parametrize("sizes", [(1e12, 1e12), (1e18, 1e18), (1e-15, 1e-15), (1e-15, 1e18)])
def test_the_product_of_squares_may_be_beyond_the_models_dtype(sizes, limit, replay):
    rng = np.random.default_rng(0)
    x, y = (size * rng.normal(size=(130, 3)) for size in sizes)
    results = []
    for dtype in ("float32", "float64"):
        model = gd.Sequential([gd.Dense(3, "zeros")], inputs=3, dtype=dtype)
        trainer = gd.Trainer(model, "mse", gd.SGD(0.0), clip_rows=limit, reuse_buffers=replay)
        seen = []
        batches = gd.Batches(x.astype("float32"), y.astype("float32"), batch_size=26)
        trainer.fit(
            batches,
            epochs=2,
            per_example=True,
            callbacks=[lambda e, seen=seen: e.x is not None and seen.append(e.norms.copy())],
        )
        assert not replay or all(trainer._loop.steps._numpy.values())
        results.append((np.concatenate(seen), model.flat_grads))
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6 * np.abs(other).max())
    assert np.isfinite(results[0][0]).all()


def test_a_layer_of_ones_own_can_say_what_its_rows_add():
    x, y = rows(6, "mse")
    model = network("tanh", "mse", start=[Told()])
    alone = [np.linalg.norm(gradient(model.copy(), "mse", x[[i]], y[[i]])) for i in range(6)]
    _, norms = gd.Trainer(model, "mse", gd.SGD(0.0)).step(x, y, per_example=True)
    np.testing.assert_allclose(norms, alone, rtol=1e-12)


class Wide(Scale):
    """The same, in float64."""

    def row_squares(self, dy):
        (x,) = self.held
        return ((dy * x).astype("float64") ** 2).sum(axis=1)


@pytest.mark.parametrize("size", [1e12, 1e-12])
@pytest.mark.parametrize("limit", [None, 0.5])
def test_squares_beyond_the_models_dtype_may_be_told_in_float64(backend, size, limit):
    # Gradients of 1e24 and of 1e-24, whose squares float32 does not hold.
    rng = np.random.default_rng(0)
    x = backend.asarray(size * rng.uniform(1, 2, size=(6, 4)), dtype="float32")
    y = backend.asarray(size * rng.normal(size=(6, 4)), dtype="float32")
    results = []
    for layer, dtype in ((Wide, "float32"), (Told, "float64")):
        model = gd.Sequential([layer()], inputs=4, dtype=dtype, backend=backend)
        trainer = gd.Trainer(model, "mse", gd.SGD(0.0), clip_rows=limit)
        _, norms = trainer.step(x, y, per_example=True)
        assert norms.dtype == model.flat_grads.dtype == dtype
        results.append([backend.to_numpy(a) for a in (norms, model.flat_grads)])
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)
    assert results[0][0].min() > 0
    if limit is not None and size > 1:
        assert np.linalg.norm(results[0][1]) > 0.1


def test_callbacks_see_the_norms_of_the_rows_they_are_told():
    x, y = rows(23, "mse")
    weight = np.ones(23)
    weight[::3] = 0
    seen = {}

    def look(event):
        if event.norms is not None and event.rows is not None:
            seen.update(zip(event.rows.tolist(), event.norms.tolist(), strict=True))

    model = network("tanh", "mse")
    model.fit(
        x,
        y,
        loss="mse",
        updater=gd.SGD(0.0),
        batch_size=5,
        sample_weight=weight,
        per_example=True,
        callbacks=[look],
    )
    assert sorted(seen) == np.flatnonzero(weight).tolist()


def test_the_numbers_of_a_run_are_the_same_with_norms_and_without():
    x, y = rows(100, "mse")
    results = []
    for per_example in (False, True):
        model = network("tanh", "mse")
        model.fit(x, y, loss="mse", batch_size=30, epochs=3, per_example=per_example)
        results.append(model.flat_params)
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("limit", [None, 0.4])
def test_a_replayed_step_gives_the_same_bits(limit):
    x, y = rows(130, "categorical_crossentropy")
    runs = []
    for replay in (True, False):
        seen = []
        trainer = gd.Trainer(
            network("relu", "categorical_crossentropy"),
            "categorical_crossentropy",
            "adam",
            clip_rows=limit,
            reuse_buffers=replay,
        )
        trainer.fit(
            gd.Batches(x, y, batch_size=25, shuffle=True),
            epochs=4,
            per_example=True,
            callbacks=[lambda e, seen=seen: e.x is not None and seen.append(e.norms.copy())],
        )
        recordings = trainer._loop.steps._numpy.values()
        assert all(recordings)
        assert bool(recordings) == replay
        runs.append((trainer.model.flat_params, np.concatenate(seen)))
    for one, other in zip(*runs, strict=True):
        np.testing.assert_array_equal(one, other)


def test_no_norm_is_read_from_a_gpu(stand_in):
    from oracles import strict_cupy

    x, y = rows(60, "mse")
    model = network("tanh", "mse", backend="cupy")
    trainer = gd.Trainer(model, "mse", gd.SGD(0.1), clip_rows=1.0)
    x, y = get_backend("cupy").asarray(x), get_backend("cupy").asarray(y)

    def reads(size):
        batches = gd.Batches(x, y, batch_size=size)
        trainer.fit(batches, per_example=True)
        with strict_cupy.counting_host_reads() as counted:
            trainer.fit(batches, epochs=2, per_example=True)
        return counted.count

    assert reads(60) == reads(5)


def test_a_limit_with_weights_is_the_same_in_parts_and_as_a_whole():
    x, y = rows(30, "mse")
    y[4] *= 50
    weight = np.random.default_rng(3).uniform(0.1, 3, 30)
    results = []
    for size, accumulate in ((30, 1), (10, 3)):
        model = network("tanh", "mse")
        model.fit(
            x,
            y,
            loss="mse",
            updater=gd.SGD(0.1),
            batch_size=size,
            accumulate=accumulate,
            shuffle=False,
            sample_weight=weight,
            clip_rows=0.5,
        )
        results.append(model.flat_params)
    np.testing.assert_allclose(*results, rtol=1e-12)


class InPlace(gd.Layer):
    """A layer from outside that computes in what it kept, which is its own once it is used."""

    def forward(self, x, train=False):
        if train:
            self.keep(x.copy())
        return x * x

    def backward(self, dy):
        (x,) = self.kept()
        x *= 2 * dy
        return x


def test_a_limit_above_all_norms_changes_nothing():
    x, y = rows(20, "mse")
    params = []
    for limit in (None, 1e9):
        layers = [gd.Dense(5), InPlace(), gd.Dense(2)]
        model = gd.Sequential(layers, inputs=4, dtype="float64", seed=1)
        model.fit(x, y, loss="mse", updater=gd.SGD(0.01), epochs=3, clip_rows=limit)
        params.append(model.flat_params)
    np.testing.assert_allclose(*params, rtol=1e-12)


def test_what_a_callback_keeps_stays_and_a_step_of_its_own_changes_nothing():
    x, y = rows(40, "mse")
    kept = []

    def look(event):
        if event.x is not None:
            kept.append(event.norms)
            if len(kept) == 1:
                event.trainer.step(x[:5], y[:5])

    model = network("tanh", "mse")
    model.fit(x, y, loss="mse", batch_size=10, epochs=3, per_example=True, callbacks=[look])
    assert len(kept) == 12
    assert len({norms.tobytes() for norms in kept}) == 12
