"""The name of a bug: fifty planted ones, half of them by someone who had not read the checker.

If two can't be distinguished, both are named. An unknown bug has no name, and a right network
raises no alarm.
"""

import pickle

import numpy as np
import pytest
from gradients import naming
from gradients.planted import named_layers as planted_named_layers
from gradients.planted import named_losses as planted_named_losses
from gradients.planted import named_rectifiers as planted_named_rectifiers
from gradients.planted.named_by_another import PLANTED as BY_ANOTHER
from oracles import random_networks, students

import minigd as gd
from minigd.checks import gradients as gradcheck
from minigd.checks.diagnosis import Case, diagnose

OWN = [*planted_named_layers.PLANTED, *planted_named_losses.PLANTED]
RECTIFIERS = planted_named_rectifiers.PLANTED
PLANTED = [*OWN, *BY_ANOTHER, *RECTIFIERS]


class EscapedError(BaseException):
    """An error of the naming itself, which the checker would keep quiet about."""


@pytest.fixture(autouse=True)
def errors_of_the_naming_itself(monkeypatch):
    explain = gradcheck.explain

    def loud(*arguments):
        try:
            return explain(*arguments)
        except Exception as error:
            raise EscapedError from error

    monkeypatch.setattr(gradcheck, "explain", loud)


def diagnosis_of(check):
    with pytest.raises(gd.GradientError) as caught:
        check()
    return caught.value.diagnosis


def diagnosis_of_planted(bug):
    with pytest.MonkeyPatch.context() as monkeypatch:
        bug.plant(monkeypatch)
        return diagnosis_of(bug.check)


# Planted bugs -----------------------------------------------------------------------------------


@pytest.mark.few(12)
@pytest.mark.parametrize("bug", PLANTED, ids=[bug.name for bug in PLANTED])
def test_a_planted_bug_is_caught(bug):
    diagnosis_of_planted(bug)


@pytest.mark.few(2)
@pytest.mark.parametrize(
    "bugs", [OWN, BY_ANOTHER, RECTIFIERS], ids=["own", "by another", "of rectifiers"]
)
def test_nine_of_ten_are_named_rightly(bugs):
    said = {bug: diagnosis_of_planted(bug) for bug in bugs}
    missed = [
        f"{bug.name} ({bug.kind}): {says}"
        for bug, says in said.items()
        if not naming.named_rightly(says, bug.kind)
    ]
    print(f"{len(bugs) - len(missed)} of {len(bugs)} named rightly; not:", *missed, sep="\n")
    assert len(missed) <= len(bugs) / 10, "\n".join(missed)


def test_there_are_fifty_of_all_kinds():
    assert len(OWN) >= 25
    assert len(BY_ANOTHER) >= 25
    assert len({bug.name for bug in PLANTED}) == len(PLANTED)
    assert {bug.kind for bug in PLANTED} == set(naming.KINDS)


# No false alarm ---------------------------------------------------------------------------------


@pytest.mark.few
@pytest.mark.parametrize("seed", range(10))
def test_a_right_network_raises_no_alarm(seed):
    random_networks.raises_no_alarm(seed)


@pytest.mark.slow
def test_a_thousand_right_networks_raise_no_alarm():
    for seed in range(1000):
        random_networks.raises_no_alarm(seed)


@pytest.mark.each
@pytest.mark.parametrize("seed", range(24))
def test_noise_has_no_name(seed):
    random_networks.noise_has_no_name(seed)


@pytest.mark.slow
def test_noise_in_a_thousand_networks_has_no_name():
    for seed in range(1000):
        random_networks.noise_has_no_name(seed)


class NoisyReLU(gd.ReLU):
    """dx is off by numbers that follow no rule."""

    def backward(self, dy):
        return super().backward(dy) + np.random.default_rng(len(dy)).standard_normal(dy.shape)


class Unused(students.Identity):
    """A parameter that forward forgets, and backward does not."""

    def build(self, n_in):
        self.add_param("s", (n_in,), "ones")
        return n_in

    def backward(self, dy):
        self.grads["s"][...] = 1 + dy.mean(axis=0)
        return dy


