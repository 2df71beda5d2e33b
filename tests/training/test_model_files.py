"""Files: a loaded model equals the saved one, bit for bit.

A file that is damaged, or belongs to another model, is refused with the reason.
"""

import json
import zipfile

import numpy as np
import pytest

import minigd as gd
from minigd.storage import npz


class Scale(gd.Layer):
    """A layer from outside the package, with an argument, a parameter and a buffer."""

    def __init__(self, first=2.0):
        self.first = first

    def build(self, n_in):
        self.add_param("s", (n_in,), lambda rng, shape: np.full(shape, self.first))
        self.add_buffer("seen", (n_in,))
        return n_in

    def forward(self, x, train=False):
        if train:
            self.keep(x)
            self.buffers["seen"] += abs(x).max(axis=0)
        return x * self.params["s"]

    def backward(self, dy):
        (x,) = self.kept()
        self.grads["s"][...] = (dy * x).mean(axis=0)
        return dy * self.params["s"]


class LogCosh(gd.Loss):
    """A loss from outside the package: w² log cosh(e / w), the mean over the outputs."""

    def __init__(self, width=1.0):
        self.width = width

    def per_example(self, z, y):
        return (self.width**2 * np.log(np.cosh((z - y) / self.width))).mean(axis=1)

    def gradient(self, z, y):
        return self.width * np.tanh((z - y) / self.width) / z.shape[1]


class Worst(gd.metrics.Metric):
    """A metric from outside the package."""

    def per_example(self, prediction, y):
        return abs(prediction - y.reshape(prediction.shape)).max(axis=1)


def rows(n=23, width=4):
    return np.random.default_rng(0).normal(size=(n, width))


ARCHITECTURES = {
    "dense": lambda: [gd.Dense(3)],
    "tanh": lambda: [gd.Dense(5), gd.Tanh(), gd.Dense(3)],
    "relu": lambda: [gd.Dense(5, "he_normal"), gd.ReLU(), gd.Dense(3)],
    "sigmoid": lambda: [gd.Dense(5), gd.Sigmoid(), gd.Dense(3), gd.Sigmoid()],
    "softmax": lambda: [gd.Dense(5), gd.Tanh(), gd.Dense(3), gd.Softmax()],
}


