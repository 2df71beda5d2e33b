"""The report of `minigd train`: scores next to simpler models, and the columns that matter."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from sklearn import linear_model, metrics

import minigd as gd
from minigd.cli.main import main
from minigd.cli.report import columns_of_x
from minigd.cli.trained import load_table as load
from minigd.insight import importance
from minigd.insight.importance import permutation_importance

QUICK = ["--hidden", "16", "--epochs", "30", "--learning-rate", "0.01"]


def table(n=800, share=0.5, seed=0):
    """Return rows whose target depends most on column `a`, less on `b`, and not on `noise`."""
    rng = np.random.default_rng(seed)
    a, b, noise = rng.normal(size=(3, n))
    city = rng.choice(["x", "y", "z"], n)
    score = 3 * a + b + (city == "x") + 0.3 * rng.normal(size=n)
    label = np.where(score >= np.quantile(score, 1 - share), "bad", "good")
    frame = pd.DataFrame({"a": a, "b": b, "noise": noise, "city": city, "label": label})
    frame["price"] = (100 * score + 500).round(2)
    return frame


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    table().to_csv(folder / "even.csv", index=False)
    table(1500, 0.03).to_csv(folder / "rare.csv", index=False)
    return folder


def trained(folder, name, target, *more, code=0):
    other = "price" if target == "label" else "label"
    out = str(folder / "m.npz")
    words = ["train", str(folder / name), "--target", target, "--exclude", other, "--out", out]
    assert main([*words, *QUICK, *more]) == code
    return load(out) if code == 0 else None


def rows_of(folder, name, model, **how):
    source = gd.CsvSource(folder / name, schema=model.schema)
    return [
        tuple(np.concatenate(some) for some in zip(*part.chunks(), strict=True))
        for part in source.split(0.2, 0, **how)
    ]


def test_the_scores_of_all_models_are_of_the_same_rows(folder, capsys):
    model = trained(folder, "even.csv", "label", "--json")
    out, err = capsys.readouterr()
    found = json.loads(out)
    (x, y), (x_held, y_held) = rows_of(folder, "even.csv", model, stratify=True)
    assert found["rows"] == {"trained": len(x), "held_out": len(x_held), "scored": len(x_held)}
    expected = model.model.evaluate(x_held, y_held)
    assert found["scores"]["network"] == pytest.approx(expected, rel=1e-6)
    share = y.mean()
    constant = metrics.log_loss(y_held, np.full(len(y_held), share))
    assert found["scores"]["constant"]["loss"] == pytest.approx(constant, rel=1e-5)
    assert found["classes"] == pytest.approx({"bad": 1 - share, "good": share})
    # Columns are scaled, and the penalty is 0.0001 on the mean loss.
    scaled, scaled_held = ((some - x.mean(axis=0)) / x.std(axis=0) for some in (x, x_held))
    peer = linear_model.LogisticRegression(C=1 / (1e-4 * len(x)), max_iter=1000).fit(scaled, y)
    loss = metrics.log_loss(y_held, peer.predict_proba(scaled_held)[:, 1])
    assert found["scores"]["linear"]["loss"] == pytest.approx(loss, abs=0.02)
    assert found["scores"]["linear"]["accuracy"] > 0.93
    assert "rows to train on" in err
    assert "{" not in err


def test_of_a_number_the_constant_is_the_mean(folder, capsys):
    model = trained(folder, "even.csv", "price", "--json")
    found = json.loads(capsys.readouterr().out)
    (x, y), (x_held, y_held) = rows_of(folder, "even.csv", model)
    constant = found["scores"]["constant"]
    assert constant["mae"] == pytest.approx(abs(y_held - y.mean()).mean(), rel=1e-4)
    assert constant["r2"] == pytest.approx(
        metrics.r2_score(y_held, 0 * y_held + y.mean()), abs=1e-4
    )
    peer = linear_model.LinearRegression().fit(x, y)
    expected = metrics.r2_score(y_held, peer.predict(x_held))
    assert found["scores"]["linear"]["r2"] == pytest.approx(expected, abs=0.005)
    assert list(found["importance"])[:2] == ["a", "b"]
    assert set(found["importance"]) == {"a", "b", "noise", "city"}
    assert found["importance"]["a"] > 5 * abs(found["importance"]["noise"])
    # The same command gives the same figures, except for the seconds.
    trained(folder, "even.csv", "price", "--json")
    again = json.loads(capsys.readouterr().out)
    del found["seconds"], again["seconds"]
    assert again == found


def test_a_linear_model_is_not_compared_with_another_one(folder, capsys):
    trained(folder, "even.csv", "label", "--hidden", "0", "--json")
    out, err = capsys.readouterr()
    assert list(json.loads(out)["scores"]) == ["network", "constant"]
    assert "a linear model" not in err


def test_a_network_behind_a_linear_model_is_told(folder, capsys):
    trained(folder, "even.csv", "label", "--epochs", "1", "--learning-rate", "1e-6")
    out = capsys.readouterr().out
    assert "the linear model does as well or better here: --hidden 0 trains one" in out
    assert out.splitlines()[-2:] == [
        f"next: minigd predict {folder}/m.npz NEW.csv --out predictions.csv",
        f"next: minigd evaluate {folder}/m.npz NEW.csv",
    ]


def test_rows_are_left_out_by_reason(tmp_path, capsys):
    frame = table(300)
    frame.loc[:4, "label"] = None
    frame.loc[3:9, "a"] = None
    frame.to_csv(tmp_path / "even.csv", index=False)
    trained(tmp_path, "even.csv", "label", "--missing", "a=drop", "--json")
    found = json.loads(capsys.readouterr().out)
    assert found["left_out"] == {"'a' is missing": 7, "the target is missing": 3}
    trained(tmp_path, "even.csv", "label")
    assert ", 5 left out because the target is missing" in capsys.readouterr().out


# A class that is rare ----------------------------------------------------------------------------


def test_a_rare_class_has_metrics_of_its_own(folder, capsys):
    model = trained(folder, "rare.csv", "label")
    out, err = capsys.readouterr()
    assert "3.00% of the rows are 'bad', and 97.00% are 'good'" in err
    assert "always 'good', 97.0% of the rows: loss" in out
    assert "average_precision and f1 are of the class 'bad'" in out
    held = rows_of(folder, "rare.csv", model, stratify=True)[1]
    assert model.schema.classes == ["bad", "good"]
    p, bad = 1 - model.model.predict(held[0])[:, 0], held[1] == 0
    found = {name: values[model.best] for name, values in model.history.items()}
    assert found["val_average_precision"] == pytest.approx(
        metrics.average_precision_score(bad, p), rel=1e-4
    )
    assert found["val_roc_auc"] == pytest.approx(metrics.roc_auc_score(bad, p), rel=1e-4)
    assert found["val_f1"] == pytest.approx(metrics.f1_score(bad, p > 0.5), rel=1e-4)
    # A later evaluation uses the same metrics.
    assert main(["evaluate", str(folder / "m.npz"), str(folder / "rare.csv"), "--json"]) == 0
    later = json.loads(capsys.readouterr().out)
    assert later["rows"] == 1500
    assert list(later["scores"]) == ["loss", "accuracy", "roc_auc", "average_precision", "f1"]


def test_metrics_are_those_that_are_named(folder, capsys):
    trained(folder, "rare.csv", "label", "--metrics", "recall,roc_auc", "--epochs", "1", "--json")
    found = json.loads(capsys.readouterr().out)
    assert list(found["scores"]["network"]) == ["loss", "recall", "roc_auc"]
    assert found["of_class"] == "bad"
    trained(folder, "even.csv", "price", "--metrics", "mse", "--epochs", "1", "--json")
    assert list(json.loads(capsys.readouterr().out)["scores"]["network"]) == ["loss", "mse"]


@pytest.mark.parametrize(
    ("target", "words", "message"),
    [
        ("label", ["--metrics", "mae"], "mae does not measure a classification; give accuracy,"),
        ("price", ["--metrics", "f1"], "f1 does not measure a regression; give r2, mae,"),
        ("price", ["--class-weight", "balanced"], "the target is a number"),
        (
            "label",
            ["--class-weight", "godo=3"],
            "classes are 'bad', 'good'; did you mean 'good'",
        ),
    ],
)
def test_what_does_not_fit_the_target_is_refused(folder, capsys, target, words, message):
    trained(folder, "rare.csv", target, *words, code=1)
    assert message in capsys.readouterr().err


@pytest.mark.few(2)
@pytest.mark.parametrize("given", ["balanced", "bad=30,good=1", "bad=30"])
def test_a_weight_of_a_class_finds_more_of_it(folder, capsys, given):
    def recall(*words):
        trained(folder, "rare.csv", "label", "--metrics", "recall", "--epochs", "4", *words)
        return capsys.readouterr().out

    plain, weighted = (
        float(text.splitlines()[0].split("recall ")[1])
        for text in (recall(), recall("--class-weight", given))
    )
    assert weighted > plain
    assert weighted >= 0.8


@pytest.mark.slow
def test_a_run_with_weights_can_be_resumed_and_another_one_is_not_taken_for_it(
    folder, capsys, monkeypatch
):
    from minigd.cli import train as module

    class Stopping(gd.Checkpoint):
        def __call__(self, event):
            super().__call__(event)
            if event.name == "epoch" and event.trainer.epoch == 2:
                import signal

                signal.raise_signal(signal.SIGINT)

    Stopping.__name__ = "Checkpoint"
    words = ["--class-weight", "balanced", "--epochs", "4"]
    straight = trained(folder, "rare.csv", "label", *words)
    for more in ([], ["--metrics", "f1"]):
        with monkeypatch.context() as patch:
            patch.setattr(module, "Checkpoint", Stopping)
            trained(folder, "rare.csv", "label", *words, code=130)
        if more:
            trained(folder, "rare.csv", "label", *words, *more, "--resume", code=1)
            assert "--metrics f1, but the run was trained with accuracy,roc" in (
                capsys.readouterr().err
            )
        again = trained(folder, "rare.csv", "label", *words, "--resume")
        np.testing.assert_array_equal(again.model.flat_params, straight.model.flat_params)


# Which columns matter ----------------------------------------------------------------------------


def test_columns_are_shuffled_together_and_a_shuffled_one_costs_what_it_says():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2000, 3))
    x[:, 2] = x[:, 1]
    model = gd.Sequential([gd.Dense(1, "zeros")], inputs=3, dtype="float64")
    model.params["dense1.W"][:, 0] = [2.0, 1.0, -1.0]
    trainer = gd.Trainer(model, "mse", "sgd")
    found = permutation_importance(trainer, x, 2 * x[:, 0], {"a": [0], "pair": [1, 2]})
    # Var(2a − 2a') = 8, and both columns of the pair are shuffled in the same order.
    assert found["a"] == pytest.approx(8, rel=0.15)
    assert found["pair"] == pytest.approx(0, abs=1e-12)
    alone = permutation_importance(trainer, x, 2 * x[:, 0], {"b": [1], "c": [2]})
    assert alone["b"] == pytest.approx(2, rel=0.15)


def test_the_work_is_bounded(monkeypatch):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(5000, 40))
    model = gd.Sequential([gd.Dense(1, "zeros")], inputs=40)
    model.params["dense1.W"][::4] = 1.0
    seen = []
    trainer = gd.Trainer(model, "mse", "sgd")
    evaluate = trainer.evaluate
    monkeypatch.setattr(trainer, "evaluate", lambda x, y: (seen.append(x.size), evaluate(x, y))[1])
    monkeypatch.setattr(importance, "WORK", 10 * 200 * 41)
    found = permutation_importance(trainer, x, x.sum(axis=1), {str(k): [k] for k in range(40)})
    assert {int(k) % 4 for k in found} == {0}
    assert len(found) == 10
    assert sum(seen) == 11 * 200 * 40


def test_columns_of_x_are_found_whatever_they_hold(tmp_path):
    n = 60
    frame = pd.DataFrame(
        {
            "number": np.arange(n) % 7 * 1.5,
            "gaps": [None if i % 9 == 0 else i * 0.1 for i in range(n)],
            "city": [f"c{i % 3}" for i in range(n)],
            "when": pd.date_range("2020-01-01", periods=n, freq="9D").strftime("%Y-%m-%d"),
            "zip": [f"z{i % 17}" for i in range(n)],
            "y": np.arange(n) * 1.5,
        }
    )
    frame.to_csv(tmp_path / "t.csv", index=False)
    source = gd.CsvSource(tmp_path / "t.csv", target="y", missing="flag", hashed={"zip": 4})
    places = columns_of_x(source.schema)
    assert list(places) == ["number", "gaps", "city", "when", "zip"]
    assert sorted(k for some in places.values() for k in some) == list(range(len(source.names)))
    for column, some in places.items():
        assert all(source.names[k].startswith(column) for k in some)


def test_a_score_that_is_not_a_number_is_null_in_json(tmp_path, capsys):
    frame = table(60)
    frame["label"] = ["rare", *["often"] * 59]
    frame.to_csv(tmp_path / "even.csv", index=False)
    trained(tmp_path, "even.csv", "label", "--epochs", "1", "--json")
    found = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert found["scores"]["network"]["roc_auc"] is None
    assert math.isfinite(found["scores"]["network"]["loss"])
