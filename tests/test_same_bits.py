"""The numbers have not changed: parameters, histories, predictions and files, to the last bit.

They depend on how the platform's NumPy and BLAS round exp, tanh and products. If a hash of such
primitives equals that of the machine that wrote the fixture, bits are compared. Otherwise numbers
are compared, to 1e-6 (1e-4 in float32), and tests that need equal bits are skipped.
"""

import shutil

import numpy as np
import pytest
from oracles import same_bits

WRITTEN_WITH, KEPT = same_bits.load()
SAME_PRIMITIVES = same_bits.primitives() == WRITTEN_WITH


def assert_same(found, name):
    """Compare with what the fixture holds under a name."""
    kept = {k.removeprefix(f"{name}: "): v for k, v in KEPT.items() if k.startswith(f"{name}: ")}
    assert kept
    assert found.keys() == kept.keys()
    for key, array in kept.items():
        assert_same_array(np.asarray(found[key]), array, f"{name}: {key}")


def assert_same_array(found, kept, what):
    assert (found.dtype, found.shape) == (kept.dtype, kept.shape), what
    if SAME_PRIMITIVES or kept.dtype.kind != "f":
        assert found.tobytes() == kept.tobytes(), what
    else:
        close = 1e-4 if found.dtype == "float32" else 1e-6
        np.testing.assert_allclose(found, kept, rtol=close, atol=close, err_msg=what)


@pytest.mark.parametrize("path", same_bits.PATHS)
@pytest.mark.parametrize("name", same_bits.CASES)
def test_training_gives_the_numbers_it_gave(name, path, tmp_path):
    assert_same(same_bits.CASES[name](tmp_path, same_bits.PATHS[path]), name)


def test_every_kept_number_belongs_to_a_case():
    assert {key.partition(": ")[0] for key in KEPT} == {*same_bits.CASES, "run goes on"}


@pytest.mark.parametrize("name", same_bits.FILES)
def test_a_file_has_the_content_it_had(name, tmp_path):
    if not SAME_PRIMITIVES:
        pytest.skip("a file is compared by its bits, which are those of another platform here")
    same_bits.FILES[name](tmp_path / "new.npz")
    description, arrays = same_bits.read(tmp_path / "new.npz")
    kept_description, kept = same_bits.read(same_bits.SAVED / f"{name}.npz")
    assert description == kept_description
    assert arrays.keys() == kept.keys()
    for key, array in kept.items():
        assert_same_array(arrays[key], array, f"{name}: {key}")


def test_an_old_run_goes_on_in_the_middle_of_an_epoch(tmp_path):
    shutil.copy(same_bits.SAVED / "run.npz", tmp_path / "run.npz")
    assert_same(same_bits.go_on(tmp_path / "run.npz"), "run goes on")


def test_a_run_that_goes_on_ends_as_one_that_was_not_stopped():
    trainer, batches = same_bits.new_trainer()
    trainer.fit(batches, epochs=3, callbacks=[same_bits.halved_when_it_stalls()])
    predicted = trainer.model.predict(same_bits.rows("float64")[:9])
    assert_same(same_bits.numbers(trainer, predicted), "run goes on")


def test_an_old_model_file_predicts_what_it_did():
    kept = (same_bits.SAVED / "predicted.csv").read_text(encoding="utf-8").splitlines()
    found = same_bits.predict_rows(same_bits.SAVED / "model.npz").splitlines()
    assert len(found) == len(kept) == same_bits.ROWS + 1
    if SAME_PRIMITIVES:
        assert found == kept
        return
    for line, old in zip(found[1:], kept[1:], strict=True):
        for cell, old_cell in zip(line.split(","), old.split(","), strict=True):
            assert cell == old_cell or float(cell) == pytest.approx(float(old_cell), abs=1e-4)


def test_what_a_last_bit_changes_is_found(monkeypatch):
    name = "updater sgd: params"
    for close, same in ((1e-16, True), (1e-3, False)):
        monkeypatch.setitem(globals(), "SAME_PRIMITIVES", False)
        changed = KEPT[name] * (1 + close)
        if same:
            assert_same_array(changed, KEPT[name], name)
        else:
            with pytest.raises(AssertionError):
                assert_same_array(changed, KEPT[name], name)
    monkeypatch.setitem(globals(), "SAME_PRIMITIVES", True)
    with pytest.raises(AssertionError, match="params"):
        assert_same_array(np.nextafter(KEPT[name], np.inf), KEPT[name], name)
