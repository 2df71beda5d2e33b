"""What a training came to, in words and figures for people."""

import os

from minigd.cli.messages import counted, number
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
