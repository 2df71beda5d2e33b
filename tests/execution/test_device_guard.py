"""After a divergence on a GPU counts, means and parameters are those of NumPy.

NumPy stops at the bad step itself. A GPU may go on behind it, and has to come to the same state;
how it goes back is tested in `tests/training/test_snapshot.py`.
"""

import numpy as np
import pytest

import minigd as gd

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(50, 3)), RNG.normal(size=(50, 4))
BAD = Y.copy()
BAD[25, 0] = 1e200  # its square is not finite


def make(backend, accumulate=1, updater=None, **options):
    layers = [gd.Dense(4), gd.BatchNorm(), gd.Tanh(), gd.Dense(4)]
    model = gd.Sequential(layers, 3, backend=backend, dtype="float64", seed=1)
    return gd.Trainer(model, "mse", updater or gd.SGD(0.1), accumulate=accumulate, **options)


def batches(y=Y, **options):
    return gd.Batches(X, y, batch_size=10, **options)


def stop_at(batch):
    def callback(event):
        if event.name in ("update", "batch") and event.trainer.batch == batch:
            event.trainer.stop()

    return callback


def refused(trainer, data, **options):
    """Fit, and tell whether that ended in a divergence."""
    try:
        trainer.fit(data, **options)
    except gd.DivergenceError:
        return True
    return False


def state(trainer):
    """Return counts, which must be the same, and numbers, which must be close."""
    host, model, history = trainer.model.backend.to_numpy, trainer.model, trainer.history
    counts = [trainer.updates, trainer.epoch, trainer.batch, trainer.updater.step, model.passes]
    buffers = [host(layer.buffers[name]) for layer in model.layers for name in layer.running]
    losses = [history["loss"]] if trainer.epoch else []
    return counts, [np.array(a) for a in (host(model.flat_params), *buffers, *losses)]


def same(run, **options):
    """Run something on NumPy and on a GPU, or the stand-in, and hold one to the other."""
    (counts, numbers), (other_counts, others) = [
        state(run(make(backend, **options))) for backend in ("numpy", "cupy")
    ]
    assert other_counts == counts
    for one, other in zip(numbers, others, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("accumulate", [1, 2, 4])
def test_a_divergence_is_known_before_other_data_are_begun(device, accumulate):
    def run(trainer):
        assert refused(trainer, batches(BAD), callbacks=[stop_at(4)])
        trainer.fit(batches())
        return trainer

    same(run, accumulate=accumulate)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_divergence_is_known_before_the_model_moves(device, accumulate):
    def run(trainer):
        assert refused(trainer, batches(BAD), callbacks=[stop_at(4)])
        trainer.model.to("numpy")
        assert refused(trainer, batches(BAD))
        return trainer

    same(run, accumulate=accumulate)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_bad_step_by_hand_is_no_batch_of_the_epoch(device, accumulate):
    def run(trainer):
        here = trainer.model.backend.asarray
        data = batches()
        trainer.fit(data, callbacks=[stop_at(3)])
        with pytest.raises(gd.DivergenceError):
            trainer.step(here(X[:5]), here(np.full((5, 4), 1e200)))
        assert trainer.batch == 3
        trainer.fit(data)
        return trainer

    same(run, accumulate=accumulate)


def test_a_metric_that_raises_behind_a_bad_update(device):
    class Strict(gd.metrics.MeanAbsoluteError):
        def per_example(self, prediction, y):
            if not bool(np.isfinite(prediction).all()):
                raise ValueError("a prediction is no number")
            return super().per_example(prediction, y)

    def plant(event):
        if event.name == "update" and event.trainer.updates == 2 and event.trainer.epoch == 0:
            event.trainer.model.flat_params[0] = np.nan

    def run(trainer):
        data = batches()
        with pytest.raises(gd.DivergenceError):
            trainer.fit(data, callbacks=[plant])
        trainer.model.flat_params[0] = 0.5
        refused(trainer, data)
        if trainer.epoch == 0:
            trainer.fit(data)
        return trainer

    same(run, metrics=[Strict()])


def test_two_divergences_in_a_row_are_counted_apart(device):
    def run(trainer):
        for _ in range(2):
            assert refused(trainer, batches(BAD))
        trainer.fit(batches(), epochs=2)
        return trainer

    same(run)


def test_saving_at_the_update_that_ends_an_epoch(device):
    def run(trainer):
        data = batches()

        def watch(event):
            if event.name == "batch" and trainer.batch == 5:
                trainer.updater.learning_rate = trainer.penalty.l2 = 1e200
            if event.name == "update" and event.x is None:
                trainer.state_dict()

        assert refused(trainer, data, callbacks=[watch])
        trainer.updater.learning_rate, trainer.penalty.l2 = 0.1, 0.0
        trainer.fit(data)
        return trainer

    same(run, accumulate=3)


def test_a_run_is_saved_where_the_model_has_gone(device, tmp_path):
    for backend, other in (("cupy", "numpy"), ("numpy", "cupy")):
        trainer = make(backend, updater=gd.Adam(0.01))
        trainer.fit(batches())
        trainer.model.to(other)
        trainer.save(tmp_path / "run.npz")
        resumed = gd.Trainer.resume(tmp_path / "run.npz", batches(), backend=other)
        for one in (trainer, resumed):
            one.fit(batches(), epochs=1)
        (counts, numbers), (other_counts, others) = state(trainer), state(resumed)
        assert counts == other_counts
        for a, b in zip(numbers, others, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9)


def test_an_updater_of_ones_own_may_do_more(device):
    class Own(gd.SGD):
        def update(self, model):
            super().update(model)

    def run(trainer):
        # The loss is finite, and the first update is not.
        assert refused(trainer, batches(1e4 * Y))
        return trainer

    (counts, _), (other_counts, _) = [
        state(run(make(backend, updater=Own(1e308)))) for backend in ("numpy", "cupy")
    ]
    assert counts == other_counts == [0, 0, 0, 0, 0]
