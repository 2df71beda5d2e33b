"""A split puts each row into one of two parts by its content; its position does not matter.

Together the parts are the whole source, and each can be read like the whole.
"""

import io

import numpy as np
import pytest
from budgets import examples
from hypothesis import given
from hypothesis import strategies as st

import minigd as gd
from minigd.data.sources.split import chosen

properties = examples(25)


def table(n=400):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, 3)), np.arange(n)


def stream(x, y, size=7):
    pieces = [(x[i : i + size], y[i : i + size]) for i in range(0, len(x), size)]
    return gd.IterableSource(pieces)


def csv_source(x, y):
    lines = [
        ",".join(map(repr, [*row, label]))
        for row, label in zip(x.tolist(), y.tolist(), strict=True)
    ]
    text = "a,b,c,y\n" + "\n".join(lines)
    return gd.CsvSource(io.BytesIO(text.encode()), target="y", dtype="float64", block_size=3000)


KINDS = {"array": gd.ArraySource, "stream": stream, "csv": csv_source}


def labels(source):
    return [int(label) for _, y in source.chunks() for label in y]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", [0, 3])
def test_parts_are_disjoint_complete_in_order_and_alike_for_every_kind(kind, seed):
    x, y = table()
    first, second = KINDS[kind](x, y).split(0.25, seed)
    assert not set(labels(first)) & set(labels(second))
    assert sorted(labels(first) + labels(second)) == list(range(400))
    assert (first.rows, second.rows) == (len(labels(first)), len(labels(second)))
    assert labels(first) == sorted(labels(first))
    assert labels(second) == np.flatnonzero(chosen(x, y, 0.25, seed)).tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_a_part_holds_the_rows_of_the_whole(kind):
    x, y = table()
    for part in KINDS[kind](x, y).split(0.25):
        own = np.concatenate([x for x, _ in part.chunks()])
        in_order = labels(part)
        np.testing.assert_array_equal(own, x[in_order])
        for start in (0, 1, 50, part.rows - 1, part.rows):
            assert [int(v) for _, y in part.chunks(start) for v in y] == in_order[start:]


@pytest.mark.parametrize("kind", ["array", "csv"])
def test_a_part_can_be_indexed_and_shuffled_as_the_whole(kind):
    x, y = table()
    for part in KINDS[kind](x, y).split(0.25):
        rows = np.random.default_rng(0).permutation(part.rows)
        in_order = labels(part)
        own_x, own_y = part.take(rows)
        assert own_y.tolist() == [in_order[i] for i in rows]
        np.testing.assert_array_equal(own_x, x[own_y])
        assert part.take(slice(3, 9))[1].tolist() == in_order[3:9]
        seen = [int(v) for _, y in gd.Batches(part, batch_size=7, shuffle=True) for v in y]
        assert seen != in_order
        assert sorted(seen) == in_order


@properties
@given(st.permutations(range(60)), st.floats(0.05, 0.95), st.integers(0, 5))
def test_reordering_changes_no_row_of_the_parts(order, fraction, seed):
    x, y = table(60)
    inside = chosen(x, y, fraction, seed)
    np.testing.assert_array_equal(chosen(x[order], y[order], fraction, seed), inside[order])


def test_rows_added_change_nothing_for_the_others():
    x, y = table()
    few = gd.ArraySource(x[:300], y[:300]).split(0.25)[1]
    many = gd.ArraySource(x, y).split(0.25)[1]
    assert labels(few) == [label for label in labels(many) if label < 300]


def test_equal_rows_are_on_one_side():
    x = np.tile(table(20)[0], (10, 1))
    # Zero and minus zero are equal.
    x[0::40, 0], x[20::40, 0] = 0.0, -0.0
    inside = chosen(x, np.zeros(200), 0.5, 0).reshape(10, 20)
    assert (inside == inside[0]).all()


@properties
@given(st.floats(0.01, 0.99), st.integers(0, 100))
def test_a_part_has_about_its_share(fraction, seed):
    n = 20_000
    # Rows that differ little, such as whole numbers, must be spread over both parts too.
    share = chosen(np.arange(float(n)).reshape(n, 1), None, fraction, seed).mean()
    assert abs(share - fraction) < 5 * (fraction * (1 - fraction) / n) ** 0.5


def test_seeds_split_independently():
    x, y = table(20_000)
    one, other = (chosen(x, y, 0.5, seed) for seed in (0, 1))
    assert abs((one == other).mean() - 0.5) < 0.02


