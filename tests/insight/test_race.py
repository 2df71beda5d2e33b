"""Batch sizes against the clock: what the clock counts, what is tuned, and who comes first.

The clock of most tests is made up: an update takes a fixed time and a time for each row.
"""

import math
import warnings

import numpy as np
import pytest
from budgets import examples
from hypothesis import given
from hypothesis import strategies as st

import minigd as gd
from minigd.insight import race as race_module
from minigd.insight.plots import axes as style
from minigd.insight.race import Curve, Race
from minigd.progress import RowProgress
from minigd.training.loop import Loop
from minigd.training.trainer import Trainer


class Clock:
    """A clock that updates and evaluations move on, and nothing else."""

    def __init__(self, monkeypatch, update=1e-3, row=1e-5, evaluation=0.0):
        self.now = 0.0
        step, evaluate = Loop.make_step, Trainer.evaluate

        def counted(loop, batch, *args):
            self.now += update + row * len(batch.x)
            return step(loop, batch, *args)

        def slow(trainer, *args, **options):
            self.now += evaluation
            return evaluate(trainer, *args, **options)

        monkeypatch.setattr(Loop, "make_step", counted)
        monkeypatch.setattr(Trainer, "evaluate", slow)
        monkeypatch.setattr(race_module, "clock", lambda: self.now)


def rows(n=240):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 3))
    return X, X @ [[1.0], [-2.0], [0.5]] + 0.05 * rng.normal(size=(n, 1))


def linear(seed=0):
    return gd.Sequential([gd.Dense(1)], inputs=3, dtype="float64", seed=seed)


def run(monkeypatch, sizes=(1, 20, None), seed_of_clock=None, **options):
    with monkeypatch.context() as patch:
        Clock(patch, **(seed_of_clock or {}))
        settings = {"updater": "sgd", "seconds": 0.5, "tuning": 0.5, "seeds": 3, "points": 12}
        return gd.race(linear, rows(), sizes, **{**settings, **options})


