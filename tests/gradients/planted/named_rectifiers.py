"""Bugs of the smooth activations, LayerNorm and Residual that the checker must name.

`PLANTED` contains `naming.Named` entries.
"""

from gradients.naming import Named, layer, network
from gradients.planting import put, rewritten

import minigd as gd
from minigd import formulas


def norm(name, kind, right, wrong):
    """Return a bug of LayerNorm's backward, which a check of the layer alone must name."""
    plant = rewritten(gd.LayerNorm, "backward", right, wrong)
    return Named(f"layer norm: {name}", kind, layer(gd.LayerNorm), plant)


def block():
    """Return a Residual with parameters, that keeps the width of 4."""
    return gd.Residual([gd.Dense(5), gd.Tanh(), gd.Dense(4)])


def residual(name, kind, method, right, wrong):
    """Return a bug of Residual, which a check of the layer alone must name."""
    plant = rewritten(gd.Residual, method, right, wrong)
    return Named(f"residual: {name}", kind, layer(block), plant)


def slope(make, name, kind, formula):
    """Return a bug of an activation: another `formula_backward`."""
    plant = put(make, "formula_backward", staticmethod(formula))
    return Named(f"{make.__name__}: {name}", kind, layer(make), plant)


def in_network(make, name, kind, formula):
    """Return a bug of an activation which a check of a whole network must name."""
    check = network(lambda: [gd.Dense(4), make(), gd.Dense(2)])
    plant = put(make, "formula_backward", staticmethod(formula))
    return Named(f"{make.__name__} in a network: {name}", kind, check, plant)


GAMMA = '(dy * x_hat).mean(axis=0, out=self.grads["gamma"])'
BETA = 'dy.mean(axis=0, out=self.grads["beta"])'
BACK = "self.run_inner_back(self.layers, dy)"
SUM = "self.backend.xp.add(dy, inner, out=dx)"
PLANTED = [
    norm("dγ summed", "missing 1/n", GAMMA, GAMMA.replace("mean", "sum")),
    norm("dβ summed", "missing 1/n", BETA, BETA.replace("mean", "sum")),
    norm("dγ by n twice", "1/n twice", GAMMA, GAMMA.replace("dy *", "dy / len(dy) *")),
    norm("dβ by n twice", "1/n twice", BETA, BETA.replace("dy.", "(dy / len(dy)).")),
    norm("dγ uphill", "sign", GAMMA, GAMMA.replace("dy *", "-dy *")),
    norm("dβ uphill", "sign", BETA, BETA.replace("dy.", "(-dy).")),
    norm("no dγ", "stays zero", GAMMA, GAMMA.replace("dy *", "0 * dy *")),
    norm("no dβ", "stays zero", BETA, BETA.replace("dy.", "(0 * dy).")),
    norm("dγ twice", "constant factor", GAMMA, GAMMA.replace("dy *", "2 * dy *")),
    norm("half of dβ", "constant factor", BETA, BETA.replace("dy.", "(0.5 * dy).")),
    norm("dβ of the first row", "first row only", BETA, BETA.replace("dy.", "dy[:1].")),
    norm("dx is dy", "Jacobian ignored", "scale\n    return dx", "scale\n    return dy"),
    norm("dx uphill", "sign", "dx *= scale", "dx *= -scale"),
    norm("dx tripled", "constant factor", "dx *= scale", "dx *= 3 * scale"),
    norm("dγ added", "accumulated", GAMMA, 'self.grads["gamma"] += (dy * x_hat).mean(axis=0)'),
    norm("dβ by a fixed size", "tail's n", BETA, 'self.grads["beta"] = dy.sum(axis=0) / 7'),
    residual("dx is dy", "Jacobian ignored", "backward", SUM, "return dy.copy()"),
    residual("dx without dy", "dy left out", "backward", SUM, "return inner"),
    residual("dx uphill", "sign", "backward", SUM, "self.backend.xp.add(-dy, -inner, out=dx)"),
    residual("dx twice", "constant factor", "backward", SUM, "return 2 * (dy + inner)"),
    residual(
        "the inner gradients of 2 dy",
        "constant factor",
        "backward",
        BACK,
        BACK.replace("dy", "2 * dy"),
    ),
    residual("the inner gradients uphill", "sign", "backward", BACK, BACK.replace("dy", "-dy")),
    residual("the inner gradients not run", "stays zero", "backward", BACK, "0 * dy"),
    residual(
        "the inner gradients over n",
        "1/n twice",
        "backward",
        BACK,
        BACK.replace("dy", "dy / len(dy)"),
    ),
    residual(
        "the inner gradients times n",
        "missing 1/n",
        "backward",
        BACK,
        BACK.replace("dy", "dy * len(dy)"),
    ),
    residual("x not added", "x left out", "forward", "add(x, ", "add(0 * x, "),
    slope(gd.GELU, "uphill", "sign", lambda x, dy: -formulas.gelu_backward(x, dy)),
    slope(gd.GELU, "dx is dy", "Jacobian ignored", lambda x, dy: dy),
    slope(gd.SiLU, "twice", "constant factor", lambda x, dy: 2 * formulas.silu_backward(x, dy)),
    slope(gd.SiLU, "nothing", "stays zero", lambda x, dy: 0 * dy),
    slope(gd.Softplus, "dx is dy", "Jacobian ignored", lambda x, dy: dy),
    slope(gd.Softplus, "uphill", "sign", lambda x, dy: -formulas.softplus_backward(x, dy)),
    slope(
        *(gd.ELU, "half", "constant factor"),
        lambda y, dy, alpha: 0.5 * formulas.elu_backward(y, dy, alpha=alpha),
    ),
    in_network(gd.ELU, "dx is dy", "Jacobian ignored", lambda y, dy, alpha: dy),
    in_network(gd.GELU, "uphill", "sign", lambda x, dy: -formulas.gelu_backward(x, dy)),
]
