"""Plots: what is drawn is what the history, the schedule, the model and the rows say.

Lines, points, fillings, labels and scales are looked at, and no pixels.
"""

import functools
import math
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
from budgets import examples
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import colors, pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import minigd as gd
from minigd.insight.plots import axes as style
from minigd.insight.plots import boundaries

NAN = math.nan


@pytest.fixture(autouse=True)
def without_a_window():
    """Draw without a screen, let nobody show a figure, and leave no figure open."""
    pyplot.switch_backend("Agg")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pyplot, "show", lambda *args: pytest.fail("a plot was shown"))
        yield
    pyplot.close("all")


def lines(ax):
    """Return the lines of axes, and of those on the same place, by label."""
    same = [other for other in ax.figure.axes if other.bbox.bounds == ax.bbox.bounds]
    return {line.get_label(): line for other in same for line in other.get_lines()}


def xy(line):
    return np.asarray(line.get_xdata()).tolist(), np.asarray(line.get_ydata()).tolist()


def legend(ax):
    texts = [other.get_legend().get_texts() for other in ax.figure.axes if other.get_legend()]
    return [text.get_text() for each in texts for text in each]


def quantiles(n=300):
    X = np.random.default_rng(0).normal(size=(n, 2))
    return X, (X[:, 0] ** 2 + X[:, 1] ** 2 < 1.2).astype(int)


@functools.cache
def classifier(classes=1):
    """Return a trained classifier of two features; several classes lie in sectors."""
    X, y = quantiles()
    if classes == 1:
        last, loss = gd.Sigmoid(), "binary_crossentropy"
    else:
        y = ((np.arctan2(X[:, 0], X[:, 1]) / (2 * np.pi) + 0.5) * classes).astype(int)
        last, loss = gd.Softmax(), "categorical_crossentropy"
    model = gd.Sequential([gd.Dense(16), gd.Tanh(), gd.Dense(classes), last], inputs=2, seed=1)
    model.fit(X, y, loss=loss, updater=gd.Adam(0.03), batch_size=50, epochs=10)
    return model, X, y


FULL = {
    "loss": [3.0, 2.0, 1.0],
    "accuracy": [0.5, 0.6, 0.9],
    "val_loss": [3.5, 1.5, 2.5],
    "val_accuracy": [0.4, 0.7, 0.6],
    "seconds": [9.0, 9.0, 9.0],
    "updates": [5.0, 10.0, 15.0],
}


# What all of them do --------------------------------------------------------------------------

ALL = {
    "history": lambda ax: gd.History(FULL).plot(ax=ax),
    "decision boundary": lambda ax: gd.plot_decision_boundary(*classifier(), ax=ax),
    "decision boundary of three": lambda ax: gd.plot_decision_boundary(*classifier(3), ax=ax),
    "schedule": lambda ax: gd.plot_schedule(gd.CosineDecay(0.1, epochs=5), epochs=6, ax=ax),
    "rates": lambda ax: gd.RateCurve([1e-3, 1e-2], [2.0, 1.0], 1e-3).plot(ax=ax),
    "predictions": lambda ax: gd.plot_predictions([1.0, 2.0], [1.5, 2.0], ax=ax),
    "confusion": lambda ax: gd.plot_confusion(*classifier(), ax=ax),
}


@pytest.mark.parametrize("plot", ALL.values(), ids=ALL)
def test_the_axes_given_are_drawn_into_and_returned(plot):
    figure = Figure()
    first, second = figure.subplots(1, 2)
    assert plot(second) is second
    figure.canvas.draw()
    assert second.has_data()
    assert not first.has_data()
    assert pyplot.get_fignums() == []  # a figure of one's own is none of pyplot's


@pytest.mark.parametrize("plot", ALL.values(), ids=ALL)
def test_without_axes_there_is_a_new_figure_that_pyplot_knows(plot):
    busy = pyplot.subplots()[1]
    ax = plot(None)
    assert isinstance(ax, Axes)
    assert ax is not busy
    assert not busy.has_data()
    assert ax.figure.number in pyplot.get_fignums()
    ax.figure.canvas.draw()


