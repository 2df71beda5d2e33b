"""A custom layer: with three methods it trains, saves, loads and is checked like any other.

The same few lines run on the CPU and on a GPU.
"""

import numpy as np
import pytest
from scipy.special import expit

import minigd as gd


class Swish(gd.Layer):
    """y = x · sigmoid(βx), with a trained β for each column."""

    def build(self, n_in):
        self.add_param("beta", (n_in,), "ones")
        return n_in

    def forward(self, x, train=False):
        xp, z = self.backend.xp, self.params["beta"] * x
        s = xp.exp(xp.minimum(z, 0)) / (1 + xp.exp(xp.minimum(z, -z)))
        if train:
            self.keep(x, s)
        return x * s

    def backward(self, dy):
        x, s = self.kept()
        bend = dy * x * s * (1 - s)
        self.grads["beta"][...] = (bend * x).mean(axis=0)
        return dy * s + bend * self.params["beta"]


def rows(n=23, width=4):
    return np.random.default_rng(0).normal(size=(n, width))


def network(backend="numpy", dtype="float32"):
    layers = [gd.Dense(8), Swish(), gd.Dense(8), Swish(), gd.Dense(1)]
    return gd.Sequential(layers, 4, backend=backend, dtype=dtype, seed=1)


def test_it_computes_its_formula(backend):
    model = gd.Sequential([Swish()], 4, backend=backend, dtype="float64")
    beta = np.array([0.5, 1.0, 2.0, -1.0])
    model.params["swish1.beta"][...] = backend.asarray(beta)
    y = model.predict(rows())
    np.testing.assert_allclose(y, rows() * expit(beta * rows()), rtol=1e-12, atol=1e-15)


def test_it_passes_the_checks():
    assert max(gd.check_layer(Swish(), rows()).values()) < 1e-10
    errors = gd.check_gradients(network(), "mse", rows(), rows()[:, 0])
    assert "swish2.beta" in errors
    assert max(errors.values()) < 1e-10


def test_a_mistake_in_it_is_found():
    class Wrong(Swish):
        def backward(self, dy):
            dx = super().backward(dy)
            self.grads["beta"] *= len(dy)
            return dx

    with pytest.raises(gd.GradientError, match="beta: backward disagrees"):
        gd.check_layer(Wrong(), rows())


def test_it_trains(backend):
    x = rows(200)
    model = network(backend)
    before = backend.to_numpy(model.params["swish1.beta"]).copy()
    y = x[:, 0] * x[:, 1]
    history = model.fit(x, y, loss="mse", updater=gd.Adam(0.02), batch_size=30, epochs=60)
    assert history["loss"][-1] < 0.1 * history["loss"][0]
    after = backend.to_numpy(model.params["swish1.beta"])
    assert (after != before).all()
    assert after.dtype == np.float32


def test_it_trains_alike_on_every_backend(backend):
    x = rows()
    here, host = network(backend, "float64"), network("numpy", "float64")
    for model in (here, host):
        model.fit(x, x[:, 0], loss="mse", batch_size=5, epochs=3)
    np.testing.assert_allclose(backend.to_numpy(here.flat_params), host.flat_params, rtol=1e-9)


@pytest.mark.parametrize("reuse", [True, False])
def test_fresh_arrays_of_a_layer_and_reused_buffers_go_together(reuse):
    x = rows()
    trainers = [gd.Trainer(network(), "mse", "adam", reuse_buffers=r) for r in (reuse, False)]
    for trainer in trainers:
        trainer.fit(x, x[:, 0], batch_size=5, epochs=3)
    np.testing.assert_array_equal(*[trainer.model.flat_params for trainer in trainers])


def test_it_is_saved_and_loaded_by_its_name(backend, tmp_path):
    model = network(backend)
    model.fit(rows(), rows()[:, 0], loss="mse", epochs=3)
    model.save(tmp_path / "m.npz")
    again = gd.load(tmp_path / "m.npz", custom=[Swish], backend=backend)
    np.testing.assert_array_equal(again.predict(rows()), model.predict(rows()))
    with pytest.raises(gd.CheckpointError, match=r"needs a class 'Swish'.*custom=\[Swish\]"):
        gd.load(tmp_path / "m.npz")


def test_a_run_with_it_is_resumed(tmp_path):
    batches = gd.Batches(rows(), rows()[:, 0], batch_size=5, shuffle=True)
    whole, cut = (gd.Trainer(network(), "mse", "adam") for _ in range(2))
    whole.fit(batches, epochs=2)
    cut.fit(batches, callbacks=[lambda event: event.trainer.updates == 3 and cut.stop()])
    cut.save(tmp_path / "run.npz")
    with pytest.raises(gd.CheckpointError, match=r"custom=\[Swish\]"):
        gd.Trainer.resume(tmp_path / "run.npz", batches)
    again = gd.Trainer.resume(tmp_path / "run.npz", batches, custom=[Swish])
    again.fit(until_epoch=2)
    np.testing.assert_array_equal(again.model.flat_params, whole.model.flat_params)


