"""Errors planted in tracing, passes, printing and running are caught by the suite of the ways."""

import functools

import numpy as np
import pytest
from oracles import drawn_runs
from oracles.interpreted import interpreted
from oracles.ways import check_divergence, check_run

from minigd.execution import passes, tracer
from minigd.execution.targets import any_size, compiler, groups, loops, lowering, words
from minigd.execution.targets import numba as target
from minigd.execution.targets import numpy as numpy_target
from minigd.execution.tracer import Traced
from minigd.optim.gradient_transforms import Clipping, Penalty
from minigd.training import chunks, loop, transaction
from minigd.training.chunks import Chunks

pytestmark = pytest.mark.skipif(not compiler.available(), reason="needs Numba and SciPy")

RUNS = drawn_runs.each_once(0)
RUNS += [run | {"weights": "none", "accumulate": 1} for run in drawn_runs.each_once(1)]


@pytest.fixture(autouse=True)
def in_python(monkeypatch):
    """Run the source of compiled steps as Python."""
    monkeypatch.setattr(target, "Compiled", interpreted)


def changed_source(old, new):
    """Return a plant that prints something else."""

    def plant(patch):
        function = target.function

        def print_it(*arguments):
            source, arrays = function(*arguments)
            assert old in source, "the error is planted nowhere"
            return source.replace(old, new), arrays

        patch.setattr(target, "function", print_it)

    return plant


def changed_calls(**changes):
    """Return a plant that changes some of the arrays that a compiled function is called with."""

    def plant(patch):
        def compiled(source, arrays):
            run = interpreted(source, arrays)

            def call(*numbers, **others):
                given = arrays | others
                return run(*numbers, **others | {k: f(given[k]) for k, f in changes.items()})

            return call

        patch.setattr(target, "Compiled", compiled)

    return plant


def put(owner, name, make):
    """Return a plant that replaces a function by what `make` makes of it."""
    return lambda patch: patch.setattr(owner, name, make(getattr(owner, name)))


# Tracing -----------------------------------------------------------------------------------------


def forgotten_conversion(astype):
    def converted(self, dtype, *, copy=True):
        return self if not copy and self.dtype == dtype else silently(self, dtype)

    return converted


def silently(array, dtype):
    operations, tracer._tape.operations = tracer._tape.operations, []
    result = np.asarray(array.view(np.ndarray).astype(dtype))
    tracer._tape.operations = operations
    return tracer._new_array(result).view(Traced)


def turned_where(copy_where):
    return lambda condition, one, other, out: copy_where(condition, other, one, out)


def key_of_another_pass(constant_key):
    # The number is that of the trace, for ever.
    return lambda key: lambda passes: np.uint64(key)


def mean_of_the_window_before(trace_update):
    def traced(program, model, update, mean):
        trace_update(program, model, update, mean)
        emptied = [o for o in program.update if o.name == "copyto" and np.ndim(o.arguments[1]) == 0]
        program.update = [o for o in program.update if o not in emptied]

    return traced


def gradient_of_the_last_part(trace_update):
    def traced(program, model, update, mean):
        trace_update(program, model, update, mean)
        copied = [o for o in program.update if o.name == "copyto" and np.ndim(o.arguments[1]) == 1]
        program.update = [o for o in program.update if o not in copied]

    return traced


def no_clipping(trace_update):
    return lambda program, model, update, mean: trace_update(
        program, model, update._replace(clipping=Clipping()), mean
    )


def biases_penalized(trace_update):
    def traced(program, model, update, mean):
        p = update.penalty
        changed = update._replace(penalty=Penalty(p.l1, p.l2, True))
        return trace_update(program, model, changed, mean)

    return traced


# Passes ------------------------------------------------------------------------------------------


def takes_others_for_the_same(identity):
    return lambda a: a.shape if isinstance(a, np.ndarray) else identity(a)


def keeps_what_is_overwritten(overlap):
    return lambda a, other: False


# Lowering and printing ---------------------------------------------------------------------------


def other_axis(step):
    def lowered(self, operation):
        found = step(self, operation)
        if found.axis is None or len(set(found.inputs[0].shape)) > 1:
            return found
        return found._replace(axis=1 - found.axis)

    return lowered


def one_size_for_all(sizes):
    first = {}

    def found(self, form):
        numbers = sizes(self, form)
        return None if numbers is None else first.setdefault(self, numbers)

    return found


def forgotten_stores(stores):
    def kept(self, memory):
        left = stores(self, memory)
        return left[:1] + left[2:]

    return kept


def no_clash(clash):
    return lambda self, one, other, same=False: False


