"""Updaters: each step against the textbook, parameter by parameter, and all state in one dict.

The flat vector is only an arrangement: depth and slices must not matter.
"""

import gc

import numpy as np
import pytest
from budgets import examples
from hypothesis import given
from hypothesis import strategies as st

import minigd as gd
from minigd.backends.base import get_backend
from minigd.checks import reference
from minigd.optim.updaters import UPDATERS, get_updater


class Model:
    """What an updater needs of a model: two vectors, where they live, and which are weights."""

    def __init__(self, size=5, backend="numpy", dtype="float64", seed=0, n_weights=None):
        rng = np.random.default_rng(seed)
        self.backend = get_backend(backend)
        self.n_weights = size if n_weights is None else n_weights
        self.flat_params = self.backend.asarray(rng.normal(size=size), dtype=dtype)
        self.flat_grads = self.backend.asarray(rng.normal(size=size), dtype=dtype)

    @property
    def numbers(self):
        """The parameters on the host."""
        return self.backend.to_numpy(self.flat_params).copy()

    def next_gradient(self, step):
        rng = np.random.default_rng([7, step])
        gradient = rng.normal(size=self.flat_params.shape)
        self.flat_grads[...] = self.backend.asarray(gradient, dtype=self.flat_grads.dtype)
        return self.backend.to_numpy(self.flat_grads).copy()


EACH = {
    "sgd": lambda: gd.SGD(0.1),
    "momentum": lambda: gd.SGD(0.1, momentum=0.9),
    "nesterov": lambda: gd.SGD(0.1, momentum=0.9, nesterov=True),
    "adam": lambda: gd.Adam(0.1),
    "adam with odd betas": lambda: gd.Adam(0.1, beta1=0.0, beta2=0.5, epsilon=1e-3),
    "adamw": lambda: gd.AdamW(0.1, weight_decay=0.2),
    "amsgrad": lambda: gd.Adam(0.1, amsgrad=True),
    "nadam": lambda: gd.Nadam(0.1),
    "radam": lambda: gd.RAdam(0.1),
    "rmsprop": lambda: gd.RMSprop(0.1),
    "adagrad": lambda: gd.Adagrad(0.1),
}
each = pytest.mark.parametrize("make", EACH.values(), ids=EACH.keys())
WITH_STATE = {name: make for name, make in EACH.items() if name != "sgd"}
with_state = pytest.mark.parametrize("make", WITH_STATE.values(), ids=WITH_STATE.keys())


def run(updater, model, steps, first=0):
    for step in range(first, first + steps):
        model.next_gradient(step)
        updater.update(model)
    return model.numbers


# Values ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("mu", [0.0, 0.5, 0.9])
def test_sgd_is_the_textbooks_number_by_number(backend, mu, nesterov):
    if nesterov and mu == 0:
        return
    model = Model(4, backend)
    p, v = model.numbers.tolist(), [0.0] * 4
    updater = gd.SGD(0.1, momentum=mu, nesterov=nesterov)
    for step in range(6):
        g = model.next_gradient(step)
        updater.update(model)
        for i in range(4):
            v[i] = mu * v[i] + g[i]
            p[i] -= 0.1 * (g[i] + mu * v[i] if nesterov else v[i])
        np.testing.assert_allclose(model.numbers, p, rtol=1e-13)


def test_velocity_form_and_momentum_form_agree_for_a_constant_rate():
    # Sutskever et al. (2013): u ← μ u − η g, p ← p + u.
    model, u = Model(), np.zeros(5)
    p, updater = model.numbers, gd.SGD(0.05, momentum=0.8)
    for step in range(10):
        u = 0.8 * u - 0.05 * model.next_gradient(step)
        p = p + u
        updater.update(model)
    np.testing.assert_allclose(model.numbers, p, rtol=1e-13)


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.0, 0.999), (0.9, 0.0), (0.5, 0.9999999)])
@pytest.mark.parametrize("epsilon", [1e-8, 0.1])
def test_adam_is_algorithm_1(backend, betas, epsilon):
    model = Model(6, backend)
    twin = reference.Adam(0.01, *betas, epsilon)
    updater = gd.Adam(0.01, *betas, epsilon)
    expected = [model.numbers]
    # At β₂ = 0.9999999 the twin's own 1 − β₂ᵗ has lost 7 of its 16 digits.
    digits = 1e-9 if betas[1] > 0.9999 else 1e-12
    for step in range(30):
        expected = twin.update(expected, [model.next_gradient(step)])
        updater.update(model)
        np.testing.assert_allclose(model.numbers, expected[0], rtol=digits, atol=digits)


