"""A run over several processes gives what one process gives; threads stand for processes."""

import re
import signal
from itertools import chain

import numpy as np
import pytest
from budgets import examples
from hypothesis import given
from hypothesis import strategies as st
from oracles import drawn_runs
from oracles.drawn_runs import Bounds, settled
from oracles.simulated import run_ranks

import minigd as gd
from minigd.data.sources import csv_pieces
from minigd.distributed.communicator import ALONE, Communicator
from minigd.nn.layers import BatchNorm, Dropout
from minigd.training import processes
from minigd.training.interrupts import Terminated


def network(layers, seed=1):
    """Return a smooth network with one output."""
    made = [gd.Dense(6), gd.Tanh(), *layers, gd.Dense(1), gd.Sigmoid()]
    return gd.Sequential(made, inputs=3, dtype="float64", seed=seed)


def data(n, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3))
    return X, (X[:, 0] * X[:, 1] > 0).astype(float), rng.integers(0, 3, size=n) * 0.7


INNER = {
    "plain": list,
    "batch norm": lambda: [gd.BatchNorm()],
    "dropout": lambda: [gd.Dropout(0.3)],
    "residual": lambda: [gd.Residual([gd.BatchNorm(), gd.Dense(6), gd.Dropout(0.2), gd.Tanh()])],
}


def train(comm, layers="plain", n=40, batch_size=9, epochs=1, weighted=False, **options):
    """Train, and return the parameters, the gradient of each update, and the history."""
    model, (X, y, w) = network(INNER[layers]()), data(n)
    w[0] = 1.0
    grads = []

    def note(event):
        if event.name == "update":
            grads.append(event.trainer.model.flat_grads.copy())

    batches = gd.Batches(
        X, y, batch_size, shuffle=True, sample_weight=w if weighted else None,
        tail=options.pop("tail", "keep"),
    )  # fmt: skip
    trainer = gd.Trainer(
        model, "binary_crossentropy", gd.SGD(0.5), ["accuracy", "roc_auc"], comm=comm, **options
    )
    held_out = data(11, seed=5)[:2]
    history = trainer.fit(batches, epochs=epochs, callbacks=[note], validation_data=held_out)
    columns = {name: history[name] for name in history if name != "seconds"}
    running = {k: v for k, v in model.arrays().items() if "mean" in k or "variance" in k}
    return model.flat_params.copy(), np.array(grads), columns, running


def check_same(found, expected, tolerance=1e-12):
    """Check parameters, and each gradient to a share of its largest entry."""
    params, grads, columns, running = found
    assert grads.shape == expected[1].shape
    largest = abs(expected[1]).max(axis=1, keepdims=True)
    assert (abs(grads - expected[1]) <= tolerance * largest).all()
    np.testing.assert_allclose(params, expected[0], rtol=0, atol=1e-10)
    assert list(columns) == list(expected[2])
    for name, column in columns.items():
        np.testing.assert_allclose(column, expected[2][name], rtol=0, atol=1e-10)
    for name, array in running.items():
        np.testing.assert_allclose(array, expected[3][name], rtol=0, atol=1e-10)


@examples(3)
@given(
    layers=st.sampled_from(sorted(INNER)),
    n=st.integers(5, 40),
    batch_size=st.integers(1, 13),
    size=st.integers(2, 4),
    weighted=st.booleans(),
    accumulate=st.integers(1, 3),
    clip=st.sampled_from([{}, {"clip_norm": 0.01}, {"clip_value": 0.02}, {"l2": 0.1}]),
    tail=st.sampled_from(["keep", "drop"]),
)
def test_every_gradient_is_that_of_one_process(
    layers, n, batch_size, size, weighted, accumulate, clip, tail
):
    batch_size = min(n, batch_size)
    run = {
        "layers": layers, "n": n, "batch_size": batch_size, "weighted": weighted,
        "accumulate": accumulate, **clip, "tail": tail,
    }  # fmt: skip
    try:
        expected = train(None, **run)
    except gd.DataError as error:  # no row counts, but for those of the tail
        with pytest.raises(gd.DataError, match=f"^{re.escape(str(error))}$"):
            run_ranks(size, lambda comm: train(comm, **run))
        return
    all_found = run_ranks(size, lambda comm: train(comm, **run))
    for found in all_found:
        check_same(found, expected)
        # The same bits in all processes.
        np.testing.assert_array_equal(found[0], all_found[0][0])
        assert repr(found[2]) == repr(all_found[0][2])


