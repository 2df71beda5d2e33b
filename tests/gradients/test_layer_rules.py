"""The rules of a layer beyond its gradient: mistakes are named, right layers raise no alarm.

If `fit` refuses a layer, the message is the same, and each remedy is tried.
"""

import re
import warnings

import numpy as np
import pytest
from gradients import layer_checks
from gradients.planted.rules import SLIPS, Float64Table, Projection
from oracles import layers_by_students, students

import minigd as gd
from minigd.checks.layer_rules import LayerWarning
from minigd.checks.user_file import check_layer_or_loss

slips = pytest.mark.parametrize("slip", SLIPS, ids=[slip.layer.__name__ for slip in SLIPS])


def rows(n, width=4, seed=0):
    return np.random.default_rng([seed, n, width]).standard_normal((n, width))


def said_of(layer, x):
    with pytest.raises(gd.GradientError) as caught:
        gd.check_layer(layer, x)
    return str(caught.value)


# Slips --------------------------------------------------------------------------------------------


@pytest.mark.few
@slips
def test_a_slip_is_named(slip):
    assert re.search(slip.says, said_of(slip.layer(), rows(7)), re.DOTALL)


@pytest.mark.each
@slips
def test_minigd_check_names_it(slip):
    verdict = check_layer_or_loss("it", slip.layer())
    assert verdict.checked
    assert not verdict.right
    assert re.search(slip.says, str(verdict.error), re.DOTALL)


@pytest.mark.each
@slips
@pytest.mark.parametrize("n", [2, 12])
def test_a_slip_is_found_in_other_batches(slip, n):
    said_of(slip.layer(), rows(n, 6, seed=1))


def refused_by_fit(layer, **options):
    """Return what fit says of a layer in the middle of a network, or None."""
    x = rows(30, 4)
    model = gd.Sequential([gd.Dense(4), layer, gd.Dense(1)], inputs=4)
    try:
        model.fit(x, x[:, 0], loss="mse", batch_size=7, validation_data=(x, x[:, 0]), **options)
    except gd.ShapeError as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    "layer", [slip.layer for slip in SLIPS if "returned" in slip.says or "DTYPE" in slip.says]
)
def test_what_fit_refuses_is_refused_in_its_words(layer):
    if layer.__name__ in ("Always32", "RowsAsColumn"):
        assert refused_by_fit(layer()) is None  # of float32 alone, or without norms of rows
        return

    def words(text):
        return re.sub(r"\(\d+,( \d)?\)", "shape", text.splitlines()[0]).partition("dtype float")[0]

    said = said_of(layer(), rows(7)).removeprefix("with train=False, ")
    assert words(said) == words(refused_by_fit(layer()))


@pytest.mark.parametrize("layer", [*layers_by_students.ALL, *students.ALL])
def test_what_passes_is_taken_by_fit(layer):
    assert refused_by_fit(layer()) is None


# No false alarm -----------------------------------------------------------------------------------


@pytest.mark.each
@pytest.mark.parametrize("layer", [*layers_by_students.ALL, *students.ALL])
@pytest.mark.parametrize(("n", "width"), [(1, 4), (2, 2), (9, 6)])
def test_a_right_layer_raises_no_alarm(layer, n, width):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for seed in range(3):
            gd.check_layer(layer(), rows(n, width, seed), seed=seed)


@pytest.mark.parametrize("make", layer_checks.LAYERS.values(), ids=list(layer_checks.LAYERS))
@pytest.mark.parametrize("n", [1, 2, 9])
def test_a_layer_of_minigd_raises_no_alarm(make, n):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gd.check_layer(make(), rows(n, 5))
        gd.check_layer(gd.Standardize(), rows(n, 5))
        gd.check_layer(gd.Rescale(), rows(n, 5))


@pytest.mark.few
@pytest.mark.parametrize("layer", layers_by_students.ALL)
def test_minigd_check_is_content_with_it(layer):
    assert str(check_layer_or_loss("it", layer())) == "it: ok"