@pytest.mark.parametrize("plot", ALL.values(), ids=ALL)
def test_all_text_lies_inside_a_new_figure(plot):
    ax = plot(None)
    ax.figure.canvas.draw()
    box = ax.figure.get_tightbbox()
    width, height = ax.figure.get_size_inches()
    assert box.x0 >= -0.01
    assert box.y0 >= -0.01
    assert box.x1 <= width + 0.01
    assert box.y1 <= height + 0.01


@pytest.mark.parametrize("plot", ALL.values(), ids=ALL)
def test_several_axes_at_once_are_refused(plot):
    with pytest.raises(TypeError, match=r"ax must be one matplotlib Axes, not ndarray.*axes\[0\]"):
        plot(pyplot.subplots(1, 2)[1])


@pytest.mark.parametrize("plot", ALL.values(), ids=ALL)
def test_a_missing_matplotlib_names_its_extra(plot, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(
        ImportError,
        match=r"Matplotlib is not installed, and a plot needs it: `pip install matplotlib`",
    ):
        plot(None)


def test_a_missing_scikit_learn_names_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.metrics", None)
    with pytest.raises(
        ImportError,
        match=r"scikit-learn is not installed, and plot_confusion needs it: `pip install",
    ):
        gd.plot_confusion(np.array([0, 1]), y=[0, 1])


def test_the_colors_are_those_of_okabe_and_ito_and_differ_in_grey_and_by_marker():
    # Okabe and Ito (2008), figure 16, in red, green, blue.
    published = {
        (0, 0, 0), (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178),
        (213, 94, 0), (204, 121, 167),
    }  # fmt: skip
    drawn = {tuple(round(255 * c) for c in colors.to_rgb(name)) for name in style.COLORS}
    assert len(drawn) == len(style.COLORS) == 7
    assert drawn < published
    assert len(set(style.MARKERS)) == 10


# History --------------------------------------------------------------------------------------


def test_a_history_is_drawn_as_it_is():
    history = gd.History(FULL)
    ax = history.plot()
    drawn = lines(ax)
    for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
        assert xy(drawn[name]) == ([1, 2, 3], FULL[name])
    assert list(drawn) == [
        "loss", "val_loss", "lowest val_loss: epoch 2", "accuracy", "val_accuracy",
    ]  # fmt: skip
    assert ax.get_xlabel() == "epoch"
    assert ax.get_ylabel() == "loss"


def test_metrics_have_a_scale_of_their_own():
    ax = gd.History({**FULL, "mae": [1e3, 1e2, 1e1]}).plot()
    (other,) = [each for each in ax.figure.axes if each is not ax]
    assert {line.get_label() for line in other.get_lines()} == {"accuracy", "val_accuracy", "mae"}
    assert other.get_ylabel() == "accuracy, mae"
    assert ax.get_ylim()[1] < 10
    assert legend(ax) == [
        "loss", "val_loss", "accuracy", "val_accuracy", "mae", "lowest val_loss: epoch 2",
    ]  # fmt: skip


def test_what_is_named_is_drawn_and_nothing_else():
    ax = gd.History(FULL).plot("accuracy")
    assert list(lines(ax)) == ["accuracy", "val_accuracy", "lowest val_loss: epoch 2"]
    assert ax.get_ylabel() == "accuracy"
    assert len(ax.figure.axes) == 1


def test_training_and_validation_and_each_metric_look_different_without_color():
    names = ["loss", "a", "b", "c", "d"]
    ax = gd.History({f"{p}{n}": [1.0, 2.0] for n in names for p in ("", "val_")}).plot()
    looks = [
        (line.get_linestyle(), line.get_marker(), line.get_fillstyle())
        for line in lines(ax).values()
    ]
    assert len(set(looks)) == len(looks) == 11


@pytest.mark.parametrize(
    ("columns", "epoch", "label"),
    [
        ({"loss": [2.0, 1.0, 3.0]}, 2, "lowest loss: epoch 2"),
        ({"loss": [1.0, 2.0], "val_loss": [5.0, 4.0]}, 2, "lowest val_loss: epoch 2"),
        ({"loss": [1.0, 1.0, 1.0]}, 1, "lowest loss: epoch 1"),
        ({"loss": [3.0, 2.0], "val_loss": [NAN, NAN]}, 2, "lowest loss: epoch 2"),
        ({"loss": [1.0, 2.0, 3.0], "val_loss": [NAN, 2.0, NAN]}, 2, "lowest val_loss: epoch 2"),
    ],
)
def test_the_best_epoch_is_marked(columns, epoch, label):
    drawn = lines(gd.History(columns).plot())
    assert drawn[label].get_xdata() == [epoch, epoch]


def test_what_was_not_measured_is_left_out_and_said():
    ax = gd.History({"loss": [1.0, NAN, 3.0], "val_loss": [NAN] * 3}).plot()
    drawn = lines(ax)
    assert xy(drawn["loss"]) == ([1, 3], [1.0, 3.0])
    assert xy(drawn["val_loss: not finite"]) == ([], [])
    ax.figure.canvas.draw()


def test_nothing_finite_at_all_is_drawn_empty_and_said():
    ax = gd.History({"loss": [NAN, NAN]}).plot()
    assert legend(ax) == ["loss: not finite"]
    ax.figure.canvas.draw()


@pytest.mark.parametrize("epochs", [1, 2, 7, 300])
def test_epochs_are_whole_numbers_with_room_around_them(epochs):
    ax = gd.History({"loss": [0.5] * epochs}).plot()
    ax.figure.canvas.draw()
    assert ax.get_xlim() == (0.5, epochs + 0.5)
    shown = [tick for tick in ax.get_xticks() if 0.5 <= tick <= epochs + 0.5]
    assert shown
    assert all(tick == round(tick) for tick in shown)


@pytest.mark.parametrize("width", [4.5, 9])
@pytest.mark.parametrize("metrics", [1, 2, 5])
def test_no_line_runs_under_the_legend_of_two_scales(metrics, width):
    values = np.random.default_rng(0).normal(size=(5, 20)).tolist()
    columns = {"loss": values[0], "val_loss": values[1]}
    columns |= {f"metric{k}": values[2] for k in range(metrics)}
    ax = pyplot.subplots(1, 2, figsize=(2 * width, 4.8), layout="constrained")[1][0]
    gd.History(columns).plot(ax=ax)
    ax.figure.canvas.draw()
    (box,) = [each.get_legend().get_window_extent() for each in ax.figure.axes if each.get_legend()]
    assert ax.bbox.x0 <= box.x0 < box.x1 <= ax.bbox.x1
    for name, line in lines(ax).items():
        if not name.startswith("lowest"):
            assert (line.axes.transData.transform(line.get_xydata())[:, 1] < box.y0).all(), name


def test_a_history_without_an_epoch_and_a_wrong_name_are_refused():
    with pytest.raises(ValueError, match="has no epochs to plot: train first"):
        gd.History().plot()
    with pytest.raises(ValueError, match="can't plot 'acuracy': it holds loss, accuracy, each"):
        gd.History(FULL).plot("acuracy")


# Schedules and rates --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "length"),
    [
        (gd.CosineDecay(0.1, updates=30), {"updates": 40}),
        (gd.WarmUp(gd.StepDecay(0.1, epochs=3), epochs=4), {"epochs": 12}),
        (gd.Constant(0.1), {"epochs": 3}),
        (gd.Constant(0.0), {"updates": 1}),
        (gd.WarmUp(0.5, epochs=2), {"epochs": 4}),
    ],
    ids=repr,
)
def test_a_schedule_is_drawn_as_it_is(schedule, length):
    ((unit, n),) = length.items()
    ax = gd.plot_schedule(schedule, **length)
    (line,) = ax.get_lines()
    times, rates = xy(line)
    expected = [schedule(t, 0) if unit == "updates" else schedule(0, t) for t in range(n)]
    assert times == list(range(n + 1))
    assert rates == [*expected, expected[-1]]
    assert line.get_drawstyle() == "steps-post"  # a rate holds until the next update or epoch
    assert ax.get_xlabel() == f"{unit} done"
    assert ax.get_ylim()[0] == 0


