"""Schedules: each rate against its paper's formula, written again, over 100 updates or epochs.

Updates use the rate of the schedule, and a resumed run continues at its rate.
"""

import inspect
import math

import numpy as np
import pytest
from budgets import examples
from hypothesis import given
from hypothesis import strategies as st

import minigd as gd
from minigd.optim.schedules import SCHEDULES, Schedule

TIMES = range(100)
UNITS = ("updates", "epochs")
units = pytest.mark.parametrize("unit", UNITS)


def step_rates(k):
    # He et al. (2016): divided by 10 again and again, here every 32.
    rate = 0.3
    for _ in range(k // 32):
        rate = rate / 10
    return rate


def exponential_rates(k):
    return 0.3 * math.exp(math.log(0.5) * k / 20)


def inverse_time_rates(k):
    # Bottou (2012): γ_t = γ₀ / (1 + γ₀ λ t), where γ₀ λ is one in 15.
    return 0.3 / (1 + k / 15)


def polynomial_rates(k):
    # Chen et al. (2018): the base rate times (1 − iter / max_iter) to the power.
    return 0.02 + 0.28 * math.sqrt((80 - k) / 80) if k < 80 else 0.02


def line_rates(k):
    return 0.3 - k * 0.3 / 64 if k < 64 else 0.0


def cosine_rates(k):
    # Loshchilov and Hutter (2017), equation 5, by the half angle: ½ (1 + cos α) = cos² ½ α.
    return 0.02 + 0.28 * math.cos(math.pi * k / 160) ** 2 if k < 80 else 0.02


def restart_rates(k):
    # Equation 5, cycle by cycle: of 10, 20 and 40.
    start, length = next((s, n) for s, n in ((0, 10), (10, 20), (30, 40), (70, 80)) if k < s + n)
    return 0.02 + 0.28 * math.cos(math.pi * (k - start) / length / 2) ** 2


def one_cycle_rates(k):
    # Up from 0.3 to 0.9 in 24 of 80, and down to 0.1; by the half angle.
    if k < 24:
        return 0.3 + 0.6 * math.sin(math.pi * k / 48) ** 2
    return 0.1 + 0.8 * math.cos(math.pi * (min(k, 80) - 24) / 112) ** 2


# name: (the schedule in a unit, its rates)
EACH = {
    "step": (lambda **unit: gd.StepDecay(0.3, **unit), 32, step_rates),
    "exponential": (lambda **unit: gd.ExponentialDecay(0.3, 0.5, **unit), 20, exponential_rates),
    "inverse time": (lambda **unit: gd.InverseTimeDecay(0.3, **unit), 15, inverse_time_rates),
    "polynomial": (
        lambda **unit: gd.PolynomialDecay(0.3, 0.02, 0.5, **unit),
        80,
        polynomial_rates,
    ),
    "line": (lambda **unit: gd.PolynomialDecay(0.3, **unit), 64, line_rates),
    "cosine": (lambda **unit: gd.CosineDecay(0.3, 0.02, **unit), 80, cosine_rates),
    "constant": (lambda **unit: gd.Constant(0.3), 1, lambda k: 0.3),
}
falling = pytest.mark.parametrize(("make", "length", "rates"), [*EACH.values()], ids=[*EACH])
EACH |= {
    "restarts": (lambda **unit: gd.CosineRestarts(0.3, 0.02, 2, **unit), 10, restart_rates),
    "restarts alike": (
        lambda **unit: gd.CosineRestarts(0.3, **unit),
        25,
        lambda k: 0.3 * math.cos(math.pi * (k % 25) / 50) ** 2,
    ),
    "one cycle": (lambda **unit: gd.OneCycle(0.9, 0.3, 0.1, **unit), 80, one_cycle_rates),
    "piecewise": (
        lambda **unit: gd.Piecewise([0.3, 0.5, 0.02], **{n: [k, 50] for n, k in unit.items()}),
        20,
        lambda k: 0.3 if k < 20 else 0.5 if k < 50 else 0.02,
    ),
}
each = pytest.mark.parametrize(("make", "length", "rates"), EACH.values(), ids=EACH)


def at(schedule, unit, k):
    """Return the rate at time k in a unit; the other count is one that must not matter."""
    return schedule(k, 7) if unit == "updates" else schedule(1000 + 13 * k, k)


def assert_rates(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-15)


# Rates -------------------------------------------------------------------------------------------


@units
@each
def test_a_hundred_rates_are_the_papers(make, length, rates, unit):
    schedule = make(**{unit: length})
    assert_rates([at(schedule, unit, k) for k in TIMES], [rates(k) for k in TIMES])


@units
@falling
def test_the_first_rate_is_the_one_given_and_none_is_below_zero(make, length, rates, unit):
    schedule = make(**{unit: length})
    assert at(schedule, unit, 0) == 0.3
    later = [at(schedule, unit, k) for k in (*TIMES, 10**6)]
    assert min(later) >= 0
    assert later == sorted(later, reverse=True)
    assert all(type(rate) is float for rate in later)


@each
def test_counted_in_epochs_it_stays_within_an_epoch(make, length, rates):
    schedule = make(epochs=length)
    assert len({schedule(updates, 3) for updates in TIMES}) == 1


@pytest.mark.parametrize("warm", [1, 5, 40])
@units
@each
@pytest.mark.pairs
def test_a_warm_up_climbs_to_the_first_rate_and_then_begins(make, length, rates, unit, warm):
    schedule = gd.WarmUp(make(**{unit: length}), **{unit: warm})
    expected = [0.3 / (warm + 1) * (k + 1) for k in range(warm)]
    expected += [rates(k) for k in range(100 - warm)]
    assert_rates([at(schedule, unit, k) for k in TIMES], expected)


def test_a_warm_up_of_a_number_is_one_of_a_constant():
    schedule = gd.WarmUp(0.3, epochs=4)
    assert_rates([schedule(0, k) for k in range(6)], [0.06, 0.12, 0.18, 0.24, 0.3, 0.3])


@each
def test_a_warm_up_in_another_unit_leaves_the_time_of_the_schedule_alone(make, length, rates):
    # Four updates an epoch: the warm-up is over in the third one.
    schedule = gd.WarmUp(make(epochs=length), updates=10)
    expected = [0.3 * (k + 1) / 11 if k < 10 else rates(k // 4) for k in range(200)]
    assert_rates([schedule(k, k // 4) for k in range(200)], expected)

    schedule = gd.WarmUp(make(updates=length), epochs=3)
    expected = [0.3 * (k // 4 + 1) / 4 if k < 12 else rates(k) for k in range(100)]
    assert_rates([schedule(k, k // 4) for k in TIMES], expected)


def test_a_warm_up_before_a_warm_up_counts_the_first_one_off():
    schedule = gd.WarmUp(gd.WarmUp(0.3, updates=2), updates=3)
    first = 0.3 / 3
    expected = [first / 4, first / 2, first * 3 / 4, first, 2 * first, 0.3, 0.3]
    assert_rates([schedule(k, 0) for k in range(7)], expected)


@examples(50)
@given(st.floats(1e-6, 10), st.floats(0, 1), st.integers(1, 500), st.integers(0, 700), st.data())
def test_a_decay_lies_between_its_ends(rate, share, length, k, data):
    end = share * rate
    power = data.draw(st.floats(0, 5))
    for schedule in (
        gd.CosineDecay(rate, end, updates=length),
        gd.PolynomialDecay(rate, end, power, updates=length),
    ):
        assert end * (1 - 1e-12) <= schedule(k, 0) <= rate * (1 + 1e-12)
        # The limit of (1 − t)ᵖ as p goes to 0 is a line that never falls.
        if k >= length and (power > 0 or isinstance(schedule, gd.CosineDecay)):
            assert schedule(k, 0) == pytest.approx(end, abs=1e-12 * rate)


@examples(20)
@given(st.integers(1, 40), st.integers(1, 3), st.integers(0, 3000))
def test_a_restart_is_at_the_top_and_each_cycle_is_the_first_drawn_out(length, growth, k):
    schedule, first = gd.CosineRestarts(0.3, 0.1, growth, updates=length), 0
    cycle = length
    while k >= first + cycle:
        first, cycle = first + cycle, cycle * growth
    assert schedule(first, 0) == pytest.approx(0.3, rel=1e-12)
    assert schedule(k, 0) == pytest.approx(
        gd.CosineDecay(0.3, 0.1, updates=cycle)(k - first, 0), rel=1e-9
    )


def test_a_cycle_begins_and_ends_where_nothing_else_is_said():
    schedule = gd.OneCycle(0.5, updates=100)
    assert_rates([schedule(k, 0) for k in (0, 30, 100, 10**6)], [0.02, 0.5, 0.0, 0.0])
    rates = [schedule(k, 0) for k in range(100)]
    assert rates == sorted(rates[:31]) + sorted(rates[31:], reverse=True)


TORCHS = {
    # PyTorch's phases end one update early, at 0.3 T − 1 and T − 1; momentum is left alone.
    "one cycle": (
        lambda torch, o: torch.optim.lr_scheduler.OneCycleLR(
            o, 0.5, total_steps=300, cycle_momentum=False
        ),
        lambda: gd.OneCycle(0.5, 0.02, 0.02 / 1e4, rise=89 / 299, updates=299),
    ),
    "restarts": (
        lambda torch, o: torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(o, 20, 2, 0.001),
        lambda: gd.CosineRestarts(0.5, 0.001, 2, updates=20),
    ),
    "restarts alike": (
        lambda torch, o: torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(o, 70),
        lambda: gd.CosineRestarts(0.5, updates=70),
    ),
    "piecewise": (
        lambda torch, o: torch.optim.lr_scheduler.MultiStepLR(o, [50, 210], gamma=0.2),
        lambda: gd.Piecewise([0.5, 0.1, 0.02], updates=[50, 210]),
    ),
}


@pytest.mark.parametrize(("theirs", "ours"), TORCHS.values(), ids=TORCHS)
def test_three_hundred_updates_are_those_of_pytorch(theirs, ours):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    model = gd.Sequential([gd.Dense(1)], 3, dtype="float64")
    parameters = torch.tensor(model.flat_params.copy())
    optimizer = torch.optim.SGD([parameters], lr=0.5)
    scheduler, updater = theirs(torch, optimizer), gd.SGD(ours())
    for _ in range(300):
        assert updater.learning_rate == pytest.approx(scheduler.get_last_lr()[0], rel=1e-9)
        g = rng.normal(size=model.flat_params.shape)
        model.flat_grads[...], parameters.grad = g, torch.tensor(g)
        updater.update(model)
        optimizer.step()
        scheduler.step()
    np.testing.assert_allclose(model.flat_params, parameters.numpy(), rtol=1e-10, atol=1e-10)


# What moves the parameters -----------------------------------------------------------------------

# 20 rows in batches of 4 are 5 updates an epoch.
X = np.random.default_rng(0).normal(size=(20, 3))
Y = np.random.default_rng(1).normal(size=20)


def batches():
    return gd.Batches(X, Y, batch_size=4, shuffle=True)


def trainer_at(rate, backend="numpy", **options):
    model = gd.Sequential([gd.Dense(1)], 3, dtype="float64", backend=backend)
    return gd.Trainer(model, "mse", gd.SGD(rate), **options)


class Moves:
    """Notes p_t − p_{t+1} and g_t of each update."""

    def __init__(self, trainer):
        self.pairs = []
        self.before = self.params(trainer)

    @staticmethod
    def params(trainer):
        return trainer.model.backend.to_numpy(trainer.model.flat_params).copy()

    def __call__(self, event):
        if event.name == "update":
            after = self.params(event.trainer)
            g = event.trainer.model.backend.to_numpy(event.trainer.model.flat_grads).copy()
            self.pairs.append((self.before - after, g))
            self.before = after


def moved(schedule, epochs, backend="numpy", **options):
    """Return the rate of each update, as the parameters moved by it."""
    trainer = trainer_at(schedule, backend, **options)
    moves = Moves(trainer)
    trainer.fit(batches(), epochs=epochs, callbacks=[moves])
    return moves.pairs


def assert_moved(pairs, expected):
    assert len(pairs) == len(expected)
    for (move, g), rate in zip(pairs, expected, strict=True):
        assert abs(g).max() > 1e-6
        np.testing.assert_allclose(move, rate * g, rtol=1e-9, atol=1e-14)


@pytest.mark.few
@each
def test_parameters_move_by_the_rate_of_their_update(backend, make, length, rates):
    # Scaled down, so that 100 updates keep gradients that can be seen.
    schedule = gd.WarmUp(make(updates=length), updates=3)
    expected = [0.3 * (k + 1) / 4 if k < 3 else rates(k - 3) for k in TIMES]
    assert_moved(moved(schedule, 20, backend), expected)


@each
def test_parameters_move_by_the_rate_of_their_epoch(make, length, rates):
    assert_moved(moved(make(epochs=length), 20), [rates(k // 5) for k in TIMES])


def test_an_update_of_several_batches_is_one_of_the_schedule():
    # 5 batches an epoch, two of them an update, and one left: 3 updates an epoch.
    by_update, by_epoch = gd.StepDecay(0.3, updates=4), gd.StepDecay(0.3, 0.5, epochs=2)
    pairs = moved(by_update, 4, accumulate=2)
    assert_moved(pairs, [0.3 / 10 ** (k // 4) for k in range(12)])
    assert_moved(moved(by_epoch, 4, accumulate=2), [0.3 / 2 ** (k // 6) for k in range(12)])


def test_a_second_fit_goes_on_in_the_schedule():
    trainer = trainer_at(gd.InverseTimeDecay(0.3, updates=15))
    moves = Moves(trainer)
    for _ in range(4):
        trainer.fit(batches(), callbacks=[moves])
    assert_moved(moves.pairs, [inverse_time_rates(k) for k in range(20)])


@units
def test_the_rate_that_an_updater_tells_is_that_of_its_next_update(unit):
    trainer, told = trainer_at(gd.InverseTimeDecay(0.3, **{unit: 3})), []

    def look(event):
        told.append((event.name, event.trainer.updater.learning_rate))

    trainer.fit(batches(), epochs=2, callbacks=[look])
    times = {
        "updates": [0, 1, 2, 3, 4, 5, 5, 6, 7, 8, 9, 10, 10, 10, 10],
        "epochs": [0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 2, 2, 2],
    }
    names = ["start", *["update"] * 5, "epoch", *["update"] * 5, "epoch", "end", "done"]
    assert [name for name, _ in told] == names
    assert_rates([rate for _, rate in told], [0.3 / (1 + t / 3) for t in times[unit]])


# Through a resume --------------------------------------------------------------------------------


def stop_at(update):
    def callback(event):
        if event.name == "update" and event.trainer.updates == update:
            event.trainer.stop()

    return callback


@pytest.mark.each
@pytest.mark.parametrize("update", [1, 7, 10, 13])
@units
@each
def test_a_resumed_run_goes_on_at_its_rate(tmp_path, make, length, rates, unit, update):
    schedule = gd.WarmUp(make(**{unit: length}), **{unit: 2})
    cut = trainer_at(schedule)
    cut.fit(batches(), epochs=4, callbacks=[stop_at(update)])
    cut.save(tmp_path / "run.npz")

    again = gd.Trainer.resume(tmp_path / "run.npz", batches())
    assert repr(again.updater.schedule) == repr(schedule)
    moves = Moves(again)
    again.fit(until_epoch=4, callbacks=[moves])
    times = [k if unit == "updates" else k // 5 for k in range(update, 20)]
    expected = [0.3 * (k + 1) / 3 if k < 2 else rates(k - 2) for k in times]
    assert_moved(moves.pairs, expected)

    whole = trainer_at(schedule)
    whole.fit(batches(), epochs=4)
    np.testing.assert_array_equal(again.model.flat_params, whole.model.flat_params)


def test_a_scale_is_resumed_beside_the_schedule(tmp_path):
    cut = trainer_at(gd.StepDecay(0.3, updates=8))
    cut.fit(batches(), epochs=4, callbacks=[stop_at(3)])
    cut.updater.scale = 0.5
    cut.save(tmp_path / "run.npz")
    again = gd.Trainer.resume(tmp_path / "run.npz", batches())
    moves = Moves(again)
    again.fit(until_epoch=2, callbacks=[moves])
    assert_moved(moves.pairs, [0.5 * 0.3 / 10 ** (k // 8) for k in range(3, 10)])


class Sawtooth(Schedule):
    """A custom schedule: down a line, and up again at once."""

    def __init__(self, top, *, updates=None, epochs=None):
        super().__init__(updates, epochs)
        self.top = top

    def rate(self, t):
        return self.top * (1 - t % 1)


def test_a_schedule_of_ones_own_defines_one_method_and_is_named_to_be_resumed(tmp_path):
    cut = trainer_at(gd.WarmUp(Sawtooth(0.3, updates=4), updates=2))
    cut.fit(batches(), epochs=4, callbacks=[stop_at(7)])
    cut.save(tmp_path / "run.npz")
    with pytest.raises(gd.CheckpointError, match=r"a class 'Sawtooth'.*custom=\[Sawtooth\]"):
        gd.Trainer.resume(tmp_path / "run.npz", batches())
    again = gd.Trainer.resume(tmp_path / "run.npz", batches(), custom=[Sawtooth])
    moves = Moves(again)
    again.fit(until_epoch=2, callbacks=[moves])
    assert_moved(moves.pairs, [0.3 * (1 - (k - 2) % 4 / 4) for k in range(7, 10)])


def test_a_schedule_without_a_rate_says_what_it_lacks():
    class Empty(Schedule):
        def __init__(self):
            super().__init__(1, None)

    with pytest.raises(NotImplementedError, match=r"Empty must define rate\(t\)"):
        Empty()(0, 0)


# Arguments ---------------------------------------------------------------------------------------

DECAYS = [
    kind
    for name, kind in SCHEDULES.items()
    if name not in ("Constant", "WarmUp", "Piecewise", "BatchGrowth")
]
decays = pytest.mark.parametrize("kind", DECAYS, ids=lambda kind: kind.__name__)


def test_all_schedules_are_known_and_public():
    assert list(SCHEDULES) == [kind.__name__ for kind in SCHEDULES.values()]
    assert set(SCHEDULES) <= set(gd.__all__)
    assert all(getattr(gd, name) is kind for name, kind in SCHEDULES.items())


@pytest.mark.parametrize("kind", [*DECAYS, gd.WarmUp], ids=lambda kind: kind.__name__)
def test_updates_or_epochs_one_of_the_two_is_given(kind):
    message = f"{kind.__name__} counts in updates or in epochs: give either .* not "
    with pytest.raises(ValueError, match=message + "neither"):
        kind(0.1)
    with pytest.raises(ValueError, match=message + "both"):
        kind(0.1, updates=3, epochs=3)
    for name, value in (("updates", 0), ("epochs", -1), ("updates", 2.5), ("epochs", "3")):
        with pytest.raises(ValueError, match=f"{name} must be an integer, at least 1"):
            kind(0.1, **{name: value})


@pytest.mark.parametrize("kind", [*DECAYS, gd.WarmUp], ids=lambda kind: kind.__name__)
def test_the_unit_is_named_and_never_a_number_by_its_place(kind):
    for unit in UNITS:
        parameter = inspect.signature(kind).parameters[unit]
        assert parameter.kind is inspect.Parameter.KEYWORD_ONLY


@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf, "0.1", None, True])
def test_a_rate_that_makes_no_sense_is_refused(value):
    message = "learning_rate must be a number, at least 0 and finite, not "
    for kind in DECAYS:
        with pytest.raises(ValueError, match=message):
            kind(value, updates=3)
    for make in (gd.Constant, lambda v: gd.WarmUp(v, updates=3)):
        with pytest.raises(ValueError, match=message):
            make(value)
    for name, kind in (
        ("factor", gd.StepDecay),
        ("factor", gd.ExponentialDecay),
        ("end", gd.CosineDecay),
        ("end", gd.PolynomialDecay),
        ("power", gd.PolynomialDecay),
    ):
        with pytest.raises(ValueError, match=f"{name} must be a number"):
            kind(0.1, **{name: value}, updates=3)


def test_the_pieces_fit_their_times():
    no_fit = (([], []), ([1], [3]), ([1, 2], []), ([1, 2, 3], [5, 5]), ([1, 2, 3], [5, 4]))
    for rates, times in no_fit:
        with pytest.raises(ValueError, match="learning_rates and epochs must be the rates"):
            gd.Piecewise(rates, epochs=times)
    for unit in UNITS:
        for times in ([0], [1.5], ["3"], [True]):
            with pytest.raises(ValueError, match=f"{unit} must be an integer, at least 1, not"):
                gd.Piecewise([0.1, 0.2], **{unit: times})
        with pytest.raises(ValueError, match="learning_rates must be a number, at least 0"):
            gd.Piecewise([0.1, -0.2], **{unit: [3]})
    with pytest.raises(TypeError, match="epochs"):
        gd.Piecewise([0.1, 0.2], epochs=3)
    for both in ({}, {"updates": [3], "epochs": [3]}):
        with pytest.raises(ValueError, match="counts in updates or in epochs: give either"):
            gd.Piecewise([0.1, 0.2], **both)
    assert gd.Piecewise(iter([0.1]), updates=np.array([], int))(0, 0) == 0.1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gd.OneCycle(0.1, rise=0, updates=3), "rise must be above 0"),
        (
            lambda: gd.OneCycle(0.1, rise=1, updates=3),
            "rise must be a number, at least 0",
        ),
        (lambda: gd.OneCycle(0.1, start=-1, updates=3), "start must be a number"),
        (lambda: gd.OneCycle(0.1, end=math.nan, updates=3), "end must be a number"),
        (
            lambda: gd.CosineRestarts(0.1, growth=0, updates=3),
            "growth must be an integer, at least",
        ),
        (lambda: gd.CosineRestarts(0.1, growth=1.5, updates=3), "growth must be an integer"),
        (lambda: gd.BatchGrowth(0, epochs=3), "batch_size must be an integer, at least 1"),
        (lambda: gd.BatchGrowth(10, 0.5, epochs=3), "factor must be a number, at least 1"),
        (lambda: gd.BatchGrowth(10, 2, 9, epochs=3), "largest=9 is below batch_size=10"),
        (lambda: gd.BatchGrowth(10, epochs=0), "epochs must be an integer, at least 1"),
    ],
)
def test_an_argument_that_makes_no_sense_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("kind", [gd.StepDecay, gd.ExponentialDecay])
def test_a_factor_of_zero_is_refused(kind):
    with pytest.raises(ValueError, match="factor must be "):
        kind(0.1, factor=0.0, updates=3)


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        (gd.Constant(0.1), "Constant(learning_rate=0.1)"),
        (gd.StepDecay(1, epochs=3), "StepDecay(learning_rate=1.0, factor=0.1, epochs=3)"),
        (
            gd.ExponentialDecay(0.1, 0.5, updates=3),
            "ExponentialDecay(learning_rate=0.1, factor=0.5, updates=3)",
        ),
        (gd.InverseTimeDecay(0.1, epochs=3), "InverseTimeDecay(learning_rate=0.1, epochs=3)"),
        (
            gd.PolynomialDecay(0.1, power=2, updates=3),
            "PolynomialDecay(learning_rate=0.1, end=0.0, power=2.0, updates=3)",
        ),
        (
            gd.CosineDecay(0.1, 0.01, epochs=3),
            "CosineDecay(learning_rate=0.1, end=0.01, epochs=3)",
        ),
        (
            gd.CosineRestarts(0.1, growth=2, epochs=3),
            "CosineRestarts(learning_rate=0.1, end=0.0, growth=2, epochs=3)",
        ),
        (
            gd.OneCycle(0.1, epochs=3),
            "OneCycle(learning_rate=0.1, end=0.0, rise=0.3, epochs=3)",
        ),
        (
            gd.Piecewise((1, 0.1), updates=(3,)),
            "Piecewise(learning_rates=[1.0, 0.1], updates=[3])",
        ),
        (
            gd.BatchGrowth(100, largest=500, epochs=3),
            "BatchGrowth(batch_size=100, factor=2.0, largest=500, epochs=3)",
        ),
        (
            gd.WarmUp(0.1, updates=3),
            "WarmUp(schedule=Constant(learning_rate=0.1), updates=3)",
        ),
    ],
)
def test_it_shows_the_call_that_makes_it_again(schedule, words):
    assert repr(schedule) == words
    again = eval(words, {name: getattr(gd, name) for name in SCHEDULES})
    assert repr(again) == words
    times = [(k, k // 4) for k in TIMES]
    assert [again(*time) for time in times] == [schedule(*time) for time in times]
    assert repr(type(schedule)(**schedule.config())) == words