def untimely_sum(lines_of):
    def printed(group, kept):
        lines = lines_of(group, kept)
        starts = [line for line in lines if group.mode == "rows" and "8(0)" in line]
        return [*[line.strip() for line in starts], *[x for x in lines if x not in starts]]

    return printed


def undivided(property):
    return None


def unturned(matrix):
    return lambda place: matrix(place).replace("True", "False")


def in_small_products(name, make):
    """Return a plant in the loops of small products, which are there only where they compile."""

    def plant(patch):
        from minigd.execution.targets import flat_memory

        put(flat_memory._Vectors, name, make)(patch)
        patch.setattr(compiler, "_load", functools.cache(compiler._load.__wrapped__))
        patch.setattr(compiler, "_read", lambda path: None)
        patch.setattr(compiler, "_keep", lambda path, code: None)
        patch.setattr(target, "Compiled", compiler.Compiled)

    return plant


def last_row_only(add):
    return lambda self, total, number, vector: add(self, self.zero, number, vector)


def undivided_vector(store):
    return lambda self, total, factor, place: store(self, total, factor.type(1.0), place)


# Running -----------------------------------------------------------------------------------------


def stale(numbers):
    return np.repeat(numbers[:1], len(numbers), axis=0) if len(numbers) else numbers


def rows_of_weight_0_count(weigh_batches):
    return lambda weight, starts: weigh_batches(np.where(weight == 0, 0.5, weight), starts)


def batches_count_the_same(weigh_batches):
    def weighed(weight, starts):
        found = weigh_batches(weight, starts)
        return found._replace(totals=np.diff(found.starts).astype(float))

    return weighed


def weights_of_other_rows(weigh_batches):
    return lambda weight, starts: weigh_batches(np.roll(weight, 1), starts)


def equal_shares(shares):
    return lambda self, weights: np.ones_like(weights)


def forgotten_between_chunks(advance):
    return lambda self, losses, weights, mean: advance(self, losses, weights, 0 * mean)


def counted_from_the_chunk(advance):
    def counted(self, losses, weights, mean):
        self.batches = 0
        return advance(self, losses, weights, mean)

    return counted


def shifted_order(init):
    def made(self, *arguments):
        init(self, *arguments)
        every = self._numbers(slice(0, int(self.starts[-1])))
        self._order = np.roll(every, 1)

    return made


def pass_not_counted(count):
    def counted(self, compiled, made, losses, totals):
        self.model.passes -= 1
        return count(self, compiled, made, losses, totals)

    return counted


def without_targets(begin):
    def begun(self, y):
        return begin(self, self.program.y.copy())

    return begun


def first_block_alone(blocks):
    return lambda self, first, end: list(blocks(self, first, end))[:1]


def restores_nothing(function):
    def printed(*arguments):
        return function(*arguments[:-1], [])

    return printed


def second_epoch_by_batch(cut):
    def cut_first(self, session):
        found = cut(self, session)
        return None if self.epoch else found

    return cut_first


def as_if_by_batch(run):
    def made(self, *arguments, **options):
        found = run(self, *arguments, **options)
        return found._replace(losses=np.roll(found.losses, 1))

    return made


def all_runs():
    """Make each run in each way."""
    for run in RUNS:
        check_run(run)


def one_run():
    """Make a run in each way."""
    check_run(RUNS[0])


def run_with_a_smaller_step():
    """Make a run whose second epoch has a step of its own, with room for fewer rows."""
    first = {"first": "standardize", "loss": "mse", "weights": "most 0", "shuffle": True}
    run = RUNS[0] | first | {"sizes": (9, 8), "seed": 7, "clipping": "none"}
    trainer, _ = drawn_runs.train(run, fast=True)
    before, after = (step.rows for step in trainer.step_of.values())
    if not after < before:
        pytest.fail("the second epoch has no smaller step")
    check_run(run)


def divergence(bad):
    """Return the check of one way to diverge."""
    return lambda: check_divergence("compiled, epochs", bad)