def test_a_schedule_of_updates_and_epochs_is_drawn_with_both():
    schedule = gd.WarmUp(gd.StepDecay(1.0, factor=0.5, epochs=1), updates=4)
    times, rates = xy(gd.plot_schedule(schedule, updates=12, epochs=3).get_lines()[0])
    assert times == list(range(13))
    assert rates[:4] == [0.2, 0.4, 0.6, 0.8]
    # Three epochs of four updates: the second begins after 4.
    assert rates[4:] == [0.5] * 4 + [0.25] * 5


def test_a_long_schedule_is_thinned_and_stays_exact_where_it_is_drawn():
    schedule = gd.ExponentialDecay(0.1, updates=10_000)
    times, rates = xy(gd.plot_schedule(schedule, updates=1_000_000).get_lines()[0])
    assert len(times) <= 2_001
    assert (times[0], times[-1]) == (0, 1_000_000)
    assert rates[:-1] == [schedule(t, 0) for t in times[:-1]]


def test_schedules_in_the_same_axes_can_be_told_apart():
    ax = gd.plot_schedule(gd.CosineDecay(0.1, epochs=9), epochs=9)
    gd.plot_schedule(gd.StepDecay(0.1, epochs=3), epochs=9, ax=ax)
    one, other = ax.get_lines()
    assert one.get_color() != other.get_color()
    assert one.get_linestyle() != other.get_linestyle()
    assert one.get_label().startswith("CosineDecay(")