def test_a_larger_fraction_keeps_the_rows_of_a_smaller_one():
    x, y = table()
    assert chosen(x, y, 0.5, 0)[chosen(x, y, 0.2, 0)].all()


def test_a_part_of_a_part():
    source = gd.ArraySource(*table())
    rest, test = source.split(0.2, seed=1)
    train, validation = rest.split(0.25, seed=2)
    assert sorted(labels(train) + labels(validation) + labels(test)) == list(range(400))


def test_parts_have_fingerprints_of_their_own():
    source = gd.ArraySource(*table())
    parts = [*source.split(0.2), *source.split(0.3), *source.split(0.2, seed=1)]
    assert len({str(part.fingerprint()) for part in parts}) == 6
    again = gd.ArraySource(*table()).split(0.2)
    assert [part.fingerprint() for part in again] == [part.fingerprint() for part in parts[:2]]


def test_training_on_one_part_and_watching_the_other():
    x, y = table()
    train, validation = csv_source(x, y).split(0.25)
    model = gd.Sequential([gd.Dense(1)], inputs=3)
    history = model.fit(train, loss="mse", validation_data=validation, epochs=2)
    assert len(history["val_loss"]) == 2


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, float("nan")])
def test_a_fraction_is_between_0_and_1(fraction):
    with pytest.raises(ValueError, match="fraction must be between 0 and 1"):
        gd.ArraySource(*table()).split(fraction)


def test_a_part_without_rows_is_refused():
    for source in (gd.ArraySource(*table(2)), stream(*table(2))):
        with pytest.raises(gd.DataError, match="leaves one part without rows"):
            source.split(1e-9)


def test_weights_names_and_classes_go_with_the_rows(tmp_path):
    x = np.arange(200.0).reshape(-1, 1)
    weight = np.where(x[:, 0] < 50, 0.0, 1 + x[:, 0])
    source = gd.ArraySource(x, x[:, 0], weight)
    for part in [*source.split(0.3), source.cache(tmp_path / "rows")]:
        batches = gd.Batches(part, batch_size=20)
        assert batches.weighted
        for batch in batches:
            np.testing.assert_array_equal(batch.weight, np.where(batch.y < 50, 0, 1 + batch.y))
    path = tmp_path / "t.csv"
    path.write_text("size,color,kind\n" + "".join(f"{i},red,{'ab'[i % 2]}\n" for i in range(40)))
    table = gd.CsvSource(path, target="kind")
    for part in [*table.split(0.3), table.cache(tmp_path / "table")]:
        assert part.names == table.names == ["size", "color=red"]
        assert part.classes == ["a", "b"]


# By class, by group and by time ------------------------------------------------------------------


def classes_table(counts=(340, 50, 9, 1), seed=0):
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    return rng.normal(size=(len(y), 3)), y


def numbered(source):
    """Return the classes of the rows of a source, and a key of each row."""
    pairs = list(source.chunks())
    return np.concatenate([y for _, y in pairs]), np.concatenate([x for x, _ in pairs])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.5])
def test_of_each_class_the_share_is_held_out(kind, fraction):
    x, y = classes_table()
    first, second = KINDS[kind](x, y).split(fraction, 3, stratify=True)
    for label, count in enumerate((340, 50, 9, 1)):
        held = int((numbered(second)[0] == label).sum())
        assert held == (0 if count == 1 else max(1, round(fraction * count)))
    assert first.rows + second.rows == 400
    both = np.concatenate([numbered(first)[1], numbered(second)[1]])
    assert sorted(map(tuple, both.tolist())) == sorted(map(tuple, x.tolist()))


def test_a_split_by_class_does_not_depend_on_the_order_of_the_rows():
    x, y = classes_table()
    expected = {
        tuple(row) for row in numbered(gd.ArraySource(x, y).split(0.2, stratify=True)[1])[1]
    }
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(x))
        for kind in KINDS:
            held = KINDS[kind](x[order], y[order]).split(0.2, stratify=True)[1]
            assert {tuple(row) for row in numbered(held)[1]} == expected
    for targets in (y.reshape(-1, 1), np.eye(4)[y], y.astype("float32")):
        held = gd.ArraySource(x, targets).split(0.2, stratify=True)[1]
        assert held.rows == len(expected)