def test_it_goes_with_copies_and_the_summary(backend):
    model = network("numpy")
    twin = model.copy(backend=backend)
    np.testing.assert_allclose(twin.predict(rows()), model.predict(rows()), rtol=1e-5, atol=1e-6)
    (line,) = [line for line in str(model.summary()).splitlines() if line.startswith("swish2")]
    assert line.split() == ["swish2", "(n,", "8)", "8"]


def test_a_layer_without_its_methods_says_which():
    class Empty(gd.Layer):
        pass

    with pytest.raises(NotImplementedError, match=r"Empty must define forward\(x, train=False\)"):
        gd.Sequential([Empty()], 4).forward(rows())
    with pytest.raises(NotImplementedError, match=r"Empty must define backward\(dy\)"):
        Empty().backward(rows())


@pytest.mark.parametrize("width", [None, 0, 2.0, (4,)])
def test_a_build_that_gives_no_width_is_named(width):
    class Odd(Swish):
        def build(self, n_in):
            super().build(n_in)
            return width

    with pytest.raises(TypeError, match=r"Odd.build\(4\) returned .*the width of the output"):
        gd.Sequential([Odd()], 4)


class Centred(gd.Layer):
    """x less a mean, in an attribute that a loss has a method of the same name for."""

    def build(self, n_in):
        self.mean = np.zeros(n_in, "float32")
        return n_in

    def forward(self, x, train=False):
        if train:
            self.mean = 0.9 * self.mean + 0.1 * x.mean(axis=0)
        return x - self.mean

    def backward(self, dy):
        return dy


def test_an_attribute_may_be_called_as_a_method_of_a_loss_is():
    x = rows()
    model = gd.Sequential([gd.Dense(3), Centred(), gd.Dense(1)], inputs=4)
    assert np.isfinite(model.fit(x, x[:, 0], loss="mse", epochs=3)["loss"]).all()


class Shift(gd.Layer):
    """x + t, which keeps the size of the batch and no array."""

    def build(self, n_in):
        self.add_param("t", (n_in,))
        return n_in

    def forward(self, x, train=False):
        if train:
            self.keep(len(x))
        return x + self.params["t"]

    def backward(self, dy):
        (n,) = self.kept()
        self.grads["t"] = dy.sum(axis=0) / n
        return dy

    def row_squares(self, dy):
        return (dy * dy).sum(axis=1)


def test_what_is_kept_may_be_a_number_where_rows_are_limited():
    x = rows()
    params = []
    for limit in (None, 1e9):
        model = gd.Sequential([Shift(), gd.Dense(1)], inputs=4, dtype="float64")
        model.fit(x, x[:, 0], loss="mse", clip_rows=limit, epochs=3)
        params.append(model.flat_params)
    np.testing.assert_allclose(*params, rtol=1e-12)


@pytest.mark.parametrize("of", ["params", "grads", "buffers"])
def test_a_name_that_is_not_declared_is_told_with_those_that_are(of):
    layer = gd.Sequential([gd.BatchNorm()], inputs=4).layers[0]
    names = "mean, variance" if of == "buffers" else "gamma, beta"
    with pytest.raises(KeyError, match=f"'w'; the names are {names}"):
        getattr(layer, of)["w"]
    with pytest.raises(KeyError, match=f"'w'; the names are {names}"):
        getattr(layer, of)["w"] = 0


def test_a_parameter_that_is_set_and_not_declared_is_told_how():
    class Sets(gd.Layer):
        def build(self, n_in):
            self.params["W"] = np.ones((n_in, 2))
            return 2

    with pytest.raises(KeyError, match=r"the names are none: .*self\.add_param\('W', shape, init"):
        gd.Sequential([Sets()], inputs=3)


@pytest.mark.parametrize("method", ["forward", "backward"])
def test_what_has_another_dtype_is_refused_with_what_to_return(method):
    class Wide(Swish):
        def forward(self, x, train=False):
            y = super().forward(x, train)
            return y.astype("float64") if method == "forward" else y

        def backward(self, dy):
            return super().backward(dy).astype("float64")

    class Mended(Wide):
        def forward(self, x, train=False):
            y = super().forward(x, train)
            return y.astype(x.dtype)

        def backward(self, dy):
            dx = super().backward(dy)
            return dx.astype(dy.dtype)

    def fit(kind):
        model = gd.Sequential([gd.Dense(3), kind(), gd.Dense(1)], inputs=4)
        model.fit(rows(), rows()[:, 0], loss="mse")

    remedy = r"y\.astype\(x\.dtype\)" if method == "forward" else r"dx\.astype\(dy\.dtype\)"
    with pytest.raises(gd.ShapeError, match=f"wide1: {method} .* dtype float32: return {remedy}"):
        fit(Wide)
    fit(Mended)
