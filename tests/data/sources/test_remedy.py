"""An error carries its remedy as data; Python and the shell each write it in their own way."""

import pickle
import warnings

import pytest

import minigd as gd
from minigd.data.tables.remedy import Advised, Remedy, TableError, TableWarning, in_python

LEAVE_OUT = Remedy("leave it out with {}", {"exclude": ["a b", "c"]})
CONVERT = Remedy("use ParquetSource", shell="let its name end in .parquet")
MARK = Remedy("say {}", {"separator": "\t", "skip_lines": 2})
NAMES = Remedy("name them with {}", {"columns": [...]})
PLAIN = Remedy("mend the line {x}")


def unknown(options):
    return None


def test_python_reads_arguments():
    assert in_python(MARK.options) == r"separator='\t', skip_lines=2"
    assert in_python(NAMES.options) == "columns=[...]"
    error = TableError("file.csv: no", LEAVE_OUT, CONVERT, PLAIN)
    assert str(error) == (
        "file.csv: no; leave it out with exclude=['a b', 'c'], or use ParquetSource, or mend the "
        "line {x}"
    )
    assert error.remedies == (LEAVE_OUT, CONVERT, PLAIN)
    assert isinstance(error, gd.DataError)


def test_what_has_no_options_for_its_readers_is_left_out():
    assert Advised("no", LEAVE_OUT).write(unknown) == "no"
    assert Advised("no", LEAVE_OUT, CONVERT).write(unknown) == "no; let its name end in .parquet"
    assert Advised("no", Remedy("in Python", shell=""), PLAIN).write(unknown) == (
        "no; mend the line {x}"
    )
    assert str(Advised("no")) == "no"


def test_an_error_with_remedies_survives_a_trip_to_another_process():
    error = pickle.loads(pickle.dumps(TableError("no", LEAVE_OUT)))
    assert (str(error), error.remedies) == (str(TableError("no", LEAVE_OUT)), (LEAVE_OUT,))


def test_a_warning_carries_them_too():
    with pytest.warns(UserWarning, match=r"odd; leave it out with exclude=\['a b', 'c'\]"):
        warnings.warn(TableWarning("odd", LEAVE_OUT), stacklevel=1)
