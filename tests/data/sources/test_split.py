"""A split sends each row to one of two parts by its content, so that its place plays no part.

Together the parts are the whole, and each can be read as the whole can.
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
    # Rows that differ little, as whole numbers do, must be scattered too.
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
