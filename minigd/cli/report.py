"""What a training came to, in words and figures for people."""

import os

from minigd.cli.messages import counted
from minigd.cli.trained import Trained


def report(trained: Trained, out: str | os.PathLike[str]) -> str:
    """Return what a training came to, in a few lines."""
    history, best = trained.history, trained.best
    names = [name for name in history if name.startswith("val_")]
    figures = [f"{name.removeprefix('val_')} {number(history[name][best])}" for name in names]
    updates = counted(int(history["updates"][-1]), "update")
    seconds = sum(history["seconds"])
    return (
        f"held out: {'  '.join(figures)}\n"
        f"best of {counted(history.epochs, 'epoch')}: {best + 1}  ({updates}, "
        f"{seconds:.1f} seconds)\n"
        f"saved: {os.fspath(out)}"
    )


def number(value: float) -> str:
    """Return a figure for people: 0.8712, 66,501, 2.684e+29.

    >>> number(0.87119), number(66501.2), number(2.6842e29)
    ('0.8712', '66,501', '2.684e+29')
    """
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e15 else f"{value:.4g}"