PLANTED = {
    # Tracing.
    "a conversion is not noted": (put(Traced, "astype", forgotten_conversion), all_runs),
    "where takes the other branch": (put(tracer, "_copy_where", turned_where), all_runs),
    "dropout's key is that of the trace": (
        put(tracer, "_constant_key", key_of_another_pass),
        all_runs,
    ),
    "clipping is forgotten": (put(any_size, "trace_update", no_clipping), all_runs),
    "biases are penalized": (put(any_size, "trace_update", biases_penalized), all_runs),
    "a window begins with the mean of the one before": (
        put(any_size, "trace_update", mean_of_the_window_before),
        all_runs,
    ),
    "an update goes by the last batch of its window": (
        put(any_size, "trace_update", gradient_of_the_last_part),
        all_runs,
    ),
    # Passes.
    "operations on other arrays are the same": (
        put(passes, "_identity", takes_others_for_the_same),
        all_runs,
    ),
    "what is overwritten is known": (put(passes, "overlap", keeps_what_is_overwritten), all_runs),
    # Lowering and printing.
    "a sum along the other axis": (put(lowering.Form, "_step", other_axis), all_runs),
    "the tail has the size of a full batch": (
        put(lowering.General, "sizes", one_size_for_all),
        all_runs,
    ),
    "a store is forgotten": (put(groups.Group, "stores", forgotten_stores), all_runs),
    "loops are shared by what overlaps": (put(groups.Group, "_clash", no_clash), all_runs),
    "a sum of a row begins with the last one's": (put(target, "lines_of", untimely_sum), all_runs),
    "no matrix is turned": (put(loops, "_matrix", unturned), all_runs),
    "the smaller one is the larger one": (
        lambda patch: patch.setitem(
            words.PYTHON.operations, "minimum", words.PYTHON.operations["maximum"]
        ),
        all_runs,
    ),
    "a product is not divided by the rows": (put(groups.Group, "divisor", undivided), all_runs),
    "a small product is its last row": (in_small_products("add", last_row_only), one_run),
    "a small product is not divided": (in_small_products("store", undivided_vector), one_run),
    "outputs stand at the place of another batch": (
        changed_source("outputs[(first + i)", "outputs[i"),
        all_runs,
    ),
    "running statistics are not restored": (
        put(target, "function", restores_nothing),
        divergence("the loss"),
    ),
    "the update comes before the finite test": (
        changed_source("< limits[1]):", "< limits[1]) and k > 4:"),
        divergence("a gradient"),
    ),
    "the learning rate is not looked at": (
        changed_source(" * max(rates[k], 1.0)", ""),
        divergence("an update"),
    ),
    # Running.
    "scalars of the first update for all": (changed_calls(scalars=stale), all_runs),
    "dropout's keys are those of the pass before": (
        changed_calls(keys=lambda keys: np.roll(keys, 1, axis=0)),
        all_runs,
    ),
    "weights are ignored": (changed_calls(scale=np.ones_like), all_runs),
    "updates are due one batch too early": (
        changed_calls(due=lambda due: np.roll(due, -1)),
        all_runs,
    ),
    "batches of a window count the same": (
        put(transaction.Accumulation, "shares", equal_shares),
        all_runs,
    ),
    "a window forgets its mean where a chunk ends": (
        put(transaction.Accumulation, "advance", forgotten_between_chunks),
        all_runs,
    ),
    "windows are counted from the chunk": (
        put(transaction.Accumulation, "advance", counted_from_the_chunk),
        all_runs,
    ),
    "rows of weight 0 count": (put(chunks, "weigh_batches", rows_of_weight_0_count), all_runs),
    "weights are those of other rows": (
        put(chunks, "weigh_batches", weights_of_other_rows),
        all_runs,
    ),
    "batches weigh what they have rows": (
        put(chunks, "weigh_batches", batches_count_the_same),
        all_runs,
    ),
    "sizes of batches are swapped": (
        changed_calls(which=lambda which: which[::-1].copy()),
        all_runs,
    ),
    "rows come one place later": (put(Chunks, "__init__", shifted_order), all_runs),
    "the second epoch is made batch by batch": (
        put(loop.Loop, "_cut", second_epoch_by_batch),
        run_with_a_smaller_step,
    ),
    "a pass is not counted": (
        put(loop.Transaction, "_count_compiled", pass_not_counted),
        all_runs,
    ),
    "only the first block is summed": (put(Chunks, "blocks", first_block_alone), all_runs),
    "losses are those of other batches": (put(target.NumbaStep, "run", as_if_by_batch), all_runs),
    "targets are those of the trace": (
        put(numpy_target.NumpyStep, "_begin", without_targets),
        all_runs,
    ),
}


def test_nothing_is_caught_where_nothing_is_planted():
    run_with_a_smaller_step()
    for bad in ("the loss", "a gradient", "an update"):
        divergence(bad)()


def test_nothing_is_caught_in_small_products_where_nothing_is_planted(monkeypatch):
    in_small_products("add", lambda add: add)(monkeypatch)
    one_run()


@pytest.mark.few(6)
@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_error_is_caught(name, monkeypatch):
    plant, check = PLANTED[name]
    plant(monkeypatch)
    with pytest.raises(AssertionError) as caught:
        check()
    assert "planted nowhere" not in str(caught.value)
