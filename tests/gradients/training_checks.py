"""The checks of this suite on updaters, epochs and the trainer, again as plain functions.

Each recurrence is written out again here, one line per formula, without code of the engine.
"""

import math

import numpy as np
from gradients.common import MEAN, assert_close, rng_of
from gradients.loss_checks import weights
from gradients.mean_checks import labelled, loss_and_gradient, tanh_network

import minigd as gd
from minigd.checks import reference

STEPS = 100


def _descend(rate):
    def step(p, g, state):
        return p - rate * g

    return step


def _polyak(rate, mu):
    def step(p, g, state):
        state["v"] = mu * state.get("v", 0.0) + g
        return p - rate * state["v"]

    return step


def _lookahead(rate, mu):
    """Nesterov's original method: the gradient is taken at the point after the momentum step.

    The engine keeps this point, p = q − η μ v, instead of q.
    """

    def step(p, g, state):
        v = state.get("v", 0.0)
        q = p + rate * mu * v
        state["v"] = mu * v + g
        q = q - rate * state["v"]
        return q - rate * mu * state["v"]

    return step


def _adam(rate, beta1, beta2, epsilon):
    """Algorithm 1 of Kingma and Ba, with both corrections written out."""

    def step(p, g, state):
        t = state["t"] = state.get("t", 0) + 1
        state["m"] = beta1 * state.get("m", 0.0) + (1 - beta1) * g
        state["v"] = beta2 * state.get("v", 0.0) + (1 - beta2) * g**2
        m_hat = state["m"] / (1 - beta1**t)
        v_hat = state["v"] / (1 - beta2**t)
        return p - rate * m_hat / (np.sqrt(v_hat) + epsilon)

    return step


def _adamw(rate, decay, decay_bias=False):
    """Algorithm 2 of Loshchilov and Hutter, with their λ times the rate."""
    adam = _adam(rate, 0.9, 0.999, 1e-8)
    # Of the 12 numbers that are updated here the last 3 are biases.
    decays = np.array([1.0] * 9 + [float(decay_bias)] * 3)

    def step(p, g, state):
        return adam(p, g, state) - rate * decay * decays * p

    return step


def _rmsprop(rate, rho, epsilon):
    def step(p, g, state):
        state["v"] = rho * state.get("v", 0.0) + (1 - rho) * g**2
        return p - rate * g / (np.sqrt(state["v"]) + epsilon)

    return step


def _adagrad(rate, epsilon):
    def step(p, g, state):
        state["v"] = state.get("v", 0.0) + g**2
        return p - rate * g / (np.sqrt(state["v"]) + epsilon)

    return step


def _by_number(rule):
    """Return the step of a rule for one number, in plain floats; each number has its own state."""

    def step(p, g, state):
        state["t"] = state.get("t", 0) + 1
        each = state.setdefault("each", [{} for _ in p])
        return np.array(
            [
                rule(x, slope, own, state["t"])
                for x, slope, own in zip(p.tolist(), g.tolist(), each, strict=True)
            ]
        )

    return step


def _amsgrad(rate, beta1, beta2, epsilon):
    """Algorithm 2 of Reddi, Kale and Kumar, with Adam's corrections."""

    def rule(p, g, own, t):
        own["m"] = beta1 * own.get("m", 0.0) + (1 - beta1) * g
        own["v"] = beta2 * own.get("v", 0.0) + (1 - beta2) * g * g
        own["top"] = max(own.get("top", 0.0), own["v"])
        m_hat, v_hat = own["m"] / (1 - beta1**t), own["top"] / (1 - beta2**t)
        return p - rate * m_hat / (math.sqrt(v_hat) + epsilon)

    return _by_number(rule)


def _nadam(rate, beta1, beta2, epsilon):
    """Algorithm 2 of Dozat, with his schedule of the momentum; m by β₁ as PyTorch has it."""

    def rule(p, g, own, t):
        now, after = (beta1 * (1 - 0.5 * 0.96 ** (k * 0.004)) for k in (t, t + 1))
        own["product"] = own.get("product", 1.0) * now
        own["m"] = beta1 * own.get("m", 0.0) + (1 - beta1) * g
        own["v"] = beta2 * own.get("v", 0.0) + (1 - beta2) * g * g
        m_hat = after * own["m"] / (1 - own["product"] * after)
        m_hat += (1 - now) * g / (1 - own["product"])
        return p - rate * m_hat / (math.sqrt(own["v"] / (1 - beta2**t)) + epsilon)

    return _by_number(rule)