@pytest.mark.parametrize(
    ("schedule", "length", "error", "message"),
    [
        (gd.CosineDecay(0.1, epochs=5), {}, ValueError, r"counts in epochs.* epochs=\.\.\."),
        (gd.CosineDecay(0.1, updates=5), {"epochs": 5}, ValueError, r"in updates.* updates=\.\.\."),
        (gd.Constant(0.1), {}, ValueError, "counts in updates or epochs"),
        (
            gd.WarmUp(gd.CosineDecay(0.1, epochs=5), updates=3),
            {"epochs": 5},
            ValueError,
            r"counts in epochs and updates.* updates=\.\.\.",
        ),
        (gd.CosineDecay(0.1, epochs=5), {"epochs": 0}, ValueError, "epochs must be an integer"),
        (0.1, {"epochs": 5}, TypeError, "takes a Schedule, not 0.1"),
    ],
)
def test_what_is_no_schedule_or_has_no_length_is_refused(schedule, length, error, message):
    with pytest.raises(error, match=message):
        gd.plot_schedule(schedule, **length)


def test_a_rate_curve_is_drawn_as_it_is():
    X, y = quantiles()
    curve = gd.find_learning_rate(
        gd.Sequential([gd.Dense(4), gd.Tanh(), gd.Dense(1)], 2), X, y, loss="mse", updates=30
    )
    ax = curve.plot()
    line, mark = ax.get_lines()
    assert xy(line) == (curve.rates, curve.losses)
    assert mark.get_xdata() == [curve.suggestion] * 2
    assert ax.get_xscale() == "log"
    assert legend(ax) == [f"suggestion: {curve.suggestion:.2g}"]


# Predictions ----------------------------------------------------------------------------------

numbers = st.integers(-(10**6), 10**6).map(lambda k: k / 8)


@examples(15)
@given(rows=st.lists(st.tuples(numbers, numbers), min_size=1, max_size=20))
def test_predictions_are_drawn_against_the_truth(rows):
    true, predicted = np.array(rows).T
    ax = gd.plot_predictions(true, predicted[:, None])
    (points,) = ax.collections
    np.testing.assert_array_equal(points.get_offsets(), np.array(rows))
    x, y = xy(ax.get_lines()[0])
    assert x == y  # the diagonal
    assert x[0] < min(true.min(), predicted.min())
    assert x[1] > max(true.max(), predicted.max())
    assert ax.get_xlim() == ax.get_ylim() == tuple(x)
    pyplot.close("all")


