"""Whole networks: architecture, sizes and seed are drawn, and the values come from the seed.

A hundred networks without an error must also be a hundred checks without a false alarm.
"""

from budgets import examples
from gradients import network_checks
from hypothesis import given
from hypothesis import strategies as st

drawn = examples(12)
hidden = st.lists(
    st.tuples(st.sampled_from(list(network_checks.HIDDEN)), st.integers(1, 6)), max_size=3
)
networks = given(
    pairing=st.sampled_from(network_checks.PAIRINGS),
    hidden=hidden,
    inputs=st.integers(1, 5),
    n=st.integers(1, 8),
    seed=st.integers(0, 2**31),
    weighted=st.booleans(),
    penalty=st.sampled_from([(0, 0, False), *network_checks.PENALTIES]),
)


def run(method, pairing, hidden, **drawn_values):
    network_checks.network_gradient(
        *pairing,
        method=method,
        hidden=[name for name, _ in hidden],
        widths=[width for _, width in hidden],
        **drawn_values,
    )


@drawn
@networks
def test_gradients_agree_with_the_complex_step(**drawn_values):
    run("complex", **drawn_values)


@drawn
@networks
def test_gradients_agree_with_the_central_difference(**drawn_values):
    run("central", **drawn_values)
