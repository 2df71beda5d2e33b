"""What the checks of this suite share: tolerances and seeded generators.

The checks are plain functions that raise if a property fails. Tests run the same functions on the
engine and on the engine with a planted bug.
"""

import numpy as np

EXACT = 1e-10  # complex step, as a share of the largest entry
CENTRAL = 1e-6
MEAN = 1e-12


def assert_close(actual, expected, share, what="array"):
    """Compare to a share of the largest entry; 1e-15 is the rounding of numbers near 1."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, f"{what}: shape {actual.shape}, not {expected.shape}"
    error = float(np.abs(actual - expected).max())
    allowed = share * float(np.abs(expected).max()) + 1e-15
    # Written so that a NaN fails.
    assert error <= allowed, f"{what}: off by {error:.3g}, and {allowed:.3g} is allowed"


def rng_of(*seed):
    return np.random.default_rng(list(seed))


def assert_same_gradients(one, other, share):
    assert one.keys() == other.keys()
    for name in one:
        assert_close(one[name], other[name], share, name)