def test_rows_that_float32_does_not_hold_are_checked_in_float64():
    gd.check_layer(gd.Dense(2), 1e200 * rows(5))


# Arrays that may be meant -------------------------------------------------------------------------


class Table(gd.Layer):
    """x·t with a table in an attribute, or where `where` says."""

    def __init__(self, where="build"):
        self.where = where

    def build(self, n_in):
        self.table = np.linspace(1, 2, n_in).astype("float32")
        if self.where == "list":
            self.table = [self.table]
        return n_in

    def values(self):
        return self.table[0] if self.where == "list" else self.table

    def forward(self, x, train=False):
        return x * self.values()

    def backward(self, dy):
        return dy * self.values()


class Permutation(gd.Layer):
    """The columns in another order, always the same."""

    def build(self, n_in):
        self.order = np.random.default_rng(0).permutation(n_in)
        return n_in

    def forward(self, x, train=False):
        return x[:, self.order]

    def backward(self, dy):
        dx = np.empty_like(dy)
        dx[:, self.order] = dy
        return dx


class Given(gd.Layer):
    """x less numbers that the constructor was given."""

    def __init__(self, of):
        self.of = of

    def forward(self, x, train=False):
        return x - self.of

    def backward(self, dy):
        return dy


class Knots(gd.Layer):
    """A sum of tanh, shifted by a constant of the class."""

    KNOTS = np.array([-1.0, 1.0], "float32")

    def forward(self, x, train=False):
        if train:
            self.keep(x)
        return sum(np.tanh(x - knot) for knot in self.KNOTS)

    def backward(self, dy):
        (x,) = self.kept()
        return dy * sum(1 - np.tanh(x - knot) ** 2 for knot in self.KNOTS)


class OnesOfTheBatch(gd.Layer):
    """x + 1 with ones that are made when the batch has another size, in training alone."""

    ones = None

    def forward(self, x, train=False):
        if not train:
            return x + 1
        if self.ones is None or len(self.ones) != len(x):
            self.ones = np.ones((len(x), 1), "float32")
        return x + self.ones

    def backward(self, dy):
        return dy


@pytest.mark.parametrize(
    ("layer", "names"),
    [
        (Table(), "self.table, an array"),
        (Table("list"), "self.table[0], an array"),
        (Permutation(), "self.order, an array"),
        (Given(np.array([1.0], "float32")), "self.of, an array"),
        (Knots(), "self.KNOTS, an array"),
        (OnesOfTheBatch(), "self.ones, an array"),
    ],
)
def test_a_constant_that_build_does_not_declare_is_pointed_out(layer, names):
    with pytest.warns(LayerWarning, match=re.escape(f"it uses {names}, which build does not")):
        errors = gd.check_layer(layer, rows(7))
    assert max(errors.values()) < 1e-6
    verdict = check_layer_or_loss("it", layer)
    assert verdict.right
    assert str(verdict).startswith(f"it: ok. Note: it uses {names}")
    assert len(verdict.notes) == 1


def test_the_arrays_of_a_layer_are_as_they_were():
    of = np.array([1.0, 2.0, 3.0, 4.0], "float32")
    with pytest.warns(LayerWarning):
        gd.check_layer(Given(of), rows(7))
    np.testing.assert_array_equal(of, [1, 2, 3, 4])
    np.testing.assert_array_equal(Knots.KNOTS, [-1, 1])


class WorkArray(gd.Layer):
    """3x, by way of an array that is written over each time."""

    def build(self, n_in):
        self.work = {}
        return n_in

    def forward(self, x, train=False):
        if train:
            work = self.work.setdefault((x.shape, x.dtype), np.empty_like(x))
            np.multiply(x, 3, out=work)
            return work.copy()
        return 3 * x

    def backward(self, dy):
        return 3 * dy


