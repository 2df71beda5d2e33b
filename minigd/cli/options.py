"""Options that several commands have."""

import argparse

from minigd.cli import values
from minigd.cli.messages import option
from minigd.cli.parsing import Merge


def add_network(command: argparse.ArgumentParser) -> None:
    """Add the options of a table, the network to train on it, and the device."""
    add = command.add_argument
    add("data", metavar="DATA", nargs="+", help=argparse.SUPPRESS)
    add("--target", metavar="NAME", required=True, help="the column to predict")
    add("--task", choices=["classification", "regression"], metavar="T",
        help="classification or regression (default: from the target)")  # fmt: skip
    add("--hidden", metavar="N,N", type=values.widths,
        help="hidden layers, 0 for none (default: 100,100)")  # fmt: skip
    add("--backend", choices=["numpy", "cupy"], metavar="B",
        help="numpy, or cupy for a GPU (default: numpy)")  # fmt: skip
    add_columns(command)
    add_reading(command)


def add_columns(command: argparse.ArgumentParser) -> None:
    """Add the options of `Columns`; their help must fit on one screen with the rest."""
    group = command.add_argument_group(
        "what columns become",
        "--exclude A,B; --missing mean, median, flag, drop, or A=0,B=mean; --categories A,B of "
        "numbers; "
        "--min-count N rows per level; --hashed A=32; --log A,B for heavy tails; "
        "--dates A=%d/%m/%Y; --guess runs proposals",
    )
    add = group.add_argument
    add("--exclude", type=values.names, action="extend", help=argparse.SUPPRESS)
    add("--guess", action="store_true", help=argparse.SUPPRESS)
    add("--missing", type=values.policies, action=Merge, help=argparse.SUPPRESS)
    add("--categories", type=values.names, action="extend", help=argparse.SUPPRESS)
    add("--min-count", type=values.integer, help=argparse.SUPPRESS)
    add("--hashed", type=values.widths_by_column, action=Merge, help=argparse.SUPPRESS)
    add("--dates", type=values.by_column, action=Merge, help=argparse.SUPPRESS)
    add(option("logs"), dest="logs", type=values.names, action="extend", help=argparse.SUPPRESS)


def add_model_and_data(command: argparse.ArgumentParser) -> None:
    """Add the options of a model, of its rows, and of how these are written."""
    command.add_argument("model", metavar="MODEL", help="a file that minigd train wrote")
    command.add_argument("data", metavar="DATA", nargs="+",
        help="CSV, Parquet or .npy files, a folder of them, or -")  # fmt: skip
    add_reading(command)


def add_json(command: argparse.ArgumentParser) -> None:
    """Add the option for a result as data."""
    command.add_argument("--json", action="store_true", help="print one JSON object")


def add_reading(command: argparse.ArgumentParser) -> None:
    """Add the options of `Reading`; their help has three lines, to fit on one screen."""
    group = command.add_argument_group(
        "how the file is written",
        "--no-header if it has none, or --columns A,B or a file of names; --separator ';', tab or "
        "blanks; --compression gzip, or none; "
        f"--na '?', {option('keep_default_na')} if NA is a value; "
        "--decimal , and --thousands . of numbers; --skip-lines N at the top; --comment '#'; "
        "--encoding cp1252; --strip . off the end of texts",
    )
    add = group.add_argument
    add("--columns", type=values.columns, help=argparse.SUPPRESS)
    add(option("header"), dest="header", action="store_false", help=argparse.SUPPRESS)
    add("--separator", type=values.separator, help=argparse.SUPPRESS)
    add("--na", type=values.names, action="extend", help=argparse.SUPPRESS)
    add(option("keep_default_na"), dest="keep_default_na", action="store_false",
        help=argparse.SUPPRESS)  # fmt: skip
    add("--skip-lines", type=values.count, help=argparse.SUPPRESS)
    add("--encoding", type=values.encoding, help=argparse.SUPPRESS)
    add("--comment", help=argparse.SUPPRESS)
    add("--decimal", help=argparse.SUPPRESS)
    add("--thousands", help=argparse.SUPPRESS)
    add("--strip", help=argparse.SUPPRESS)
    add("--compression", type=values.compression, help=argparse.SUPPRESS)
