"""The base class of each error, and the messages of the shared checks of names and whole numbers.

A user catches `ValueError` for data and files, and the names below for finer cases.
"""

from functools import partial

import numpy as np
import pytest

import minigd as gd
from minigd.errors import UPDATERS_ELSEWHERE, check_integer, unknown_name


@pytest.mark.parametrize(
    ("error", "base"),
    [
        (gd.DataError, ValueError),
        (gd.ShapeError, gd.DataError),
        (gd.CheckpointError, ValueError),
        (gd.GradientError, ArithmeticError),
        (gd.DivergenceError, FloatingPointError),
        (gd.BackendError, RuntimeError),
    ],
)
def test_each_error_can_be_caught_as_the_builtin_it_refines(error, base):
    assert issubclass(error, base)


def test_a_missing_gpu_is_no_data_error():
    assert not issubclass(gd.BackendError, ValueError)


def test_an_unknown_name_is_answered_with_the_known_ones_in_order():
    error = unknown_name("loss", "msee", {"mse": 1, "huber": 2})
    assert isinstance(error, ValueError)
    assert (
        str(error) == "unknown loss 'msee'; the known ones are 'huber', 'mse'; did you mean 'mse'?"
    )


SEQUENTIAL = partial(gd.Sequential, inputs=2)
DISPATCHES = {
    "loss": lambda name: gd.Trainer(SEQUENTIAL([gd.Dense(1)]), name, "sgd"),
    "updater": lambda name: gd.Trainer(SEQUENTIAL([gd.Dense(1)]), "mse", name),
    "updater of a race": lambda name: gd.race(
        lambda seed: SEQUENTIAL([gd.Dense(1)]),
        (np.zeros((4, 2)), np.zeros(4)),
        updater=name,
    ),
    "updater of an explanation": lambda name: gd.explain(
        SEQUENTIAL([gd.Dense(1)]), np.zeros((4, 2)), np.zeros(4), "mse", name
    ),
    "metric": lambda name: gd.Trainer(SEQUENTIAL([gd.Dense(1)]), "mse", "sgd", metrics=[name]),
    "initializer": lambda name: gd.Dense(1, name),
    "backend": lambda name: SEQUENTIAL([gd.Dense(1)], backend=name),
}


@pytest.mark.parametrize("dispatch", DISPATCHES)
@pytest.mark.parametrize("strange", ["nothing of the kind", "", "12345"])
def test_all_that_take_names_refuse_an_unknown_one_in_the_same_words(dispatch, strange):
    what = dispatch.partition(" ")[0]
    known = r"(; the known ones are ('\w+', )+'\w+')"
    with pytest.raises(ValueError, match=rf"\Aunknown {what} {strange!r}{known}\Z"):
        DISPATCHES[dispatch](strange)


@pytest.mark.parametrize(
    ("dispatch", "typed", "meant"),
    [
        ("loss", "binary_cross_entropy", "binary_crossentropy"),
        ("loss", "MSE", "mse"),
        ("loss", "MeanSquaredError", "mean_squared_error"),
        ("updater", "Adam", "adam"),
        ("updater", "adm", "adam"),
        ("updater of a race", "adm", "adam"),
        ("updater of an explanation", "rms_prop", "rmsprop"),
        ("metric", "acuracy", "accuracy"),
        ("initializer", "He-Normal", "he_normal"),
        ("backend", "Numpy", "numpy"),
    ],
)
def test_a_name_that_is_nearly_known_is_answered_with_the_one_meant(dispatch, typed, meant):
    with pytest.raises(ValueError, match=rf"unknown \w+ '{typed}'.*; did you mean '{meant}'\?\Z"):
        DISPATCHES[dispatch](typed)


@pytest.mark.parametrize(
    ("what", "typed", "meant"),
    [
        ("updater", "amsgrad", r"gd\.Adam\(amsgrad=True\)"),
        ("updater", "AMSGrad", r"gd\.Adam\(amsgrad=True\)"),
        ("updater", "momentum", r"gd\.SGD\(learning_rate=0\.01, momentum=0\.9\)"),
        ("updater of a race", "amsgrad", r"gd\.Adam\(amsgrad=True\)"),
        ("loss", "bce", "'binary_crossentropy'"),
        ("loss", "squared_error", "'mse'"),
        ("loss", "l1", "'mae'"),
        ("activation", "swish", "'silu'"),
        ("activation", "Swish", "'silu'"),
        ("activation", "logistic", "'sigmoid'"),
        ("parameter of Adam", "lr", "'learning_rate'"),
        ("parameter of Adam", "eps", "'epsilon'"),
        ("parameter of PerLayer", "updater__lr", "'updater__learning_rate'"),
    ],
)
def test_a_name_of_other_libraries_is_answered_with_the_one_here(what, typed, meant):
    rates = {"parameter of Adam": gd.Adam(), "parameter of PerLayer": gd.PerLayer(gd.Adam())}

    def ask():
        if what == "activation":
            pytest.importorskip("sklearn")
            gd.MiniBatchRegressor(activation=typed).fit(np.zeros((4, 2)), np.arange(4))
        elif what in rates:
            rates[what].set_params(**{typed: 0.1})
        else:
            DISPATCHES[what](typed)

    with pytest.raises(ValueError, match=rf"'{typed}'.*; did you mean {meant}\?\Z"):
        ask()


def test_what_an_updater_is_answered_with_works():
    for written in UPDATERS_ELSEWHERE.values():
        assert isinstance(eval(written), gd.Updater)


def test_what_is_no_text_has_no_name_near_it():
    for given in (None, 3, 0.5, ["mse"]):
        assert "did you mean" not in str(unknown_name("initializer", given, ["ones", "zeros"]))


@pytest.mark.parametrize("value", [1, 500, np.int64(3), np.uint8(7)])
def test_whole_numbers_of_any_integer_type_become_int(value):
    whole = check_integer("epochs", value)
    assert type(whole) is int
    assert whole == value


@pytest.mark.parametrize("value", [0, -1, 1.0, 2.5, "3", None, True, np.bool_(True), np.nan, [1]])
def test_what_is_no_whole_number_from_the_lowest_on_is_refused(value):
    with pytest.raises(ValueError, match="epochs must be an integer, at least 1, not ") as caught:
        check_integer("epochs", value)
    assert repr(value) in str(caught.value)


def test_the_lowest_and_the_alternative_are_named():
    assert check_integer("seed", 0, 0) == 0
    with pytest.raises(ValueError, match=r"at least 1, or None for all, not 0\Z"):
        check_integer("batch_size", 0, also=", or None for all")