def _radam(rate, beta1, beta2, epsilon):
    """Algorithm 2 of Liu et al., with the 5 and the ε of their code."""

    def rule(p, g, own, t):
        own["m"] = beta1 * own.get("m", 0.0) + (1 - beta1) * g
        own["v"] = beta2 * own.get("v", 0.0) + (1 - beta2) * g * g
        m_hat = own["m"] / (1 - beta1**t)
        most = 2 / (1 - beta2) - 1
        # A difference of large numbers, of which 1 − beta2**t has too few digits.
        known = most - 2 * t * beta2**t / -math.expm1(t * math.log(beta2))
        if known <= 5:
            return p - rate * m_hat
        length = math.sqrt(1 - beta2**t) / (math.sqrt(own["v"]) + epsilon)
        r = math.sqrt((known - 4) / (most - 4) * (known - 2) / (most - 2) * most / known)
        return p - rate * m_hat * r * length

    return _by_number(rule)


UPDATERS = {
    "sgd": (lambda: gd.SGD(0.1), _descend(0.1)),
    "momentum": (lambda: gd.SGD(0.1, momentum=0.9), _polyak(0.1, 0.9)),
    "nesterov": (lambda: gd.SGD(0.1, momentum=0.9, nesterov=True), _lookahead(0.1, 0.9)),
    "adam": (gd.Adam, _adam(0.001, 0.9, 0.999, 1e-8)),
    "adam, other constants": (lambda: gd.Adam(0.05, 0.5, 0.9, 1e-3), _adam(0.05, 0.5, 0.9, 1e-3)),
    "adam without averages": (lambda: gd.Adam(0.01, 0.0, 0.0), _adam(0.01, 0.0, 0.0, 1e-8)),
    "adamw": (lambda: gd.AdamW(0.01, weight_decay=0.3), _adamw(0.01, 0.3)),
    "adamw, biases too": (
        lambda: gd.AdamW(0.01, weight_decay=0.3, decay_bias=True),
        _adamw(0.01, 0.3, decay_bias=True),
    ),
    "amsgrad": (lambda: gd.Adam(0.01, 0.8, 0.9, amsgrad=True), _amsgrad(0.01, 0.8, 0.9, 1e-8)),
    "nadam": (gd.Nadam, _nadam(0.002, 0.9, 0.999, 1e-8)),
    "nadam, other constants": (
        lambda: gd.Nadam(0.05, 0.5, 0.9, 1e-3),
        _nadam(0.05, 0.5, 0.9, 1e-3),
    ),
    "radam": (gd.RAdam, _radam(0.001, 0.9, 0.999, 1e-8)),
    "radam, other constants": (
        lambda: gd.RAdam(0.05, 0.5, 0.9, 1e-3),
        _radam(0.05, 0.5, 0.9, 1e-3),
    ),
    "radam that never adapts": (lambda: gd.RAdam(0.01, 0.5, 0.6), _radam(0.01, 0.5, 0.6, 1e-8)),
    "rmsprop": (lambda: gd.RMSprop(0.01, 0.8), _rmsprop(0.01, 0.8, 1e-8)),
    "adagrad": (lambda: gd.Adagrad(0.1), _adagrad(0.1, 1e-8)),
}


def slopes(scale, seed=0):
    """Return the gradients of 100 steps: a drift and noise, so that averages matter."""
    rng = rng_of(seed, 9)
    drift = rng.standard_normal(12)
    return [scale * (drift + rng.standard_normal(12)) for _ in range(STEPS)]


def updater_follows_its_recurrence(name, scale=1.0):
    """Compare the path from 0 at each of 100 steps, to 1e-12 of where it has come."""
    make, step = UPDATERS[name]
    model = gd.Sequential([gd.Dense(3)], inputs=3, dtype="float64")
    updater, state, p = make(), {}, np.zeros(12)
    model.flat_params[...] = 0.0
    for t, g in enumerate(slopes(scale), start=1):
        model.flat_grads[...] = g
        updater.update(model)
        p = step(p, g, state)
        assert np.array_equal(model.flat_grads, g), "the gradient was modified"
        allowed = 1e-12 * np.abs(p).max()
        error = np.abs(model.flat_params - p).max()
        assert error <= allowed, f"step {t}: off by {error:.3g}, and {allowed:.3g} is allowed"


