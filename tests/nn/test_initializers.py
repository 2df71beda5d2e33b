"""The initial weights: their distribution, their variance, and that a seed determines them.

The variances are those of Glorot and Bengio (2010) and He et al. (2015), not read from the code.
"""

import numpy as np
import pytest
from scipy import stats

import minigd as gd
from minigd.nn.initializers import INITIALIZERS, get_initializer

N_IN, N_OUT = 400, 600
VARIANCE = {
    "glorot_uniform": 2 / (N_IN + N_OUT),
    "glorot_normal": 2 / (N_IN + N_OUT),
    "he_uniform": 2 / N_IN,
    "he_normal": 2 / N_IN,
}


def draw(name, seed=0, shape=(N_IN, N_OUT)):
    return INITIALIZERS[name](np.random.default_rng(seed), shape)


def test_every_random_initializer_is_tested_here():
    assert set(INITIALIZERS) == {*VARIANCE, "zeros", "ones"}


@pytest.mark.parametrize("name", VARIANCE)
def test_variance_is_the_papers(name):
    # Of 240,000 draws the variance is off by √(2/240000) = 0.3 % at most, in standard deviations.
    W = draw(name)
    assert W.var() == pytest.approx(VARIANCE[name], rel=0.015)
    assert abs(W.mean()) < 5 * np.sqrt(VARIANCE[name] / W.size)


@pytest.mark.parametrize("name", VARIANCE)
def test_distribution_is_the_one_in_the_name(name):
    scale = np.sqrt(VARIANCE[name])
    if name.endswith("uniform"):
        a = scale * np.sqrt(3)
        assert abs(draw(name)).max() <= a
        expected = stats.uniform(-a, 2 * a)
    else:
        expected = stats.norm(0, scale)
    assert stats.kstest(draw(name)[:50].ravel(), expected.cdf).pvalue > 0.001


def test_constants():
    assert (draw("zeros") == 0).all()
    assert (draw("ones") == 1).all()


@pytest.mark.parametrize("name", INITIALIZERS)
def test_values_are_float64_of_the_shape_and_the_same_for_a_seed(name):
    W = draw(name, seed=3, shape=(4, 5))
    assert W.shape == (4, 5)
    assert W.dtype == np.float64
    np.testing.assert_array_equal(W, draw(name, seed=3, shape=(4, 5)))


@pytest.mark.parametrize("name", VARIANCE)
def test_another_seed_gives_other_values(name):
    assert (draw(name, seed=3) != draw(name, seed=4)).mean() > 0.999


@pytest.mark.parametrize("name", INITIALIZERS)
def test_a_name_or_a_function_is_taken(name):
    assert get_initializer(name) is INITIALIZERS[name]
    assert get_initializer(INITIALIZERS[name]) is INITIALIZERS[name]


@pytest.mark.parametrize("which", ["glorot", None, 3])
def test_an_unknown_name_is_refused_with_the_known_ones(which):
    with pytest.raises(ValueError, match=f"unknown initializer {which!r}.*'glorot_uniform'.*'he_"):
        get_initializer(which)


def test_two_layers_of_one_shape_start_differently():
    model = gd.Sequential([gd.Dense(5), gd.Dense(5)], inputs=5)
    assert (model.params["dense1.W"] != model.params["dense2.W"]).all()


def test_a_function_of_ones_own_is_given_a_generator_and_the_shape(backend):
    seen = []

    def counting(rng, shape):
        seen.append((type(rng), shape))
        return np.arange(shape[0] * shape[1], dtype=float).reshape(shape)

    model = gd.Sequential([gd.Dense(3, counting)], inputs=2, backend=backend)
    assert seen == [(np.random.Generator, (2, 3))]
    np.testing.assert_array_equal(
        backend.to_numpy(model.params["dense1.W"]), [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
    )
    assert model.params["dense1.W"].dtype == "float32"


def test_values_of_another_shape_are_refused_and_not_broadcast():
    with pytest.raises(gd.ShapeError, match=r"dense1\.W"):
        gd.Sequential([gd.Dense(3, lambda rng, shape: np.ones(shape[1]))], inputs=2)


def test_the_global_generator_is_neither_read_nor_moved():
    first = gd.Sequential([gd.Dense(5)], inputs=5, seed=1).flat_params
    np.random.random(3)  # noqa: NPY002
    before = np.random.get_state()[2]  # noqa: NPY002
    again = gd.Sequential([gd.Dense(5)], inputs=5, seed=1).flat_params
    np.testing.assert_array_equal(again, first)
    assert np.random.get_state()[2] == before  # noqa: NPY002