@pytest.mark.parametrize(
    ("check", "says"),
    [
        (lambda: random_networks.check_noise(977), None),
        (lambda: gd.check_layer(NoisyReLU(), -1 - abs(rows(5, 3))), None),
        (lambda: gd.check_layer(random_networks.Noisy(2), 0 * rows(5, 3)), None),
        (lambda: gd.check_layer(Unused(), rows(5, 3)), "forward does not use"),
    ],
    ids=["a constant batch", "negative", "zeros", "unused"],
)
def test_what_has_no_slope_here_is_not_said_to_be_unused(check, says):
    said = diagnosis_of(check)
    assert said is None if says is None else says in said


# What can be distinguished ------------------------------------------------------------------------

TRUE = np.array([[0.5, -1.0, 0.25], [2.0, 0.125, -3.0]])


def of(factor, n, true=TRUE, **facts):
    return Case(given=factor * true, true=true, n=n, **facts)


@pytest.mark.parametrize(
    ("cases", "says"),
    [
        ([of(7, 7)], ["missing (a factor of n = 7)"]),
        ([of(1 / 7, 7)], ["taken twice (a factor of 1/n = 1/7)"]),
        ([of(2, 2)], ["missing (a factor of n = 2)", "a constant factor of 2"]),
        ([of(0.5, 2)], ["taken twice", "a constant factor of 1/2"]),
        ([of(2, 2), of(2, 3)], ["a constant factor of 2"]),
        ([of(2, 2), of(3, 3)], ["missing (a factor of n = 2)"]),
        ([of(3.5, 7)], ["divided by 2, a fixed batch size", "a constant factor of 3.5"]),
        ([of(3.5, 7), of(2.5, 5)], ["divided by 2, a fixed batch size, instead of n = 7"]),
        ([of(3.5, 7), of(3.5, 5)], ["a constant factor of 3.5"]),
        ([of(5 / 9, 5, seen=(9,)), of(2, 8, seen=(4,))], ["by 9, the size of an earlier batch"]),
        ([of(1, 4), of(-1, 1)], ["in a batch of 1 alone, the sign is wrong"]),
        ([of(-7, 7), of(-5, 5)], ["the sign is wrong, and the mean over the batch is missing"]),
        ([of(1.5, 3), of(1.25, 5)], ["divided by n − 1 instead of n = 3"]),
        ([of(2.5, 7), of(-0.7, 5)], []),
    ],
)
def test_sizes_of_batches_tell_factors_apart(cases, says):
    said = diagnose(cases)
    if not says:
        assert said is None
    else:
        assert said.count(", or ") == len(says) - 1
        for part in says:
            assert part in said


def test_what_is_right_looks_like_nothing():
    assert diagnose([of(1, 7)]) is None
    assert diagnose([Case(given=TRUE + 1e-13, true=TRUE, n=3)]) is None


def test_a_number_that_is_none_looks_like_nothing():
    given = TRUE.copy()
    given[0, 0] = np.nan
    assert diagnose([Case(given=given, true=TRUE, n=3)]) is None


def in_part(place, factor):
    given = TRUE.copy()
    given[place] *= factor
    return Case(given=given, true=TRUE, n=4)


@pytest.mark.parametrize(
    ("case", "says"),
    [
        (in_part(1, 0), "in row 1, the last, the gradient is missing: it stays zero"),
        (in_part((slice(None), 0), -1), "in column 0, the sign is wrong"),
        (in_part((slice(None), 1), 4), "in column 1, the mean over the batch is missing"),
        (in_part((1, 2), -1), "at [1, 2], the sign is wrong"),
        (in_part(0, 1.5), "in row 0, a constant factor of 1.5"),
    ],
)
def test_a_part_is_named(case, says):
    assert says in diagnose([case])


def weighed(factors, l2=0.0):
    rng = np.random.default_rng(3)
    each, weight = rng.standard_normal((4, 3)), rng.uniform(0.5, 2, 4)
    scale = 4 * weight / weight.sum()
    price = l2 * TRUE[0]
    return Case(
        given=(each * factors(weight, scale)[:, None]).mean(axis=0) + price,
        true=(each * scale[:, None]).mean(axis=0) + price,
        n=4,
        each=each,
        scale=scale,
        weight=weight,
        value=TRUE[0],
        l2=l2,
        penalized=True,
    )


