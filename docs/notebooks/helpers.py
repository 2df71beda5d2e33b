"""What the notebooks of the course share: styles, quotations of minigd's code, pictures, data.

A notebook imports this file from its own folder, where Jupyter starts it.
"""

import ast
import atexit
import base64
import inspect
import io
import os
import tempfile
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import display
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from threadpoolctl import threadpool_limits

import minigd as gd

# The matrices of the course are small: one core is enough for their products, and times are steady.
threadpool_limits(1)

# The colors of Okabe and Ito, which color-blind eyes can tell apart. Lines and markers differ too.
BLACK, BLUE, ORANGE, GREEN = "#000000", "#0072b2", "#e69f00", "#009e73"
RED, PINK, GREY = "#d55e00", "#cc79a7", "#666666"

plt.rcParams.update(
    {
        "figure.dpi": 80,
        "figure.figsize": (7, 3.4),
        "figure.constrained_layout.use": True,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.alpha": 0.3,
    }
)


def show(figure: Figure, alt: str) -> None:
    """Show a figure as a picture with a text for readers who can't see it."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=figure.dpi, bbox_inches="tight")
    plt.close(figure)
    alt = " ".join(alt.split())
    png = base64.b64encode(picture.getvalue()).decode()
    data = {"image/png": png, "text/plain": alt}
    display(data, raw=True, metadata={"image/png": {"alt": alt}})


def quote(thing: Any, first: str | None = None, last: str | None = None) -> None:
    """Print code of minigd from the installed file: a function or class without its docstring.

    With `first`, only the lines from the one that contains it to the one that contains `last`.
    """
    thing = inspect.unwrap(thing)
    name = getattr(thing, "__qualname__", "")
    path = Path(inspect.getsourcefile(thing) or "").relative_to(Path(gd.__file__).parents[1])
    lines = textwrap.dedent(inspect.getsource(thing)).splitlines()
    if first is None:
        node = ast.parse("\n".join(lines)).body[0]
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node):
            del lines[node.body[0].lineno - 1 : node.body[0].end_lineno]
    else:
        start = next(i for i, line in enumerate(lines) if first in line)
        stop = next(i for i in range(start, len(lines)) if (last or first) in lines[i])
        lines = textwrap.dedent("\n".join(lines[start : stop + 1])).splitlines()
    print(f"# {path.as_posix()}: {name}", *lines, sep="\n")


def refused(action: Callable[[], Any], hidden: str = "") -> None:
    """Run something that must fail, and print the error, without the text `hidden`."""
    try:
        action()
    except Exception as error:
        message = f"{type(error).__name__}: {error}".replace(hidden, "")
        print(textwrap.fill(message, 100, break_on_hyphens=False))
    else:
        raise AssertionError("this should have failed")


def seconds(action: Callable[[], Any], repeats: int = 3) -> float:
    """Return the shortest time of a few runs, in seconds."""
    return alternate([action], repeats)[0]


def alternate(actions: list[Callable[[], Any]], repeats: int) -> list[float]:
    """Run several actions in turn, several times; return the shortest time of each, in seconds."""
    best = [float("inf")] * len(actions)
    for _ in range(repeats):
        for which, action in enumerate(actions):
            start = time.perf_counter()
            action()
            best[which] = min(best[which], time.perf_counter() - start)
    return best


# Drawings -----------------------------------------------------------------------------------------


def draw_graph(
    nodes: dict[str, tuple[float, float]], arrows: list[tuple[str, str, str, str]]
) -> Figure:
    """Draw a computation graph: boxes at places, and arrows with labels forward and backward.

    An arrow is (from, to, what goes forward, what comes back); the way back is drawn dashed.
    """
    places = {name: np.array(place) for name, place in nodes.items()}
    right = max(x for x, _ in nodes.values())
    low, high = (f(y for _, y in nodes.values()) for f in (min, max))
    figure, axes = plt.subplots(figsize=(1.25 * (right + 1.2), 1.25 * (high - low + 1.1)))
    axes.axis("off")
    for name, place in places.items():
        axes.text(
            *place, name.strip(), ha="center", va="center", fontsize=12,
            bbox={"boxstyle": "round,pad=0.45", "facecolor": "white", "edgecolor": BLACK},
        )  # fmt: skip
    for start, end, forward, back in arrows:
        a, b = places[start], places[end]
        along = (b - a) / np.linalg.norm(b - a)
        gap = (0.45 * abs(along[0]) + 0.3 * abs(along[1])) * along
        side = 0.08 * np.array([-along[1], along[0]])
        ways = [(a + gap + side, b - gap + side, BLACK, "-", forward, 1)]
        if back:
            ways.append((b - gap - side, a + gap - side, BLUE, "--", back, -1))
        for tail, head, color, style, label, way in ways:
            look = {"arrowstyle": "->", "color": color, "linestyle": style, "linewidth": 1.4}
            axes.annotate("", head, tail, arrowprops=look)
            place = (tail + head) / 2 + 1.4 * way * side
            # Beside a steep arrow a label begins or ends, beside a level one it is centered.
            h = "center" if abs(along[1]) < 0.3 else "left" if way * side[0] > 0 else "right"
            v = "center" if h != "center" else "bottom" if way * side[1] > 0 else "top"
            axes.text(*place, label, color=color, ha=h, va=v, fontsize=10)
    axes.set(xlim=(-0.6, right + 0.6), ylim=(low - 0.5, high + 0.6), aspect="equal")
    return figure


def draw_shapes(rows: list[list[Any]]) -> Figure:
    """Draw lines of matrices: (name, shape in words, rows, columns, color), or a sign between."""
    figure, axes = plt.subplots(figsize=(6, 2.1 * len(rows)))
    axes.axis("off")
    for line, parts in enumerate(rows):
        left, middle = 0.0, -6.6 * line
        for part in parts:
            if isinstance(part, str):
                room = 0.9 + 0.22 * len(part)
                axes.text(left + room / 2, middle, part, ha="center", va="center", fontsize=14)
                left += room
            else:
                left += draw_matrix(axes, left, middle, *part)
        axes.plot(left, middle, alpha=0)
    axes.set(ylim=(3.1 - 6.6 * len(rows), 3.0), aspect="equal")
    return figure


def draw_matrix(
    axes: Axes, left: float, middle: float, name: str, shape: str, rows: int, columns: int,
    color: str = "white",
) -> float:  # fmt: skip
    """Draw a matrix as a box with its name and its shape, and return its width."""
    corner = (left, middle - rows / 2)
    axes.add_patch(plt.Rectangle(corner, columns, rows, facecolor=color, edgecolor=BLACK))
    axes.text(left + columns / 2, middle, name, ha="center", va="center", fontsize=13)
    below = {"ha": "center", "va": "top", "fontsize": 9}
    axes.text(left + columns / 2, middle - rows / 2 - 0.25, shape, **below)
    return float(columns)


def draw_decisions(axes: Axes, probabilities: Callable[[Any], Any], X: Any, labels: Any) -> Any:
    """Draw which class a model of two inputs would choose at each point, and the rows over it."""
    edge = 1.1 * np.abs(X).max()
    axis = np.linspace(-edge, edge, 150)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    chosen = probabilities(grid).argmax(axis=1).reshape(150, 150)
    colors = ["#d9e8f2", "#fdf0d5", "#d5ede5"]
    axes.contourf(axis, axis, chosen, levels=[-0.5, 0.5, 1.5, 2.5], colors=colors)
    for label, (marker, color) in enumerate(zip("o^s", (BLUE, ORANGE, GREEN), strict=True)):
        points = X[labels == label][:150].T
        axes.scatter(*points, s=14, marker=marker, color=color, label=f"class {label}")
    axes.set(aspect="equal", xlabel="$x_1$", ylabel="$x_2$")
    axes.grid(False)


# Data ---------------------------------------------------------------------------------------------

# Files by their content: another file under the same address is refused.
FILES = {
    "mnist.npz": (
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz",
        "sha256:731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1",
    ),
    "kc_house_data.csv": (
        "https://raw.githubusercontent.com/YichaoW/info474a3/"
        "0f3ad6cf710cbd4d01e31fd1f818ec089a5d6829/data/kc_house_data.csv",
        "sha256:d0875baa0251b21d4bdc9d2ae940a4fe0bb6009824f23dd0e2a5b2bf04557b7e",
    ),
}


def fetched(name: str) -> Path | None:
    """Return a file of `FILES`, downloaded once by pooch, or None where that is not possible.

    It is not possible without pooch (``pip install "minigd[course]"``) or without a network.
    MINIGD_OFFLINE=1 in the environment says not to try.
    """
    if os.environ.get("MINIGD_OFFLINE"):
        return None
    try:
        import pooch
    except ImportError:
        return None
    address, known_hash = FILES[name]
    try:
        return Path(pooch.retrieve(address, known_hash, fname=name, path=pooch.os_cache("minigd")))
    except OSError:
        return None


def mnist(rows: int) -> tuple[Any, Any, str]:
    """Return images (n, 784) from 0 to 1, their digits, and where they are from.

    The stand-in is the digits of scikit-learn, enlarged from 8 x 8 to 28 x 28 pixels.
    """
    path = fetched("mnist.npz")
    if path is not None:
        with np.load(path) as file:
            images, digits = file["x_train"][:rows] / 255, file["y_train"][:rows]
        return images.reshape(len(images), 784).astype("float32"), digits.astype(int), "MNIST"
    from sklearn.datasets import load_digits

    small, digits = load_digits(return_X_y=True)
    large = np.kron(small.reshape(-1, 8, 8) / 16, np.ones((3, 3)))
    images = np.pad(large, [(0, 0), (2, 2), (2, 2)]).reshape(-1, 784)
    return images[:rows].astype("float32"), digits[:rows], "a stand-in for MNIST"


def digits() -> tuple[Any, Any]:
    """Return the 1,797 small images of scikit-learn, (1797, 64) from 0 to 1, and their digits."""
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    return (X / 16).astype("float32"), y


def spirals(rows: int, classes: int, seed: int = 0) -> tuple[Any, Any]:
    """Return points in the plane on spirals, one arm per class, and their classes."""
    rng = np.random.default_rng(seed)
    labels = np.arange(rows) % classes
    radius = rng.uniform(0.1, 1.0, rows)
    angle = 4.5 * radius + 2 * np.pi * labels / classes
    X = np.column_stack([radius * np.cos(angle), radius * np.sin(angle)])
    return X + 0.03 * rng.normal(size=(rows, 2)), labels


def own_folder() -> Path:
    """Return a new folder for what a notebook writes, which goes when the notebook ends."""
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    return Path(folder.name)


def king_county(folder: Path) -> Path:
    """Return the file of house sales in King County, or a made-up one like it in `folder`."""
    path = fetched("kc_house_data.csv")
    if path is None:
        path = folder / "made_up_house_data.csv"
        make_housing(path, 20_000)
    return path


def make_housing(path: Path, rows: int, seed: int = 0) -> None:
    """Write a file of plausible house sales, with columns of the real one."""
    import pandas as pd

    rng = np.random.default_rng(seed)
    grade = np.clip(np.rint(rng.normal(7.6, 1.2, rows)), 4, 13).astype(int)
    area = np.exp(rng.normal(7.35, 0.32, rows) + 0.12 * (grade - 7))
    area = 10 * np.rint(np.clip(area, 400, 9000) / 10).astype(int)
    bedrooms = np.clip(np.rint(area / 900 + rng.normal(1.3, 0.7, rows)), 1, 9).astype(int)
    bathrooms = np.clip(np.rint(4 * (area / 1300 + rng.normal(0.5, 0.4, rows))) / 4, 0.75, 7)
    lot = np.rint(np.exp(rng.normal(8.95, 0.75, rows))).astype(int) + area
    built = np.clip(rng.normal(1972, 27, rows).astype(int), 1900, 2015)
    floors = rng.choice([1, 1.5, 2, 3], rows, p=[0.5, 0.1, 0.37, 0.03])
    water = (rng.random(rows) < 0.01).astype(int)
    condition = rng.choice([1, 2, 3, 4, 5], rows, p=[0.01, 0.02, 0.65, 0.24, 0.08])
    part = rng.integers(0, 24, rows)  # of town
    worth = np.random.default_rng(1).normal(0, 85_000, 24)[part]
    price = (
        470_000
        + 165 * (area - 1900)
        + 62_000 * (grade - 7.6)
        - 1_400 * (built - 1972)
        + 24_000 * (condition - 3)
        + 430_000 * water
        + 0.5 * (lot - 9000)
        + worth
    )
    price = np.clip(price * np.exp(rng.normal(0, 0.17, rows)), 78_000, None)
    days = pd.Timestamp("2014-05-02") + pd.to_timedelta(rng.integers(0, 390, rows), unit="D")
    pd.DataFrame(
        {
            "id": (1_000_000_000 + rng.permutation(rows) * 37).astype(str),
            "date": days.strftime("%Y%m%dT000000"),
            "price": 500 * np.rint(price / 500).astype(int),
            "bedrooms": bedrooms,
            "bathrooms": bathrooms,
            "sqft_living": area,
            "sqft_lot": lot,
            "floors": floors,
            "waterfront": water,
            "condition": condition,
            "grade": grade,
            "yr_built": built,
            "zipcode": (98_001 + 7 * part).astype(str),
        }
    ).to_csv(path, index=False, quoting=2, lineterminator="\n")  # 2: text is quoted
