"""Arguments that have two names: `optimizer` is `updater`, and `receipt` the old `profile`."""

import numpy as np
import pytest

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


@pytest.mark.parametrize("make", [lambda: "sgd", lambda: gd.SGD(0.3, momentum=0.5)])
@pytest.mark.parametrize("run", [fit, train])
def test_an_optimizer_is_an_updater(run, make):
    np.testing.assert_array_equal(run(optimizer=make()), run(updater=make()))


@pytest.mark.parametrize("run", [fit, train])
@pytest.mark.parametrize("updater", ["adam", "sgd"])
def test_it_is_given_under_one_name(run, updater):
    with pytest.raises(TypeError, match="updater and optimizer are two names of one argument"):
        run(updater=updater, optimizer="adam")


def test_the_updater_of_a_fit_is_adam_and_a_trainer_needs_one():
    np.testing.assert_array_equal(fit(), fit(updater="adam"))
    with pytest.raises(TypeError, match="needs an updater, such as 'adam'"):
        train()


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