def test_adams_first_step_is_the_learning_rate_whatever_the_gradient():
    model = Model(4)
    model.flat_params[...] = 0.0
    model.flat_grads[...] = [1e-3, -1.0, 50.0, -1e6]
    gd.Adam(0.1, epsilon=1e-15).update(model)
    np.testing.assert_allclose(model.flat_params, [-0.1, 0.1, -0.1, 0.1], rtol=1e-11)


@each
def test_a_parameter_without_gradient_stays(make):
    # AdamW does not change a bias without gradient. A test below checks that it shrinks weights.
    for n_weights in {5, 0} if make is not EACH["adamw"] else {0}:
        model = Model(n_weights=n_weights)
        before = model.numbers
        model.flat_grads[...] = 0.0
        make().update(model)
        np.testing.assert_array_equal(model.numbers, before)


def test_adam_on_the_flat_vector_is_adam_tensor_by_tensor(backend):
    layers = [gd.Dense(6), gd.Tanh(), gd.Dense(5), gd.Tanh(), gd.Dense(3)]
    model = gd.Sequential(layers, inputs=4, backend=backend, dtype="float64")
    loss, updater, twin = gd.CategoricalCrossEntropy(True), gd.Adam(0.05), reference.Adam(0.05)
    rng = np.random.default_rng(0)
    for _ in range(5):
        x, y = rng.normal(size=(8, 4)), rng.integers(0, 3, size=8)
        loss.forward(model.forward(backend.asarray(x), train=True), backend.asarray(y))
        model.backward(loss.backward())
        params = [backend.to_numpy(p).copy() for p in model.params.values()]
        grads = [backend.to_numpy(g).copy() for g in model.grads.values()]
        expected = twin.update(params, grads)
        updater.update(model)
        for value, wanted in zip(model.params.values(), expected, strict=True):
            np.testing.assert_allclose(backend.to_numpy(value), wanted, rtol=1e-12, atol=1e-14)


@examples(15)
@given(
    make=st.sampled_from(list(EACH.values())),
    size=st.integers(1, 50_000),
    parts=st.integers(1, 4),
    dtype=st.sampled_from(["float32", "float64"]),
)
def test_one_long_vector_is_many_short_ones_to_the_bit(make, size, parts, dtype):
    # Longer than a slice of the CPU's, and cut where layers would cut it.
    whole, updater = Model(size, dtype=dtype), make()
    expected = []
    for part in np.array_split(np.arange(size), parts):
        piece, own = Model(len(part), dtype=dtype), make()
        piece.flat_params[...] = whole.flat_params[part]
        for step in range(2):
            piece.flat_grads[...] = whole.next_gradient(step)[part]
            own.update(piece)
        expected.append(piece.numbers)
    for step in range(2):
        whole.next_gradient(step)
        updater.update(whole)
    assert whole.numbers.tobytes() == np.concatenate(expected).tobytes()


@each
def test_memory_stays_where_it_is_and_gradients_are_not_modified(backend, make):
    model = Model(5, backend)
    params, before = model.flat_params, model.backend.to_numpy(model.flat_grads).copy()
    make().update(model)
    assert model.flat_params is params
    np.testing.assert_array_equal(model.backend.to_numpy(model.flat_grads), before)


@each
@pytest.mark.parametrize("kind", [float, np.float64, np.float32])
@pytest.mark.pairs
def test_float32_parameters_stay_float32_whatever_the_rates_type(backend, make, kind):
    model = Model(5, backend, "float32")
    updater = make()
    updater.learning_rate = kind(0.125)
    for constant in ("momentum", "beta1", "beta2", "rho", "epsilon", "weight_decay"):
        if hasattr(updater, constant):
            setattr(updater, constant, kind(getattr(updater, constant)))
    run(updater, model, 3)
    assert model.flat_params.dtype == "float32"
    assert all(vector.dtype == "float32" for vector in updater.state.values())


def test_a_rate_changed_between_updates_counts_from_the_next():
    model, updater = Model(), gd.SGD(0.1)
    updater.update(model)
    before, updater.learning_rate = model.numbers, 0.5
    updater.update(model)
    np.testing.assert_allclose(model.numbers, before - 0.5 * model.flat_grads, rtol=1e-14)