@pytest.mark.parametrize("layers", [pytest.param(k, marks=pytest.mark.slow) for k in INNER])
@pytest.mark.parametrize("size", [2, 3, 4])
def test_parameters_are_the_same_after_200_updates(layers, size):
    check_200_updates(layers, size)


def test_parameters_are_the_same_after_200_updates_of_a_network_with_all_layers():
    check_200_updates("residual", 2)


def check_200_updates(layers, size):
    # BatchNorm over two or three rows of some batches makes 1e-7 of one rounding in 200 updates.
    run = {"layers": layers, "n": 41, "batch_size": 9, "epochs": 40, "weighted": True}
    expected = train(None, **run)
    assert expected[2]["updates"][-1] == 200
    check_same(run_ranks(size, lambda comm: train(comm, **run))[-1], expected, 1e-10)


def test_the_same_number_of_processes_gives_the_same_bits():
    run = {"layers": "residual", "n": 30, "epochs": 2, "weighted": True}
    one, other = (run_ranks(3, lambda comm: train(comm, **run))[0] for _ in range(2))
    np.testing.assert_array_equal(one[0], other[0])
    assert repr(one[2]) == repr(other[2])


@pytest.mark.slow
@given(st.sampled_from(drawn_runs.table(3)), st.sampled_from(["epochs", "updates", "steps"]))
@examples(1)
def test_whatever_decides_a_step_comes_to_the_same(run, how):
    run = settled(run)
    if "batch norm" in run.values():
        # Before it a bias is 0 but for rounding, of whose sign an L1 penalty makes steps.
        run = run | {"penalty": "l2"}
    bounds = Bounds(run, how)
    for found in run_ranks(3, lambda comm: drawn_runs.train(run, how, comm=comm)[1]):
        bounds.check(found, "three processes")


# Planted errors ------------------------------------------------------------------------------


def equal_weights(patch):
    mean = Communicator.mean
    patch.setattr(
        Communicator, "mean", lambda self, v, notes: mean(self, v, [1.0, *list(notes)[1:]])
    )


def own_weights(patch):
    patch.setattr(processes.SharedLoop, "_weigh", lambda self, rows, own: rows)


def own_statistics(patch):
    patch.setattr(BatchNorm, "_is_shared", lambda self: False)


def own_sums_in_backward(patch):
    means = BatchNorm._shared_means

    def wrong(self, dy, x_hat):
        means(self, dy, x_hat)
        return self.grads["gamma"], self.grads["beta"]

    patch.setattr(BatchNorm, "_shared_means", wrong)


def own_masks(patch):
    draw = Dropout._draw

    def wrong(self, shape):
        self.first_row = 0
        return draw(self, shape)

    patch.setattr(Dropout, "_draw", wrong)


