"""Cases that other projects got wrong, each described by its test.

Most of them returned a wrong number without an error.
"""

import gc
import os
import shutil
import tracemalloc

import numpy as np
import pytest

import minigd as gd


def rows(n=30, width=5, seed=0):
    return np.random.default_rng(seed).normal(size=(n, width))


def targets(n=30, seed=1):
    return np.random.default_rng(seed).normal(size=n)


def make_batches(n=30, **options):
    return gd.Batches(rows(n), targets(n), **{"batch_size": 7, "shuffle": True, **options})


def make_trainer(updater=None, plain=False, dtype="float32", **options):
    """Return a trainer of a network with statistics and random numbers, or of a plain one."""
    between = [] if plain else [gd.BatchNorm(), gd.Dropout(0.3)]
    layers = [gd.Dense(8), *between, gd.Tanh(), gd.Dense(1)]
    model = gd.Sequential(layers, 5, dtype=dtype, seed=3)
    return gd.Trainer(model, "mse", updater or gd.Adam(0.01), **options)


def everything(trainer):
    """Return all that decides the next update, as bytes."""
    arrays = [*trainer.model.arrays().values(), *trainer.updater.state.values()]
    counts = trainer.model.passes, trainer.updater.step, trainer.updater.scale
    return b"".join(array.tobytes() for array in arrays), counts


def measured(history):
    """Return the history without the seconds, which are never the same twice."""
    return {name: values for name, values in history.items() if name != "seconds"}


def collect_rows(into):
    def collect(event):
        if event.rows is not None:
            into.append(np.arange(1000)[event.rows])

    return collect


def stop_after(batches):
    """Return a callback that stops after this many batches."""
    seen = []

    def stop(event):
        seen.extend([event] if event.rows is not None else [])
        if len(seen) == batches and event.rows is not None:
            event.trainer.stop()

    return stop


# Batches -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "batch_size"), [(30, 10), (28, 7), (12, 12), (12, 1), (30, 7)])
def test_rows_are_shuffled_anew_in_each_epoch_also_where_batches_come_out_even(n, batch_size):
    """A feed reshuffled when it ran out in the middle of a batch: with even batches never."""
    seen = []
    trainer = make_trainer(plain=True)
    trainer.fit(make_batches(n, batch_size=batch_size), epochs=6, callbacks=[collect_rows(seen)])
    epochs = np.concatenate(seen).reshape(6, n)
    assert (np.sort(epochs, axis=1) == np.arange(n)).all()
    assert len({tuple(order) for order in epochs.tolist()}) == 6


@pytest.mark.parametrize("accumulate", [1, 3])
def test_the_loss_of_an_epoch_with_an_odd_tail_is_that_of_its_rows(accumulate):
    """The mean of batch means let two rows of a tail count as much as the seven of a batch."""
    x, y = rows(30), targets(30)
    trainer = make_trainer(gd.SGD(0.0), plain=True, dtype="float64", accumulate=accumulate)
    history = trainer.fit(gd.Batches(x, y, batch_size=7), validation_data=gd.Batches(x, y, 11))
    errors = (trainer.model.predict(x)[:, 0] - y) ** 2
    batch_means = [errors[place].mean() for place in gd.batch_slices(30, 7)]
    assert abs(np.mean(batch_means) - errors.mean()) > 1e-3  # the two are distinguished
    assert history["loss"] == [pytest.approx(errors.mean(), rel=1e-12)]
    assert history["val_loss"] == [pytest.approx(errors.mean(), rel=1e-12)]


@pytest.mark.parametrize(
    ("n", "batch_size", "accumulate"), [(30, 7, 4), (30, 7, 3), (30, 7, 9), (30, 10, 2), (22, 7, 3)]
)
def test_a_window_of_batches_that_is_not_full_is_an_update_of_the_rows_it_has(
    n, batch_size, accumulate
):
    """The last batches were lost, or kept for the next epoch, or divided by a full window."""
    x, y = rows(n), targets(n)
    trainer = make_trainer(gd.SGD(0.1), plain=True, dtype="float64", accumulate=accumulate)
    twin = make_trainer(gd.SGD(0.1), plain=True, dtype="float64")
    trainer.fit(gd.Batches(x, y, batch_size=batch_size), epochs=2)
    for _ in range(2):
        for place in gd.batch_slices(n, batch_size * accumulate):
            twin.step(x[place], y[place])
    assert trainer.updates == twin.updates
    p, expected = trainer.model.flat_params, twin.model.flat_params
    np.testing.assert_allclose(p, expected, rtol=0, atol=1e-12 * abs(expected).max())


