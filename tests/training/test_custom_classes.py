"""A file that needs custom classes: all missing ones are named at once."""

import numpy as np
import pytest

import minigd as gd

X = np.linspace(-1, 1, 40).reshape(-1, 1)


class Twice(gd.Layer):
    """A layer."""

    def forward(self, x, train=False):
        return 2 * x

    def backward(self, dy):
        return 2 * dy


class Thrice(Twice):
    """Another layer."""


class Squares(gd.MeanSquaredError):
    """A loss."""


class Worst(gd.metrics.MeanAbsoluteError):
    """A metric."""


class Slow(gd.SGD):
    """An updater."""


class Bend(gd.StepDecay):
    """A schedule."""


ALL = [Twice, Thrice, Squares, Worst, Slow, Bend]


@pytest.fixture
def path(tmp_path):
    model = gd.Sequential([Twice(), gd.Dense(1), Thrice(), Twice()], 1)
    updater = Slow(Bend(0.01, epochs=3))
    trainer = gd.Trainer(model, Squares(), updater, metrics={"worst": Worst()})
    trainer.fit(X, X, batch_size=20)
    trainer.save(tmp_path / "run.npz")
    return tmp_path / "run.npz"


@pytest.mark.parametrize("named", [[], [Twice], [Worst, Squares], [Twice, Thrice, Squares]])
def test_load_names_all_that_the_model_needs(path, named):
    missing = [c.__name__ for c in ALL[:4] if c not in named]
    some = "the classes " if len(missing) > 1 else "a class "
    words = rf"needs {some}{', '.join(f'{n!r}' for n in missing)} .*custom=\[{', '.join(missing)}\]"
    with pytest.raises(gd.CheckpointError, match=words):
        gd.load(path, custom=named)


def test_load_needs_neither_updater_nor_schedule(path):
    assert isinstance(gd.load(path, custom=ALL[:4]).layers[0], Twice)


@pytest.mark.parametrize("named", [[], ALL[:4], [Slow], [Bend, Twice]])
def test_resume_names_all_that_the_run_needs(path, named):
    missing = ", ".join(c.__name__ for c in ALL if c not in named)
    with pytest.raises(gd.CheckpointError, match=rf"custom=\[{missing}\]"):
        gd.Trainer.resume(path, custom=named)
    assert gd.Trainer.resume(path, custom=ALL).epoch == 1
