"""Products in flat memory: loops for small layers, BLAS for others, the same bits everywhere."""

import numpy as np
import pytest

import minigd as gd

numba = pytest.importorskip("numba")
pytest.importorskip("scipy")

from minigd.execution.program import address  # noqa: E402
from minigd.execution.targets import compiler, flat_memory  # noqa: E402

SMALL = flat_memory.SMALL

# The matrices of a layer's products, of which n rows are a batch: a, b, and which are turned.
PRODUCTS = {
    "x W": (("n", "inputs"), ("inputs", "outputs"), False, False),
    "xᵀ dy": (("inputs", "n"), ("n", "outputs"), True, False),
    "dy Wᵀ": (("n", "outputs"), ("outputs", "inputs"), False, True),
}
LAYERS = [(1, 1), (1, 10), (10, 1), (SMALL, 15), (7, SMALL), (SMALL + 1, 3), (3, SMALL + 1)]

GEMM = {"float32": "sgemm", "float64": "dgemm"}

SOURCE = """
def run(places, gemm, n, factor):
    a, b, out = pointer(places[0], kind), pointer(places[1], kind), pointer(places[2], kind)
    product(gemm, a, 2, {}, b, 3, {}, out, 1, {}, {}, {}, factor)
"""


def product_of(kind, inputs, outputs, dtype):
    """Return a compiled product as a function of two matrices and a factor."""
    first, second, a_turned, b_turned = PRODUCTS[kind]
    a_turned = a_turned and inputs > 1  # as `words.matrix` says
    size = {"n": "n", "inputs": inputs, "outputs": outputs}
    words = a_turned, b_turned, *[size[name] for name in (*first, second[1])]
    names = {"pointer": flat_memory.pointer, "product": flat_memory.product}
    names["kind"] = getattr(numba, dtype)
    exec(SOURCE.format(*words), names)
    run, gemm = numba.njit(names["run"]), compiler.gemm_address(GEMM[dtype])

    def multiply(a, b, factor):
        flat = [np.ravel(m.T if turned else m) for m, turned in ((a, a_turned), (b, b_turned))]
        memory = [
            np.append(np.full(k, 99, dtype), part) for k, part in zip((2, 3), flat, strict=True)
        ]
        out = np.full(len(a) * b.shape[1] + 2, 99, dtype)
        n = b.shape[0] if first[1] == "n" else len(a)
        run(np.array(list(map(address, [*memory, out]))), gemm, n, np.dtype(dtype).type(factor))
        assert out[0] == out[-1] == 99
        return out[1:-1].reshape(len(a), -1)

    return multiply


@pytest.mark.few
@pytest.mark.parametrize("dtype", GEMM)
@pytest.mark.parametrize(("inputs", "outputs"), LAYERS)
@pytest.mark.parametrize("kind", PRODUCTS)
def test_products_of_layers_of_any_size(kind, inputs, outputs, dtype, monkeypatch):
    """A small product is made without BLAS, and has the same bits for any number of rows."""
    called, call_gemm = [], flat_memory._call_gemm
    monkeypatch.setattr(flat_memory, "_call_gemm", lambda *a: called.append(1) or call_gemm(*a))
    multiply, rng = product_of(kind, inputs, outputs, dtype), np.random.default_rng(0)
    small = max(inputs, outputs) <= SMALL
    for n in (1, 2, 7, 33):
        size = {"n": n, "inputs": inputs, "outputs": outputs}
        shapes = [[size[name] for name in shape] for shape in PRODUCTS[kind][:2]]
        a, b = (rng.normal(size=shape).astype(dtype) for shape in shapes)
        found, wide = multiply(a, b, 1 / 3), (a.astype("longdouble"), b.astype("longdouble"))
        bound = (a.shape[1] + 2) * np.finfo(dtype).eps * (np.abs(wide[0]) @ np.abs(wide[1]))
        assert (np.abs(found - wide[0] @ wide[1] / 3) <= bound).all()
        if small and kind == "xᵀ dy":
            # Rows of 0 add nothing.
            a, b = np.pad(a, ((0, 0), (0, 5))), np.pad(b, ((0, 5), (0, 0)))
            np.testing.assert_array_equal(found, multiply(a, b, 1 / 3))
        elif small:
            each = [multiply(row[None], b, 1 / 3) for row in a]
            np.testing.assert_array_equal(found, np.vstack(each))
    assert bool(called) != small


@pytest.mark.few(1)
@pytest.mark.parametrize(
    "widths",
    [
        (SMALL, SMALL),
        (SMALL + 1, SMALL),
        pytest.param((SMALL, SMALL + 1), marks=pytest.mark.slow),
    ],
)
def test_networks_on_both_sides_of_the_limit_come_to_what_the_plain_step_does(widths):
    inputs, hidden = widths
    rng, found = np.random.default_rng(0), []
    X, y = rng.normal(size=(60, inputs)), rng.normal(size=(60, 1))
    for options, callbacks in (
        ({"fast": False, "reuse_buffers": False}, []),
        ({"fast": True}, []),
        ({"fast": True}, [lambda event: None]),
    ):
        layers = [gd.Dense(hidden), gd.Tanh(), gd.Dense(hidden), gd.Tanh(), gd.Dense(1)]
        model = gd.Sequential(layers, inputs=inputs, dtype="float64", seed=1)
        trainer = gd.Trainer(model, "mse", gd.SGD(0.05), **options)
        trainer.fit(X, y, batch_size=25, epochs=3, callbacks=callbacks)
        assert trainer.compiled == options["fast"]
        found.append(model.flat_params)
    np.testing.assert_allclose(found[1], found[0], rtol=1e-11, atol=1e-13)
    np.testing.assert_array_equal(found[1], found[2])
