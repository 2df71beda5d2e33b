"""Odd values as arguments give a result, or a clear error that names the argument."""

import re

import numpy as np
import pytest
from oracles import odd_calls, signatures

import minigd as gd

NOT_CALLED = {
    # Abstract, or contracts that users fill in; what the engine passes to them are arrays.
    "Updater", "Schedule", "initializers.glorot_normal", "initializers.glorot_uniform",
    "initializers.he_normal", "initializers.he_uniform", "initializers.ones", "initializers.zeros",
    "metrics.check_classes", "metrics.check_positive", "metrics.Counted", "metrics.Ranked",
    "metrics.LabelCounted",
    # What minigd makes and users read.
    "Batch", "Event", "GradientError", "RateCurve",
}  # fmt: skip
# Methods through which the trainer, the checks and files drive a model or a run.
OF_THE_ENGINE = {
    "Sequential.check_gradient", "Sequential.convert", "Sequential.run_backward",
    "Sequential.run_forward", "Sequential.run_rows", "Trainer.load_state_dict",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


DRIVEN = ("Sequential", "Trainer", "MiniBatchClassifier", "MiniBatchRegressor")


def public_parameters():
    """Return the parameters of public functions, constructors and main methods, by name."""
    found = {}
    for line in signatures.signatures():
        match = re.fullmatch(r"gd\.((?:\w+\.)?\w+)\((.*)\)(: classmethod)?", line)
        if match is None:
            continue
        name, written, _ = match.groups()
        owner = name.rpartition(".")[0]
        if owner and owner not in (*DRIVEN, "initializers", "metrics"):
            continue
        names = re.findall(r"(?:^|, )(\**\w+)", re.sub(r"\([^()]*\)|'[^']*'", "", written))
        found[name] = {n for n in names if n not in ("self", "cls") and not n.startswith("*")}
    return {name: names for name, names in found.items() if names}


def test_every_public_parameter_is_given_odd_values():
    expected = {n: p for n, p in public_parameters().items() if n not in NOT_CALLED | OF_THE_ENGINE}
    assert len(expected) > 60
    covered = {name: set(example.arguments()) for name, example in odd_calls.EXAMPLES.items()}
    missing = {name: names - covered.get(name, set()) for name, names in expected.items()}
    assert {name: names for name, names in missing.items() if names} == {}


@pytest.mark.few
@pytest.mark.parametrize("name", odd_calls.EXAMPLES)
def test_an_odd_value_ends_in_a_result_or_a_clear_error(name):
    valid = odd_calls.call(name)
    assert valid.kind == "result", valid
    endings = [odd_calls.call(name, *odd) for odd in odd_calls.calls(name)]
    assert [str(ending) for ending in endings if ending.kind == "anything else"] == []


def test_several_odd_values_at_once_end_so_too():
    endings = list(odd_calls.endings(several=200, single=False))
    assert len(endings) == 200
    assert [str(ending) for ending in endings if ending.kind == "anything else"] == []


def test_a_raw_error_is_told_from_a_clear_one():
    def raw(metrics):
        return len(metrics)

    def own(metrics):
        return gd.metrics.get_metrics(metrics)

    for function, clear in ((raw, False), (own, True)):
        with pytest.raises(TypeError) as caught:
            function(5)
        assert odd_calls.is_clear(caught.value, "metrics") is clear
        assert not odd_calls.is_clear(caught.value, "model")


FLAGS = {
    "Dense.bias": lambda flag: gd.Dense(2, bias=flag).bias,
    "BinaryCrossEntropy.from_logits": lambda flag: gd.BinaryCrossEntropy(flag).from_logits,
    "SGD.nesterov": lambda flag: gd.SGD(0.1, 0.5, nesterov=flag).nesterov,
    "Adam.amsgrad": lambda flag: gd.Adam(amsgrad=flag).amsgrad,
    "AdamW.decay_bias": lambda flag: gd.AdamW(decay_bias=flag).decay_bias,
    "EarlyStopping.restore_best": lambda flag: gd.EarlyStopping(restore_best=flag).restore_best,
}


@pytest.mark.parametrize("flag", FLAGS)
def test_a_flag_is_a_boolean_of_python_or_numpy(flag):
    for value in (True, False, np.True_, np.False_):
        assert FLAGS[flag](value) is bool(value)
    for value in ("False", 0, 1, None, [], "yes"):
        with pytest.raises(TypeError, match=rf"{flag.partition('.')[2]} must be True or False"):
            FLAGS[flag](value)


def test_none_is_an_empty_list(tmp_path):
    model = odd_calls.network()
    model.fit(odd_calls.X, odd_calls.Y, loss="mse", metrics=None, callbacks=None)
    trainer = gd.Trainer(odd_calls.network(), "mse", "sgd", None)
    trainer.fit(odd_calls.X, odd_calls.Y, callbacks=None)
    assert trainer.metrics == {}
    model.save(tmp_path / "m.npz")
    gd.load(tmp_path / "m.npz", custom=None)
    (tmp_path / "t.csv").write_text("a,y\n1,2\n3,4\n", encoding="utf-8")
    source = gd.CsvSource(tmp_path / "t.csv", "y", exclude=None, na=None)
    assert source.names == ["a"]
    again = gd.CsvSource(tmp_path / "t.csv", schema=source.schema, exclude=None)
    assert again.names == ["a"]


class Doubled(gd.Tanh):
    """A layer whose gradient is twice what it should be."""

    def backward(self, dy):
        return 2 * super().backward(dy)


ODD_TOLERANCES = [
    np.nan, -1, -1e-6, np.inf, -np.inf, True, False, 0, 0.0, 1e-320, 5e-324, 1e-17, "1e-6",
    [1e-6], np.array([1e-6]), 10**400, 1j,
]  # fmt: skip


def check_doubled(what, **options):
    """Check a layer whose gradient is doubled, alone or in a network."""
    if what == "layer":
        return gd.check_layer(Doubled(), odd_calls.X, **options)
    network = gd.Sequential([gd.Dense(2), Doubled(), gd.Dense(1)], inputs=2)
    return gd.check_gradients(network, "mse", odd_calls.X, odd_calls.Y, **options)


@pytest.mark.parametrize("what", ["layer", "network"])
def test_a_check_never_passes_because_of_its_tolerance(what):
    for tolerance in ODD_TOLERANCES:
        with pytest.raises(ValueError, match="tolerance must be a number, at least 2"):
            check_doubled(what, tolerance=tolerance)
    for method in ("complex", "central", "auto"):
        for usual in (None, 1e-4, np.float32(1e-4), 0.4):
            with pytest.raises(gd.GradientError):
                check_doubled(what, tolerance=usual, method=method)


def test_a_check_of_no_rows_passes_nothing():
    empty = np.zeros((0, 2))
    for x in (empty, np.zeros((2, 0)), np.zeros((2, 2, 2)), None, "x"):
        with pytest.raises((ValueError, TypeError), match="x "):
            gd.check_layer(Doubled(), x)
    with pytest.raises(ValueError, match="x has"):
        gd.check_gradients(odd_calls.network(), "mse", empty, empty[:, 0])


@pytest.mark.parametrize("texts", [["1", "2"], np.array(["1", "2"], dtype=object), ["1", 2.0]])
def test_sample_weight_takes_numbers_only(texts):
    X, y = [[0.0], [1.0]], [0.0, 1.0]
    model = gd.Sequential([gd.Dense(1)], inputs=1)
    for train in (
        lambda: gd.Batches(X, y, sample_weight=texts),
        lambda: model.fit(X, y, loss="mse", sample_weight=texts),
        lambda: gd.Trainer(model, "mse", "sgd").step(X, y, texts),
        lambda: gd.MiniBatchRegressor(epochs=1).fit(X, y, sample_weight=texts),
        lambda: gd.MiniBatchClassifier(epochs=1).fit(X, [0, 1], sample_weight=texts),
    ):
        with pytest.raises(gd.DataError, match="sample_weight must hold numbers"):
            train()
    whole = np.array([1, 2], dtype=object)
    assert gd.Batches(X, y, sample_weight=whole).weight(slice(0, 2)).tolist() == [1.0, 2.0]


def masked(values):
    return np.ma.masked_array(values, np.zeros(np.shape(values), dtype=bool))


@pytest.mark.parametrize("make", [gd.MiniBatchClassifier, gd.MiniBatchRegressor])
def test_estimators_refuse_masked_arrays(make):
    X, y = odd_calls.X, odd_calls.LABELS
    ones = np.ones(12)
    fitted = make(epochs=1).fit(X, y)
    for what, use in {
        "X": lambda: make(epochs=1).fit(masked(X), y),
        "y": lambda: make(epochs=1).fit(X, masked(y)),
        "sample_weight": lambda: make(epochs=1).fit(X, y, masked(ones)),
    }.items():
        with pytest.raises(gd.DataError, match=f"{what} is a masked array"):
            use()
    with pytest.raises(gd.DataError, match="X is a masked array"):
        fitted.predict(masked(X))
    for arguments in ((masked(X), y), (X, masked(y)), (X, y, masked(ones))):
        with pytest.raises(gd.DataError, match="is a masked array"):
            fitted.score(*arguments)
        named = {"classes": [0, 1]} if make is gd.MiniBatchClassifier else {}
        weight = {"sample_weight": arguments[2]} if len(arguments) == 3 else {}
        with pytest.raises(gd.DataError, match="is a masked array"):
            make(epochs=1).partial_fit(*arguments[:2], **named, **weight)


UNUSED = {
    "patience": "x", "tol": -1.0, "validation_fraction": 2, "learning_rate": "fast", "verbose": "x",
    "hidden": [0], "activation": "step", "epochs": 0, "batch_size": 0, "warm_start": 1,
    "dtype": "int8", "backend": "gpu", "random_state": "x", "updater": "newton",
    "early_stopping": "False", "loss": "l3",
}  # fmt: skip


@pytest.mark.parametrize("make", [gd.MiniBatchClassifier, gd.MiniBatchRegressor])
@pytest.mark.parametrize("name", UNUSED)
def test_estimators_check_parameters_that_are_not_used(make, name):
    estimator = make(**{name: UNUSED[name]})  # the constructor keeps what it is given
    for fit in (estimator.fit, estimator.partial_fit):
        with pytest.raises(ValueError, match=rf"(?<!\w){name}(?!\w)"):
            fit(odd_calls.X, odd_calls.LABELS)
    assert not [kept for kept in vars(estimator) if kept.endswith("_")]