def test_equal_rows_of_a_class_stay_on_one_side():
    x, y = classes_table((40, 20))
    x, y = np.tile(x, (5, 1)), np.tile(y, 5)
    first, second = gd.ArraySource(x, y).split(0.2, stratify=True)
    sides = [{tuple(row) for row in numbered(part)[1]} for part in (first, second)]
    assert not sides[0] & sides[1]
    assert (first.rows, second.rows) == (240, 60)


def grouped_csv(groups, header="who"):
    lines = [f"{group},{i % 7},{i}\n" for i, group in enumerate(groups)]
    return io.BytesIO(f"{header},a,y\n{''.join(lines)}".encode())


GROUPS = [f"p{i * i % 23}" for i in range(200)]


@properties
@given(
    st.lists(st.integers(0, 12), min_size=2, max_size=80).filter(lambda g: len(set(g)) > 1),
    st.floats(0.05, 0.95),
    st.integers(0, 5),
)
def test_the_rows_of_a_group_stay_on_one_side(groups, fraction, seed):
    n = len(groups)
    source = gd.ArraySource(np.arange(n).reshape(-1, 1) * 1.0, np.arange(n))
    first, second = (labels(part) for part in source.split(fraction, seed, group=groups))
    assert sorted(first + second) == list(range(n))
    sides = [{groups[i] for i in part} for part in (first, second)]
    assert sides[0]
    assert sides[1]
    assert not sides[0] & sides[1]
    # The same groups as texts, and as numbers of another type.
    for same in ([f"{g}.0" for g in groups], np.array(groups, "float32")):
        assert labels(source.split(fraction, seed, group=same)[1]) == second


def test_a_group_is_a_column_that_need_not_be_in_use(tmp_path):
    import pandas as pd

    def sides(source):
        return [sorted(int(v) for _, y in part.chunks() for v in y) for part in source]

    expected = sides(
        gd.ArraySource(np.arange(200.0).reshape(-1, 1), np.arange(200)).split(0.3, group=GROUPS)
    )
    assert 30 <= len(expected[1]) <= 90
    frame = pd.read_csv(grouped_csv(GROUPS))
    frame.to_parquet(tmp_path / "t.parquet")
    sources = [
        gd.CsvSource(grouped_csv(GROUPS), target="y", exclude=["who"], block_size=300),
        gd.CsvSource(grouped_csv(GROUPS), target="y"),
        gd.ParquetSource(tmp_path / "t.parquet", target="y", exclude=["who"]),
        gd.IterableSource(lambda: [frame[:90], frame[90:]], target="y", exclude=["who"]),
        gd.FrameSource(frame, target="y", exclude=["who"]),
    ]
    for source in sources:
        assert sides(source.split(0.3, group="who")) == expected
        with pytest.raises(gd.DataError, match=r"no column 'whom'.*did you mean 'who'\?"):
            source.split(0.3, group="whom")
    part = sources[0].split(0.5, seed=9)[0]
    own = part.column("who").tolist()
    assert own == [GROUPS[i] for i in labels(part)]
    for half in part.split(0.5, group="who"):
        assert {GROUPS[i] for i in labels(half)} <= set(own)


def test_a_group_of_rows_that_are_left_out_is_left_out_too():
    text = "who,a,y\nx,1,1\ny,,2\nx,3,3\nz,4,4\n"
    source = gd.CsvSource(
        io.BytesIO(text.encode()), target="y", exclude=["who"], missing={"a": "drop"}
    )
    assert source.column("who").tolist() == ["x", "x", "z"]
    first, second = source.split(0.4, group="who")
    assert sorted([sorted(labels(first)), sorted(labels(second))]) == [[1, 3], [4]]
    filled = gd.CsvSource(io.BytesIO(text.encode()), target="y", exclude=["who"], missing="mean")
    assert filled.column("who").tolist() == ["x", "y", "x", "z"]
    assert filled.split(0.4, group="who")[0].rows + filled.split(0.4, group="who")[1].rows == 4


NOTATIONS = {
    "ISO": lambda i: f"20{10 + i // 12:02}-{i % 12 + 1:02}-05",
    "a day and a named month": lambda i: (
        f"5-{'JanFebMarAprMayJunJulAugSepOctNovDec'[i % 12 * 3 :][:3]}-20{10 + i // 12:02}"
    ),
    "whole numbers": lambda i: f"{1000 + i}",
    "fractions": lambda i: f"{i / 7:.5f}",
}


