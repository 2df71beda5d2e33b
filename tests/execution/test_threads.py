"""The BLAS threads of a fit: one for small products, all for large ones, and always restored.

The number of threads is read with threadpoolctl. Around each test it is three, for any number of
processors, so a number that is not restored is noticed on every machine.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import same_bits
from threadpoolctl import ThreadpoolController, threadpool_info, threadpool_limits

import minigd as gd
from minigd.execution import threads
from minigd.execution.targets.compiler import available

with contextlib.suppress(ImportError):
    # Numba would load SciPy's BLAS in the middle of a fit, which then has its threads to the end.
    import scipy.linalg  # noqa: F401

ALL = 3
X = np.random.default_rng(0).normal(size=(60, 4))
Y = X[:, :1] * X[:, 1:2]


def seen():
    """Return the number of threads of each BLAS in the process."""
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


pytestmark = pytest.mark.skipif(not seen(), reason="threadpoolctl does not know this BLAS")


@pytest.fixture(autouse=True)
def three_threads(monkeypatch):
    for name in threads.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    with threadpool_limits(ALL, user_api="blas"):
        yield
        assert seen() == {ALL}


@pytest.fixture
def large(monkeypatch):
    """Let products of a network of 16 units, on batches of 20 rows, be just large enough."""
    monkeypatch.setattr(threads, "LARGE", 20 * 4 * 16)


@pytest.fixture
def in_forward(monkeypatch):
    """Return the numbers of threads that each forward pass of a Dense layer finds."""
    found, forward = set(), gd.Dense.forward

    def noting(self, x, train=False):
        found.update(seen())
        return forward(self, x, train)

    monkeypatch.setattr(gd.Dense, "forward", noting)
    return found


def network(units=3, **options):
    return gd.Sequential([gd.Dense(units), gd.Tanh(), gd.Dense(1)], inputs=4, **options)


def trainer(units=3, **options):
    return gd.Trainer(network(units), "mse", gd.SGD(0.1), **options)


def batches(size=20):
    return gd.Batches(X, Y, batch_size=size, shuffle=True)


class Watch:
    """Note the threads at each event."""

    def __init__(self, then=None):
        self.found, self.names, self.then = [], [], then

    def __call__(self, event):
        self.found.append(seen())
        self.names.append(event.name)
        if self.then is not None:
            self.then(event)


def threads_of_fit(trainer, given=None):
    watch = Watch()
    trainer.fit(given or batches(), callbacks=[watch])
    assert all(found == watch.found[0] for found in watch.found)
    return watch.found[0]


def entered(model, given):
    """Return the threads that a fit of this model on these batches would have."""
    with threads.Threads().limited(model, given):
        return seen()


# How many ----------------------------------------------------------------------------------------


def rows_of_a_function():
    return gd.IterableSource(lambda: iter([(X[:30], Y[:30]), (X[30:], Y[30:])]))


@pytest.mark.parametrize(
    "fit",
    [
        lambda callback: trainer().fit(batches(), validation_data=(X, Y), callbacks=[callback]),
        lambda callback: trainer(fast=available()).fit(batches(), callbacks=[callback]),
        lambda callback: trainer(accumulate=2).fit(X, Y, batch_size=7, callbacks=[callback]),
        lambda callback: trainer().fit(gd.Batches(X, Y, 9, prefetch=2), callbacks=[callback]),
        lambda callback: trainer().fit(rows_of_a_function(), shuffle=False, callbacks=[callback]),
        lambda callback: network().fit(X, Y, loss="mse", batch_size=None, callbacks=[callback]),
    ],
)
def test_a_fit_with_small_products_has_one_thread_from_its_first_event_to_its_last(fit):
    watch = Watch()
    fit(watch)
    assert watch.names[0] == "start"
    assert watch.names[-1] == "done"
    assert all(found == {1} for found in watch.found)


@pytest.mark.parametrize("options", [{}, {"fast": available()}, {"accumulate": 2}])
def test_so_has_the_search_for_a_learning_rate(options, in_forward):
    gd.find_learning_rate(network(), batches(), loss="mse", updates=9, **options)
    assert in_forward == {1}


def test_a_search_with_large_products_has_all(large, in_forward):
    gd.find_learning_rate(network(16), batches(), loss="mse", updates=9)
    assert in_forward == {ALL}


def test_a_search_that_fails_restores_them():
    with pytest.raises(gd.DivergenceError):
        gd.find_learning_rate(network(), X, 1e30 * Y, loss="mse")
    assert seen() == {ALL}


def test_so_does_that_of_an_estimator(monkeypatch):
    pytest.importorskip("sklearn")
    found, forward = [], gd.Dense.forward

    def noting(self, x, train=False):
        found.append((train, *seen()))
        return forward(self, x, train)

    monkeypatch.setattr(gd.Dense, "forward", noting)
    estimator = gd.MiniBatchRegressor((3,), epochs=1)
    for train in (estimator.fit, estimator.partial_fit):
        train(X, Y[:, 0])
        assert (True, 1) in found
        assert (True, ALL) not in found
        del found[:]
    estimator.predict(X)
    assert set(found) == {(False, ALL)}


@pytest.mark.parametrize(
    ("widths", "rows", "batch_size", "count"),
    [
        ((784, 128, 10), 200, 100, 1),
        ((784, 512, 512, 10), 200, 128, 1),
        ((4, 3, 1), 200, None, 1),
        ((4, 3, 1), 200, 10**9, 1),
        ((1024, 2048, 10), 1024, 1024, ALL),
        ((10, 1024, 1024, 10), 8192, 8192, ALL),
        ((250, 250, 1), 20_000, None, ALL),
        ((250, 250, 1), 20_000, 10**9, ALL),
    ],
)
def test_the_largest_product_decides(widths, rows, batch_size, count):
    layers = [gd.Dense(n) for n in widths[1:]]
    model = gd.Sequential(layers, inputs=widths[0])
    x = np.zeros((rows, widths[0]), dtype="float32")
    assert entered(model, gd.Batches(x, x[:, 0], batch_size=batch_size)) == {count}


def test_where_the_rows_of_a_batch_are_not_known_they_may_be_many():
    given = gd.Batches(gd.IterableSource(iter([(X, Y)])), batch_size=None)
    assert given.source.rows is None
    assert entered(network(), given) == {ALL}


@pytest.mark.parametrize(("units", "size", "count"), [(16, 20, ALL), (15, 20, 1), (16, 19, 1)])
def test_it_is_large_from_the_limit_on(large, units, size, count):
    assert threads_of_fit(trainer(units), batches(size)) == {count}


def test_a_layer_from_outside_counts_with_its_weights_and_without_its_vectors(large):
    class Twice(gd.Layer):
        def build(self, n_in):
            self.add_param("W", (2, n_in, self.units), "he_normal")
            self.add_param("b", (10_000,), "zeros")
            return n_in

        def forward(self, x, train=False):
            return x

        def backward(self, dy):
            return dy

    for units, count in ((8, ALL), (7, 1)):
        layer = Twice()
        layer.units = units
        assert entered(gd.Sequential([layer, gd.Dense(1)], inputs=4), batches()) == {count}


def test_a_small_fit_gives_the_same_bits_whatever_the_process_has():
    x = np.random.default_rng(0).normal(size=(400, 784))
    found = []
    for count in (1, 2, 3):
        with threadpool_limits(count, user_api="blas"):
            model = gd.Sequential([gd.Dense(128), gd.Tanh(), gd.Dense(1)], inputs=784)
            model.fit(x, x[:, 0], loss="mse", batch_size=100, epochs=2)
            found.append(model.flat_params.tobytes())
    assert len(set(found)) == 1


def test_steps_predictions_and_evaluations_outside_of_a_fit_change_nothing(monkeypatch):
    def refuse(*arguments):
        raise AssertionError("BLAS was changed")

    monkeypatch.setattr(threads, "_want", refuse)
    made = trainer()
    made.step(X.astype("float32"), Y.astype("float32"))
    made.evaluate(X, Y)
    made.model.predict(X)
    with pytest.raises(AssertionError, match="BLAS"):
        made.fit(batches())


# What the user chose ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"])
def test_whoever_sets_a_variable_has_chosen(name, monkeypatch):
    monkeypatch.setenv(name, "3")
    assert threads_of_fit(trainer()) == {ALL}
    monkeypatch.setenv(name, "")
    assert threads_of_fit(trainer()) == {1}


def in_a_process(code, **variables):
    """Run code that prints, and return what it prints."""
    environment = {k: v for k, v in os.environ.items() if k not in threads.VARIABLES}
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**environment, **variables},
        check=True,
        capture_output=True,
        text=True,
    )
    return run.stdout.split()


PROCESS = """
import numpy as np, minigd as gd
from threadpoolctl import threadpool_info
def seen(event=None):
    if event is None or event.name == "update":
        print(*{p["num_threads"] for p in threadpool_info() if p["user_api"] == "blas"})
