"""Dropout: what a training pass leaves out, how often, and that all devices agree.

The masks are compared with SplitMix64 in Python integers, and with the statistics of fair coins.
"""

import numpy as np
import pytest
from budgets import examples
from hypothesis import example, given
from hypothesis import strategies as st
from oracles import strict_cupy
from scipy import stats

import minigd as gd
from minigd import formulas

# A fair draw fails a test one time in a hundred thousand; the seeds are fixed.
UNLIKELY = 1e-5


def model_of(*rates, backend="numpy", width=8, dtype="float64", seed=0):
    layers = [gd.Dropout(rate) for rate in rates]
    return gd.Sequential(layers, inputs=width, backend=backend, dtype=dtype, seed=seed)


def kept(model, n=500, layer=0):
    """Return what a layer keeps in the model's next training pass, as truth values on the host."""
    model.forward(model.backend.asarray(np.ones((n, model.n_in))), train=True)
    (mask,) = model.layers[layer].kept()
    for other in model.layers:
        other.forget()
    return model.backend.to_numpy(mask) > 0


def splitmix64(seed):
    """Yield the words of SplitMix64 as its authors have it in C, in Python's own integers."""
    limit = 2**64
    while True:
        seed = (seed + 0x9E3779B97F4A7C15) % limit
        z = seed
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) % limit
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % limit
        yield z ^ (z >> 31)


def assert_fair(share, expected, n):
    """Refuse a share of n coins that is too far from what is expected of fair ones."""
    z = (share - expected) / np.sqrt(expected * (1 - expected) / n)
    assert 2 * stats.norm.sf(abs(z)) > UNLIKELY, f"{share:.5f} of {n}, and {expected} is expected"


# Words ----------------------------------------------------------------------------------------


def random_words(key, n, backend):
    words = backend.xp.arange(1, n + 1, dtype="uint64")
    backend.apply(formulas.mixed, words, out=words, key=np.uint64(key))
    return words


def test_words_are_the_published_ones(backend):
    words = backend.to_numpy(random_words(1234567, 5, backend)).tolist()
    assert words == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


@pytest.mark.parametrize("key", [0, 1, 2**63, 2**64 - 1, 0x0123456789ABCDEF])
def test_words_are_those_of_pythons_integers(backend, key):
    words = backend.to_numpy(random_words(key, 300, backend))
    assert words.dtype == np.uint64
    stream = splitmix64(key)
    assert words.tolist() == [next(stream) for _ in range(300)]


def test_a_mask_is_half_a_word_of_its_key_against_the_rate():
    model = model_of(0.3, width=7, seed=11)
    model.passes = 4
    key = np.random.SeedSequence([3, 11, 0, 5]).generate_state(1, np.uint64)[0]
    stream = splitmix64(int(key))
    words = [next(stream) for _ in range(11)]  # 21 numbers take half a word each
    halves = [half for word in words for half in (word % 2**32, word // 2**32)]
    expected = np.array([half / 2**32 >= 0.3 for half in halves[:21]]).reshape(3, 7)
    np.testing.assert_array_equal(kept(model, 3), expected)


@given(seed=st.integers(0, 2**70), number=st.integers(0, 40), passes=st.integers(0, 2**63))
@example(seed=0, number=0, passes=0)
@example(seed=3, number=2, passes=2**32 - 1)
@example(seed=3, number=2, passes=2**32)
@example(seed=2**32, number=2, passes=1023)
@examples(50)
def test_keys_are_those_of_numpys_seed_sequences(seed, number, passes):
    layer = gd.Dropout(0.5)
    layer.place = seed, number
    words = np.random.SeedSequence([3, seed, number, passes]).generate_state(1, np.uint64)
    assert layer.key(passes) == words[0]
    assert type(layer.key(passes)) is np.uint64


# Numbers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("n", [1, 3, 40])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.pairs
def test_what_is_kept_grows_and_the_gradient_goes_the_same_way(backend, rate, n, dtype):
    model = model_of(rate, backend=backend, width=5, dtype=dtype)
    rng = np.random.default_rng(n)
    x, dy = (rng.normal(size=(n, 5)).astype(dtype) for _ in range(2))
    there = kept(model_of(rate, width=5), n)
    y = model.forward(backend.asarray(x), train=True)
    dx = model.backward(backend.asarray(dy), input_gradient=True)
    assert y.dtype == dx.dtype == dtype
    for array, before in ((y, x), (dx, dy)):
        expected = np.where(there, before / (1 - rate), 0)
        np.testing.assert_allclose(backend.to_numpy(array), expected, rtol=1e-6, atol=0)
    if rate == 0:
        np.testing.assert_array_equal(backend.to_numpy(y), x)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.8])
