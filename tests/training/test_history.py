"""The history: one float per epoch for everything measured.

It is a dictionary of lists, with NaN for values that were not measured.
"""

import math

import pytest

import minigd as gd


def test_it_reads_like_a_dictionary():
    history = gd.History()
    history.append({"loss": 0.5, "updates": 12})
    history.append({"loss": 0.25, "updates": 24})
    assert dict(history) == {"loss": [0.5, 0.25], "updates": [12.0, 24.0]}
    assert list(history) == ["loss", "updates"]
    assert len(history) == 2
    assert history.epochs == 2
    assert "loss" in history
    assert "val_loss" not in history
    assert all(type(value) is float for values in history.values() for value in values)


def test_an_empty_one():
    history = gd.History()
    assert history.epochs == 0
    assert dict(history) == {}
    assert "0 epochs" in repr(history)
    with pytest.raises(KeyError, match="'loss'; the history holds nothing"):
        history["loss"]


def test_what_an_epoch_did_not_measure_is_nan():
    history = gd.History()
    history.append({"loss": 3.0})
    history.append({"loss": 2.0, "val_loss": 5.0})
    history.append({"loss": 1.0})
    assert history["loss"] == [3.0, 2.0, 1.0]
    missing, five, missing_too = history["val_loss"]
    assert five == 5.0
    assert math.isnan(missing)
    assert math.isnan(missing_too)


def test_a_wrong_key_is_told_with_the_right_ones():
    history = gd.History({"loss": [1.0], "val_loss": [2.0]})
    with pytest.raises(KeyError, match="'accuracy'; the history holds loss, val_loss"):
        history["accuracy"]


def test_its_state_makes_an_equal_and_independent_one():
    history = gd.History({"loss": [1.0]})
    again = gd.History(history.state_dict())
    again.append({"loss": 0.5})
    assert history["loss"] == [1.0]
    assert again["loss"] == [1.0, 0.5]


def test_it_shows_the_last_epoch():
    history = gd.History({"loss": [1.0, 0.123456]})
    assert repr(history) == "History(2 epochs; last: loss=0.1235)"
