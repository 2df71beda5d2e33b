"""What the parsers of commands are made of: help that is a result, and words that are mistyped.

Whatever a command prints on standard output is a result, its help included, and fails as one.
"""

import argparse
from collections.abc import Callable, Sequence
from typing import Any

from minigd.cli.output import show


def add_command(
    commands: Any,
    name: str,
    usage: str,
    *,
    help: str,
    description: str,
    example: str,
    run: Callable[..., int | None],
) -> argparse.ArgumentParser:
    """Add a command, whose options go to `run` by name; one that is not given has its default."""
    command: argparse.ArgumentParser = commands.add_parser(
        name,
        usage=f"minigd {name} {usage} [options]",
        help=help,
        description=description,
        epilog=f"example: {example}",
        add_help=False,
        argument_default=argparse.SUPPRESS,
    )
    command.add_argument("-h", "--help", action=Show, help=argparse.SUPPRESS)
    command.set_defaults(run=run)
    return command


class Show(argparse.Action):
    """An option that prints a text, by default the help, and fails if it can't be written."""

    def __init__(
        self, option_strings: Sequence[str], dest: str, text: str | None = None, **options: Any
    ) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, **options)
        self.text = text

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Print it and end."""
        show(parser.format_help().rstrip("\n") if self.text is None else self.text)
        parser.exit()