# Going on ----------------------------------------------------------------------------------------


@pytest.mark.few
@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("batches", range(1, 11))
def test_training_in_two_parts_is_training_in_one(tmp_path, batches, accumulate):
    """Resuming restarted the epoch, or used other rows, or the moments of another update."""
    path, whole_rows, parts = tmp_path / "run.npz", [], []
    whole = make_trainer(accumulate=accumulate)
    whole.fit(make_batches(), epochs=2, callbacks=[collect_rows(whole_rows)])
    first = make_trainer(accumulate=accumulate)
    first.fit(make_batches(), epochs=2, callbacks=[collect_rows(parts), stop_after(batches)])
    first.save(path)
    second = gd.Trainer.resume(path, make_batches())
    second.fit(until_epoch=2, callbacks=[collect_rows(parts)])
    assert everything(second) == everything(whole)
    assert measured(second.history) == measured(whole.history)
    assert np.concatenate(parts).tolist() == np.concatenate(whole_rows).tolist()


@pytest.mark.few
@pytest.mark.parametrize("place", ["behind the last update", "behind the epoch", "behind fit"])
@pytest.mark.parametrize(("accumulate", "batch_size"), [(1, 7), (3, 7), (1, 10), (3, 10)])
def test_a_run_resumed_exactly_at_the_end_of_an_epoch(tmp_path, place, accumulate, batch_size):
    """An epoch ran twice, or had no rows, or was missing in the history."""
    path = tmp_path / "run.npz"
    batches = make_batches(batch_size=batch_size)
    whole, first = make_trainer(accumulate=accumulate), make_trainer(accumulate=accumulate)
    whole.fit(batches, epochs=3)

    def save(event):
        last = event.name in ("update", "batch") and event.trainer.epoch == 1
        if place == "behind the last update" and last:
            event.trainer.save(path)  # each overwrites the one before
        elif place == "behind the epoch" and event.name == "epoch":
            event.trainer.save(path)

    first.fit(batches, epochs=2, callbacks=[save])
    if place == "behind fit":
        first.save(path)
    again, seen = gd.Trainer.resume(path, batches), []
    assert again.epoch == (1 if place == "behind the last update" else 2)
    again.fit(until_epoch=3, callbacks=[collect_rows(seen)])
    assert sorted(np.concatenate(seen).tolist()) == list(range(30))  # of the third epoch alone
    assert again.history["updates"] == whole.history["updates"]
    assert measured(again.history) == measured(whole.history)
    assert everything(again) == everything(whole)
    # A script started once more finds nothing left to do.
    before = everything(again)
    again.fit(until_epoch=3)
    assert everything(again) == before


@pytest.mark.parametrize(
    "schedule",
    [
        gd.CosineDecay(0.05, updates=40),
        gd.StepDecay(0.05, 0.5, epochs=2),
        gd.WarmUp(gd.ExponentialDecay(0.05, 0.9, updates=5), updates=12),
    ],
    ids=lambda schedule: type(schedule).__name__,
)
def test_a_schedule_knows_where_it_was(tmp_path, schedule):
    """A schedule began again at its first rate, or counted epochs from the start of a `fit`."""

    def rates(into):
        def note(event):
            if event.name == "update":
                into.append(event.trainer.updater.learning_rate)

        return note

    whole, parts = [], []
    make_trainer(gd.Adam(schedule)).fit(make_batches(), epochs=6, callbacks=[rates(whole)])
    trainer = make_trainer(gd.Adam(schedule))
    trainer.fit(make_batches(), epochs=2, callbacks=[rates(parts)])
    trainer.fit(epochs=1, callbacks=[rates(parts)])
    trainer.fit(epochs=1, callbacks=[rates(parts), stop_after(3)])
    trainer.save(tmp_path / "run.npz")
    again = gd.Trainer.resume(tmp_path / "run.npz", make_batches())
    again.fit(until_epoch=6, callbacks=[rates(parts)])
    assert parts == whole
    assert len(set(whole)) > 2