def test_a_pass_is_its_input_in_the_mean(rate):
    # Each y_ij is x_ij / (1 − p) with probability 1 − p: variance x² p / (1 − p).
    model = model_of(rate, width=50)
    x = np.random.default_rng(0).normal(size=(1, 50)) + 2
    n = 4000
    y = model.forward(np.tile(x, (n, 1)), train=True).mean(axis=0)
    z = (y - x[0]) / (abs(x[0]) * np.sqrt(rate / (1 - rate) / n))
    assert stats.chi2.sf((z**2).sum(), 50) > UNLIKELY


def test_a_prediction_is_the_input_itself(backend):
    model = model_of(0.5, 0.9, backend=backend)
    x = backend.asarray(np.random.default_rng(0).normal(size=(6, 8)))
    model.forward(x, train=True)
    np.testing.assert_array_equal(backend.to_numpy(model.forward(x)), backend.to_numpy(x))
    host = backend.to_numpy(x)
    np.testing.assert_array_equal(model.predict(host), host)


def test_evaluating_draws_nothing_and_counts_nothing():
    x, y = np.random.default_rng(0).normal(size=(30, 8)), np.arange(30.0)
    layers = [gd.Dropout(0.5), gd.Dense(1)]
    model = gd.Sequential(layers, inputs=8, dtype="float64")
    model.fit(x, y, loss="mse", batch_size=10)
    twin = model.copy()
    assert model.passes == twin.passes == 3
    values = [model.evaluate(x, y), model.evaluate(x, y)]
    assert values[0] == values[1]
    model.predict(x)
    model.forward(x)
    assert model.passes == 3
    np.testing.assert_array_equal(kept(model), kept(twin))


# What decides a mask --------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (500, 8)])
def test_a_mask_is_the_same_on_every_device_and_in_every_dtype(backend, shape):
    n, width = shape
    for rate in (0.1, 0.5):
        expected = kept(model_of(rate, width=width), n)
        for dtype in ("float32", "float64"):
            mask = kept(model_of(rate, backend=backend, width=width, dtype=dtype), n)
            np.testing.assert_array_equal(mask, expected)


def test_a_pass_is_named_by_its_number():
    model = model_of(0.5)
    masks = [kept(model) for _ in range(4)]
    assert model.passes == 4
    for number, mask in enumerate(masks):
        again = model_of(0.5)
        again.passes = number
        np.testing.assert_array_equal(kept(again), mask)


def test_copies_and_files_draw_on_where_the_model_was(tmp_path, backend):
    model = model_of(0.5, backend=backend)
    for _ in range(3):
        kept(model)
    model.save(tmp_path / "m.npz")
    copy, moved = model.copy(), model.copy().to("numpy")
    expected = kept(model)
    for again in (copy, gd.load(tmp_path / "m.npz"), moved):
        assert again.passes == 3
        np.testing.assert_array_equal(kept(again), expected)


OTHERS = {
    "seed": lambda: kept(model_of(0.5, seed=1)),
    "layer": lambda: kept(model_of(0.0, 0.5), layer=1),
    "pass": lambda: kept(_at_pass(1)),
    "far pass": lambda: kept(_at_pass(10**12)),
    "far seed": lambda: kept(model_of(0.5, seed=2**40)),
}


def _at_pass(number):
    model = model_of(0.5)
    model.passes = number
    return model


@pytest.mark.parametrize("other", OTHERS)
def test_another_seed_layer_or_pass_is_another_mask(other):
    one, two = kept(model_of(0.5)), OTHERS[other]()
    assert_fair((one == two).mean(), 0.5, one.size)


def test_training_is_the_same_with_the_same_seed_and_another_with_another():
    x = np.random.default_rng(0).normal(size=(50, 3))
    y = x.sum(axis=1)

    def trained(seed, reuse_buffers=True):
        layers = [gd.Dense(8, "ones"), gd.Dropout(0.3), gd.Tanh(), gd.Dropout(), gd.Dense(1)]
        model = gd.Sequential(layers, inputs=3, seed=seed)
        model.params["dense2.W"][...] = 0.5
        trainer = gd.Trainer(model, "mse", gd.SGD(0.1), reuse_buffers=reuse_buffers)
        trainer.fit(gd.Batches(x, y, batch_size=16), epochs=3)
        return model.flat_params

    np.testing.assert_array_equal(trained(0), trained(0))
    np.testing.assert_array_equal(trained(0), trained(0, reuse_buffers=False))
    assert (trained(0) != trained(1)).any()


