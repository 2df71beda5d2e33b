"""Arguments that have two names: `optimizer` is `updater`, and `receipt` the old `profile`."""

import re

import numpy as np
import pytest
from oracles import signatures

import minigd as gd

X = np.linspace(-1, 1, 60).reshape(-1, 1)
Y = 3 * X + 1


def network():
    return gd.Sequential([gd.Dense(1)], inputs=1)


def fit(**options):
    model = network()
    model.fit(X, Y, loss="mse", batch_size=20, **options)
    return model.flat_params


def train(**options):
    trainer = gd.Trainer(network(), "mse", **options)
    trainer.fit(X, Y, batch_size=20)
    return trainer.model.flat_params


def batches():
    return gd.Batches(X, Y, batch_size=20)


def explain(updater=None, **options):
    return str(gd.explain(network(), X, Y, "mse", updater, **options))


def find_learning_rate(**options):
    return gd.find_learning_rate(network(), X, Y, loss="mse", updates=30, highest=1.0, **options)


def race(**options):
    found = gd.race(network, (X, Y), [20], rates=[0.1], seeds=1, seconds=0.02, points=2, **options)
    return found.curves[0].loss[0]


def compare_backends(**options):
    return gd.compare_backends(network(), batches(), 2, loss="mse", backend="numpy", **options)


def summary(**options):
    return network().summary(**options)


RUNS = {
    "Sequential.fit": fit,
    "Trainer": train,
    "Sequential.summary": summary,
    "explain": explain,
    "find_learning_rate": find_learning_rate,
    "race": race,
    "compare_backends": compare_backends,
}
NEEDED = {"Trainer", "explain"}
named = pytest.mark.parametrize("name", RUNS)


def same(one, other):
    if isinstance(one, np.ndarray):
        np.testing.assert_array_equal(one, other)
    else:
        assert repr(one) == repr(other)


def test_every_public_signature_with_an_updater_takes_an_optimizer():
    found = {}
    for line in signatures.FILE.read_text(encoding="utf-8").splitlines():
        name, _, arguments = line.removeprefix("gd.").partition("(")
        # One that is around an updater is given it first.
        if re.search(r"\bupdater\b", arguments) and not name.startswith(("MiniBatch", "PerLayer")):
            found[name] = "optimizer=None" in arguments
    assert found == dict.fromkeys(RUNS, True)


@pytest.mark.few
@named
@pytest.mark.parametrize("make", [lambda: "sgd", lambda: gd.SGD(0.3, momentum=0.5)])
def test_an_optimizer_is_an_updater(name, make):
    def given():
        updater = make()
        # In a race each rate gets an updater of its own.
        own = isinstance(updater, gd.SGD) and name == "race"
        return (lambda rate: gd.SGD(rate, momentum=0.5)) if own else updater

    same(RUNS[name](optimizer=given()), RUNS[name](updater=given()))


@named
@pytest.mark.parametrize("updater", ["adam", "sgd"])
def test_it_is_given_under_one_name(name, updater):
    with pytest.raises(TypeError, match="updater and optimizer are two names of one argument"):
        RUNS[name](updater=updater, optimizer="adam")


@named
@pytest.mark.parametrize("argument", ["updater", "optimizer"])
def test_an_empty_name_is_not_the_default(name, argument):
    with pytest.raises(ValueError, match="unknown updater ''"):
        RUNS[name](**{argument: ""})


@named
def test_the_updater_is_adam_or_has_to_be_given(name):
    if name in NEEDED:
        with pytest.raises(TypeError, match="needs an updater, such as 'adam'"):
            RUNS[name]()
    else:
        same(RUNS[name](), RUNS[name](updater="adam"))


@pytest.mark.parametrize("fitted", [lambda: network(), lambda: gd.Trainer(network(), "mse", "sgd")])
def test_receipt_is_the_old_name_of_profile(fitted, capsys):
    def run(**options):
        run_of = fitted()
        extra = {"loss": "mse"} if isinstance(run_of, gd.Sequential) else {}
        run_of.fit(X, Y, batch_size=20, **extra, **options)
        return capsys.readouterr().err

    assert "3 steps" in run(profile=True)
    with pytest.warns(DeprecationWarning, match="receipt= is now called profile=") as caught:
        assert "3 steps" in run(receipt=True)
    assert caught[0].filename == __file__
    with pytest.warns(DeprecationWarning, match="receipt="):
        assert run(receipt=False) == ""
