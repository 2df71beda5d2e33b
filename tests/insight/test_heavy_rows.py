"""The rows that carry most of the gradient, by their numbers and by their lines in a file."""

import numpy as np
import pytest

import minigd as gd


def write(path, n=400, corrupt=(), blank_at=None):
    rng = np.random.default_rng(4)
    X = rng.normal(size=(n, 3))
    y = X @ [1.0, -2.0, 0.5] + 0.1 * rng.normal(size=n)
    lines = ["a,b,c,y"]
    for i in range(n):
        if i == blank_at:
            lines.append("")
        factor = 1e4 if i in corrupt else 1
        lines.append(",".join(f"{v:.6g}" for v in [*X[i], factor * (y[i] + 1)]))
    path.write_text("\n".join(lines) + "\n")
    return path


def linear():
    return gd.Sequential([gd.Dense(1)], inputs=3, seed=1)


def find(source, count=5, **options):
    heavy = gd.HeavyRows(count)
    batches = gd.Batches(source, batch_size=50, **options)
    gd.Trainer(linear(), "mse", gd.SGD(1e-9)).fit(
        batches, epochs=2, per_example=True, callbacks=[heavy]
    )
    return heavy


@pytest.mark.parametrize("options", [{}, {"shuffle": True}, {"shuffle": True, "buffer": 100}])
def test_corrupt_rows_of_a_file_are_named_by_line(tmp_path, options):
    path = write(tmp_path / "t.csv", corrupt=(17, 230, 399), blank_at=100)
    source = gd.CsvSource(path, target="y", block_size=2000)
    if "buffer" in options:
        source = gd.IterableSource(lambda: source_of(path))
    heavy = find(source, 4, **options)
    if "buffer" in options:
        assert {row.place for row in heavy.rows[:3]} == {"row 17", "row 230", "row 399"}
        return
    # The header is line 1, and a blank line lies before row 100.
    assert {row.place for row in heavy.rows[:3]} == {"line 19", "line 233", "line 402"}
    text = path.read_text().splitlines()
    for row in heavy.rows[:3]:
        assert float(text[int(row.place.split()[1]) - 1].rpartition(",")[2]) > 1000
    assert heavy.total == 400
    assert heavy.half <= 3


def source_of(path):
    yield from gd.CsvSource(path, target="y").chunks()


def test_the_lines_of_the_second_part_of_a_split(tmp_path):
    path = write(tmp_path / "t.csv", corrupt=(17, 230))
    lines = path.read_text().splitlines()
    for part in gd.CsvSource(path, target="y").split(0.3):
        some = np.array([5, 0, 40])
        x, _ = part.take(some)
        for row, place in zip(x, part.places(some), strict=True):
            fields = lines[int(place.removeprefix("line ")) - 1].split(",")
            np.testing.assert_allclose(row, np.asarray(fields[:3], dtype="float32"))


def test_lines_in_several_files_name_the_file(tmp_path):
    paths = [write(tmp_path / f"{name}.csv", 30) for name in "ab"]
    source = gd.CsvSource(paths, target="y")
    places = source.places(np.array([31, 2]))
    assert [place.rpartition("/")[2] for place in places] == ["b.csv, line 3", "a.csv, line 4"]
    with pytest.raises(IndexError, match="row 60 was requested, but there are 60"):
        source.places(np.array([60]))


def test_rows_with_a_missing_value_are_skipped_in_the_count(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,y\n1,1\n,2\n3,3\n,4\n5,5\n")
    source = gd.CsvSource(path, target="y", missing="drop")
    assert source.places(np.array([0, 1, 2])) == ["line 2", "line 4", "line 6"]


def test_shares_and_half_are_of_the_sum_of_all_norms():
    x = np.arange(1.0, 7.0).reshape(-1, 1)
    heavy = gd.HeavyRows(2)
    norms = {}

    def look(event):
        if event.norms is not None and event.x is not None:
            norms.update(zip(range(event.rows.start, event.rows.stop), event.norms, strict=True))

    model = gd.Sequential([gd.Dense(1)], inputs=1, dtype="float64")
    trainer = gd.Trainer(model, "mse", gd.SGD(0.0))
    trainer.fit(
        gd.Batches(x, x**3, batch_size=4), epochs=1, per_example=True, callbacks=[heavy, look]
    )
    whole = sum(norms.values())
    assert [row.row for row in heavy.rows] == sorted(norms, key=norms.get)[::-1][:2]
    for row in heavy.rows:
        assert row.share == pytest.approx(norms[row.row] / whole)
    carried = np.cumsum(sorted(norms.values())[::-1])
    assert carried[heavy.half - 1] >= whole / 2
    assert heavy.half == 1 or carried[heavy.half - 2] < whole / 2


def test_it_says_what_it_needs():
    heavy = gd.HeavyRows()
    assert str(heavy) == "no epoch has been completed yet"
    with pytest.raises(gd.DataError, match=r"fit\(\.\.\., per_example=True\)"):
        linear().fit(np.ones((4, 3)), np.ones(4), loss="mse", callbacks=[heavy])
    with pytest.raises(ValueError, match="count"):
        gd.HeavyRows(0)


def test_a_model_that_is_right_has_no_heavy_rows():
    x = np.arange(1.0, 9.0).reshape(-1, 1)
    model = gd.Sequential([gd.Dense(1)], inputs=1, dtype="float64")
    heavy = gd.HeavyRows()
    model.fit(x, model.forward(x), loss="mse", per_example=True, callbacks=[heavy])
    assert str(heavy) == "none of the 8 rows has a nonzero gradient"


def test_an_epoch_that_was_begun_before_is_left_out():
    x = np.arange(100.0).reshape(-1, 1) / 100
    trainer = gd.Trainer(gd.Sequential([gd.Dense(1)], inputs=1), "mse", "sgd")
    batches = gd.Batches(x, x, batch_size=10)
    heavy = gd.HeavyRows()
    trainer.fit(
        batches,
        per_example=True,
        callbacks=[heavy, lambda e: e.trainer.updates == 7 and e.trainer.stop()],
    )
    trainer.fit(batches, per_example=True, callbacks=[heavy])
    assert str(heavy) == "no epoch has been completed yet"
    trainer.fit(batches, per_example=True, callbacks=[heavy])
    assert heavy.total == 100