def test_r2_is_that_of_scikit_learn():
    from sklearn.metrics import r2_score

    rng = np.random.default_rng(0)
    true = rng.normal(size=1200)
    predicted = true + rng.normal(size=1200)
    title = gd.plot_predictions(true, predicted).get_title()
    assert title == f"R² = {r2_score(true, predicted):.3f}, 1,200 rows"


def test_predictions_from_any_backend(backend):
    values = backend.asarray(np.array([1.0, 2.0]))
    ax = gd.plot_predictions(values, values)
    assert ax.get_title() == "R² = 1.000, 2 rows"


@pytest.mark.parametrize(
    ("true", "predicted", "error", "message"),
    [
        ([1.0, 2.0], [1.0], gd.ShapeError, "y_true has 2 rows and y_pred 1"),
        ([], [], gd.ShapeError, "at least one"),
        (np.ones((3, 2)), np.ones((3, 2)), gd.ShapeError, r"one output .* y_true\[:, 0\]"),
        ([1.0, NAN], [1.0, 1.0], gd.DataError, "y_true holds nan at row 1"),
        ([1.0, 1.0], [1.0, math.inf], gd.DataError, "y_pred holds inf at row 1"),
        (["a"], [1.0], gd.DataError, "y_true must hold numbers"),
    ],
)
def test_predictions_that_do_not_fit_are_refused(true, predicted, error, message):
    with pytest.raises(error, match=message):
        gd.plot_predictions(true, predicted)
    assert pyplot.get_fignums() == []


# Confusion ------------------------------------------------------------------------------------


def drawn_counts(ax):
    counts = [int(text.get_text()) for text in ax.texts]
    side = math.isqrt(len(counts))
    assert (ax.images[0].get_array() == np.reshape(counts, (side, side))).all()
    return np.reshape(counts, (side, side)).tolist()