def adam_follows_the_reference(scale=1.0):
    """Adam on a whole model against `reference.Adam` on its arrays one by one."""
    model = tanh_network()
    model.flat_params[...] = 0.0
    own, naive, rng = gd.Adam(), reference.Adam(), rng_of(10)
    params = [p.copy() for p in model.params.values()]
    for _ in range(STEPS):
        grads = [scale * rng.standard_normal(p.shape) for p in params]
        for grad, value in zip(model.grads.values(), grads, strict=True):
            grad[...] = value
        own.update(model)
        params = naive.update(params, grads)
        for (name, p), expected in zip(model.params.items(), params, strict=True):
            assert np.abs(p - expected).max() <= 1e-12 * np.abs(expected).max(), name


# Epochs --------------------------------------------------------------------------------------


def epoch_sees_every_row_once(n=2300, batch_size=500, shuffle=True):
    """All rows, each once, each with its own target, in batches of the sizes promised."""
    x = np.arange(n, dtype=float).reshape(n, 1)
    batches = gd.Batches(x, np.arange(n), batch_size=batch_size, shuffle=shuffle)
    assert batches.sizes == reference.batch_sizes(n, batch_size)
    for _ in range(2):
        seen = []
        for x_batch, y_batch in batches:
            assert np.array_equal(x_batch[:, 0], y_batch), "rows and targets are out of step"
            seen.append(y_batch)
        assert [len(rows) for rows in seen] == batches.sizes
        assert sorted(np.concatenate(seen)) == list(range(n))