# Trajectories ---------------------------------------------------------------------------------
# Each written as its paper's sum over all gradients so far, tensor by tensor, and no recurrence.

STEPS = 100


def network(backend="numpy", dtype="float64"):
    layers = [gd.Dense(4), gd.BatchNorm(), gd.Tanh(), gd.Dense(3)]
    return gd.Sequential(layers, inputs=5, backend=backend, dtype=dtype, seed=1)


def draw_gradients(model, step):
    """Put random gradients of a size of its own into each tensor, and return them by name."""
    rng = np.random.default_rng([11, step])
    drawn = {}
    for size, (name, grad) in zip(
        [1.0, 1e-3, 30.0, 1.0, 1e-6, 1e3], model.grads.items(), strict=True
    ):
        drawn[name] = size * rng.normal(size=grad.shape)
        grad[...] = model.backend.asarray(drawn[name])
    return drawn


def weighted_sum(past, beta):
    """Return Σ_s βᵗ⁻ˢ a_s over the arrays a_1 … a_t."""
    t = len(past)
    return np.tensordot([beta ** (t - s) for s in range(1, t + 1)], np.array(past), axes=1)


def adam_direction(past, beta1=0.9, beta2=0.999, epsilon=1e-8):
    # What Kingma and Ba correct for: the weights of the running means sum to 1 − βᵗ, not to 1.
    ones = [np.ones(())] * len(past)
    m = weighted_sum(past, beta1) / weighted_sum(ones, beta1)
    v = weighted_sum([g * g for g in past], beta2) / weighted_sum(ones, beta2)
    return m / (np.sqrt(v) + epsilon)


def adamw_step(p, past, eta, decays, decay=0.3):
    # The weight itself shrinks by its share, in addition to Adam's step.
    shrunk = p - eta * decay * p if decays else p
    return shrunk - eta * adam_direction(past, 0.8, 0.99, 1e-6)


def rmsprop_step(p, past, eta, decays):
    mean_square = 0.1 * weighted_sum([g**2 for g in past], 0.9)
    return p - eta * past[-1] / (mean_square**0.5 + 1e-8)


def adagrad_step(p, past, eta, decays):
    # The length of the vector of this parameter's gradients so far.
    return p - eta * past[-1] / (np.linalg.norm(np.array(past), axis=0) + 1e-8)


def amsgrad_step(p, past, eta, decays):
    # What the paper divides by: the largest of all means so far, and not the last.
    squares = [g * g for g in past]
    v = np.max([0.1 * weighted_sum(squares[: t + 1], 0.9) for t in range(len(past))], axis=0)
    m = 0.2 * weighted_sum(past, 0.8) / (1 - 0.8 ** len(past))
    return p - eta * m / (np.sqrt(v / (1 - 0.9 ** len(past))) + 1e-8)


def nadam_step(p, past, eta, decays):
    t = len(past)
    mu = [0.9 * (1 - 0.5 * 0.96 ** (k / 250)) for k in range(1, t + 2)]
    m = 0.1 * weighted_sum(past, 0.9)
    ahead = mu[t] * m / (1 - np.prod(mu)) + (1 - mu[t - 1]) * past[-1] / (1 - np.prod(mu[:t]))
    ones = weighted_sum([np.ones(())] * t, 0.999)
    return p - eta * ahead / (np.sqrt(weighted_sum([g * g for g in past], 0.999) / ones) + 1e-8)


def radam_step(p, past, eta, decays):
    # The share of v's variance that is left: of as many squares as the mean in v is worth.
    t = len(past)
    m = weighted_sum(past, 0.9) / weighted_sum([np.ones(())] * t, 0.9)
    worth = 1999 - 2 * t * 0.999**t / (1 - 0.999**t)
    if worth <= 5:
        return p - eta * m
    r = np.sqrt((worth - 4) * (worth - 2) / worth * (1999 / (1995 * 1997)))
    root = np.sqrt(0.001 * weighted_sum([g * g for g in past], 0.999))
    return p - eta * r * m * np.sqrt(1 - 0.999**t) / (root + 1e-8)


PAPERS = {
    "adamw": (lambda eta, **o: gd.AdamW(eta, 0.8, 0.99, 1e-6, 0.3, **o), adamw_step),
    "amsgrad": (lambda eta: gd.Adam(eta, 0.8, 0.9, amsgrad=True), amsgrad_step),
    "nadam": (gd.Nadam, nadam_step),
    "radam": (gd.RAdam, radam_step),
    "rmsprop": (gd.RMSprop, rmsprop_step),
    "adagrad": (gd.Adagrad, adagrad_step),
}
papers = pytest.mark.parametrize(("make", "step_of"), PAPERS.values(), ids=PAPERS)