@pytest.mark.parametrize(
    ("plant", "run"),
    [
        (equal_weights, {}),
        (own_weights, {"weighted": True}),
        (own_statistics, {"layers": "batch norm"}),
        (own_sums_in_backward, {"layers": "batch norm"}),
        (own_masks, {"layers": "dropout"}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_planted_error_is_found(monkeypatch, plant, run):
    expected = train(None, **run)
    check_same(run_ranks(2, lambda comm: train(comm, **run))[0], expected)
    plant(monkeypatch)
    # Buffers that differ are seen by the run itself.
    with pytest.raises((AssertionError, RuntimeError)):
        check_same(run_ranks(2, lambda comm: train(comm, **run))[0], expected)


# What else is the same in all ----------------------------------------------------------------


def test_a_window_takes_one_message_of_the_gradient():
    X, y, _ = data(44)

    def run(comm):
        sent, rows = [], comm.gather_rows
        comm.gather_rows = lambda row: sent.append(row.size) or rows(row)
        model = network([])
        trainer = gd.Trainer(model, "mse", "sgd", accumulate=4, comm=comm)
        trainer.fit(gd.Batches(X, y, 4))
        return sum(size >= model.flat_params.size for size in sent)

    assert run_ranks(3, run) == [3] * 3  # 11 batches


def test_rows_come_in_the_order_of_one_process():
    X, y, _ = data(23)

    def rows_of(comm):
        model, seen = network([]), []
        trainer = gd.Trainer(model, "binary_crossentropy", "sgd", comm=comm)
        batches = gd.Batches(X, y, 7, shuffle=True)
        trainer.fit(batches, epochs=2, callbacks=[lambda e: seen.append(e)])
        return [np.arange(23)[e.rows].tolist() for e in seen if e.name == "update"]

    (expected,) = [rows_of(None)]
    for size in (2, 3, 9):
        parts = run_ranks(size, rows_of)
        assert [[*chain(*each)] for each in zip(*parts, strict=True)] == expected


def test_a_metric_of_rows_gets_them_in_the_order_of_one_process():
    def order(prediction, target):
        return float((prediction[:, 0] * np.arange(len(prediction))).sum())

    X, y, _ = data(23)

    def run(comm):
        options = {"loss": "mse", "updater": "sgd", "batch_size": 5, "metrics": [order]}
        history = network([]).fit(
            X, y, **options, validation_data=(X[:7], y[:7]), epochs=2, comm=comm
        )
        return history["order"] + history["val_order"]

    for found in run_ranks(3, run):
        np.testing.assert_allclose(found, run(None), rtol=1e-12)


def test_batches_of_which_no_row_counts_are_passed_over():
    X, y, w = data(20)
    w[:] = 1
    w[4:13] = 0

    def run(comm):
        model = network([gd.BatchNorm()])
        events = []
        model.fit(
            X, y, loss="binary_crossentropy", updater=gd.SGD(0.5), batch_size=4, shuffle=False,
            sample_weight=w, callbacks=[lambda e: events.append(e.name)], comm=comm, accumulate=2,
        )  # fmt: skip
        return model.flat_params.copy(), events

    params, events = run(None)
    for found, names in run_ranks(3, run):
        np.testing.assert_allclose(found, params, rtol=0, atol=1e-12)
        assert names == events


@pytest.mark.parametrize(("name", "updates"), [("start", 0), ("update", 3), ("epoch", 10)])
def test_one_process_may_stop_all_of_them(name, updates):
    X, y, _ = data(40)

    def run(comm):
        trainer = gd.Trainer(network([]), "mse", "sgd", comm=comm)

        def stop(event):
            if (event.name, trainer.updates, comm.rank) == (name, updates, 1):
                trainer.stop()

        trainer.fit(gd.Batches(X, y, 4), callbacks=[stop], epochs=2)
        return trainer.updates

    assert run_ranks(3, run) == [updates] * 3


def test_a_signal_after_the_last_batch_of_an_epoch_ends_all():
    X, y, _ = data(40)

    def run(comm):
        trainer = gd.Trainer(network([]), "mse", "sgd", comm=comm)

        def note(event):
            if event.name == "epoch" and comm.rank == 1:
                comm.signal = signal.SIGTERM

        with pytest.raises(Terminated):
            trainer.fit(gd.Batches(X, y, 10), callbacks=[note])
        return trainer.updates

    assert run_ranks(3, run) == [4] * 3


def test_a_time_limit_ends_all_after_the_same_update():
    X, y, _ = data(40)

    def run(comm):
        trainer = gd.Trainer(network([]), "mse", "sgd", comm=comm)
        trainer.fit(gd.Batches(X, y, 4), epochs=100_000, time_limit=0.1)
        return trainer.updates

    first, *others = run_ranks(3, run)
    assert 0 < first < 1_000_000
    assert others == [first] * 2


def test_others_than_the_first_are_quiet(capsys):
    X, y, _ = data(40)

    def run(comm):
        callbacks = [gd.PrintEvery(10)]
        network([]).fit(
            X, y, loss="mse", batch_size=4, callbacks=callbacks, comm=comm, progress=True,
            profile=True,
        )  # fmt: skip

    run(None)
    alone = capsys.readouterr()
    run_ranks(3, run)
    found = capsys.readouterr()
    assert found.out == alone.out
    numbers = r"[0-9][0-9.,]*"
    assert len(re.sub(numbers, "0", found.err).splitlines()) == len(alone.err.splitlines()) > 2


@pytest.mark.parametrize("layers", ["plain", "residual"])
def test_a_gpu_gives_what_one_process_gives(stand_in, layers):
    X, y, _ = data(40)

    def run(comm):
        made = [gd.Dense(6), *INNER[layers](), gd.Dense(1)]
        model = gd.Sequential(made, inputs=3, backend=stand_in, dtype="float64", seed=1)
        history = model.fit(
            X, y, loss="mse", updater=gd.SGD(0.1), batch_size=9, metrics=["mae"], accumulate=2,
            validation_data=(X[:7], y[:7]), epochs=2, comm=comm,
        )  # fmt: skip
        return [*stand_in.to_numpy(model.flat_params), *history["loss"], *history["val_mae"]]

    for found in run_ranks(3, run):
        np.testing.assert_allclose(found, run(None), rtol=0, atol=1e-11)


def test_norms_of_rows_are_those_of_the_whole_batch():
    X, y, w = data(11)

    def run(comm, n, weight):
        trainer = gd.Trainer(network([]), "mse", gd.SGD(0.1), comm=comm, clip_rows=0.1)
        value, norms = trainer.step(X[:n], y[:n], weight, per_example=True)
        seen = []
        options = {"batch_size": 2, "per_example": True, "callbacks": [lambda e: seen.append(e)]}
        trainer.fit(X, y, **options)
        assert all(len(e.norms) == len(e.x) for e in seen if e.name == "update")
        return [value, *norms, *trainer.model.flat_params]

    for n, weight in ((11, None), (2, None), (11, w)):
        for found in run_ranks(3, lambda comm, n=n, weight=weight: run(comm, n, weight)):
            np.testing.assert_allclose(found, run(None, n, weight), rtol=0, atol=1e-12)


# Errors --------------------------------------------------------------------------------------


def test_ranks_with_other_parameters_are_named():
    X, y, _ = data(40)

    def run(comm):
        model = network([], seed=int(comm.rank == 1))
        model.fit(X, y, loss="mse", comm=comm)

    words = r"^rank 1 of 3 differs from rank 0 in the parameters, after update 0: .* alone$"
    with pytest.raises(RuntimeError, match=words):
        run_ranks(3, run)


OTHERS = {
    "layers": ({"layers": "batch norm"}, "the number of layers: 6, and not 5"),
    "width": ({"width": 5}, r"layer 1: Dense\(units=5.*\), and not Dense\(units=4"),
    "loss": ({"loss": "mae"}, r"the loss: MeanAbsoluteError\(\), and not"),
    "updater": ({"updater": gd.SGD(0.2)}, r"the updater: SGD\(learning_rate=0.2"),
    "metrics": ({"metrics": ["mae"]}, r"metrics: \['mae'\], and not \[\]"),
    "accumulate": ({"accumulate": 2}, "accumulate: 2, and not 1"),
    "penalty": ({"l2": 0.1}, r"penalties: \(0.0, 0.1, False\)"),
    "clipping": ({"clip_norm": 0.1}, r"clipping: \(None, 0.1\)"),
    "rows": ({"n": 39}, "number of rows: 39, and not 40"),
    "data": ({"shift": 1e-9}, "the data. Make"),
    "frame": ({"shift": 1e-9, "kind": "frame"}, "the data. Make"),
    "weights": ({"sample_weight": np.arange(40.0)}, "weights. Make"),
    "batch size": ({"batch_size": 11}, "batch_size: 11, and not 10"),
    "order": ({"shuffle": False}, "shuffle: False, and not True"),
    "validation": ({"validation_data": (np.ones((2, 3)), np.ones(2))}, "validation: True"),
    "epochs": ({"epochs": 2}, "epochs: 2, and not 1"),
    "callbacks": ({"callbacks": [gd.PrintEvery(1)]}, r"callbacks: \[\('PrintEvery'"),
    "limit": ({"time_limit": 9.0}, "time_limit: Deadline, and not Interrupt"),
}


@pytest.mark.few
@pytest.mark.parametrize("what", OTHERS)
def test_a_call_that_is_another_in_one_process_is_named(what):
    options, words = OTHERS[what]

    def run(comm):
        X, y, _ = data(40)
        given = {"loss": "mse", "updater": gd.SGD(0.1), "batch_size": 10, "n": 40, "width": 4}
        kind = options.get("kind")
        given |= options if comm.rank == 1 else {}
        n, shift = given.pop("n"), given.pop("shift", 0.0)
        given.pop("kind", None)
        inner = [gd.Dense(given.pop("width")), *INNER[given.pop("layers", "plain")](), gd.Tanh()]
        model = gd.Sequential([*inner, gd.Tanh(), gd.Dense(1), gd.Tanh()], 3, seed=1)
        columns = {**dict(zip("abc", X[:n].T + shift, strict=True)), "y": y[:n]}
        rows = (gd.FrameSource(columns, "y"),) if kind else (X[:n] + shift, y[:n])
        model.fit(*rows, **given, comm=comm)

    with pytest.raises(RuntimeError, match=rf"^rank 1 of 3 differs from rank 0 in .*{words}"):
        run_ranks(3, run)


@pytest.mark.filterwarnings("ignore:.*can't be read in parts")
@pytest.mark.parametrize("weighted", [False, True])
def test_a_stream_that_gives_one_process_other_rows_is_named(weighted):
    X, y, _ = data(40)

    def run(comm, other):
        order = np.arange(40)[:: -1 if other and comm.rank == 1 else 1]
        rows = gd.IterableSource(lambda: ((X[order[k : k + 7]], y[k : k + 7]) for k in (0, 7, 14)))
        weight = {"class_weight": {0: 1.0, 1: 2.0}} if weighted else {}
        model = gd.Sequential([gd.Dense(1), gd.Sigmoid()], 3, seed=1)
        batches = gd.Batches(rows, batch_size=5, **weight)
        model.fit(batches, loss="binary_crossentropy", comm=comm)

    run_ranks(3, lambda comm: run(comm, False))
    with pytest.raises(gd.DataError, match=r"^rank 1 of 3 has other rows than rank 0: give all"):
        run_ranks(3, lambda comm: run(comm, True))


def test_steps_on_batches_of_other_sizes_are_refused():
    X, y, _ = data(12)

    def run(comm):
        n = 10 + comm.rank
        gd.Trainer(network([]), "mse", "sgd", comm=comm).step(X[:n], y[:n])

    with pytest.raises(gd.DataError, match=r"^rank 1 of 2 has a batch of 11 rows, and rank 0 one"):
        run_ranks(2, run)


class Centered(gd.Layer):
    """Takes the mean of the rows away, and says nothing of it."""

    def build(self, n_in):
        return n_in

    def forward(self, x, train=False):
        return x - x.mean(axis=0) if train else x

    def backward(self, dy):
        return dy - dy.mean(axis=0)


class Doubled(Centered):
    """Does the same to each row."""

    def forward(self, x, train=False):
        return 2 * x

    def backward(self, dy):
        return 2 * dy


@pytest.mark.parametrize("wrap", [list, lambda layers: [gd.Residual(layers)]], ids=["", "inner"])
def test_a_layer_that_couples_rows_without_a_word_is_refused(wrap):
    X, y, _ = data(40)

    def run(comm, layer):
        model = network(wrap([layer()]))
        return model.fit(X, y, loss="mse", batch_size=10, comm=comm)["loss"]

    with pytest.raises(ValueError, match=r"centered1 takes sums over .*: set couples = True in Ce"):
        run_ranks(2, lambda comm: run(comm, Centered))
    for found in run_ranks(2, lambda comm: run(comm, Doubled)):
        np.testing.assert_allclose(found, run(None, Doubled), rtol=1e-12)


def test_files_are_opened_together(tmp_path, monkeypatch):
    X, y, _ = data(200)
    path = tmp_path / "rows.csv"
    np.savetxt(path, np.c_[X, y], "%.3f", ",", header="a,b,c,y", comments="")
    shared, read = [], csv_pieces._seen_in
    monkeypatch.setattr(csv_pieces, "_seen_in", lambda *given: shared.append(given) or read(*given))

    def run(comm):
        with gd.opening_together(comm):
            source = gd.CsvSource(path, target="y")
        return network([]).fit(source, loss="mse", batch_size=30, comm=comm)["loss"]

    for found in run_ranks(3, run):
        np.testing.assert_allclose(found, run(None), rtol=1e-6)
    assert len(shared) == 3


def test_ranks_that_come_to_differ_are_named_with_the_update():
    X, y, _ = data(40)

    def run(comm):
        model = network([])

        def change(event):
            if event.name == "update" and comm.rank == 2:
                model.flat_params[0] += 1e-9

        model.fit(X, y, loss="mse", batch_size=10, callbacks=[change], comm=comm)

    with pytest.raises(RuntimeError, match=r"rank 2 of 3 differs .* after update 4"):
        run_ranks(3, run)


def test_parameters_are_compared_every_so_many_updates(monkeypatch):
    monkeypatch.setattr(processes, "UPDATES", 3)
    X, y, _ = data(40)

    def run(comm):
        model = network([])

        def change(event):
            if event.name == "update" and event.trainer.updates == 2 and comm.rank == 0:
                model.flat_params[0] += 1e-9

        model.fit(X, y, loss="mse", batch_size=4, callbacks=[change], comm=comm)

    with pytest.raises(RuntimeError, match=r"ranks 1 and 2|rank 0 of 3 differs.* after update 3"):
        run_ranks(3, run)


def test_ranks_at_other_places_are_named():
    X, y, _ = data(40)

    def run(comm):
        trainer = gd.Trainer(network([]), "mse", "sgd", comm=comm)
        trainer._loop.epoch = comm.rank
        trainer.fit(X, y)

    with pytest.raises(RuntimeError, match=r"rank 1 of 2 differs .* how far .* epoch 1, batch 0"):
        run_ranks(2, run)


def test_an_error_of_one_is_raised_once_and_names_the_rank():
    X, y, _ = data(40)

    def run(comm):
        def fail(event):
            if event.name == "update" and comm.rank == 1:
                raise KeyError("no such key")

        network([]).fit(X, y, loss="mse", callbacks=[fail], comm=comm)

    with pytest.raises(KeyError, match=r"no such key \(rank 1 of 3\)") as caught:
        run_ranks(3, run)
    assert [type(error).__name__ for error in caught.value.errors] == ["Ended", "KeyError", "Ended"]


@pytest.mark.parametrize("layers", ["plain", "batch norm"])
def test_a_row_that_diverges_is_named_by_its_rank_and_nothing_is_updated(layers):
    X, y, _ = data(40)
    y = y.copy()
    y[30] = 1e200
    models = {}

    def run(comm):
        model = models[comm.rank] = gd.Sequential(
            [gd.Dense(3), *INNER[layers](), gd.Dense(1)], 3, dtype="float64", seed=2
        )
        model.fit(X, y, loss="mse", shuffle=False, batch_size=40, comm=comm)

    with pytest.raises(gd.DivergenceError, match=r"the loss is inf at .*\(rank 2 of 3\)"):
        run_ranks(3, run)
    expected = gd.Sequential(
        [gd.Dense(3), *INNER[layers](), gd.Dense(1)], 3, dtype="float64", seed=2
    )
    for model in models.values():
        for name, array in model.arrays().items():
            np.testing.assert_array_equal(array, expected.arrays()[name])


def test_an_error_that_all_make_names_no_rank():
    X, y, _ = data(40)
    with pytest.raises(ValueError, match="batch_size") as caught:
        run_ranks(2, lambda comm: network([]).fit(X, y, loss="mse", batch_size=0, comm=comm))
    assert "rank" not in str(caught.value)


# Checkpoints ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("before", "after"), [(3, 2), (2, None), (None, 3), (3, 4)])
@pytest.mark.parametrize("stop", [3, 4, 7])
@pytest.mark.few(5)
def test_a_run_goes_on_with_another_number_of_processes(tmp_path, before, after, stop):
    """It stops in mid-epoch and in mid-accumulation, or between two epochs."""
    X, y, w = data(40)
    w[0] = 1
    path = tmp_path / "run.npz"

    def batches():
        return gd.Batches(X, y, 6, shuffle=True, sample_weight=w)

    def first(comm, stop=stop):
        model = network(INNER["residual"]())
        trainer = gd.Trainer(
            model, "binary_crossentropy", gd.SGD(0.5, momentum=0.9), ["accuracy", "roc_auc"],
            accumulate=2, comm=comm,
        )  # fmt: skip
        seen = []

        def end(event):
            seen.append(event.name in ("batch", "update"))
            if sum(seen) == stop:
                trainer.stop()

        trainer.fit(batches(), until_epoch=3, callbacks=[end, gd.Checkpoint(path)])
        return trainer

    def second(comm):
        trainer = gd.Trainer.resume(path, batches(), comm=comm)
        trainer.fit(until_epoch=3)
        return trainer

    def ranks(number, work):
        return [work(None)] if number is None else run_ranks(number, work)

    whole = first(None, stop=-1)
    ranks(before, first)
    for trainer in ranks(after, second):
        np.testing.assert_allclose(
            trainer.model.flat_params, whole.model.flat_params, rtol=0, atol=1e-11
        )
        for name in ("loss", "accuracy", "roc_auc", "updates"):
            np.testing.assert_allclose(trainer.history[name], whole.history[name], atol=1e-11)


def test_one_process_writes(tmp_path):
    X, y, _ = data(40)

    def run(comm):
        folder = tmp_path / str(comm.rank)
        folder.mkdir()
        callbacks = [
            gd.Checkpoint(folder / "run.npz", every_seconds=0, every_updates=2),
            gd.CsvLog(folder / "log.csv"),
        ]
        network([]).fit(X, y, loss="mse", batch_size=4, callbacks=callbacks, comm=comm)
        return sorted(path.name for path in folder.iterdir())

    assert run_ranks(3, run) == [["log.csv", "run.npz"], [], []]


def test_between_epochs_one_process_may_save_alone(tmp_path):
    X, y, _ = data(40)

    def run(comm):
        trainer = gd.Trainer(network([]), "mse", "sgd", comm=comm)
        trainer.fit(X, y)
        if comm.rank == 0:
            trainer.save(tmp_path / "run.npz")
        trainer.fit(X, y)
        return trainer.updates

    assert run_ranks(2, run) == [2, 2]
    assert gd.Trainer.resume(tmp_path / "run.npz").updates == 1


def test_a_file_that_cannot_be_written_does_not_end_a_run(tmp_path):
    X, y, _ = data(40)
    path = tmp_path / "gone" / "run.npz"

    def run(comm):
        trainer = gd.Trainer(network([]), "mse", "sgd", comm=comm)
        trainer.fit(X, y, epochs=2, callbacks=[gd.Checkpoint(path)])
        return trainer.epoch

    with pytest.warns(RuntimeWarning, match="could not be written"):
        assert run_ranks(2, run) == [2, 2]


def test_no_layer_keeps_the_communicator():
    X, y, _ = data(20)

    def run(comm):
        model = network(INNER["residual"]())
        model.fit(X, y, loss="mse", comm=comm)
        return [(layer.communicator is ALONE, layer.first_row) for layer in model.all_layers]

    assert set(run_ranks(2, run)[1]) == {(True, 0)}
