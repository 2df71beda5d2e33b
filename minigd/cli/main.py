"""The command line, `minigd`. Each command is a thin wrapper around a function of the package.

Each command has a few lines of parser here, with an example, and a function that takes its options
by name. An option that is not given has the default of that function.
"""

import argparse
import contextlib
import os
import shlex
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from minigd.cli import values
from minigd.cli.messages import counted, in_shell, message_of, number
from minigd.cli.options import add_json, add_model_and_data, add_network, add_reading
from minigd.cli.output import discard_unwritten, in_json, show
from minigd.cli.parsing import (
    SHELLS,
    Parser,
    PrintCompletion,
    Show,
    add_command,
    refuse_mistyped,
)
from minigd.cli.processes import first_alone_prints, is_for_another, processes, together
from minigd.distributed.communicator import ALONE
from minigd.errors import Advised, BackendError, DataError
from minigd.progress import log
from minigd.training.interrupts import Handler, Terminated
from minigd.version import __version__

_FAILURES = (ImportError, OSError, ValueError, FloatingPointError, BackendError, MemoryError)
"""Errors that a user can cause. Any other error is a bug of the package, and shows a traceback."""

_FILE_ENDINGS = (".txt", ".csv", ".tsv", ".names", ".dat", ".data")
"""Endings of file names, which names of columns do not have."""


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    top = Parser(
        prog="minigd",
        description="Mini-batch gradient descent from scratch, on NumPy and on CuPy.",
        epilog="example: minigd demo --out picture.png",
        add_help=False,
    )
    top.add_argument("-h", "--help", action=Show, help="show this help message and exit")
    top.add_argument(
        "--version", action=Show, text=f"minigd {__version__}", help="show the version and exit"
    )
    top.add_argument(
        "--print-completion",
        action=PrintCompletion,
        choices=SHELLS,
        metavar="SHELL",
        default=argparse.SUPPRESS,
        help="print what bash, zsh or tcsh needs to complete commands",
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (
        _add_train,
        _add_predict,
        _add_evaluate,
        _add_info,
        _add_plot,
        _add_export,
        _add_race,
        _add_check,
        _add_demo,
    ):
        add(commands)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0, 1 for a failure, 2 for a misuse.

    It is 130 for Ctrl-C, and 143 or 129 if SIGTERM or SIGHUP ended the command.

    >>> main(["demo", "--out", "/no/such/folder/picture.png"])
    1
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    trains = arguments[:1] == ["train"]
    if not trains and is_for_another(arguments):
        return 0
    communicator = processes() if trains else ALONE
    try:
        with first_alone_prints(communicator):
            return _run(arguments)
    except BrokenPipeError:
        # The reader of `minigd predict ... | head` closed the pipe and needs no message. The exit
        # code shows that not everything was written.
        return 1
    except _FAILURES as error:
        if communicator.speaks_of(error):
            _print_error(message_of(error))
        return 1
    except (KeyboardInterrupt, Terminated) as interrupt:
        if not communicator.speaks_of(interrupt):
            return int(getattr(interrupt, "code", 130))
        message = "" if isinstance(interrupt, Terminated) else str(interrupt)
        _print_error(message or "interrupted")
        if getattr(interrupt, "resumable", False):
            again = [word for word in arguments if word != "--resume"]
            log(f"resume with: {shlex.join([*_program(), *again, '--resume'])}")
        return int(getattr(interrupt, "code", 130))
    finally:
        discard_unwritten()


def _run(arguments: list[str], table: Any = None) -> int:
    """Run a command; if it can't read a table as it is, propose another command.

    The `table` is that of the previous command, which may have been read already.
    """
    options = _options(arguments)
    with contextlib.ExitStack() as stack:
        if options["command"] == "train":
            stack.enter_context(together(processes()))
        if "data" in options:
            options["data"] = table or stack.enter_context(_given_table(options))
        try:
            return _call(dict(options))
        except Advised as error:
            if arguments[0] not in ("train", "race"):
                raise
            from minigd.cli.proposal import propose

            def parse(words: list[str]) -> dict[str, Any]:
                return {**_options(words), "data": options["data"]}

            words = propose([w for w in arguments if w != "--guess"], parse, error)
            if words is None:
                raise
            _print_error(message_of(error))
            log(shlex.join(["minigd", *words]))
            # If there are several processes, all others have ended by now.
            if "--guess" not in arguments or processes().size > 1:
                return 1
            return _run(words, options["data"])


def _call(options: dict[str, Any]) -> int:
    """Run a command with these options."""
    run = options.pop("run")
    options.pop("guess", None)
    del options["command"]
    _refuse_lost_file(*options.get("columns", ()))
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        with Handler():
            return run(**options) or 0


def _given_table(options: dict[str, Any]) -> Any:
    """Return a context with the files that a command reads; it may keep standard input."""
    from minigd.cli.table_files import given_table

    if "-" in options["data"] and options["command"] == "train" and processes().size > 1:
        raise DataError(
            "of several processes only the first one gets standard input, -: write the table to a "
            "file that all of them can read"
        )
    return given_table(options["data"], options.get("out"), options["command"] == "predict")


def _options(words: list[str]) -> dict[str, Any]:
    top = parser()
    refuse_mistyped(top, words)
    options = vars(top.parse_args(words))
    # A shell does not expand the ~ in --out=~/m.npz.
    paths = {name: options[name] for name in ("model", "out", "path", "onnx") if options.get(name)}
    return {**options, **{name: os.path.expanduser(path) for name, path in paths.items()}}


# The commands --------------------------------------------------------------------------------


def _add_train(commands: Any) -> None:
    command = add_command(
        commands,
        "train",
        "DATA --target NAME",
        help="train a network on a table, and write it to a file",
        description="Train a network on a CSV, Parquet or .npy file, larger than memory or not",
        example="minigd train homes.csv --target price --exclude id --out homes.npz",
        run=_train,
    )
    add_network(command)
    add = command.add_argument
    add("--batch-size", metavar="N", type=values.integer, help="rows per update (default: 100)")
    add("--epochs", metavar="N", type=values.integer,
        help="at most this many passes (default: 60, more for few rows)")  # fmt: skip
    add("--learning-rate", metavar="R", type=values.positive,
        help="initial learning rate of Adam (default: 0.002)")  # fmt: skip
    add("--out", metavar="FILE", default="model.npz", help="(default: %(default)s)")
    group = command.add_argument_group(
        "what is held out and measured",
        "a fifth of each class; --group A holds out whole groups, --time A the latest rows; "
        "--metrics f1,roc_auc; --class-weight balanced or no=1,yes=9; --seed N; --resume after "
        "Ctrl-C; --json for programs",
    )
    add = group.add_argument
    add("--group", help=argparse.SUPPRESS)
    add("--time", help=argparse.SUPPRESS)
    add("--metrics", type=values.metrics, action="extend", help=argparse.SUPPRESS)
    add("--class-weight", type=values.class_weights, help=argparse.SUPPRESS)
    add("--seed", type=values.seed, help=argparse.SUPPRESS)
    add("--resume", action="store_true", help=argparse.SUPPRESS)
    add("--json", action="store_true", help=argparse.SUPPRESS)


def _train(*, out: str, json: bool = False, **options: Any) -> None:
    from minigd.cli.train import train

    options["comm"] = processes()
    fields = {name: _fields_of(name, options) for name in ("reading", "columns", "split")}
    made: list[Any] = []
    train(out=out, report=made.append, **fields, **options)
    if options["comm"].rank:
        return
    # The model is saved. A report that can't be printed does not make the training a failure.
    with contextlib.suppress(OSError):
        show(in_json(made[0]._asdict()) if json else str(made[0]))


def _add_predict(commands: Any) -> None:
    command = add_command(
        commands,
        "predict",
        "MODEL DATA [--out FILE]",
        help="write a prediction for each row of a table",
        description="Write a CSV with a line for each row of DATA: the prediction, and for classes "
        "also the probability of each. Columns are found by name; others are ignored.",
        example="minigd predict homes.npz new.csv --out prices.csv",
        run=_predict,
    )
    add_model_and_data(command)
    command.add_argument("--out", metavar="FILE", help="(default: standard output)")
    command.add_argument("--raw", action="store_true",
        help="put no ' before classes such as =A1, which spreadsheets run")  # fmt: skip


def _predict(**options: Any) -> None:
    from minigd.cli.predict import predict

    predict(**options)


def _add_evaluate(commands: Any) -> None:
    command = add_command(
        commands,
        "evaluate",
        "MODEL DATA",
        help="print loss and metrics of a model on a table",
        description="Print loss and metrics of a model on a table that includes the target.",
        example="minigd evaluate homes.npz sold.csv",
        run=_evaluate,
    )
    add_model_and_data(command)
    add = command.add_argument
    add("--target", metavar="NAME", help="the target column, if its name differs here")
    add("--metrics", metavar="A,B", type=values.metrics, action="extend",
        help="what to print besides the loss (default: as in training)")  # fmt: skip
    add_json(command)


def _evaluate(json: bool = False, **options: Any) -> None:
    from minigd.cli.evaluate import evaluate

    rows, values = evaluate(**options)
    if json:
        show(in_json({"rows": rows, "scores": values}))
        return
    show(f"{counted(rows, 'row')}: {'  '.join(f'{n} {number(v)}' for n, v in values.items())}")


def _add_info(commands: Any) -> None:
    def run(path: str | None = None, leftovers: bool = False, json: bool = False) -> None:
        if path is None and not leftovers:
            info.error("the following arguments are required: MODEL")
        _info(path, leftovers, json)

    info = add_command(
        commands,
        "info",
        "MODEL",
        help="print what is in a model file",
        description="Print layers, columns, classes and training history of a model file.",
        example="minigd info homes.npz",
        run=run,
    )
    info.add_argument("path", metavar="MODEL", nargs="?", help="a model or a checkpoint")
    info.add_argument("--leftovers", action="store_true",
        help="list files that killed runs left next to MODEL, or in this folder")  # fmt: skip
    add_json(info)


def _info(path: str | None, left: bool, json: bool) -> None:
    from minigd.cli.info import details, find_leftovers, info, leftovers

    if json:
        show(in_json(find_leftovers(path or ".") if left else details(path or "")))
    else:
        show(leftovers(path or ".") if left else info(path or ""))


def _add_plot(commands: Any) -> None:
    command = add_command(
        commands,
        "plot",
        "MODEL [DATA] --out FILE",
        help="draw a model's training, and its predictions on a table",
        description="Draw the loss and each metric by epoch. With DATA, which includes the "
        "target, also draw predicted against true numbers, or a confusion matrix.",
        example="minigd plot homes.npz sold.csv --out homes.png",
        run=_plot,
    )
    add = command.add_argument
    add("model", metavar="MODEL", help="a file that minigd train wrote")
    add("data", metavar="DATA", nargs="*", help="as for predict")
    add("--out", metavar="FILE", required=True, help="a picture: .png, .svg, .pdf")
    add("--target", metavar="NAME", help="the target column, if its name differs here")
    add_reading(command)


def _plot(*, out: str, **options: Any) -> None:
    from minigd.cli.plot import plot

    plot(out=out, **options)
    show(f"picture: {os.path.abspath(out)}")


def _add_export(commands: Any) -> None:
    command = add_command(
        commands,
        "export",
        "MODEL --onnx FILE",
        help="write a model for programs without minigd",
        description="Write an ONNX file of a model. Its inputs are the raw columns of the table: "
        "numbers, with NaN for a missing one, and texts.",
        example="minigd export homes.npz --onnx homes.onnx",
        run=_export,
    )
    command.add_argument("model", metavar="MODEL", help="a file that minigd train wrote")
    command.add_argument("--onnx", metavar="FILE", required=True, help="the file to write")


def _export(**options: Any) -> None:
    from minigd.cli.export import export

    show(export(**options))


def _add_race(commands: Any) -> None:
    command = add_command(
        commands,
        "race",
        "DATA --target NAME",
        help="race batch sizes against the clock",
        description="Train with several batch sizes for the same seconds, each at its best "
        "learning rate, and print the time each takes to reach a loss on rows held out.",
        example="minigd race homes.csv --target price --batch-sizes 1,100,all",
        run=_race,
    )
    add_network(command)
    add = command.add_argument
    add("--batch-sizes", metavar="N,N", type=values.sizes,
        help="rows per update, or all (default: 1,32,500,all)")  # fmt: skip
    add("--seconds", metavar="S", type=values.positive, help="of training per run (default: 5)")
    add("--seeds", metavar="N", type=values.integer, help="runs per batch size (default: 5)")
    add("--out", metavar="FILE", help="a picture of loss by second")
    add_json(command)


def _race(*, out: str | None = None, json: bool = False, **options: Any) -> None:
    from minigd.cli.paths import check_picture, save_picture
    from minigd.cli.race import race

    if out is not None:
        check_picture(out)
    fields = {name: _fields_of(name, options) for name in ("reading", "columns")}
    found = race(**fields, **options)
    if out is not None:
        from matplotlib.figure import Figure

        figure = Figure(layout="constrained")
        found.plot(ax=figure.subplots())
        save_picture(figure, out)
    if json:
        show(in_json(found.summary()))
        return
    show(str(found))
    if out is not None:
        show(f"\npicture: {os.path.abspath(out)}")


def _add_check(commands: Any) -> None:
    check = add_command(
        commands,
        "check",
        "FILE",
        help="check the gradients of the layers and losses in a file",
        description="Compare each gradient written by hand with a numerical one, and print what a "
        "wrong one looks like. Exit code 0: all are right; 1: one is wrong; 2: nothing to check.",
        example="minigd check mylayer.py",
        run=_check,
    )
    check.add_argument("path", metavar="FILE", help=argparse.SUPPRESS)


def _check(path: str) -> int:
    from minigd.cli.check import check

    return check(path)


def _add_demo(commands: Any) -> None:
    demo = add_command(
        commands,
        "demo",
        "[--out FILE]",
        help="train two networks, print the results, and save a picture",
        description="Batch size 1 against 100 on Gaussian quantiles; a classifier of handwritten "
        "digits; a picture of the decision boundary. Takes some seconds, downloads nothing.",
        example="minigd demo --out picture.png",
        run=_demo,
    )
    demo.add_argument(
        "--out",
        metavar="FILE",
        default="minigd-demo.png",
        help="the picture to write (default: %(default)s in this folder)",
    )


def _demo(out: str) -> None:
    from minigd.cli import demo

    demo.main(out)


# What commands share -------------------------------------------------------------------------


def _fields_of(name: str, options: dict[str, Any]) -> Any:
    """Take the given fields of `Reading`, `Columns` or `Split` from the options."""
    from minigd.cli.held_out import Split
    from minigd.cli.tables import Columns, Reading

    kind: Any = {"reading": Reading, "columns": Columns, "split": Split}[name]
    given = {field: options.pop(field) for field in kind._fields if field in options}
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in given.items()})


def _refuse_lost_file(name: str = "", *more: str) -> None:
    """Refuse names of columns that look like the name of a file that does not exist."""
    ending = os.path.splitext(name)[1].lower()
    if not more and (ending in _FILE_ENDINGS or name.startswith(("/", "./", "../"))):
        raise FileNotFoundError(
            f"there is no file {name!r} for --columns: give the names themselves, A,B, or a file "
            "of them"
        )


# Errors and warnings -------------------------------------------------------------------------


def _print_error(message: str) -> None:
    log(f"minigd: {' '.join(message.split())}")


def _show_warning(message: Warning | str, *place: Any, **kind: Any) -> None:
    _print_error(message.write(in_shell) if isinstance(message, Advised) else str(message))


def _program() -> list[str]:
    started = getattr(sys.modules["__main__"], "__spec__", None)
    as_module = started is not None and started.name == "minigd.__main__"
    return ["python", "-m", "minigd"] if as_module else ["minigd"]