@pytest.mark.few
@pytest.mark.parametrize("layers", ARCHITECTURES.values(), ids=ARCHITECTURES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_loaded_model_is_the_saved_one_to_the_bit(backend, tmp_path, layers, dtype):
    model = gd.Sequential(layers(), 4, backend=backend, dtype=dtype, seed=7)
    x, y = rows(), rows(width=3)
    model.fit(x, y, loss="mse", metrics=["mae"], batch_size=5)
    model.save(tmp_path / "m.npz")
    again = gd.load(tmp_path / "m.npz", backend=backend)
    np.testing.assert_array_equal(
        backend.to_numpy(again.flat_params), backend.to_numpy(model.flat_params)
    )
    assert again.dtype == model.dtype
    assert again.seed == model.seed
    assert list(again.params) == list(model.params)
    np.testing.assert_array_equal(again.predict(x), model.predict(x))
    assert again.evaluate(x, y) == model.evaluate(x, y)


@pytest.mark.parametrize(
    ("last", "loss", "y"),
    [
        ([gd.Dense(1), gd.Sigmoid()], "binary_crossentropy", rows()[:, 0] > 0),
        ([gd.Dense(1)], gd.BinaryCrossEntropy(from_logits=True), rows()[:, 0] > 0),
        ([gd.Dense(2), gd.Softmax()], "categorical_crossentropy", (rows()[:, 0] > 0).astype(int)),
        ([gd.Dense(2)], gd.CategoricalCrossEntropy(True), (rows()[:, 0] > 0).astype(int)),
    ],
)
def test_loss_and_metrics_are_saved_with_the_model(tmp_path, last, loss, y):
    model = gd.Sequential([type(layer)(**layer.config()) for layer in last], 4)
    model.fit(rows(), y, loss=loss, metrics=["accuracy"])
    model.save(tmp_path / "m.npz")
    again = gd.load(tmp_path / "m.npz")
    assert again.evaluate(rows(), y) == model.evaluate(rows(), y)
    assert list(again.evaluate(rows(), y)) == ["loss", "accuracy"]


@pytest.mark.parametrize(
    "initializer", [gd.initializers.he_uniform, lambda rng, shape: rng.random(shape)]
)
def test_first_values_given_as_a_function_do_not_hinder_saving(tmp_path, initializer):
    model = gd.Sequential([gd.Dense(3, initializer)], 4)
    model.save(tmp_path / "m.npz")
    np.testing.assert_array_equal(gd.load(tmp_path / "m.npz").flat_params, model.flat_params)
    np.testing.assert_array_equal(model.copy().flat_params, model.flat_params)


def test_a_model_that_was_not_fitted_is_saved_without_a_loss(tmp_path):
    gd.Sequential([gd.Dense(3)], 4).save(tmp_path / "m.npz")
    with pytest.raises(RuntimeError, match="this model was not fitted"):
        gd.load(tmp_path / "m.npz").evaluate(rows(), rows(width=3))


def test_a_model_saved_on_a_gpu_loads_on_the_cpu_and_back(backend, tmp_path):
    model = gd.Sequential([gd.Dense(5), gd.Tanh(), gd.Dense(3)], 4, backend=backend)
    model.fit(rows(), rows(width=3), loss="mse")
    model.save(tmp_path / "m.npz")
    on_host = gd.load(tmp_path / "m.npz")
    assert isinstance(on_host.flat_params, np.ndarray)
    np.testing.assert_array_equal(on_host.flat_params, backend.to_numpy(model.flat_params))
    on_host.save(tmp_path / "h.npz")
    back = gd.load(tmp_path / "h.npz", backend=backend)
    assert backend.holds(back.flat_params)
    np.testing.assert_array_equal(backend.to_numpy(back.flat_params), on_host.flat_params)


def test_the_model_of_a_run_loads_too(tmp_path):
    model = gd.Sequential([gd.Dense(3)], 4)
    trainer = gd.Trainer(model, "mse", "adam", metrics=["mae"])
    trainer.fit(rows(), rows(width=3))
    trainer.save(tmp_path / "run.npz")
    again = gd.load(tmp_path / "run.npz")
    np.testing.assert_array_equal(again.flat_params, model.flat_params)
    assert again.evaluate(rows(), rows(width=3)) == model.evaluate(rows(), rows(width=3))


def test_saving_changes_nothing_and_overwrites_the_file_of_before(tmp_path):
    model = gd.Sequential([gd.Dense(3)], 4)
    before = model.flat_params.copy()
    model.save(tmp_path / "m.npz")
    model.flat_params += 1
    model.save(tmp_path / "m.npz")
    np.testing.assert_array_equal(gd.load(tmp_path / "m.npz").flat_params, before + 1)
    assert [file.name for file in tmp_path.iterdir()] == ["m.npz"]


# From outside the package ------------------------------------------------------------------------


def outsiders(path):
    model = gd.Sequential([gd.Dense(3), Scale(0.5)], 4)
    model.fit(rows(), rows(width=3), loss=LogCosh(0.3), metrics=[Worst()])
    model.save(path)
    return model


def test_what_is_named_is_loaded(tmp_path):
    model = outsiders(tmp_path / "m.npz")
    again = gd.load(tmp_path / "m.npz", custom=[Scale, LogCosh, Worst])
    np.testing.assert_array_equal(again.flat_params, model.flat_params)
    layer, original = again.layers[-1], model.layers[-1]
    assert layer.first == 0.5
    np.testing.assert_array_equal(layer.buffers["seen"], original.buffers["seen"])
    assert layer.buffers["seen"].min() > 0
    assert again.loss.width == 0.3
    assert again.evaluate(rows(), rows(width=3)) == model.evaluate(rows(), rows(width=3))


@pytest.mark.parametrize("missing", [Scale, LogCosh, Worst])
def test_what_is_not_named_is_asked_for_by_name(tmp_path, missing):
    outsiders(tmp_path / "m.npz")
    name = missing.__name__
    with pytest.raises(gd.CheckpointError, match=rf"needs a class '{name}'.*custom=\[{name}\]"):
        gd.load(tmp_path / "m.npz", custom=[c for c in (Scale, LogCosh, Worst) if c is not missing])


class Forgetful(Scale):
    """Does not keep its argument."""

    def __init__(self, power):
        super().__init__()


def test_a_layer_that_does_not_keep_its_argument_says_how(tmp_path):
    model = gd.Sequential([Forgetful(2)], 4)
    for call in (lambda: model.save(tmp_path / "m.npz"), model.copy):
        with pytest.raises(TypeError, match=r"write `self.power = power` in it"):
            call()
    assert not list(tmp_path.iterdir())


def test_an_argument_that_no_file_can_hold_is_named(tmp_path):
    with pytest.raises(TypeError, match="Scale can't be saved: its argument 'first' is array"):
        gd.Sequential([Scale(np.array(2.0))], 4).save(tmp_path / "m.npz")


# What is refused ---------------------------------------------------------------------------------


def edit(path, change):
    """Rewrite a file with its description and arrays changed, and a checksum that fits them."""
    description, arrays = npz.read(path)
    change(description, arrays)
    npz.write(path, description, arrays)


def saved(tmp_path):
    path = tmp_path / "m.npz"
    gd.Sequential([gd.Dense(3), gd.Tanh(), gd.Dense(2)], 4).save(path)
    return path


def rename(arrays, old, new):
    (key,) = [name for name in arrays if name.endswith(old)]
    arrays[key.replace(old, new)] = arrays.pop(key)


def drop(arrays, which):
    (key,) = [name for name in arrays if name.endswith(which)]
    del arrays[key]


CHANGES = {
    "a wider layer": (
        lambda d, a: d["layers"][0]["arguments"].update(units=5),
        r"dense1.W has shape \(4, 3\) in the file and \(4, 5\) in the model",
    ),
    "a layer less": (
        lambda d, a: d["layers"].pop(),
        r"dense2.W has shape \(3, 2\) in the file and \(missing\) in the model",
    ),
    "other inputs": (lambda d, a: d.update(inputs=5), r"\(4, 3\) in the file and \(5, 3\)"),
    "an array less": (lambda d, a: drop(a, "dense1.b"), r"dense1.b has shape \(missing\) in the f"),
    "an array more": (
        lambda d, a: a.update({"params/dense9.W": np.zeros(2)}),
        r"dense9.W has shape \(2,\) in the file and \(missing\) in the model",
    ),
    "another name": (lambda d, a: rename(a, "dense1.b", "dense1.c"), r"dense1.b has shape \(miss"),
    "a turned array": (
        lambda d, a: a.update({"params/dense1.W": np.zeros((3, 4))}),
        r"dense1.W has shape \(3, 4\) in the file and \(4, 3\) in the model",
    ),
    "an unknown layer": (lambda d, a: d["layers"][0].update({"class": "Conv"}), r"custom=\[Conv\]"),
    "an unknown argument": (
        lambda d, a: d["layers"][0]["arguments"].update(size=3),
        "Dense does not take the arguments in the file",
    ),
    "no layers": (lambda d, a: d.pop("layers"), "description of the model is damaged: 'layers'"),
    "a newer version": (lambda d, a: d.update(version=99), "install a newer minigd"),
    "another format": (lambda d, a: d.update(format="other"), "is not a file that minigd saved"),
}


@pytest.mark.parametrize(("change", "message"), CHANGES.values(), ids=CHANGES)
def test_a_file_that_does_not_fit_together_is_refused(tmp_path, change, message):
    path = saved(tmp_path)
    edit(path, change)
    with pytest.raises(gd.CheckpointError, match=message):
        gd.load(path)


def rewrite(path, change):
    """Rewrite a file as a tool that knows nothing of the checksum would."""
    with np.load(path) as file:
        members = {name: file[name] for name in file.files}
    change(members)
    np.savez(path, **members)


def raise_a_weight(members):
    members["params/dense1.W"] = members["params/dense1.W"] + 1e-6


def widen_a_layer(members):
    description = json.loads(members["description.json"].tobytes())
    description["layers"][0]["arguments"]["units"] = 5
    members["description.json"] = np.frombuffer(json.dumps(description).encode(), dtype=np.uint8)


@pytest.mark.parametrize(
    "change",
    [
        raise_a_weight,
        widen_a_layer,
        lambda members: members.pop("params/dense1.b"),
        lambda members: members.update(more=np.zeros(2)),
        lambda members: members.update({"params/dense1.b": np.zeros(3)}),  # float64, not float32
        lambda members: members.pop("sha256"),
        lambda members: members.update(sha256=np.zeros(32, dtype=np.uint8)),
    ],
    ids=["a weight", "the description", "less", "more", "a dtype", "no checksum", "another one"],
)
def test_a_file_that_was_edited_is_refused(tmp_path, change):
    path = saved(tmp_path)
    rewrite(path, change)
    with pytest.raises(gd.CheckpointError, match=r"m\.npz' was changed after minigd wrote it"):
        gd.load(path)


def test_a_file_that_was_only_packed_anew_is_the_same(tmp_path):
    path = saved(tmp_path)
    before = gd.load(path).flat_params
    rewrite(path, lambda members: None)
    np.testing.assert_array_equal(gd.load(path).flat_params, before)


def test_arrays_of_another_model_change_nothing():
    model, other = gd.Sequential([gd.Dense(3)], 4), gd.Sequential([gd.Dense(3)], 5, seed=1)
    before = model.flat_params.copy()
    with pytest.raises(gd.CheckpointError, match="the arrays do not match this model"):
        model.load_arrays(other.arrays())
    np.testing.assert_array_equal(model.flat_params, before)


def test_a_missing_file_and_one_that_is_not_ours(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        gd.load(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("hello")
    np.savez(tmp_path / "other.npz", W=np.zeros(3))
    with zipfile.ZipFile(tmp_path / "zip.npz", "w") as file:
        file.writestr("a.txt", "hello")
    for name in ("text", "other", "zip"):
        with pytest.raises(gd.CheckpointError, match="is not a file that minigd saved"):
            gd.load(tmp_path / f"{name}.npz")


def test_a_file_cut_short_anywhere_is_refused(tmp_path):
    path = saved(tmp_path)
    whole = path.read_bytes()
    for length in range(0, len(whole) - 1, 97):
        path.write_bytes(whole[:length])
        with pytest.raises(gd.CheckpointError, match="not a file that minigd saved"):
            gd.load(path)


def test_a_pickle_is_never_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return pytest.fail, ("a file ran code",)

    path = saved(tmp_path)
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    arrays["params/dense1.W"] = np.array([Trap()], dtype=object)
    np.savez(path, **arrays)
    with pytest.raises(gd.CheckpointError, match="not a file that minigd saved, or it is damaged"):
        gd.load(path)