@pytest.mark.parametrize("notation", NOTATIONS)
@pytest.mark.parametrize("fraction", [0.1, 0.25])
def test_the_last_rows_in_time_are_held_out(notation, fraction):
    order = np.random.default_rng(0).permutation(120)
    times = [NOTATIONS[notation](int(i)) for i in order]
    for used in ([], ["when"]):
        source = gd.CsvSource(grouped_csv(times, "when"), target="y", exclude=used)
        first, second = source.split(fraction, time="when")
        held = {int(order[i]) for i in labels(second)}
        assert held == set(range(120 - round(fraction * 120), 120))
        assert first.rows == 120 - len(held)
    arrays = gd.ArraySource(np.arange(120.0).reshape(-1, 1), np.arange(120))
    assert labels(arrays.split(fraction, time=times)[1]) == labels(second)
    days = np.datetime64("2020-01-01") + order
    assert labels(arrays.split(fraction, time=days)[1]) == labels(second)


def test_rows_of_one_time_stay_together():
    times = [0] * 50 + [1] * 30 + [2] * 20
    source = gd.ArraySource(np.arange(100.0).reshape(-1, 1), np.arange(100))
    for fraction, rows in ((0.01, 20), (0.3, 20), (0.4, 50), (0.99, 50)):
        assert source.split(fraction, time=times)[1].rows == rows
    with pytest.raises(gd.DataError, match="leaves one part without rows"):
        source.split(0.2, time=[7] * 100)


def test_a_time_that_is_none_is_refused_with_its_place(tmp_path):
    source = gd.CsvSource(
        io.BytesIO(b"when,a,y\n2020-01-01,1,1\n,2,2\n2020-01-03,3,3\n"),
        target="y",
        missing="mean",
    )
    missing = r"line 3, column 'when': the time is missing, as in 1"
    with pytest.raises(gd.DataError, match=f"^the file object, {missing}"):
        source.split(0.3, time="when")
    (tmp_path / "a.csv").write_text("when,a,y\n2020-01-01,1,1\n,2,2\n2020-01-03,3,3\n")
    (tmp_path / "b.csv").write_text("when,a,y\n2020-01-01,1,1\n")
    for paths, file in ((["a.csv"], "a.csv"), (["b.csv", "a.csv"], "a.csv")):
        source = gd.CsvSource([tmp_path / path for path in paths], target="y", missing="mean")
        with pytest.raises(gd.DataError, match=f"^{tmp_path / file}, {missing}"):
            source.split(0.3, time="when")
    words = gd.CsvSource(
        io.BytesIO(b"when,a,y\n2020-01-01,1,1\nlater,2,2\n2020-01-03,3,3\n"), "y", exclude=["when"]
    )
    with pytest.raises(gd.DataError, match="'later' is neither a number nor a date"):
        words.split(0.3, time="when")
    doubtful = gd.CsvSource(
        io.BytesIO(b"when,a,y\n01/02/2020,1,1\n03/04/2020,2,2\n"), "y", exclude=["when"]
    )
    with pytest.raises(gd.DataError, match=r"dates that may be %d/%m/%Y or %m/%d/%Y"):
        doubtful.split(0.5, time="when")


def test_a_split_is_by_one_thing():
    source = gd.ArraySource(*table())
    for both in (
        {"stratify": True, "group": np.arange(400)},
        {"group": np.arange(400), "time": np.arange(400)},
    ):
        with pytest.raises(ValueError, match="not by both"):
            source.split(0.2, **both)
    with pytest.raises(gd.ShapeError, match=r"group has shape \(3,\).*shape \(400,\)"):
        source.split(0.2, group=[1, 2, 3])
    with pytest.raises(gd.DataError, match="its columns have no names"):
        source.split(0.2, group="who")
    with pytest.raises(gd.DataError, match=r"stratify is for classes.*0\.5"):
        gd.ArraySource(np.ones((2, 1)), [0.5, 1.0]).split(0.5, stratify=True)
    with pytest.raises(gd.DataError, match="there are no targets"):
        gd.ArraySource(np.ones((2, 1))).split(0.5, stratify=True)


def test_parts_by_class_group_and_time_have_fingerprints_of_their_own():
    x, y = classes_table()
    source = gd.ArraySource(x, y)
    by = [
        {},
        {"stratify": True},
        {"group": y % 3},
        {"group": np.arange(400) % 5},
        {"time": np.arange(400)},
    ]
    found = [str(part.fingerprint()) for how in by for part in source.split(0.2, **how)]
    assert len(set(found)) == 10