def test_early_stopping_and_plateaus_know_where_they_were(tmp_path):
    """Patience started again with each start, and a run that was killed often never ended."""

    def script(path, epochs_a_life):
        trainer = (
            gd.Trainer.resume(path, make_batches()) if path.exists() else make_trainer(gd.SGD(0.0))
        )

        def die(event):
            if event.name == "epoch" and event.trainer.epoch % epochs_a_life == 0:
                event.trainer.save(path)
                raise InterruptedError

        # At a rate of 0 only the running statistics move, and soon they do so no more.
        deciding = [gd.EarlyStopping(patience=7), gd.ReduceOnPlateau(patience=3)]
        validation = rows(20, seed=2), targets(20, seed=3)
        trainer.fit(
            make_batches(), until_epoch=50, validation_data=validation, callbacks=[*deciding, die]
        )
        return trainer, [callback.waited for callback in deciding]

    straight, waited = script(tmp_path / "straight.npz", 1000)
    assert straight.epoch < 50
    path, lives = tmp_path / "run.npz", 1
    while lives < 100:
        try:
            again, found = script(path, 2)
            break
        except InterruptedError:
            lives += 1
    assert lives > 3
    assert found == waited
    assert again.updater.scale == straight.updater.scale < 1
    assert measured(again.history) == measured(straight.history)
    assert everything(again) == everything(straight)


# What only looks ---------------------------------------------------------------------------------


def test_the_learning_rate_finder_leaves_everything_as_it_was():
    """A finder left its last, ruined weights, or put the weights back and not the rest."""
    batches, updater = make_batches(), gd.Adam(0.01)
    trainer = make_trainer(updater)
    trainer.fit(batches, epochs=1)
    before = everything(trainer)
    curve = gd.find_learning_rate(
        trainer.model, batches, loss="mse", updater=updater, highest=1e6, updates=60
    )
    assert max(curve.losses) > 3 * min(curve.losses)  # so that there was something to put back
    assert everything(trainer) == before
    twin = make_trainer()
    twin.fit(make_batches(), epochs=3)
    trainer.fit(batches, epochs=2)
    assert everything(trainer) == everything(twin)
    assert measured(trainer.history) == measured(twin.history)


@pytest.mark.parametrize("when", ["start", "update", "batch", "epoch", "end"])
def test_evaluating_changes_no_statistics_and_no_random_numbers(when):
    """Running means took in validation rows, and a mask drawn for them moved all later ones."""
    other = rows(17, seed=8) * 100, targets(17, seed=9)
    looked = []

    def look(event):
        if event.name == when:
            before = everything(event.trainer)
            model = event.trainer.model
            looked.append(event.trainer.evaluate(*other))
            model.predict(other[0])
            model.forward(other[0])
            model.evaluate(*other, batch_size=3)
            assert everything(event.trainer) == before

    plain, watched = make_trainer(accumulate=2), make_trainer(accumulate=2)
    plain.fit(make_batches(), epochs=3)
    watched.fit(make_batches(), epochs=3, validation_data=other, callbacks=[look])
    assert looked
    assert everything(watched) == everything(plain)
    assert watched.history["loss"] == plain.history["loss"]


def test_evaluating_twice_gives_the_same_number_with_dropout_and_batch_norm():
    """Evaluation ran in training mode, so that each call gave another loss."""
    trainer = make_trainer()
    trainer.fit(make_batches(), epochs=2)
    losses = {trainer.evaluate(rows(), targets())["loss"] for _ in range(3)}
    assert len(losses) == 1
    alone = [trainer.model.predict(rows()[[i]])[0, 0] for i in range(30)]
    assert np.mean((alone - targets()) ** 2) == pytest.approx(losses.pop(), rel=1e-5)