@pytest.mark.parametrize("l2", [0.0, 0.3])
@pytest.mark.parametrize(
    ("factors", "says"),
    [
        (lambda weight, scale: np.ones(4), "the weights of the rows are ignored"),
        (lambda weight, scale: scale**2, "the weights of the rows are applied once too often"),
        (lambda weight, scale: scale * [1, 1, 1, 0], "the last row of the batch is left out"),
    ],
)
def test_slips_of_weights_are_named_beside_a_penalty(factors, l2, says):
    assert says in diagnose([weighed(factors, l2)])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t, price, n: t - 2 * price, "the sign of the L2 penalty is wrong"),
        (lambda t, price, n: t - price + price / n, "the L2 penalty is divided by n = 5"),
        (lambda t, price, n: t - price / 2, "half of the L2 penalty is missing"),
        (lambda t, price, n: t + 7 * price, "2.1 times the parameter itself is added"),
    ],
)
def test_slips_of_a_penalty_are_named(change, says):
    value, true = np.array([1.0, -2.0, 0.5]), np.array([0.3, 0.1, -0.7])
    given = change(true, 0.3 * value, 5)
    assert says in diagnose([Case(given, true, 5, value=value, l2=0.3, penalized=True)])


# The wrong part -----------------------------------------------------------------------------------


def rows(n, width, seed=0):
    return np.random.default_rng([seed, n, width]).standard_normal((n, width))


def test_the_part_at_fault_is_named_and_not_the_one_that_is_furthest_off():
    model = gd.Sequential([gd.Dense(3), students.Center(True), gd.Dense(2)], inputs=3)
    said = diagnosis_of(lambda: gd.check_gradients(model, "mse", rows(5, 3), rows(5, 2)))
    assert said == "dx of center1: the Jacobian is ignored: dx is dy unchanged"


@pytest.mark.slow
def test_a_slip_of_a_large_layer_is_named_by_a_block_of_it():
    def check(make):
        return lambda: gd.check_layer(make(40), rows(12, 30))

    assert "transposed" in diagnosis_of(lambda: gd.check_layer(Turned(30), rows(12, 30)))
    assert "n = 12" in diagnosis_of(check(Summed))
    assert "in row 29, the last" in diagnosis_of(check(LastRow))


class Turned(gd.Dense):
    """dW transposed."""

    def backward(self, dy):
        dx = super().backward(dy)
        self.grads["W"][...] = self.grads["W"].T.copy()
        return dx


class Summed(gd.Dense):
    """dW without its mean."""

    def backward(self, dy):
        dx = super().backward(dy)
        self.grads["W"] *= len(dy)
        return dx


class LastRow(gd.Dense):
    """The last row of dW forgotten."""

    def backward(self, dy):
        dx = super().backward(dy)
        self.grads["W"][-1] = 0
        return dx


def test_layers_that_the_complex_step_does_not_take_are_named_too():
    for layer in students.KINKED:
        assert "a constant factor of 1.1" in diagnosis_of(
            lambda layer=layer: gd.check_layer(layer(slip=True), rows(6, 3))
        )


def test_a_layer_that_fails_on_another_size_is_told_to_be_stale():
    class Stale(students.Identity):
        def forward(self, x, train=False):
            self.first = getattr(self, "first", x)
            return x

        def backward(self, dy):
            return dy + 0 * self.first

    said = diagnosis_of(lambda: gd.check_layer(Stale(), rows(5, 3)))
    assert said == "a stale cache: it uses arrays of the previous batch"


# The message --------------------------------------------------------------------------------------


def test_the_diagnosis_has_a_line_of_its_own():
    with pytest.raises(gd.GradientError) as caught:
        gd.check_layer(Summed(2), rows(7, 3))
    first, last = str(caught.value).splitlines()
    assert first.startswith("summed1.W: backward disagrees with the complex step. Worst at [")
    assert last == "It looks like: the mean over the batch is missing (a factor of n = 7)"
    assert caught.value.diagnosis == last.removeprefix("It looks like: ")


def test_without_a_diagnosis_the_message_has_one_line():
    class Off(gd.Tanh):
        def backward(self, dy):
            return super().backward(dy) + np.sin(7 * dy)

    with pytest.raises(gd.GradientError) as caught:
        gd.check_layer(Off(), rows(5, 3))
    assert caught.value.diagnosis is None
    assert len(str(caught.value).splitlines()) == 1


def test_an_error_that_was_pickled_keeps_its_diagnosis():
    error = pickle.loads(pickle.dumps(gd.GradientError("W is off", "the sign is wrong")))
    assert str(error) == "W is off\nIt looks like: the sign is wrong"
    assert error.diagnosis == "the sign is wrong"