class Texts(gd.Layer):
    """2x, with the names of its columns."""

    def build(self, n_in):
        self.names = np.array([f"x{i}" for i in range(n_in)])
        return n_in

    def forward(self, x, train=False):
        assert len(self.names) == x.shape[1]
        return 2 * x

    def backward(self, dy):
        return 2 * dy


@pytest.mark.parametrize("layer", [WorkArray, Texts])
def test_an_array_whose_numbers_do_not_matter_is_not(layer):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gd.check_layer(layer(), rows(7))


def test_a_buffer_that_training_moves_and_nobody_names_is_pointed_out():
    class Unnamed(layers_by_students.RunningNorm):
        running = ("mean",)

    with pytest.warns(LayerWarning, match=r"changes the buffer 'var'.*running = \('mean', 'var'\)"):
        gd.check_layer(Unnamed(), rows(7))


# Remedies -----------------------------------------------------------------------------------------


def with_buffer(kind, name, cast=None, param=False):
    """Return a class in which an attribute is declared, and used, as the message says."""

    class Declared(kind):
        def build(self, n_in):
            n_out = super().build(n_in)
            value = np.array(vars(self).pop(name))
            setattr(self, f"_{name}", value)
            add = self.add_param if param else self.add_buffer
            add(name, value.shape, lambda rng, shape: value)
            return n_out

    def get(self):
        values = (self.params if param else self.buffers)[name]
        return values if cast is None else values.astype(cast)

    def put(self, value):
        vars(self)[name] = value

    setattr(Declared, name, property(get, put))
    return Declared


@pytest.mark.parametrize(
    ("kind", "name", "cast"),
    [(Table, "table", None), (Float64Table, "table", None), (Projection, "P", None),
     (Permutation, "order", int)],
)  # fmt: skip
def test_the_remedy_for_an_array_works(kind, name, cast, tmp_path):
    Declared = with_buffer(kind, name, cast)
    with warnings.catch_warnings():
        warnings.simplefilter("error", LayerWarning)
        gd.check_layer(Declared(), rows(7))
    model = gd.Sequential([gd.Dense(4), Declared(), gd.Dense(1)], inputs=3)
    x = rows(20, 3)
    model.fit(x, x[:, 0], loss="mse", epochs=2)
    model.save(tmp_path / "m.npz")
    again = gd.load(tmp_path / "m.npz", custom=[Declared])
    np.testing.assert_array_equal(again.predict(x), model.predict(x))


def test_an_argument_goes_into_a_buffer_as_a_list(tmp_path):
    class Listed(Given):
        def build(self, n_in):
            self.add_buffer("of", np.array(self.of).shape, lambda rng, shape: np.array(self.of))
            return n_in

        def forward(self, x, train=False):
            return x - self.buffers["of"]

    with pytest.warns(LayerWarning, match="a list, which can be saved"):
        gd.check_layer(Given(np.array([0.5], "float32")), rows(7))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gd.check_layer(Listed([0.5]), rows(7))
    model = gd.Sequential([Listed([0.5]), gd.Dense(1)], inputs=4)
    model.save(tmp_path / "m.npz")
    again = gd.load(tmp_path / "m.npz", custom=[Listed])
    np.testing.assert_array_equal(again.predict(rows(5)), model.predict(rows(5)))


def test_the_remedy_for_a_layer_of_no_rule_works():
    class Drawn(gd.Layer):
        def __init__(self):
            self.rng = np.random.default_rng(0)

        def draw(self, shape):
            return self.rng.random(shape)

        def forward(self, x, train=False):
            if not train:
                return x
            mask = self.draw(x.shape) > 0.5
            self.keep(mask)
            return 2 * x * mask

        def backward(self, dy):
            (mask,) = self.kept()
            return 2 * dy * mask

    class Ruled(Drawn):
        draws = True

        def draw(self, shape):
            return np.random.default_rng([*self.place, self.passes]).random(shape)

    assert "draw random numbers from np.random.default_rng([*self.place, self.passes])" in said_of(
        Drawn(), rows(7)
    )
    gd.check_layer(Ruled(), rows(7))
