"""Building blocks of the command parsers: help as a result, and proposals for mistyped words.

Everything that a command prints on standard output is a result, even its help. Failing to print it
is an error.
"""

import argparse
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

from minigd.backends.on_demand import optional
from minigd.cli.output import show
from minigd.errors import closest, did_you_mean, escape_controls

SHELLS = ("bash", "zsh", "tcsh")
"""Shells for which completion is printed."""

_FILES = ("data", "model", "path", "out", "columns")  # arguments completed by file names


class Help(argparse.HelpFormatter):
    """Help whose lines break neither within an option nor between an option and its value."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        kept = re.sub("(--[a-z-]+) ", rf"\1{_BLANK}", text).replace("-", _HYPHEN)
        filled = super()._fill_text(kept, width, indent)
        return filled.replace(_HYPHEN, "-").replace(_BLANK, " ")


_HYPHEN, _BLANK = "\u2011", "\u2060"  # a space at which no line breaks


class Parser(argparse.ArgumentParser):
    """A parser whose errors spell out control characters, which names of files may hold."""

    def error(self, message: str) -> NoReturn:
        """Print what is wrong with the words, and exit with code 2."""
        super().error(escape_controls(message))


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
    """Add a command, which passes the given options to `run` by name."""
    command: argparse.ArgumentParser = commands.add_parser(
        name,
        usage=f"minigd {name} {usage} [options]",
        help=help,
        description=description,
        epilog=f"example: {example}",
        add_help=False,
        argument_default=argparse.SUPPRESS,
        formatter_class=Help,
    )
    command.add_argument("-h", "--help", action=Show, help=argparse.SUPPRESS)
    command.set_defaults(run=run)
    return command


class Show(argparse.Action):
    """An option that prints a text, by default the help; it fails if that can't be written."""

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


class Merge(argparse.Action):
    """An option whose values by name are added to those given before."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Add them."""
        setattr(namespace, self.dest, {**getattr(namespace, self.dest, {}), **values})


class PrintCompletion(argparse.Action):
    """An option that prints what a shell needs to complete commands, options and files."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Print it and end."""
        shtab = optional("shtab", "shell completion")
        for action in _all_actions(parser):
            # Options that share a line of the help are completed too.
            action.help = "" if action.help == argparse.SUPPRESS else action.help
            if action.dest in _FILES and action.nargs != 0:
                action.complete = shtab.FILE  # type: ignore[attr-defined]
        show(shtab.complete(parser, shell=values))
        parser.exit()


def commands_of(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Return the parsers of the commands, by name."""
    kinds = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    return dict(next(kinds).choices)


def _all_actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for one in (parser, *commands_of(parser).values()):
        yield from one._actions


def refuse_mistyped(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    """Exit with a message if a command or an option does not exist, and propose the closest one."""
    commands = commands_of(parser)
    if not words or words[0].startswith("-"):
        return
    name = words[0]
    if name not in commands:
        known = ", ".join(commands)
        meant = did_you_mean(name, commands)
        parser.error(f"there is no command {name!r}; the commands are {known}{meant}")
    command = commands[name]
    options = [o for action in command._actions for o in action.option_strings]
    for word in words[1:]:
        if word == "--":
            return
        given = word.partition("=")[0]
        begins = any(option.startswith(given) for option in options)
        if re.match(r"--?[A-Za-z]{2}", given) and not begins:
            near = closest(given.lstrip("-"), [option.lstrip("-") for option in options])
            meant = "" if near is None else f"; did you mean '--{near}'?"
            command.error(f"minigd {name} has no option {given}{meant}")