def test_time_in_evaluation_moves_no_curve(monkeypatch):
    quick = run(monkeypatch)
    slow = run(monkeypatch, seed_of_clock={"evaluation": 7.0})
    assert len(quick.curves) == len(slow.curves) == 9
    for one, other in zip(quick.curves, slow.curves, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_allclose(
                np.asarray(a, dtype=float), np.asarray(b, dtype=float), rtol=1e-9, atol=1e-9
            )


def test_a_real_sleep_in_evaluation_is_not_counted(monkeypatch):
    import time

    evaluate = Trainer.evaluate

    def sleepy(trainer, *args, **options):
        time.sleep(0.05)
        return evaluate(trainer, *args, **options)

    monkeypatch.setattr(Trainer, "evaluate", sleepy)
    found = gd.race(linear, rows(), [20], rates=[0.05], seconds=0.1, seeds=1, points=10)
    (curve,) = found.curves
    # Ten evaluations slept half a second, and the clock stood still: no point lies far behind the
    # end, and updates went on between points.
    assert curve.seconds[-1] < 0.1 + 0.05
    assert (np.diff(curve.updates) > 0).all()


def test_seconds_rows_and_updates_are_what_the_clock_says(monkeypatch):
    found = run(monkeypatch, rates=[0.01])
    for curve in found.curves:
        size = curve.batch_size or 240
        assert curve.updates[0] == curve.rows[0] == curve.seconds[0] == 0
        np.testing.assert_allclose(curve.rows, curve.updates * size, rtol=1e-12)
        cost = 1e-3 + 1e-5 * size
        np.testing.assert_allclose(curve.seconds, curve.updates * cost, rtol=1e-9)
        assert curve.seconds[-1] >= 0.5 > curve.seconds[-1] - cost - 1e-9
        assert len(curve.seconds) <= 12


def test_the_full_batch_contracts_as_the_closed_form_says(monkeypatch):
    rate = 0.1
    found = run(monkeypatch, [None], rates=[rate], seeds=2)
    X, y = rows()
    A = np.column_stack([X, np.ones(len(X))])
    H = 2 * A.T @ A / len(A)
    best, *_ = np.linalg.lstsq(A, y, rcond=None)
    least = float(np.mean((A @ best - y) ** 2))
    for curve in found.curves:
        W, b = linear(curve.seed + 1).params.values()
        theta = np.concatenate([W.ravel(), b]).reshape(-1, 1)
        expected = []
        for k in curve.updates.astype(int):
            error = np.linalg.matrix_power(np.eye(4) - rate * H, k) @ (theta - best)
            expected.append(least + float((0.5 * error.T @ H @ error)[0, 0]))
        np.testing.assert_allclose(curve.loss, expected, rtol=1e-9)


def test_each_batch_size_gets_its_own_rate_in_the_same_time(monkeypatch):
    seen = {}
    step = Loop.make_step

    def watched(loop, batch, *args):
        key = (len(batch.x), loop.transaction.updater.learning_rate)
        seen[key] = seen.get(key, 0) + 1
        return step(loop, batch, *args)

    monkeypatch.setattr(Loop, "make_step", watched)
    rates = [1e-4, 1e-2, 0.3, 30.0]
    found = run(monkeypatch, [1, None], rates=rates, tuning=0.8, seconds=0.05, seeds=1)
    chosen = {s.batch_size: s.learning_rate for s in found.standings}
    # A full batch of least squares is best at the large rate, where a batch of one diverges.
    assert chosen[None] == 0.3
    assert chosen[1] == 1e-2
    for size in (1, 240):
        for rate in rates:
            if rate == chosen[1 if size == 1 else None]:
                continue
            spent = seen[size, rate] * (1e-3 + 1e-5 * size)
            assert spent <= 0.2 + 2 * (1e-3 + 1e-5 * size)


def test_a_run_that_diverges_is_last(monkeypatch):
    found = run(monkeypatch, [1, 20], rates=[5.0], target=0.1)
    assert all(math.isinf(curve.loss[-1]) for curve in found.curves)
    assert "not reached" in str(found)


@pytest.mark.slow
def test_the_ranking_repeats_over_seeds(monkeypatch):
    orders = []
    for first in range(5):
        with monkeypatch.context() as patch:
            Clock(patch, row=1e-3)
            found = gd.race(
                lambda seed, first=first: linear(10 * first + seed),
                rows(),
                [1, 20, None],
                updater="sgd",
                seconds=3.0,
                seeds=3,
                target=0.01,
            )
        orders.append([s.batch_size for s in found.standings])
        assert found.standings[-1].place == 3
    # Rows are dear by this clock, so that a full batch comes last.
    assert orders == [[20, 1, None]] * 5


def curve(size, seed, *to):
    """Return a run that comes to a loss of 1 after so many seconds."""
    (seconds,) = to
    times = np.array([0.0, seconds, seconds * 2])
    return Curve(size, seed, 0.1, times, times * 10, times * 10, np.array([2.0, 1.0, 0.5]))


def test_seeds_that_overlap_are_a_tie():
    apart = Race(
        [*(curve(1, s, 1 + 0.1 * s) for s in range(3)), *(curve(9, s, 2) for s in range(3))]
    )
    assert [(s.place, s.batch_size) for s in apart.standings] == [(1, 1), (2, 9)]
    assert "tie" not in str(apart)
    times = [1.0, 1.3, 1.9], [1.8, 2.0, 2.1], [5.0, 5.1, 5.2]
    runs = [
        curve(size, s, t)
        for size, each in zip((1, 9, None), times, strict=True)
        for s, t in enumerate(each)
    ]
    tied = Race(runs, target=1.0)
    assert [(s.place, s.batch_size) for s in tied.standings] == [(1, 1), (1, 9), (3, None)]
    assert str(tied).count("tie") == 2


def standings_of(times):
    """Return the standings of sizes 1, 2, … that come to the target after these seconds."""
    runs = [curve(size, s, t) for size, each in enumerate(times, 1) for s, t in enumerate(each)]
    return Race(runs, target=1.0).standings


def test_ties_do_not_chain():
    # Each overlaps the next one, and the first is twenty times as fast as the last.
    times = [(0.05, 0.12), (0.1, 0.22), (0.2, 0.42), (0.4, 0.82), (0.8, 1.0)]
    assert [(s.batch_size, s.place) for s in standings_of(times)] == [
        (1, 1), (2, 1), (3, 3), (4, 3), (5, 5),
    ]  # fmt: skip


@examples(50)
@given(
    st.integers(1, 4).flatmap(
        lambda seeds: st.lists(
            st.lists(st.integers(1, 30), min_size=seeds, max_size=seeds), min_size=1, max_size=7
        )
    )
)
def test_sizes_share_a_place_only_if_seeds_do_not_separate_them(times):
    found = standings_of(times)
    assert sorted(s.batch_size for s in found) == list(range(1, len(times) + 1))
    assert [s.place for s in found] == sorted(s.place for s in found)
    medians = [float(np.median(s.seconds)) for s in found]
    assert medians == sorted(medians)
    for i, one in enumerate(found):
        # The place is one more than how many sizes have a better one.
        assert one.place == 1 + sum(s.place < one.place for s in found)
        for other in found[:i]:
            apart = max(other.seconds) < min(one.seconds) or max(one.seconds) < min(other.seconds)
            assert not (apart and one.place == other.place)
        # Who starts a place is separated from some size of the place before.
        if i and found[i - 1].place != one.place:
            before = [s for s in found if s.place == found[i - 1].place]
            assert any(max(s.seconds) < min(one.seconds) for s in before) or any(
                max(one.seconds) < min(s.seconds) for s in before
            )


def test_a_target_is_reached_where_the_loss_stays_below_it():
    one = Curve(
        1,
        0,
        0.1,
        *(np.arange(7.0) * k for k in (1, 10, 100)),
        np.array([4, 2, 0.5, 3, 1, 0.8, 0.9]),
    )
    # It was at 0.5 after 2 seconds, and above 1 again after 3.
    assert one.reached(1.0) == 4
    assert one.reached(1.0, "rows") == 40
    assert one.reached(2.0) == pytest.approx(3.5)
    assert one.reached(3.0) == pytest.approx(0.5)
    assert one.reached(0.9) == 4.5
    assert one.reached(5.0) == 0
    # At its end it is above 0.8, which it had come to.
    assert math.isinf(one.reached(0.8))
    assert math.isinf(one._replace(loss=np.array([4, 2, 0.5, 3, 1, 0.8, math.inf])).reached(9.0))
    # What was not finite in between has no line to interpolate on.
    assert one._replace(loss=np.array([4, 1, 0.5, math.inf, 1, 1, 1])).reached(1.0) == 4


def test_the_usual_target_is_one_that_all_runs_stay_at():
    losses = ([2.0, 0.1, 0.7], [2.0, 0.9, 0.4])
    runs = [curve(9, s, 1.0)._replace(loss=np.array(loss)) for s, loss in enumerate(losses)]
    found = Race(runs)
    assert found.target == 0.7
    assert all(math.isfinite(value) for value in found.standings[0].seconds)


# A constant prediction --------------------------------------------------------------------------


def test_a_target_that_a_constant_prediction_has_is_not_the_usual_one():
    slow = [curve(1, s, 1.0)._replace(loss=np.array([2.0, 1.9, 1.2])) for s in range(2)]
    quick = [curve(9, s, 1.0) for s in range(2)]
    assert Race([*slow, *quick]).target == 1.2
    found = Race([*slow, *quick], constant=1.0)
    assert (found.target, found.learned) == (0.5, True)
    assert [(s.batch_size, s.place) for s in found.standings] == [(9, 1), (1, 2)]
    assert "not reached" in str(found)
    assert Race([*slow, *quick], constant=0.5).target == 0.5
    with pytest.warns(
        UserWarning, match="a constant prediction already has a loss of 1, and a targ"
    ):
        assert found.at(1.5).target == 1.5
    assert found.at(0.7).constant == 1.0


def test_a_race_in_which_nothing_was_learned_says_so():
    found = Race([curve(size, s, 1.0) for size in (1, 9) for s in range(2)], constant=0.25)
    assert not found.learned
    assert found.target == 0.25
    assert str(found).count("not reached") == 2
    assert "no batch size ended below the loss of a constant prediction, 0.25: allow more" in str(
        found
    )


class Absolute(gd.Loss):
    """The mean absolute error, of which the median is the best constant."""

    def per_example(self, z, y):
        return abs(z - y).mean(axis=1)

    def gradient(self, z, y):
        return np.sign(z - y) / z.shape[1]


def entropy(p):
    return float(-sum(share * math.log(share) for share in p if share))


def constants():
    """Return (last layers, loss, y, weight, the lowest loss of a constant), by name."""
    rng = np.random.default_rng(3)
    n = 240
    numbers, weight = rng.exponential(size=n), rng.uniform(0, 2, size=n)
    weight[::7] = 0
    flags, kinds = (rng.uniform(size=n) < 0.2).astype(int), rng.integers(0, 3, size=n) % 3
    several = (rng.uniform(size=(n, 2)) < [0.3, 0.8]).astype(int)
    p = flags.mean()
    share = np.average(flags, weights=weight)
    mean = np.average(numbers, weights=weight)
    spread = np.average((numbers - mean) ** 2, weights=weight)
    smooth = 0.8 * p + 0.1
    kinds_of = np.bincount(kinds) / n
    both = several.mean(axis=0)
    dense = [gd.Dense(1)]
    return {
        "mse": (dense, "mse", numbers, None, numbers.var()),
        "weights": (dense, "mse", numbers, weight, spread),
        "absolute": (dense, Absolute(), numbers, None, abs(numbers - np.median(numbers)).mean()),
        "counts": (dense, "poisson", numbers, weight, mean - mean * math.log(mean)),
        "margin": (dense, "hinge", flags, None, 2 * p),
        "flags": ([gd.Dense(1), gd.Sigmoid()], None, flags, None, entropy([p, 1 - p])),
        "weighted flags": (
            [gd.Dense(1), gd.Sigmoid()], None, flags, weight, entropy([share, 1 - share])
        ),
        "logits": (dense, gd.BinaryCrossEntropy(True), flags, None, entropy([p, 1 - p])),
        "smoothed": (
            [gd.Dense(1), gd.Sigmoid()], gd.BinaryCrossEntropy(label_smoothing=0.2), flags, None,
            entropy([smooth, 1 - smooth]),
        ),
        "labels": (
            [gd.Dense(2), gd.Sigmoid()], None, several, None,
            np.mean([entropy([q, 1 - q]) for q in both]),
        ),
        "classes": ([gd.Dense(3), gd.Softmax()], None, kinds, None, entropy(kinds_of)),
        "one-hot": ([gd.Dense(3), gd.Softmax()], None, np.eye(3)[kinds], None, entropy(kinds_of)),
        "class logits": (
            [gd.Dense(3)], gd.CategoricalCrossEntropy(True), kinds, None, entropy(kinds_of)
        ),
        "one class": ([gd.Dense(1), gd.Sigmoid()], None, 0 * flags, None, 0.0),
    }  # fmt: skip


@pytest.mark.few
@pytest.mark.parametrize("name", constants())
@pytest.mark.parametrize("batches", [False, True])
def test_the_loss_of_a_constant_prediction_is_that_of_the_textbook(monkeypatch, name, batches):
    last, loss, y, weight, expected = constants()[name]
    X = np.random.default_rng(1).normal(size=(240, 3))
    data = (X, y) if weight is None else (X, y, weight)
    if batches:
        data = gd.Batches(X, y, batch_size=7, sample_weight=weight)

    def build(seed):
        layers = [type(layer)(**layer.config()) for layer in last]
        return gd.Sequential(layers, inputs=3, seed=seed)

    with monkeypatch.context() as patch:
        Clock(patch)
        settings = {"loss": loss, "rates": [1e-3], "seconds": 0.02, "seeds": 1, "points": 2}
        found = gd.race(build, data, [20], **settings)
    assert found.constant == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_the_constant_of_a_standardized_target_is_in_its_terms(monkeypatch):
    X, y = rows()

    def build(seed):
        layers = [gd.Dense(1), gd.Rescale()]
        model = gd.Sequential(layers, inputs=3, dtype="float64", seed=seed)
        model.adapt(gd.Batches(X, 1e3 + 50 * y))
        return model

    with monkeypatch.context() as patch:
        Clock(patch)
        settings = {"rates": [0.1], "seconds": 0.2, "seeds": 2}
        found = gd.race(build, (X, 1e3 + 50 * y), [20], **settings)
    assert found.constant == pytest.approx(1.0, rel=1e-9)
    assert found.target < 1


def test_a_target_that_a_constant_has_is_warned_about_before_the_race(monkeypatch):
    X, y = rows()
    words = (
        f"a constant prediction already has a loss of {y.var():.4g}, and a target of 1e.06 needs"
    )
    monkeypatch.setattr(Trainer, "fit", lambda *args, **options: pytest.fail("it was trained"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match=words):
            gd.race(linear, (X, y), [20], target=1e6)


def test_targets_that_do_not_fit_are_refused_by_name():
    X, y = rows()
    with pytest.raises(gd.ShapeError, match=r"y has shape \(240, 2\)"):
        gd.race(linear, (X, np.hstack([y, y])), [20], seconds=0.01)


def test_time_to_a_loss_lies_between_two_points():
    one = curve(1, 0, 4.0)
    assert one.reached(1.5) == pytest.approx(2.0)
    assert one.reached(2.5) == 0
    assert one.reached(0.75) == pytest.approx(6.0)
    assert one.reached(0.75, "rows") == pytest.approx(60.0)
    assert math.isinf(one.reached(0.1))


def test_the_table_is_about_a_loss_that_all_come_to():
    slow = curve(9, 0, 3.0)._replace(loss=np.array([2.0, 1.5, 1.2]))
    assert Race([curve(1, 0, 1.0), slow]).target == 1.2


def test_models_without_a_seed_are_drawn_anew(monkeypatch):
    with monkeypatch.context() as patch:
        Clock(patch)
        found = gd.race(
            lambda: linear(7), rows(), [20], updater="sgd", rates=[0.01], seconds=0.1, seeds=2
        )
    assert found.curves[0].loss[0] != found.curves[1].loss[0]


def test_other_rows_can_be_evaluated(monkeypatch):
    X, y = rows()
    with monkeypatch.context() as patch:
        Clock(patch)
        found = gd.race(
            linear,
            gd.Batches(X[:200], y[:200], batch_size=3),
            [20],
            updater=lambda rate: gd.SGD(rate, momentum=0.9),
            rates=[0.01],
            seconds=0.1,
            seeds=1,
            validation_data=(X[200:], y[200:]),
        )
    model = linear(1)
    expected = float(np.mean((model.predict(X[200:]) - y[200:]) ** 2))
    assert found.curves[0].loss[0] == pytest.approx(expected)


def test_the_plot_shows_medians_and_bands(monkeypatch):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    found = run(monkeypatch, rates=[0.01])
    for against in ("seconds", "rows", "updates"):
        _, ax = plt.subplots()
        assert found.plot(against, ax=ax) is ax
        labels = [line.get_label() for line in ax.get_lines()[:3]]
        assert labels == [f"batch {b}, rate 0.01" for b in (1, 20, "all")]
        line = ax.get_lines()[1]
        own = [c for c in found.curves if c.batch_size == 20]
        x = float(getattr(own[0], against)[5])
        values = sorted(np.interp(x, getattr(c, against), c.loss) for c in own)
        assert np.interp(x, *line.get_data()) == pytest.approx(values[1], rel=0.05)
        plt.close("all")
    with pytest.raises(ValueError, match="against must be"):
        found.plot("epochs")


def test_its_plot_has_the_colors_and_the_axes_of_the_other_plots():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    points = np.arange(1.0, 6.0)
    found = Race([Curve(b, 0, 0.1, points, points, points, 1 / points) for b in (1, 2, 3)])
    lines = found.plot().get_lines()[:3]
    assert [line.get_color() for line in lines] == list(style.COLORS[:3])
    assert [line.get_linestyle() for line in lines] == list(style.LINES[:3])
    plt.close("all")
    with pytest.raises(TypeError, match=r"ax must be one matplotlib Axes, not list"):
        found.plot(ax=[1])


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"batch_sizes": []}, "nothing to race"),
        ({"rates": []}, "nothing to race"),
        ({"seconds": 0}, "above 0"),
        ({"seeds": 0}, "seeds"),
        ({"points": 1}, "points"),
        ({"updater": "sdg"}, "unknown updater 'sdg'"),
    ],
)
def test_what_makes_no_race_is_refused(options, reason):
    settings = {"batch_sizes": [5], "seconds": 0.01, **options}
    with pytest.raises(ValueError, match=reason):
        gd.race(linear, rows(), **settings)


