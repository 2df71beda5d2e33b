"""Whole networks: architecture, sizes and seed are drawn, and the values come from the seed.

A hundred networks without an error must also be a hundred checks without a false alarm.
"""

from gradients import network_checks
from hypothesis import given, settings
from hypothesis import strategies as st

drawn = settings(derandomize=True, deadline=None, max_examples=100)
hidden = st.lists(
    st.tuples(st.sampled_from(list(network_checks.HIDDEN)), st.integers(1, 6)), max_size=3
)
networks = given(
    pairing=st.sampled_from(network_checks.PAIRINGS),
    hidden=hidden,
    inputs=st.integers(1, 5),
    n=st.integers(1, 8),
    seed=st.integers(0, 2**31),
)


def run(method, pairing, hidden, inputs, n, seed):
    network_checks.network_gradient(
        *pairing,
        method=method,
        n=n,
        seed=seed,
        hidden=[name for name, _ in hidden],
        widths=[width for _, width in hidden],
        inputs=inputs,
    )


@drawn
@networks
def test_gradients_agree_with_the_complex_step(pairing, hidden, inputs, n, seed):
    run("complex", pairing, hidden, inputs, n, seed)


@drawn
@networks
def test_gradients_agree_with_the_central_difference(pairing, hidden, inputs, n, seed):
    run("central", pairing, hidden, inputs, n, seed)
