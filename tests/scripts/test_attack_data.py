"""A short form of the attacks on data: each ends in the right rows or in a clear error."""

import random
import sys
from pathlib import Path

import pytest

import minigd as gd

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks import attack_data


@pytest.mark.few(2)
@pytest.mark.parametrize("seed", range(4))
def test_mutated_tables_are_read_as_csv_reads_them_or_refused(seed):
    ends = []
    for i in range(12):
        try:
            ends.append(attack_data.attack_table(random.Random(f"{seed} {i}")))
        except gd.DataError:
            ends.append("refused")
    assert False not in ends
    assert {True, "refused"} == set(ends)


def test_a_file_that_is_cut_while_its_rows_are_read(tmp_path):
    for seed in range(8):
        with pytest.raises(gd.DataError, match=r"has changed since it was opened"):
            attack_data.attack_cut(tmp_path, random.Random(seed))
        (tmp_path / "rows").unlink()


def test_rows_that_differ_from_those_of_csv_are_seen():
    found = (["t", "n"], {"t": ["a", "b"]}, [[1.0, 0.0, 2.5], [0.0, 1.0, 3.5]])
    assert attack_data.agrees(found, [["a", "2.5"], ["b", "3.5"]])
    for rows in (None, [["a", "2.5"]], [["b", "2.5"], ["a", "3.5"]], [["a", "2"], ["b", "3.5"]]):
        assert not attack_data.agrees(found, rows)