def test_two_points_are_the_first_and_the_last(monkeypatch):
    # The tuning has no more: its rates get the time that they were promised, in one fit each.
    fits = []
    fit = Trainer.fit
    monkeypatch.setattr(Trainer, "fit", lambda *a, **k: fits.append(a) or fit(*a, **k))
    found = run(monkeypatch, [20], rates=[0.01], points=2, seeds=2)
    for curve in found.curves:
        assert len(curve.seconds) == 2
        assert curve.seconds[1] == pytest.approx(0.5, abs=2e-3)
    assert len(fits) == 2


def test_a_size_that_diverges_leaves_the_table_to_the_others():
    bad = [curve(1, s, 1.0)._replace(loss=np.array([2.0, 5.0, math.inf])) for s in range(3)]
    found = Race([*bad, *(curve(9, s, 3.0) for s in range(3))])
    assert found.target == 0.5
    assert [(s.place, s.batch_size) for s in found.standings] == [(1, 9), (2, 1)]
    assert all(math.isinf(value) for value in found.standings[1].seconds)
    assert "not reached" in str(found)


def test_the_target_is_reached_by_every_seed(monkeypatch):
    found = run(monkeypatch, seeds=2)
    assert all(math.isfinite(value) for s in found.standings for value in s.seconds)