# Statistics -----------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.01, 0.1, 1 / 3, 0.5, 0.75, 0.99])
def test_the_share_left_out_is_the_rate(rate):
    model = model_of(rate, width=64)
    for _ in range(3):
        mask = kept(model, 4096)
        assert_fair(1 - mask.mean(), rate, mask.size)
        # Evenly over columns and over blocks of rows.
        for left_out in ((~mask).sum(axis=0), (~mask).reshape(64, -1).sum(axis=1)):
            expected = rate * mask.size / 64
            statistic = ((left_out - expected) ** 2).sum() / (expected * (1 - rate))
            assert stats.chi2.sf(statistic, 64) > UNLIKELY
            assert stats.chi2.cdf(statistic, 64) > UNLIKELY  # nor suspiciously even


def _pairs_of_passes(rate):
    model = model_of(rate)
    one = kept(model, 5000)
    return one, kept(model, 5000)


def _pairs_of_layers(rate):
    model = model_of(rate, rate)
    model.forward(np.ones((5000, 8)), train=True)
    return [layer.kept()[0] > 0 for layer in model.layers]


def _pairs_of_seeds(rate):
    return [kept(model_of(rate, seed=seed), 5000) for seed in (0, 1)]


def _pairs_of_rows(rate):
    mask = kept(model_of(rate), 10_000)
    return mask[::2], mask[1::2]


def _pairs_of_columns(rate):
    mask = kept(model_of(rate, width=16), 5000)
    return mask[:, ::2], mask[:, 1::2]  # the two halves of a word


PAIRS = [_pairs_of_passes, _pairs_of_layers, _pairs_of_seeds, _pairs_of_rows, _pairs_of_columns]


@pytest.mark.parametrize("rate", [0.2, 0.5])
@pytest.mark.parametrize("pairs", PAIRS, ids=[pairs.__name__[10:] for pairs in PAIRS])
def test_masks_are_independent(pairs, rate):
    one, two = pairs(rate)
    table = [[(one & two).sum(), (one & ~two).sum()], [(~one & two).sum(), (~one & ~two).sum()]]
    assert stats.chi2_contingency(table, correction=False).pvalue > UNLIKELY


def test_passes_that_follow_each_other_share_no_shifted_stream():
    # Keys that only counted up would give the next pass this pass's words, a place on.
    model = model_of(0.5, width=2)
    masks = [kept(model, 2000).ravel() for _ in range(4)]
    for one in masks:
        for two in masks:
            for shift in range(1, 9):
                same = one[shift:] == two[:-shift]
                assert_fair(same.mean(), 0.5, same.size)


# Manners --------------------------------------------------------------------------------------


def test_neither_input_nor_gradient_is_modified_and_results_are_fresh(backend):
    model = model_of(0.5, backend=backend)
    rng = np.random.default_rng(0)
    host = rng.normal(size=(6, 8)), rng.normal(size=(6, 8))
    x, dy = (backend.asarray(a.copy()) for a in host)
    y = model.forward(x, train=True)
    dx = model.backward(dy, input_gradient=True)
    results = backend.to_numpy(y).copy(), backend.to_numpy(dx).copy()
    model.forward(2 * x, train=True)
    model.backward(2 * dy, input_gradient=True)
    for array, expected in zip((x, dy, y, dx), (*host, *results), strict=True):
        np.testing.assert_array_equal(backend.to_numpy(array), expected)


def test_a_backward_needs_a_training_pass_of_its_own(backend):
    model = model_of(0.5, backend=backend)
    x = backend.asarray(np.ones((3, 8)))
    model.forward(x)
    with pytest.raises(RuntimeError, match="dropout1: backward was called without a forward"):
        model.layers[0].backward(x)
    model.forward(x, train=True)
    model.layers[0].backward(x)
    with pytest.raises(RuntimeError, match=r"dropout1: .* for the second time"):
        model.layers[0].backward(x)


def test_a_pass_asks_nothing_of_a_gpu(stand_in):
    model = model_of(0.5, 0.1, backend=stand_in)
    x, dy = stand_in.asarray(np.ones((40, 8))), stand_in.asarray(np.ones((40, 8)))
    with strict_cupy.counting_host_reads() as reads:
        model.forward(x, train=True)
        model.backward(dy, input_gradient=True)
    assert reads.count == 0


@pytest.mark.parametrize("rate", [1.0, 1.5, -0.1, np.nan, "0.5", None, True])
def test_a_rate_out_of_range_is_refused(rate):
    with pytest.raises(ValueError, match="rate must be a number, at least 0 and below 1, not "):
        gd.Dropout(rate)