def labels(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


@pytest.mark.parametrize("classes", [1, 3])
def test_a_confusion_matrix_counts_what_the_model_predicts(classes):
    from sklearn.metrics import confusion_matrix

    model, X, y = classifier(classes)
    p = model.predict(X)
    chosen = p[:, 0] > 0.5 if classes == 1 else p.argmax(axis=1)
    expected = confusion_matrix(y, chosen).tolist()
    one_hot = np.eye(max(2, classes), dtype=int)[y][:, -classes:]
    for ways in ((model, X, y), (model, X, y[:, None]), (model, X, one_hot), (p, None, y)):
        assert drawn_counts(gd.plot_confusion(*ways)) == expected
    assert drawn_counts(gd.plot_confusion(chosen.astype(int), y=y)) == expected


def test_logits_and_outputs_of_another_loss_are_cut_where_they_are_in_training():
    X, y = quantiles()
    y = (X[:, 0] > 0.3).astype(int)
    for loss in ("mse", gd.BinaryCrossEntropy(from_logits=True)):
        model = gd.Sequential([gd.Dense(1)], inputs=2, seed=1)
        model.fit(X, y, loss=loss, metrics=["accuracy"], epochs=3)
        counts = np.array(drawn_counts(gd.plot_confusion(model, X, y)))
        assert counts.trace() / counts.sum() == pytest.approx(model.evaluate(X, y)["accuracy"])
        assert 0 < counts.trace() < len(X)


def test_any_object_with_predict_and_classes_by_name():
    class Estimator:
        def predict(self, X):
            return np.where(X[:, 0] > 0, "dog", "cat")

    X = np.array([[1.0], [-1.0], [2.0]])
    ax = gd.plot_confusion(Estimator(), X, ["dog", "dog", "cat"])
    assert drawn_counts(ax) == [[0, 1], [1, 1]]
    assert labels(ax.xaxis) == labels(ax.yaxis) == ["cat", "dog"]


def test_names_stand_for_the_numbers_and_a_class_that_does_not_occur_is_drawn():
    ax = gd.plot_confusion(np.array([0, 0, 1]), y=np.array([0, 1, 1]), classes=["a", "b", "c"])
    assert drawn_counts(ax) == [[1, 0, 0], [1, 1, 0], [0, 0, 0]]
    assert labels(ax.xaxis) == ["a", "b", "c"]
    p = np.array([[0.1], [0.8]])
    assert labels(gd.plot_confusion(p, y=[0, 1], classes=["no", "yes"]).yaxis) == ["no", "yes"]


def test_probabilities_of_one_class_in_a_row():
    assert drawn_counts(gd.plot_confusion(np.array([0.2, 0.7]), y=[1, 1])) == [[0, 0], [1, 1]]


@pytest.mark.parametrize("value", [0, 3, "cat"])
def test_one_row_makes_no_warning(value):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert drawn_counts(gd.plot_confusion(np.array([value]), y=[value])) == [[1]]


@pytest.mark.slow
def test_twenty_classes_of_long_names_do_not_overlap():
    y = np.repeat(np.arange(20), 20_000)
    ax = gd.plot_confusion(y, y=y, classes=[f"a class of a long name {k}" for k in range(20)])
    ax.figure.canvas.draw()
    cell = ax.get_window_extent().width / 20
    assert max(text.get_window_extent().width for text in ax.texts) < cell
    heights = [label.get_window_extent().height for label in ax.get_yticklabels()]
    assert max(heights) < cell
    assert ax.get_xticklabels()[0].get_rotation() == 45


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ((np.array([0, 1]),), TypeError, "the true classes are missing"),
        ((np.array([0, 1]), None, [0]), gd.ShapeError, "has 2 rows and y has 1"),
        ((np.zeros(0, int), None, []), gd.DataError, "no rows"),
        ((np.array([0, 1]), None, ["a", "b"]), gd.DataError, "both as numbers, or both as names"),
        ((np.array([[-3.0], [5.0]]), None, [0, 1]), gd.DataError, "these range from -3 to 5"),
        ((np.array([[0.5, NAN]]), None, [0]), gd.DataError, "the predictions holds nan"),
        ((np.zeros((2, 3)), None, [0, 3]), gd.DataError, "classes 0 to 2, and y holds 3"),
        ((np.zeros((2, 3, 4)), None, [0, 3]), gd.ShapeError, r"\(n, K\) or \(n,\)"),
    ],
)
def test_predictions_without_a_class_are_refused(given, error, message):
    with pytest.raises(error, match=message):
        gd.plot_confusion(*given)


@pytest.mark.parametrize(
    ("classes", "error", "message"),
    [
        (["a"], gd.ShapeError, "classes has 1 names, but there are 2 classes"),
        ("ab", TypeError, r"classes must be a list, \['ab'\]"),
    ],
)
def test_names_that_are_not_as_many_are_refused(classes, error, message):
    with pytest.raises(error, match=message):
        gd.plot_confusion(np.array([0, 1]), y=[0, 1], classes=classes)
    with pytest.raises(error, match=message):
        gd.plot_decision_boundary(*classifier(), classes=classes)


# Decision boundary ----------------------------------------------------------------------------


def filled_at(contour, points):
    """Return which of a contour's regions holds each point, or -1."""
    where = np.full(len(points), -1)
    for k, path in enumerate(contour.get_paths()):
        if len(path.vertices):
            where[path.contains_points(points)] = k
    return where


