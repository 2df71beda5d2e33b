"""The command line, `minigd`. Each command is a thin door to a function of the package."""

import argparse
import os
import sys
from collections.abc import Sequence

from minigd.version import __version__


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    top = argparse.ArgumentParser(
        prog="minigd",
        description="Mini-batch gradient descent from scratch, on NumPy and on CuPy.",
        epilog="example: minigd demo --out picture.png",
    )
    top.add_argument("--version", action="version", version=f"minigd {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    demo = commands.add_parser(
        "demo",
        help="train two networks, print what came of it, and save a picture",
        description="Batch size 1 against 100 on Gaussian quantiles; a classifier of handwritten "
        "digits; a picture of the decision boundary. Takes some seconds, downloads nothing.",
    )
    demo.add_argument(
        "--out",
        metavar="FILE",
        default="minigd-demo.png",
        help="where the picture goes (default: %(default)s in this folder)",
    )
    check = commands.add_parser(
        "check",
        help="check the gradients of the layers and losses in a file of your own",
        description="Compares each gradient written by hand with a numerical one, and says what a "
        "wrong one looks like. Exit code 0: all are right; 1: one is wrong; 2: nothing to check.",
    )
    check.add_argument("file", metavar="FILE", help="a file of Python, mylayer.py")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0, 1 for a failure, 2 for a misuse.

    >>> main(["demo", "--out", "/no/such/folder/picture.png"])
    1
    """
    options = parser().parse_args(arguments)
    try:
        if options.command == "check":
            from minigd import check

            return check.main(options.file)
        from minigd import demo

        demo.main(options.out)
        sys.stdout.flush()
    except BrokenPipeError:
        # A reader that has seen enough, `minigd demo | head`, is no failure; what Python would
        # still flush at its end goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ImportError, OSError) as error:
        print(f"minigd: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("minigd: interrupted", file=sys.stderr)
        return 130
    return 0
