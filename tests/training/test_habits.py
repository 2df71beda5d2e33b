"""Names of arguments in other libraries: each is accepted, or the error names the one used here."""

import inspect
import pickle

import numpy as np
import pytest

import minigd as gd
from minigd.errors import ELSEWHERE, UnknownArgument

X = np.linspace(-1, 1, 40).reshape(-1, 2)
Y = X.sum(axis=1)


def network():
    return gd.Sequential([gd.Dense(1)], inputs=2)


def fit(**options):
    return network().fit(X, Y, loss="mse", **options)


def make(**options):
    return gd.Trainer(network(), "mse", **{"updater": "sgd", **options})


def train(**options):
    return make().fit(X, Y, **options)


def estimate(**options):
    return gd.MiniBatchRegressor(epochs=1).fit(X, Y, **options)


def classify(**options):
    return gd.MiniBatchClassifier(epochs=1).fit(X, Y > 0, **options)


SPLIT = "fit(train, validation_data=val), after `train, val = gd.ArraySource(X, y).split(0.2)`"
ADAM = "updater=gd.Adam(learning_rate=0.1)"
# call, the argument of another library: what is proposed
CASES = [
    (fit, {"validation_split": 0.2}, SPLIT),
    (fit, {"verbose": 1}, "progress=True"),
    (fit, {"learning_rate": 0.1}, ADAM),
    (fit, {"lr": 0.1}, ADAM),
    (fit, {"momentum": 0.9}, "updater=gd.SGD(learning_rate=0.01, momentum=0.9)"),
    (fit, {"weight_decay": 0.1}, "updater=gd.AdamW(weight_decay=0.1)"),
    (fit, {"n_epochs": 3}, "epochs=3"),
    (fit, {"solver": "adam"}, "updater='adam'"),
    (fit, {"alpha": 0.1}, "l2=0.1"),
    (fit, {"eval_set": (X, Y)}, "validation_data=(X_val, y_val)"),
    (fit, {"acumulate": 2}, "accumulate=..."),
    (fit, {"random_state": 3}, "Sequential(..., seed=3)"),
    (fit, {"until_epoch": 3}, "gd.Trainer(model, loss, updater).fit(..., until_epoch=3)"),
    (train, {"validation_split": 0.2}, SPLIT),
    (train, {"verbose": 1}, "progress=True"),
    (train, {"learning_rate": 0.1}, f"Trainer(..., {ADAM})"),
    (train, {"optimizer": "adam"}, "Trainer(..., optimizer='adam')"),
    (train, {"loss": "mse"}, "Trainer(..., loss='mse')"),
    (train, {"sample_weights": Y}, "sample_weight=..."),
    (make, {"epochs": 3}, "fit(..., epochs=3)"),
    (make, {"lr": 0.1}, ADAM),
    (estimate, {"optimizer": "adam"}, "MiniBatchRegressor(..., updater='adam')"),
    (
        estimate,
        {"validation_split": 0.2},
        "MiniBatchRegressor(..., early_stopping=True, validation_fraction=0.2)",
    ),
    (estimate, {"verbose": 1}, "MiniBatchRegressor(..., verbose=1)"),
    (estimate, {"progress": True}, "MiniBatchRegressor(..., verbose=True)"),
    (estimate, {"learning_rate": 0.1}, "MiniBatchRegressor(..., learning_rate=0.1)"),
    (classify, {"lr": 0.1}, "MiniBatchClassifier(..., learning_rate=0.1)"),
    (classify, {"epochs": 3}, "MiniBatchClassifier(..., epochs=3)"),
    (classify, {"seed": 3}, "MiniBatchClassifier(..., random_state=3)"),
    (gd.MiniBatchClassifier, {"optimizer": "adam"}, "updater='adam'"),
    (gd.MiniBatchClassifier, {"hidden_layer_sizes": (8,)}, "hidden=(8,)"),
    (gd.MiniBatchRegressor, {"max_iter": 9}, "epochs=9"),
    (gd.MiniBatchRegressor, {"n_iter_no_change": 9}, "patience=9"),
]


@pytest.mark.parametrize(
    ("call", "given", "meant"),
    CASES,
    ids=[f"{case[0].__name__}-{next(iter(case[1]))}" for case in CASES],
)
def test_the_name_used_here_is_proposed(call, given, meant):
    with pytest.raises(TypeError) as caught:
        call(**given)
    names = {fit: "Sequential.fit", train: "Trainer.fit", make: "Trainer"}
    names |= {estimate: "MiniBatchRegressor.fit", classify: "MiniBatchClassifier.fit"}
    name = names.get(call) or call.__name__
    (argument,) = given
    assert str(caught.value) == f"{name} has no argument {argument!r}; did you mean {meant}?"


@pytest.mark.parametrize("name", ["criterion", "loss_function", "objective", "los", "losses"])
def test_a_loss_by_another_name_is_not_a_missing_one(name):
    with pytest.raises(
        UnknownArgument, match=f"^Sequential.fit has no argument '{name}'; .* loss="
    ):
        network().fit(X, Y, lr=0.1, epochs=1, **{name: "mse"})
    with pytest.raises(TypeError, match="missing 1 required keyword-only argument: 'loss'"):
        network().fit(X, Y, optimizer="adam")


def test_an_optimizer_is_obeyed_where_updaters_are_given():
    assert "loss" in fit(optimizer="adam")
    assert repr(gd.Trainer(network(), "mse", optimizer=gd.SGD(0.1)).updater) == repr(gd.SGD(0.1))


def test_a_split_as_it_is_proposed_works():
    train_rows, val = gd.ArraySource(X, Y).split(0.2)
    history = network().fit(train_rows, loss="mse", validation_data=val)
    assert "val_loss" in history


def test_without_a_guess_the_arguments_are_listed():
    with pytest.raises(TypeError, match=r"^Trainer.fit has no argument 'zzz': it has data, y, ep"):
        train(zzz=1)
    with pytest.raises(TypeError, match=r"^Sequential.fit has no .*: it has X, y, loss.*clip_norm"):
        fit(zzz=1)


def test_what_is_proposed_exists():
    places = (gd.Sequential, gd.Sequential.fit, gd.Trainer, gd.Trainer.fit)
    places += (gd.MiniBatchClassifier, gd.MiniBatchClassifier.fit)
    known = set().union(*(inspect.signature(place).parameters for place in places))
    for foreign, ways in ELSEWHERE.items():
        for name, _ in ways:
            assert name in known or not name, (foreign, name)


def test_the_error_goes_through_a_pickle():
    with pytest.raises(UnknownArgument) as caught:
        train(verbose=1)
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)
