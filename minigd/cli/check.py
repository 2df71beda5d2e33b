"""`minigd check`: the layers and losses of a file, one line each."""

from minigd.checks.user_file import check_layer_or_loss, layers_and_losses_in
from minigd.cli.output import show
from minigd.progress import log


def check(path: str) -> int:
    """Check a file, print a line for each layer and loss, and return the exit code.

    0: all are right; 1: one is wrong; 2: the file is missing, or something in it can't be checked,
    or there is nothing to check.

    >>> check("/no/such/file.py")
    2
    """
    try:
        things = layers_and_losses_in(path)
    except (OSError, ValueError) as error:
        log(f"minigd check: {error}")
        return 2
    verdicts = []
    for name, thing in things:
        verdicts.append(check_layer_or_loss(name, thing))
        show(str(verdicts[-1]))
    if any(verdict.checked and not verdict.right for verdict in verdicts):
        return 1
    return 0 if all(verdict.checked for verdict in verdicts) else 2