def test_weights_and_buffers_go_with_the_rows(monkeypatch):
    X, y = rows()
    weight = np.zeros(len(X))
    weight[:40] = 1
    with monkeypatch.context() as patch:
        Clock(patch)
        settings = {"updater": "sgd", "rates": [0.01], "seconds": 0.1, "seeds": 1}
        one = gd.race(linear, (X, y, weight), [None], **settings)
        other = gd.race(
            linear, gd.Batches(X, y, batch_size=7, sample_weight=weight), [None], **settings
        )
    assert one.curves[0].rows[-1] == other.curves[0].rows[-1] == 40 * one.curves[0].updates[-1]
    np.testing.assert_array_equal(one.curves[0].loss, other.curves[0].loss)


def test_an_updater_that_all_would_share_is_refused():
    with pytest.raises(TypeError, match=r"updater=lambda rate: gd\.Adam\(rate\)"):
        gd.race(linear, rows(), [5], seconds=0.01, updater=gd.Adam())


def test_the_bar_counts_each_row_once_and_no_more_seconds_than_a_run_has(monkeypatch):
    seen = []
    monkeypatch.setattr(RowProgress, "advance", lambda bar, rows, share: seen.append((rows, share)))
    found = run(monkeypatch, [20, None], rates=[0.01], progress=True)
    rows_counted, shares = zip(*seen, strict=True)
    assert sum(rows_counted) == sum(curve.rows[-1] for curve in found.curves)
    # The last update of a run ends after its half second.
    assert max(curve.seconds[-1] for curve in found.curves) > 0.5
    done = [(i + min(t / 0.5, 1)) / 6 for i, c in enumerate(found.curves) for t in c.seconds[1:]]
    np.testing.assert_allclose(shares, done, rtol=1e-12)


def test_the_bar_is_closed_where_a_run_fails(monkeypatch):
    closed = []
    monkeypatch.setattr(race_module.RowProgress, "close", lambda watch: closed.append(watch.what))

    def build(seed):
        if seed:
            raise RuntimeError("no more memory")
        return gd.Sequential([gd.Dense(1)], inputs=1, seed=seed)

    with pytest.raises(RuntimeError, match="no more memory"):
        gd.race(build, (np.ones((4, 1)), np.arange(4.0)), [2], seconds=0.01, rates=[0.1])
    assert closed == ["race"]