def shuffling_mixes_rows(n=2300, batch_size=500):
    """Each batch draws from all over the data, and an epoch's order is not the last one's."""
    batches = gd.Batches(np.zeros((n, 1)), np.arange(n), batch_size=batch_size, shuffle=True)
    orders = [np.concatenate([y for _, y in batches]) for _ in range(2)]
    assert (orders[0] != orders[1]).mean() > 0.9, "two epochs have one order"
    for order in orders:
        for start in range(0, n, batch_size):
            rows = order[start : start + batch_size]
            blocks = np.bincount(rows // batch_size, minlength=math.ceil(n / batch_size))
            # A fair draw takes about as many rows from each block as the block's share says.
            assert (blocks > 0.5 * len(rows) * (300 / n)).all(), f"a batch took {blocks}"


def trainer_on(n, rate=0.0, momentum=0.0, seed=0, **options):
    x, y = labelled(n, seed=seed)
    updater = gd.SGD(rate, momentum)
    trainer = gd.Trainer(tanh_network(seed=seed), "categorical_crossentropy", updater, **options)
    return trainer, x, y


def epoch_loss_is_the_mean_over_rows(n=2300, batch_size=500):
    """With a learning rate of 0, an epoch's loss is the loss of all rows, and so is `evaluate`'s.

    Rows are in order and the last ones are hard, so that a mean of batch means is far off.
    """
    trainer, x, y = trainer_on(n)
    x[n - n % batch_size :] *= 30.0
    expected, _ = loss_and_gradient(trainer.model, x, y)
    history = trainer.fit(gd.Batches(x, y, batch_size=batch_size))
    assert_close(history["loss"][0], expected, MEAN, "the epoch's loss")
    assert_close(trainer.evaluate(x, y, batch_size=batch_size)["loss"], expected, MEAN, "evaluate")


def trainer_gradients_compose(n=2300, batch_size=500, reuse_buffers=True):
    """Compare what the trainer's updates see, weighted by rows, with the full batch's gradient."""
    trainer, x, y = trainer_on(n, reuse_buffers=reuse_buffers)
    _, expected = loss_and_gradient(trainer.model, x, y)
    sizes, seen = [], []

    def look(event):
        if event.name == "update":
            sizes.append(len(event.x))
            seen.append(trainer.model.flat_grads.copy())

    # Two epochs: in the second every workspace has held other batches before.
    batches = gd.Batches(x, y, batch_size=batch_size, shuffle=True)
    trainer.fit(batches, epochs=2, callbacks=[look])
    for epoch in (slice(0, len(batches)), slice(len(batches), None)):
        mean = np.average(seen[epoch], axis=0, weights=sizes[epoch])
        assert_close(mean, expected, MEAN, "gradient")


def trainer_is_the_loop_by_hand(n=230, batch_size=50, epochs=3, momentum=0.9):
    """`Trainer.fit` ends where forward, backward and the recurrence written by hand end."""
    trainer, x, y = trainer_on(n, 0.1, momentum)
    model = trainer.model.copy()
    velocity = np.zeros_like(model.flat_params)
    for _ in range(epochs):
        for start in range(0, n, batch_size):
            rows = slice(start, start + batch_size)
            _, g = loss_and_gradient(model, x[rows], y[rows])
            velocity = momentum * velocity + g
            model.flat_params -= 0.1 * velocity
    trainer.fit(gd.Batches(x, y, batch_size=batch_size), epochs=epochs)
    assert trainer.updates == epochs * math.ceil(n / batch_size)
    assert_close(trainer.model.flat_params, model.flat_params, 1e-11, "parameters")


# Weights of rows, and windows of batches ------------------------------------------------------


def updates_of(trainer, batches, epochs=1):
    """Return the gradient of each update of a fit, and its history."""
    seen = []

    def look(event):
        if event.name == "update":
            seen.append(trainer.model.flat_grads.copy())

    history = trainer.fit(batches, epochs=epochs, callbacks=[look])
    return seen, history


def step_is_the_weighted_mean_of_examples(n=9, seed=0):
    """Compare a step with the gradients of single examples, averaged by their weights."""
    trainer, x, y = trainer_on(n, seed=seed)
    weight = weights(n, seed)
    examples = [
        loss_and_gradient(trainer.model, x[i : i + 1], y[i : i + 1]) for i in range(n) if weight[i]
    ]
    counting = weight[weight > 0]
    x[weight == 0] = np.nan
    value = trainer.step(x, y, weight)
    expected = np.average([g for _, g in examples], axis=0, weights=counting)
    assert_close(trainer.model.flat_grads, expected, MEAN, "gradient")
    expected = np.average([value for value, _ in examples], weights=counting)
    assert_close(value, expected, MEAN, "L")


def weighted_epoch_is_that_of_repeated_rows(n=2300, batch_size=500):
    """Compare an epoch of rows with whole weights with rows that are repeated as often.

    The last rows are hard and weigh much, so that a mean that counts rows is far off.
    """
    trainer, x, y = trainer_on(n)
    tail = n - n % batch_size
    x[tail:] *= 30.0
    times = rng_of(14).integers(0, 4, n)
    times[tail:] += 4
    again = np.repeat(np.arange(n), times)
    value, gradient = loss_and_gradient(trainer.model, x[again], y[again])
    batches = gd.Batches(x, y, batch_size=batch_size, sample_weight=times)
    seen, history = updates_of(trainer, batches)
    by_weight = [times[start : start + batch_size].sum() for start in range(0, n, batch_size)]
    assert_close(np.average(seen, axis=0, weights=by_weight), gradient, MEAN, "gradient")
    assert_close(history["loss"][0], value, MEAN, "the epoch's loss")
    evaluated = trainer.evaluate(x, y, batch_size=batch_size, sample_weight=times)
    assert_close(evaluated["loss"], value, MEAN, "evaluate")


def window_is_one_large_batch(n=2300, batch_size=100, accumulate=7, weighted=False, seed=0):
    """Compare windows of batches with batches as large as the windows, update by update.

    The last window is a short one, with a short batch at its end; with weights there are rows, and
    whole batches, that do not count.
    """
    weight = None
    if weighted:
        weight = rng_of(seed, 15, n).uniform(0.0, 2.0, n) * rng_of(seed, 16, n).integers(0, 2, n)
        weight[: min(batch_size, n // 2)] = 0.0
        weight[-1] = 3.0
    found = []
    for rows, parts in ((batch_size, accumulate), (batch_size * accumulate, 1)):
        trainer, x, y = trainer_on(n, 0.01, seed=seed, accumulate=parts)
        batches = gd.Batches(x, y, batch_size=rows, sample_weight=weight, shuffle=True, seed=seed)
        seen, history = updates_of(trainer, batches, epochs=2)
        assert trainer.updates == len(seen)
        found.append((seen, history["loss"]))
    (parts, losses), (whole, expected) = found
    assert len(parts) == len(whole)
    for one, other in zip(parts, whole, strict=True):
        assert_close(one, other, MEAN, "gradient")
    assert_close(losses, expected, MEAN, "losses of epochs")