def follows(updater, step_of, rates, model, decays=lambda name: name.endswith("W"), before=None):
    """Check parameters after each update against a trajectory of `step_of` at the given rates."""
    to_numpy = model.backend.to_numpy
    expected = {name: to_numpy(p).copy() for name, p in model.params.items()}
    past = {name: [] for name in expected}
    for step, eta in enumerate(rates):
        if before is not None:
            before(updater, step)
        for name, g in draw_gradients(model, step).items():
            past[name].append(g)
            expected[name] = step_of(expected[name], past[name], eta, decays(name))
        updater.update(model)
        for name, p in model.params.items():
            error = abs(to_numpy(p) - expected[name]).max()
            assert error <= 1e-12 * max(1, abs(expected[name]).max()), (step, name)


@pytest.mark.few
@papers
@pytest.mark.parametrize("eta", [0.1, 0.001])
def test_a_hundred_steps_are_the_papers(backend, make, step_of, eta):
    follows(make(eta), step_of, [eta] * STEPS, network(backend))


@papers
def test_a_hundred_steps_at_the_rates_of_a_schedule_by_update(make, step_of):
    rates = [0.2 * 0.5 ** (k // 30) for k in range(STEPS)]
    follows(make(gd.StepDecay(0.2, 0.5, updates=30)), step_of, rates, network())


@papers
def test_a_hundred_steps_at_the_rates_of_a_schedule_by_epoch(make, step_of):
    # Seven updates an epoch, and the rate halves in every fifth epoch.
    def close_an_epoch(updater, step):
        updater.epoch = step // 7

    rates = [0.2 / (1 + (k // 7) / 5) for k in range(STEPS)]
    updater = make(gd.InverseTimeDecay(0.2, epochs=5))
    follows(updater, step_of, rates, network(), before=close_an_epoch)


def test_adamw_shrinks_biases_scales_and_shifts_where_it_is_told_to():
    updater = gd.AdamW(0.05, 0.8, 0.99, 1e-6, 0.3, decay_bias=True)
    follows(updater, adamw_step, [0.05] * STEPS, network(), decays=lambda name: True)


def test_adamw_without_gradient_shrinks_weights_and_nothing_else(backend):
    model = network(backend)
    model.flat_params[...] = model.flat_params + 1.5
    before = {name: backend.to_numpy(p).copy() for name, p in model.params.items()}
    model.flat_grads[...] = 0.0
    updater = gd.AdamW(0.1, weight_decay=0.2)
    for _ in range(3):
        updater.update(model)
    for name, p in model.params.items():
        shrunk = before[name] * 0.98**3 if name.endswith("W") else before[name]
        np.testing.assert_allclose(backend.to_numpy(p), shrunk, rtol=1e-14)
        if not name.endswith("W"):
            np.testing.assert_array_equal(backend.to_numpy(p), before[name])


def test_adamw_without_decay_is_adam_to_the_bit():
    first, second = Model(), Model()
    assert (run(gd.AdamW(0.1, weight_decay=0.0), first, 20) == run(gd.Adam(0.1), second, 20)).all()


def torch_group(torch, params, name):
    """Return PyTorch's optimizer of a name over these tensors."""
    if name == "adamw":
        weights = {n: p for n, p in params.items() if n.endswith("W")}
        biases = [p for n, p in params.items() if n not in weights]
        groups = [{"params": list(weights.values())}, {"params": biases, "weight_decay": 0.0}]
        return torch.optim.AdamW(groups, lr=0.02, betas=(0.8, 0.99), eps=1e-6, weight_decay=0.3)
    ways = {
        "sgd": lambda p: torch.optim.SGD(p, lr=0.02),
        "momentum": lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9),
        "nesterov": lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9, nesterov=True),
        "adam": lambda p: torch.optim.Adam(p, lr=0.02),
        "amsgrad": lambda p: torch.optim.Adam(p, lr=0.02, betas=(0.8, 0.9), amsgrad=True),
        "nadam": lambda p: torch.optim.NAdam(p, lr=0.02),
        "radam": lambda p: torch.optim.RAdam(p, lr=0.02),
        "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.02, alpha=0.9),
        "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.02, eps=1e-8),
    }
    return ways[name](list(params.values()))


TORCHS = {
    "sgd": lambda: gd.SGD(0.02),
    "momentum": lambda: gd.SGD(0.02, 0.9),
    "nesterov": lambda: gd.SGD(0.02, 0.9, True),
    "adam": lambda: gd.Adam(0.02),
    "adamw": lambda: gd.AdamW(0.02, 0.8, 0.99, 1e-6, 0.3),
    "amsgrad": lambda: gd.Adam(0.02, 0.8, 0.9, amsgrad=True),
    "nadam": lambda: gd.Nadam(0.02),
    "radam": lambda: gd.RAdam(0.02),
    "rmsprop": lambda: gd.RMSprop(0.02),
    "adagrad": lambda: gd.Adagrad(0.02),
}


@pytest.fixture
def torch():
    """PyTorch, whose NAdam keeps the product of its momenta in the default dtype."""
    torch = pytest.importorskip("torch")
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield torch
    torch.set_default_dtype(before)


@pytest.mark.parametrize("name", TORCHS)
def test_three_hundred_steps_are_those_of_pytorch(torch, name):
    # Of the papers differ, there and here: NAdam's m, which is a mean by β₁ and not by μₜ, and its
    # v̂, which has no factor β₂; RAdam's threshold, 5 and not 4, and its ε; and AMSGrad's bias
    # corrections, of which the paper has none.
    model, updater = network(), TORCHS[name]()
    params = {n: torch.tensor(p.copy()) for n, p in model.params.items()}
    theirs = torch_group(torch, params, name)
    for step in range(3 * STEPS):
        for n, g in draw_gradients(model, step).items():
            params[n].grad = torch.tensor(g)
        theirs.step()
        updater.update(model)
        for n, p in model.params.items():
            np.testing.assert_allclose(p, params[n].numpy(), rtol=1e-12, atol=1e-12)


# The learning rate ----------------------------------------------------------------------------


def test_a_scale_multiplies_whatever_decides_the_rate():
    for updater in (gd.SGD(0.5), gd.SGD(gd.StepDecay(0.5, 0.1, updates=2))):
        model = Model()
        updater.scale = 0.25
        for rate in (0.125, 0.125, 0.125 if updater.schedule is None else 0.0125):
            before, g = model.numbers, model.next_gradient(3)
            assert updater.learning_rate == pytest.approx(rate, rel=1e-14)
            updater.update(model)
            np.testing.assert_allclose(model.numbers, before - rate * g, rtol=1e-13, atol=1e-15)


def test_a_new_rate_is_the_rate_and_takes_the_scale_away():
    updater = gd.SGD(0.5)
    updater.scale = 0.25
    updater.learning_rate = 0.1
    assert (updater.learning_rate, updater.scale) == (0.1, 1.0)


def test_the_rate_of_a_schedule_is_not_set_by_hand():
    updater = gd.Adam(gd.CosineDecay(0.1, epochs=3))
    with pytest.raises(ValueError, match=r"follows CosineDecay\(.*\): change `scale`, which mult"):
        updater.learning_rate = 0.5
    assert updater.learning_rate == 0.1


def test_a_state_holds_scale_step_and_epoch_and_no_rate_of_a_schedule():
    schedule = gd.InverseTimeDecay(0.4, epochs=2)
    model, updater = Model(), gd.RMSprop(schedule)
    run(updater, model, 3)
    updater.epoch, updater.scale = 2, 0.5
    again = gd.RMSprop(schedule)
    again.load_state_dict(updater.state_dict(), model)
    assert (again.step, again.epoch, again.scale) == (3, 2, 0.5)
    assert again.learning_rate == updater.learning_rate == pytest.approx(0.4 / 2 * 0.5)
    again.reset()
    assert (again.step, again.epoch, again.scale, again.learning_rate) == (0, 0, 1.0, 0.4)


@pytest.mark.parametrize("make", UPDATERS.values())
def test_a_schedule_is_an_argument_that_is_shown_and_copied(make):
    updater = make(gd.WarmUp(gd.CosineDecay(0.1, epochs=3), updates=5))
    words = "WarmUp(schedule=CosineDecay(learning_rate=0.1, end=0.0, epochs=3), updates=5)"
    assert repr(updater).startswith(f"{make.__name__}(learning_rate={words}")
    assert repr(make(**updater.config())) == repr(updater)


# Arguments ------------------------------------------------------------------------------------

OUT_OF_RANGE = [-0.1, np.nan, np.inf, "0.1", None, [0.1], 1j]


@pytest.mark.parametrize("value", OUT_OF_RANGE)
@pytest.mark.parametrize("updater", UPDATERS.values())
def test_a_learning_rate_that_makes_no_sense_is_refused(updater, value):
    with pytest.raises(
        ValueError, match="learning_rate must be a number, at least 0 and finite, not "
    ):
        updater(learning_rate=value)


@pytest.mark.parametrize("value", [*OUT_OF_RANGE, 1, 1.0, 1.5])
def test_momentum_and_betas_lie_below_one(value):
    with pytest.raises(ValueError, match="momentum must be a number, at least 0 and below 1, not "):
        gd.SGD(momentum=value)
    for name in ("beta1", "beta2"):
        with pytest.raises(ValueError, match=f"{name} must be a number, at least 0 and below 1, "):
            gd.Adam(**{name: value})
    with pytest.raises(ValueError, match="rho must be a number, at least 0 and below 1, not "):
        gd.RMSprop(rho=value)


@pytest.mark.parametrize("value", OUT_OF_RANGE)
def test_a_weight_decay_that_makes_no_sense_is_refused(value):
    with pytest.raises(ValueError, match="weight_decay must be a number, at least 0 and finite"):
        gd.AdamW(weight_decay=value)


@pytest.mark.parametrize("make", [gd.Adam, gd.AdamW, gd.Nadam, gd.RAdam, gd.RMSprop, gd.Adagrad])
@pytest.mark.parametrize("value", [*OUT_OF_RANGE, 0, 0.0])
def test_epsilon_is_above_zero(value, make):
    with pytest.raises(ValueError, match="epsilon must be "):
        make(epsilon=value)


@pytest.mark.parametrize("make", [gd.Adam, gd.AdamW, gd.Nadam, gd.RAdam, gd.RMSprop, gd.Adagrad])
def test_an_epsilon_that_vanishes_in_the_models_dtype_is_refused(make):
    make(epsilon=1e-60).update(Model())
    model = Model(dtype="float32")
    with pytest.raises(ValueError, match="epsilon=1e-60 vanishes in float32: use at least "):
        make(epsilon=1e-60).update(model)


@pytest.mark.parametrize("make", UPDATERS.values())
def test_true_is_no_learning_rate(make):
    with pytest.raises(ValueError, match="learning_rate must be a number"):
        make(learning_rate=True)


def test_nesterov_needs_momentum():
    with pytest.raises(ValueError, match="nesterov=True needs a momentum above 0"):
        gd.SGD(nesterov=True)


def test_a_rate_of_zero_changes_nothing():
    for make in UPDATERS.values():
        model = Model()
        before = model.numbers
        make(learning_rate=0.0).update(model)
        np.testing.assert_array_equal(model.numbers, before)


def test_defaults_are_the_papers():
    assert repr(gd.SGD()) == "SGD(learning_rate=0.01, momentum=0.0, nesterov=False)"
    adam = "learning_rate=0.001, beta1=0.9, beta2=0.999, epsilon=1e-08"
    assert repr(gd.Adam()) == f"Adam({adam}, amsgrad=False)"
    assert repr(gd.Nadam()) == f"Nadam({adam})".replace("0.001", "0.002")
    assert repr(gd.RAdam()) == f"RAdam({adam})"
    assert repr(gd.AdamW()) == f"AdamW({adam}, weight_decay=0.01, decay_bias=False)"
    assert repr(gd.RMSprop()) == "RMSprop(learning_rate=0.001, rho=0.9, epsilon=1e-08)"
    assert repr(gd.Adagrad()) == "Adagrad(learning_rate=0.01, epsilon=1e-08)"


# State ----------------------------------------------------------------------------------------


@each
def test_a_state_given_to_a_new_updater_goes_on_to_the_bit(backend, make):
    model, updater = Model(5, backend), make()
    run(updater, model, 3)
    updater.learning_rate = 0.03
    again, other = Model(5, backend), make()
    again.flat_params[...] = model.flat_params
    other.load_state_dict(updater.state_dict(), again)
    assert other.step == 3
    assert other.learning_rate == 0.03
    expected = run(updater, model, 3, first=3)
    np.testing.assert_array_equal(run(other, again, 3, first=3), expected)


@with_state
def test_two_updaters_share_no_state(make):
    model, updater = Model(), make()
    run(updater, model, 2)
    again, other = Model(), make()
    other.load_state_dict(updater.state_dict(), again)
    before = {name: vector.copy() for name, vector in updater.state.items()}
    run(other, again, 2, first=2)
    for name, expected in before.items():
        np.testing.assert_array_equal(updater.state[name], expected)


@with_state
def test_a_state_that_was_taken_is_not_changed_by_later_updates(make):
    model, updater = Model(), make()
    run(updater, model, 2)
    taken = updater.state_dict()
    before = {name: np.copy(value) for name, value in taken.items()}
    run(updater, model, 2, first=2)
    for name, expected in before.items():
        np.testing.assert_array_equal(taken[name], expected)


@each
def test_after_a_reset_it_starts_as_new(make):
    updater = make()
    expected = run(updater, Model(), 4)
    updater.reset()
    assert updater.step == 0
    assert updater.state == {}
    np.testing.assert_array_equal(run(updater, Model(), 4), expected)


@each
def test_one_updater_for_two_models_is_refused(make):
    first, second, updater = Model(), Model(seed=1), make()
    updater.update(first)
    before = second.numbers
    with pytest.raises(ValueError, match=r"holds the state of another model.*reset\(\)"):
        updater.update(second)
    np.testing.assert_array_equal(second.numbers, before)
    assert updater.step == 1
    updater.reset()
    updater.update(second)


def test_a_model_that_is_gone_is_another_model_still():
    updater = gd.Adam()
    updater.update(Model())
    gc.collect()
    with pytest.raises(ValueError, match="holds the state of another model"):
        updater.update(Model())


@each
def test_state_follows_a_model_to_another_backend(backend, make):
    model, updater = Model(5), make()
    run(updater, model, 2)
    stay, own = Model(5), make()
    expected = run(own, stay, 4)
    model.flat_params = backend.asarray(model.flat_params)
    model.flat_grads = backend.asarray(model.flat_grads)
    model.backend = backend
    np.testing.assert_allclose(run(updater, model, 2, first=2), expected, rtol=1e-13)
    assert all(backend.holds(vector) for vector in updater.state.values())


@pytest.mark.parametrize(
    "change",
    [
        lambda values: values.update(m=np.ones(4)),
        lambda values: values.pop("v"),
        lambda values: [values.pop(name) for name in "mv"],  # but the step is not 0
    ],
    ids=["size", "one missing", "all missing"],
)
def test_a_state_that_is_not_the_models_is_refused(change):
    model, updater = Model(), gd.Adam()
    run(updater, model, 2)
    values = updater.state_dict()
    change(values)
    with pytest.raises(gd.CheckpointError, match=r"the state of Adam needs \['m', 'v'\] of shape"):
        gd.Adam().load_state_dict(values, model)


# Names ----------------------------------------------------------------------------------------


def test_names_make_new_updaters_with_the_papers_defaults():
    assert {name: type(get_updater(name)) for name in UPDATERS} == {
        "sgd": gd.SGD,
        "adam": gd.Adam,
        "adamw": gd.AdamW,
        "nadam": gd.Nadam,
        "radam": gd.RAdam,
        "rmsprop": gd.RMSprop,
        "adagrad": gd.Adagrad,
    }
    assert get_updater("adam") is not get_updater("adam")
    updater = gd.SGD(0.5)
    assert get_updater(updater) is updater


@pytest.mark.parametrize("which", ["adm", None, gd.Adam])
def test_an_unknown_name_is_refused_with_the_known_ones(which):
    names = "'adagrad', 'adam', 'adamw', 'nadam', 'radam', 'rmsprop', 'sgd'"
    with pytest.raises(ValueError, match=f"unknown updater .*; the known (ones|names) are {names}"):
        get_updater(which)


def test_an_updater_of_ones_own_names_its_formula():
    class Sign(gd.Updater):
        def formula(self, learning_rate):
            return (lambda p, g, *, rate: p - rate * np.sign(g)), {"rate": learning_rate}

    model = Model()
    before = model.numbers
    Sign(0.25).update(model)
    np.testing.assert_allclose(model.numbers, before - 0.25 * np.sign(model.flat_grads))
    with pytest.raises(NotImplementedError, match=r"Updater must define formula\(learning_rate\)"):
        gd.Updater(0.1).update(model)