X = np.ones((10, 2))
"""
FIT = "gd.Sequential([gd.Dense(1)], inputs=2).fit(X, X[:, 0], loss='mse', callbacks=[seen])\n"


@pytest.mark.few(2)
@pytest.mark.parametrize("variable", ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"])
@pytest.mark.parametrize("count", ["1", "2"])
def test_a_number_from_the_environment_holds(variable, count):
    """OpenBLAS itself takes no more threads from it than there are processors."""
    without, *found = in_a_process(f"{PROCESS}seen()\n{FIT}seen()", **{variable: count})
    assert found == [without, without]


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("units", [3, 16])
def test_no_fit_has_more_than_a_limit_around_it_leaves(large, count, units):
    with threadpool_limits(count, user_api="blas"):
        assert threads_of_fit(trainer(units)) == {count if units == 16 else 1}
        assert seen() == {count}


def test_what_a_callback_sets_stays():
    limits = []
    with threadpool_limits(ALL, user_api="blas"):
        trainer().fit(
            batches(),
            callbacks=[
                lambda event: (
                    event.name == "start" and limits.append(threadpool_limits(2, user_api="blas"))
                )
            ],
        )
        assert seen() == {2}


def test_a_library_that_is_loaded_later_is_found():
    pytest.importorskip("scipy")
    later = in_a_process(f"{PROCESS}{FIT}import scipy.linalg\n{FIT}print(len(threadpool_info()))")
    assert later[:2] == ["1", "1"]
    assert int(later[2]) >= 1


def test_libraries_are_searched_once_and_again_after_an_import(monkeypatch):
    searches = []

    class Counting(ThreadpoolController):
        def __init__(self):
            searches.append(len(sys.modules))
            super().__init__()

    monkeypatch.setattr(threads.threadpoolctl, "ThreadpoolController", Counting)
    threads._libraries.cache_clear()
    made = trainer()
    for _ in range(3):
        made.fit(batches())
    assert len(searches) == 1
    monkeypatch.setitem(sys.modules, "of_this_test", threads)
    made.fit(batches())
    assert len(searches) == 2


def test_a_limit_in_a_callback_around_another_fit_is_not_taken_for_what_was_there():
    def train_another(event):
        if event.name == "start":
            with threadpool_limits(2, user_api="blas"):
                assert threads_of_fit(trainer()) == {1}

    with threadpool_limits(1, user_api="blas"):
        trainer().fit(batches(), callbacks=[train_another])
        assert seen() == {1}


# Several fits ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("outer", "inner"), [(3, 3), (16, 3), (3, 16), (16, 16)])
def test_a_fit_in_a_callback(large, outer, inner):
    found = {}

    def train_another(event):
        if event.name == "update" and not found:
            found["before"] = seen()
            found["inside"] = threads_of_fit(trainer(inner))
            found["after"] = seen()

    trainer(outer).fit(batches(), callbacks=[train_another])
    around = {1} if outer == 3 else {ALL}
    assert found == {
        "before": around,
        "inside": {1} if 3 in (outer, inner) else {ALL},
        "after": around,
    }


def test_a_fit_in_a_callback_that_fails():
    def train_another(event):
        if event.name == "update":
            with pytest.raises(ZeroDivisionError):
                trainer().fit(batches(), callbacks=[lambda event: 1 / 0])
            assert seen() == {1}

    trainer().fit(batches(), callbacks=[train_another])


def test_a_fit_within_the_rows_of_another():
    found = []

    def rows():
        yield X[:30], Y[:30]
        found.append(threads_of_fit(trainer()))
        found.append(seen())
        yield X[30:], Y[30:]

    trainer().fit(gd.Batches(gd.IterableSource(rows), batch_size=20))
    assert found[-2:] == [{1}, {1}]


@pytest.mark.parametrize("first_ends_first", [True, False])
def test_two_fits_in_two_threads_do_not_undo_each_other(first_ends_first):
    """The first begins, the second begins; one ends, and the other still has its one thread."""
    both, one_ended, errors = threading.Barrier(2, timeout=60), threading.Event(), []

    def first_of_two(event):
        # The second thread starts when the first has set its number.
        if event.name == "start":
            second.start()
            both.wait()
        if event.name == "epoch" and not first_ends_first:
            assert one_ended.wait(60)
        assert seen() == {1}

    def second_of_two():
        def callback(event):
            if event.name == "start":
                both.wait()
            if event.name == "epoch" and first_ends_first:
                assert one_ended.wait(60)
            assert seen() == {1}

        try:
            trainer().fit(batches(), callbacks=[callback])
        except BaseException as error:
            errors.append(error)
        if not first_ends_first:
            one_ended.set()

    second = threading.Thread(target=second_of_two)
    trainer().fit(batches(), callbacks=[first_of_two])
    if first_ends_first:
        one_ended.set()
    second.join(60)
    assert errors == []
    assert seen() == {ALL}


class Wanting(threads.Threads):
    """A fit that wants a number of its own."""

    def __init__(self, wanted):
        super().__init__()
        self.wanted = wanted

    def _choose(self, model, batches):
        return self.wanted


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 4)), max_size=30))
def test_fits_that_overlap_in_any_order_have_the_least_that_they_want(steps):
    under_way, model, given = {}, network(), batches()
    for which, wanted in steps:
        if which in under_way:
            under_way.pop(which)[0].__exit__(None, None, None)
        else:
            context = Wanting(wanted).limited(model, given)
            context.__enter__()
            under_way[which] = context, wanted
        assert seen() == {min([ALL, *(wanted for _, wanted in under_way.values())])}
    for context, _ in under_way.values():
        context.__exit__(None, None, None)
    assert seen() == {ALL}
    assert not threads._wanted
    assert not threads._changed


# Every way to leave ------------------------------------------------------------------------------


def interrupt(event):
    signal.raise_signal(signal.SIGINT)


def fail(event):
    raise OSError("the disk is full")


def diverge():
    made = gd.Trainer(network(), "mse", gd.SGD(1e30))
    made.fit(batches(), epochs=100)


def rows_that_fail():
    def rows():
        yield X[:30], Y[:30]
        raise OSError("the disk is full")

    return gd.Batches(gd.IterableSource(rows), batch_size=10)


@pytest.mark.parametrize(
    ("run", "error"),
    [
        (lambda: trainer().fit(batches(), callbacks=[fail]), OSError),
        (lambda: trainer().fit(batches(), callbacks=[interrupt]), KeyboardInterrupt),
        (lambda: trainer().fit(rows_that_fail()), OSError),
        (diverge, gd.DivergenceError),
    ],
)
def test_an_error_restores_the_number(run, error):
    with pytest.raises(error):
        run()
    assert seen() == {ALL}
    assert threads_of_fit(trainer()) == {1}


def test_a_run_that_is_stopped_restores_the_number():
    made = trainer()
    made.fit(batches(), epochs=9, callbacks=[lambda event: event.name == "update" and made.stop()])
    assert made.updates == 1
    assert seen() == {ALL}


# Checkpoints -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("units", "count"), [(3, 1), (16, 2)])
def test_a_checkpoint_holds_the_number(large, units, count, tmp_path):
    made, saved = trainer(units), tmp_path / "run.npz"
    assert made.state_dict()["threads"] is None
    with threadpool_limits(2, user_api="blas"):
        made.fit(batches(), callbacks=[gd.Checkpoint(saved)])
    assert made.state_dict()["threads"] == count
    again = gd.Trainer.resume(saved, batches())
    assert again.state_dict()["threads"] == count


def test_a_run_that_goes_on_has_the_number_that_it_had(large, tmp_path):
    """Two of three here, and one where its products would have all: as when it was saved."""
    for count in (1, 2):
        made, saved = trainer(16), tmp_path / f"{count}.npz"
        with threadpool_limits(count, user_api="blas"):
            made.fit(batches())
        made.save(saved)
        again = gd.Trainer.resume(saved, batches())
        for _ in range(2):
            assert threads_of_fit(again) == {count}
        again.save(saved)
        assert threads_of_fit(gd.Trainer.resume(saved, batches())) == {count}


def test_a_run_that_can_not_have_as_many_says_so_once(large, tmp_path):
    made, saved = trainer(16), tmp_path / "run.npz"
    made.fit(batches())
    made.save(saved)
    again = gd.Trainer.resume(saved, batches())
    with threadpool_limits(2, user_api="blas"):
        with pytest.warns(
            UserWarning, match="used 3 BLAS threads and continues with 2: "
        ) as caught:
            again.fit()
        assert "threadpool_limits(3)" in str(caught[0].message)
        assert caught[0].filename == __file__
        assert threads_of_fit(again) == {2}
    with threadpool_limits(2, user_api="blas"):
        again = gd.Trainer.resume(saved, batches())
        with threadpool_limits(3, user_api="blas"):  # as it says
            assert threads_of_fit(again) == {3}


def test_a_variable_is_stronger_than_a_checkpoint(tmp_path, monkeypatch):
    made, saved = trainer(), tmp_path / "run.npz"
    made.fit(batches())
    made.save(saved)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    again = gd.Trainer.resume(saved, batches())
    with pytest.warns(UserWarning, match="used 1 BLAS thread and continues with 3: "):
        again.fit()
    assert again.state_dict()["threads"] == 3
    again = gd.Trainer.resume(saved, batches())
    with threadpool_limits(1, user_api="blas"):  # as it says
        assert threads_of_fit(again) == {1}


def test_a_warning_that_is_made_an_error_restores_the_number(large, monkeypatch):
    made = trainer(16)
    made.fit(batches())
    again = trainer(16)
    again.load_state_dict(made.state_dict())
    with threadpool_limits(2, user_api="blas"):
        with pytest.raises(UserWarning, match="last digits"):
            again.fit(batches())
        assert seen() == {2}
        assert not threads._wanted


def test_a_file_from_before_goes_on_by_the_size_of_its_products():
    again = gd.Trainer.resume(same_bits.SAVED / "run.npz", same_bits.saved_batches())
    assert again.state_dict()["threads"] is None
    watch = Watch()
    again.fit(callbacks=[watch, same_bits.halved_when_it_stalls()])
    assert all(found == {1} for found in watch.found)


@pytest.mark.parametrize("count", [0, -1, 1.5, "two", True])
def test_a_number_that_is_none_is_refused(count):
    made = trainer()
    made.fit(batches())
    with pytest.raises(gd.CheckpointError, match="damaged: threads must be an integer"):
        trainer().load_state_dict({**made.state_dict(), "threads": count})


def test_a_fit_on_a_gpu_leaves_the_host_alone(stand_in):
    made = gd.Trainer(network(backend=stand_in), "mse", gd.SGD(0.1))
    assert threads_of_fit(made) == {ALL}
    assert made.state_dict()["threads"] is None


# Messages --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("units", "said"), [(3, "; 1 BLAS thread"), (16, "; 3 BLAS threads")])
def test_the_profile_says_how_many(large, units, said, capsys):
    trainer(units).fit(batches(), profile=True)
    assert capsys.readouterr().err.rstrip("\n").endswith(said)


def test_the_profile_of_an_unknown_blas_says_nothing_of_threads(monkeypatch, capsys):
    monkeypatch.setattr(threads, "_libraries", lambda modules: [])
    made = trainer()
    made.fit(batches(), profile=True)
    assert "thread" not in capsys.readouterr().err
    assert made.state_dict()["threads"] is None