@pytest.mark.slow
@pytest.mark.usefixtures("only_new_garbage")
def test_a_hundred_epochs_need_no_more_memory_than_twenty():
    """Losses were kept with their graphs, masks for each pass, and a copy of the data an epoch."""
    trainer, batches = make_trainer(accumulate=2, clip_norm=1.0, l2=1e-3), make_batches(prefetch=2)
    callbacks = [gd.EarlyStopping(patience=1000), gd.ReduceOnPlateau(patience=1000)]

    def train(epochs):
        trainer.fit(batches, epochs=epochs, validation_data=batches, callbacks=callbacks)
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        before = train(20)
        after = train(100)
    finally:
        tracemalloc.stop()
    # Four columns of the history, 100 floats of 24 bytes each, and 8 more for their places in
    # lists that have room to grow; one copy of the rows would be 1200 bytes, an epoch.
    assert after - before < 4 * 100 * (24 + 2 * 8) + 4000


# The same data -----------------------------------------------------------------------------------


def write_csv(path, x, y):
    lines = [",".join(f"{value:.9g}" for value in row) for row in np.column_stack([x, y])]
    path.write_text("\n".join(["a,b,c,d,e,y", *lines]) + "\n")


def write(folder, kind, x, y):
    """Write the rows to a new folder and return the function that opens them, cut into batches."""
    folder.mkdir()
    if kind == "csv":
        write_csv(folder / "rows.csv", x, y)
    else:
        np.save(folder / "x.npy", x)
        np.save(folder / "y.npy", y)

    def batches(folder=folder):
        if kind == "csv":
            source = gd.CsvSource(folder / "rows.csv", target="y")
        elif kind == "map":
            source = gd.NpySource(folder / "x.npy", folder / "y.npy")
        else:
            source = gd.ArraySource(np.load(folder / "x.npy"), np.load(folder / "y.npy"))
        return gd.Batches(source, batch_size=7, shuffle=True)

    return batches


@pytest.mark.parametrize("kind", ["array", "map", "csv"])
@pytest.mark.parametrize("batches_done", [3, 5])
def test_files_that_were_moved_or_touched_are_the_same_data(tmp_path, kind, batches_done):
    """Data were identified by path and time, and a run copied to another disk was refused."""
    batches = write(tmp_path / "here", kind, rows(), targets())
    whole, first = make_trainer(), make_trainer()
    whole.fit(batches(), epochs=2)
    first.fit(batches(), callbacks=[stop_after(batches_done)])
    first.save(tmp_path / "run.npz")
    shutil.move(tmp_path / "here", tmp_path / "there")
    for file in (tmp_path / "there").iterdir():
        os.utime(file, (0, 0))
    again = gd.Trainer.resume(tmp_path / "run.npz", batches(tmp_path / "there"))
    again.fit(until_epoch=2)
    assert everything(again) == everything(whole)


@pytest.mark.few
@pytest.mark.parametrize("kind", ["array", "map", "csv"])
@pytest.mark.parametrize("change", ["a number", "a target", "the order", "a row more"])
@pytest.mark.parametrize("batches_done", [3, 5])
def test_other_data_of_the_same_path_are_refused(tmp_path, kind, change, batches_done):
    """A file edited in between, of the same size and name, was trained on all the same."""
    x, y = rows(), targets()
    batches = write(tmp_path / "here", kind, x, y)
    trainer = make_trainer()
    trainer.fit(batches(), callbacks=[stop_after(batches_done)])
    trainer.save(tmp_path / "run.npz")
    if change == "a number":
        x[17, 3] *= 1.001
    elif change == "a target":
        y[29] *= 1.001
    elif change == "the order":
        x, y = x[::-1], y[::-1]
    else:
        x, y = np.vstack([x, x[:1]]), np.append(y, y[0])
    shutil.rmtree(tmp_path / "here")
    batches = write(tmp_path / "here", kind, x, y)
    with pytest.raises(gd.CheckpointError, match="these batches do not match the checkpoint"):
        gd.Trainer.resume(tmp_path / "run.npz", batches())
