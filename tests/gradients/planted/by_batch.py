"""Bugs of BatchNorm and Dropout: missing coupling of rows, statistics, masks, factors.

Each changes one line of one method.
"""

from functools import partial

from gradients import layer_checks
from gradients.planting import Bug, gradient_of, rewritten, through_hidden

import minigd as gd

both = gradient_of("batch norm")
hidden = through_hidden("batch norm")
loops = layer_checks.batch_norm_is_the_loops
running = layer_checks.batch_norm_runs_its_statistics


def forward(right, wrong):
    return rewritten(gd.BatchNorm, "forward", right, wrong)


def backward(right, wrong):
    return rewritten(gd.BatchNorm, "backward", right, wrong)


BATCH_NORM = [
    Bug(
        "batch norm: μ and σ² taken for constants",
        backward("if not own:", "if True:"),
        (*both, *hidden, loops),
    ),
    Bug(
        "batch norm: what goes through μ forgotten",
        backward("dx -= dbeta", "pass"),
        (*both, *hidden, loops),
    ),
    Bug(
        "batch norm: what goes through σ² forgotten",
        backward("xp.subtract(dy, dx, out=dx)", "dx[...] = dy"),
        (*both, *hidden, loops),
    ),
    Bug(
        "batch norm: γ forgotten in dx",
        backward("dx *= gamma * scale", "dx *= scale"),
        (*both, *hidden, loops),
    ),
    Bug(
        "batch norm: γ forgotten in dx of one row",
        backward("xp.multiply(dy, gamma * scale, out=dx)", "xp.multiply(dy, scale, out=dx)"),
        both,
    ),
    Bug(
        "batch norm: dx divided by n",
        backward("dx *= gamma * scale", "dx *= gamma * scale / len(dy)"),
        (*both, *hidden, loops),
    ),
    Bug(
        "batch norm: dγ summed",
        backward(".mean(axis=0, out=dgamma)", ".sum(axis=0, out=dgamma)"),
        (*both, *hidden, loops),
    ),
    Bug(
        "batch norm: dγ without x̂",
        backward("(dy * x_hat).mean(axis=0, out=dgamma)", "dgamma[...] = dy.mean(axis=0)"),
        (*both, *hidden, loops),
    ),
    Bug(
        "batch norm: β forgotten",
        forward('y += self.params["beta"]', "pass"),
        (*both, *hidden, loops, running),
    ),
    Bug(
        "batch norm: one variance for all columns",
        forward("(x_hat * x_hat).mean(axis=0)", "(x_hat * x_hat).mean()"),
        (*both, *hidden, loops),
    ),
    Bug(
        "batch norm: normalised by n − 1",
        forward("xp.sqrt(spread +", "xp.sqrt((n / (n - 1) if own else 1) * spread +"),
        (*both, *hidden, loops),
    ),
    Bug(
        "batch norm: ε outside the root",
        forward("xp.sqrt(spread + self.epsilon)", "(xp.sqrt(spread) + self.epsilon)"),
        (both[0], hidden[0], loops, partial(loops, epsilon=0.1), running),
    ),
    Bug(
        "batch norm: running variance of n and not n − 1",
        forward("spread * (n / (n - 1))", "spread"),
        (running,),
    ),
    Bug(
        "batch norm: running variance of the root",
        forward("spread * (n / (n - 1))", "xp.sqrt(spread * (n / (n - 1)))"),
        (running,),
    ),
    Bug(
        "batch norm: momentum for what is new",
        forward("mean += (1 - self.momentum)", "mean += self.momentum"),
        (running,),
    ),
    Bug(
        "batch norm: running statistics in training",
        forward("if train and n > 1 and not self.is_frozen", "if False"),
        (*both, *hidden, loops, running),
    ),
    Bug(
        "batch norm: the batch's statistics in a prediction",
        forward("if train and n > 1 and not", "if n > 1 and not"),
        (running,),
    ),
    Bug(
        "batch norm: a prediction moves the statistics",
        forward("else:\n        spread = variance", "else:\n        mean += 0.1 * (x[0] - mean)\n"
                "        spread = variance"),
        (running,),
    ),
    Bug(
        "batch norm: one row normalised by itself",
        forward("n = len(x)", "n = max(len(x), 2)"),
        (*both, running),
    ),
]  # fmt: skip

both = gradient_of("dropout")
hidden = through_hidden("dropout")
mean = layer_checks.dropout_is_its_input_in_the_mean


def masked(name, right, wrong):
    return rewritten(gd.Dropout, name, right, wrong)


DROPOUT = [
    Bug(
        "dropout: what is kept does not grow",
        masked("forward", "mask *= 1 / (1 - self.rate)", "pass"),
        (mean,),
    ),
    Bug(
        "dropout: grown by 1/p",
        masked("forward", "1 / (1 - self.rate)", "1 / self.rate"),
        (mean,),
    ),
    Bug(
        "dropout: dx does not grow",
        masked("forward", "self.keep(mask)", "self.keep(mask * (1 - self.rate))"),
        (*both, *hidden, mean),
    ),
    Bug(
        "dropout: all of dy goes back",
        masked("backward", "multiply(dy, mask, out=dx)", "multiply(dy, mask.max(), out=dx)"),
        (*both, *hidden, mean),
    ),
    Bug(
        "dropout: another mask goes back",
        masked("backward", "(mask,) = self.kept()", "mask = self.kept()[0][::-1, ::-1]"),
        (*both, *hidden, mean),
    ),
    Bug(
        "dropout: p for what is kept",
        masked("_draw", "halves >=", "halves <"),
        (mean,),
    ),
    Bug(
        "dropout: the same mask each pass",
        masked("key", "divmod(passes, _PASSES)", "divmod(1, _PASSES)"),
        (mean,),
    ),
    Bug(
        "dropout: one mask for all rows",
        masked("_draw", "[: n * width].reshape(shape)", "[:width].reshape(1, -1)"),
        (mean,),
    ),
    Bug(
        "dropout: whole rows left out",
        masked("_draw", "[: n * width].reshape(shape)", "[:n].reshape(-1, 1)"),
        (mean,),
    ),
    Bug(
        "dropout: drawn anew whenever it is asked",
        masked("key", "divmod(passes, _PASSES)", "(0, np.random.default_rng().integers(_PASSES))"),
        (*both, *hidden),
    ),
    Bug(
        "dropout: left out in a prediction",
        masked("forward", "if not train:", "if not train and self.rate > 0.9:"),
        (mean,),
    ),
]
