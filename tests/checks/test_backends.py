"""Two backends side by side: they agree to rounding, and a part that does not is named."""

import numpy as np
import pytest
from oracles import host_cuda

import minigd as gd
from minigd import formulas
from minigd.backends.cupy import CupyBackend
from minigd.execution.targets.cuda import CudaStep


def rows(n=130):
    rng = np.random.default_rng(3)
    X = rng.normal(size=(n, 6))
    return X, X[:, :3].argmax(axis=1)


def network(dtype="float32"):
    layers = [gd.Dense(16), gd.BatchNorm(), gd.Tanh(), gd.Dropout(0.2), gd.Dense(8), gd.ReLU()]
    layers += [gd.Dense(8), gd.LeakyReLU(), gd.Dense(3), gd.Softmax()]
    return gd.Sequential(layers, inputs=6, dtype=dtype, seed=2)


def compare(backend, model=None, **options):
    X, y = rows()
    batches = gd.Batches(X, y, batch_size=50, shuffle=True)
    options = {"loss": "categorical_crossentropy", "steps": 7, **options}
    return gd.compare_backends(model or network(), batches, backend=backend, **options)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_backends_agree(backend, dtype):
    model = network(dtype)
    before = model.arrays()
    found = compare(backend, model)
    assert found.agree, str(found)
    assert found.steps == 7
    assert found.worst.size <= found.worst.allowed
    for name, value in model.arrays().items():
        np.testing.assert_array_equal(value, before[name])
    assert model.passes == 0


def test_the_loss_of_the_last_training_is_taken(stand_in):
    model = network()
    X, y = rows()
    with pytest.raises(ValueError, match="never trained: pass a loss"):
        gd.compare_backends(model, gd.Batches(X, y, batch_size=50), 2)
    model.fit(X, y, loss="categorical_crossentropy", epochs=1)
    assert gd.compare_backends(model, gd.Batches(X, y, batch_size=50), 2).agree


def test_rows_without_weight_are_nothing_to_compare(stand_in):
    X, y = rows()
    weight = np.arange(len(X)) > 120
    batches = gd.Batches(X, y, batch_size=50, tail="drop", sample_weight=weight)
    with pytest.raises(gd.DataError, match="do not fill a single batch"):
        gd.compare_backends(network(), batches, 2, loss="categorical_crossentropy")


class Off(CupyBackend):
    """A backend with one formula that is wrong from some call on."""

    def __init__(self, xp, formula, after=0):
        super().__init__(xp)
        self.formula, self.calls, self.after = formula, 0, after

    def apply(self, formula, *inputs, out, **constants):
        super().apply(formula, *inputs, out=out, **constants)
        if formula is self.formula:
            self.calls += 1
            if self.calls > self.after:
                first = out[0] if isinstance(out, tuple) else out
                first *= 1.001


@pytest.mark.few
@pytest.mark.parametrize(
    ("formula", "part", "compared"),
    [
        (formulas.tanh, "forward of tanh1", 2),
        (formulas.tanh_backward, "backward of tanh1", 2),
        (formulas.relu, "forward of relu1", 2),
        (formulas.adam, "the update by Adam", 0),
    ],
)
@pytest.mark.parametrize("steps", [0, 4])
def test_the_first_part_that_differs_is_named(stand_in, formula, part, compared, steps):
    # In the first step the layers are called too where the compiled step is compared with them.
    compared = compared if steps and host_cuda.compiler() else 0
    found = compare(Off(stand_in.xp, formula, steps + compared))
    assert not found.agree
    assert (found.first.step, found.first.part) == (steps + 1, part)
    assert found.first.size == pytest.approx(0.001, rel=0.01)
    assert str(found).startswith(f"the backends differ: step {steps + 1}, {part}: 0.001 of")


def test_a_wrong_gradient_of_a_parameter_is_named(stand_in, monkeypatch):
    backward = gd.Dense.backward

    def forgets_the_mean(self, dy):
        dx = backward(self, dy)
        if self.name == "dense2" and self.backend.name == "cupy":
            self.grads["b"] *= len(dy)
        return dx

    monkeypatch.setattr(gd.Dense, "backward", forgets_the_mean)
    found = compare(stand_in)
    assert (found.first.step, found.first.part) == (1, "the gradient of dense2.b")


def test_a_wrong_result_of_the_compiled_step_is_named(stand_in, monkeypatch):
    if host_cuda.compiler() is None:
        pytest.skip(host_cuda.MISSING)
    call, calls = CudaStep.__call__, []

    def off(self, *arguments, **options):
        found = call(self, *arguments, **options)
        calls.append(found)
        if len(calls) > 1:  # the first one is compared when it is compiled
            self._device.grads["dense2.W"] *= 1.001
        return found

    monkeypatch.setattr(CudaStep, "__call__", off)
    found = compare(stand_in)
    assert (found.first.step, found.first.part) == (1, "the gradient of dense2.W, compiled")


class Linear(gd.Loss):
    """ℓ_i = Σ_k z_ik y_ik, whose gradient is the very array of the targets."""

    def per_example(self, z, y):
        return (z * y).sum(axis=1)

    def gradient(self, z, y):
        return y


def test_the_users_rows_are_left_as_they_are(stand_in):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(30, 3)), np.sign(rng.normal(size=(30, 2)))
    before = X.copy(), y.copy()
    model = gd.Sequential([gd.Dense(4), gd.Tanh(), gd.Dense(2), gd.Tanh()], 3, dtype="float64")
    batches = gd.Batches(X, y, batch_size=10)  # in their order: views of the arrays
    assert gd.compare_backends(model, batches, 6, loss=Linear(), backend=stand_in).agree
    for array, as_it_was in zip((X, y), before, strict=True):
        np.testing.assert_array_equal(array, as_it_was)