def test_the_filling_is_what_the_model_predicts():
    model, X, y = classifier()
    ax = gd.plot_decision_boundary(model, X, y)
    filled = next(c for c in ax.collections if hasattr(c, "levels") and c.filled)
    np.testing.assert_allclose(filled.levels, np.linspace(0, 1, 11))
    points = np.random.default_rng(1).uniform(X.min(axis=0), X.max(axis=0), size=(500, 2))
    p = model.predict(points)[:, 0]
    clear = abs(p * 10 - np.round(p * 10)) > 0.1  # not beside a step
    assert clear.sum() > 100
    assert (filled_at(filled, points[clear]) == np.floor(p[clear] * 10)).all()
    bar = ax.figure.axes[-1]
    assert bar.get_ylabel() == "P(class 1)"
    assert bar.get_ylim() == (0, 1)


def test_the_boundary_is_where_the_probability_is_a_half():
    model, X, y = classifier()
    ax = gd.plot_decision_boundary(model, X, y)
    (line,) = [c for c in ax.collections if hasattr(c, "levels") and not c.filled]
    corners = np.concatenate([path.vertices for path in line.get_paths()])
    assert len(corners) > 10
    np.testing.assert_allclose(model.predict(corners)[:, 0], 0.5, atol=0.02)


@pytest.mark.parametrize("classes", [3, 7])
def test_of_several_classes_the_likeliest_fills_each_place(classes):
    model, X, y = classifier(classes)
    ax = gd.plot_decision_boundary(model, X, y)
    filled = [c for c in ax.collections if hasattr(c, "levels") and c.filled]
    shades = [tuple(c.get_facecolor()[0][:3]) for c in filled]
    points = np.random.default_rng(1).uniform(X.min(axis=0), X.max(axis=0), size=(500, 2))
    p = model.predict(points)
    ranked = np.sort(p, axis=1)
    clear = ranked[:, -1] - ranked[:, -2] > 0.05
    assert clear.sum() > 100
    expected = [boundaries._shades(classes)[k][:3] for k in p.argmax(axis=1)]
    for contour, shade in zip(filled, shades, strict=True):
        inside = filled_at(contour, points) >= 0
        wanted = np.array([np.allclose(shade, each) for each in expected])
        assert (inside[clear] == wanted[clear]).all()
    bar = ax.figure.axes[-1]
    assert labels(bar.yaxis) == [f"class {k}" for k in range(classes)]
    assert ax.get_legend() is None


@pytest.mark.parametrize("classes", [1, 3])
def test_every_row_is_drawn_with_the_marker_of_its_class(classes):
    model, X, y = classifier(classes)
    names = ["a", "b", "c"][: max(2, classes)]
    ax = gd.plot_decision_boundary(model, X, y, classes=names)
    points = {c.get_label(): c for c in ax.collections if not hasattr(c, "levels")}
    assert list(points) == names
    for k, name in enumerate(names):
        np.testing.assert_array_equal(points[name].get_offsets(), X[y == k])
    assert len({tuple(c.get_paths()[0].vertices.ravel()) for c in points.values()}) == len(names)
    if classes == 1:
        assert legend(ax) == ["a", "b"]
        assert ax.figure.axes[-1].get_ylabel() == "P(b)"


def test_two_outputs_are_a_probability_too():
    model, X, y = classifier(2)
    ax = gd.plot_decision_boundary(model, X, y)
    assert ax.figure.axes[-1].get_ylabel() == "P(class 1)"
    (line,) = [c for c in ax.collections if hasattr(c, "levels") and not c.filled]
    corners = np.concatenate([path.vertices for path in line.get_paths()])
    np.testing.assert_allclose(model.predict(corners)[:, 1], 0.5, atol=0.05)


def test_logits_are_drawn_as_the_probabilities_they_stand_for():
    X, y = quantiles()
    by_hand = gd.Sequential([gd.Dense(1)], inputs=2, seed=1)
    same = gd.Sequential([gd.Dense(1), gd.Sigmoid()], inputs=2, seed=1)
    one, other = (gd.plot_decision_boundary(model, X, y) for model in (by_hand, same))
    for a, b in zip(one.collections, other.collections, strict=True):
        for path, again in zip(a.get_paths(), b.get_paths(), strict=True):
            np.testing.assert_allclose(path.vertices, again.vertices, atol=1e-6)


def test_outputs_beyond_0_and_1_are_filled_too():
    X, _ = quantiles()
    model = gd.Sequential([gd.Dense(1)], inputs=2, seed=1)
    model.fit(X, X[:, 0], loss="mse", updater=gd.Adam(0.1), epochs=20)
    ax = gd.plot_decision_boundary(model, X, (X[:, 0] > 0.5).astype(int))
    filled = next(c for c in ax.collections if hasattr(c, "levels") and c.filled)
    assert filled.extend == "both"
    assert (filled_at(filled, X) >= 0).all()


def test_where_all_classes_are_equal_the_first_wins():
    X, y = quantiles()
    model = gd.Sequential([gd.Dense(3)], inputs=2)
    model.flat_params[...] = 0
    ax = gd.plot_decision_boundary(model, X, y)
    (filled,) = [c for c in ax.collections if hasattr(c, "levels")]
    np.testing.assert_allclose(filled.get_facecolor()[0][:3], boundaries._shades(3)[0][:3])
    assert (filled_at(filled, X) >= 0).all()


@pytest.mark.parametrize("row", [[0.0, 0.0], [3.0, -5e6]])
def test_one_row_and_a_constant_column_have_a_plane_around_them(row):
    model, _, _ = classifier()
    X = np.array([row])
    ax = gd.plot_decision_boundary(model, X, [1])
    for (low, high), value in zip((ax.get_xlim(), ax.get_ylim()), row, strict=True):
        assert low < value < high
    ax.figure.canvas.draw()
    assert legend(ax) == ["class 1"]


def test_the_columns_of_a_frame_name_the_axes():
    model, X, y = classifier()
    ax = gd.plot_decision_boundary(model, pd.DataFrame(X, columns=["age", "income"]), y)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("age", "income")
    ax = gd.plot_decision_boundary(model, X, y)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("$x_1$", "$x_2$")


def test_a_model_and_rows_on_any_backend(backend):
    model, X, y = classifier()
    model = model.copy(backend=backend)
    for rows, classes in ((X, y), (backend.asarray(X), backend.asarray(y))):
        ax = gd.plot_decision_boundary(model, rows, classes)
        points = [c for c in ax.collections if not hasattr(c, "levels")]
        assert sum(len(c.get_offsets()) for c in points) == len(X)
        assert sum(map(sum, drawn_counts(gd.plot_confusion(model, rows, classes)))) == len(X)


@pytest.mark.parametrize(
    ("inputs", "X", "y", "error", "message"),
    [
        (3, np.zeros((4, 3)), [0] * 4, gd.ShapeError, "two features, but the model takes 3"),
        (2, np.zeros((4, 3)), [0] * 4, gd.ShapeError, r"X has shape \(4, 3\)"),
        (2, np.zeros(4), [0] * 4, gd.ShapeError, r"X has shape \(4,\)"),
        (2, np.zeros((4, 2)), [0] * 3, gd.ShapeError, "has 4 rows and y has 3"),
        (2, np.zeros((0, 2)), [], gd.DataError, "no rows"),
        (2, np.zeros((4, 2)), [0, 1, 2, 1], gd.DataError, "labels 0 and 1"),
        (2, np.zeros((2, 2)), ["a", "b"], gd.DataError, "y must hold numbers"),
        (2, [[0.0, NAN]], [1], gd.DataError, "X holds nan at row 0, column 1"),
    ],
)
def test_rows_that_do_not_fit_a_boundary_are_refused(inputs, X, y, error, message):
    model = gd.Sequential([gd.Dense(1), gd.Sigmoid()], inputs=inputs)
    with pytest.raises(error, match=message):
        gd.plot_decision_boundary(model, X, y)
    assert pyplot.get_fignums() == []


def test_an_estimator_is_sent_to_scikit_learn():
    from sklearn.linear_model import LogisticRegression

    with pytest.raises(TypeError, match=r"not LogisticRegression.*DecisionBoundaryDisplay"):
        gd.plot_decision_boundary(LogisticRegression(), *quantiles())
