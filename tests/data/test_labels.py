"""Labels of classes in all spellings: which are the same, and that class weights follow this rule.

Each weight is compared with the sample weights that a reader of the file would give.
"""

import warnings
from decimal import Decimal

import numpy as np
import pytest
from budgets import examples
from hypothesis import given
from hypothesis import strategies as st

import minigd as gd
from minigd.data.labels import find_label, label_key, same_label
from minigd.data.row_weights import check_class_weight

SAME = [
    [1, 1.0, "1", "1.0", "1.00", True, np.int8(1), np.uint64(1), np.float32(1), np.bool_(True)],
    [0, 0.0, -0.0, "0", "0.0", False, np.int64(0), np.str_("0")],
    [-1, -1.0, "-1", "-1.0", np.int16(-1)],
    [2**53 + 1, str(2**53 + 1), np.int64(2**53 + 1), np.uint64(2**53 + 1)],
    [2**64 - 1, np.uint64(2**64 - 1), str(2**64 - 1)],
    [2**53, 2.0**53, str(2**53)],
    ["a", np.str_("a")],
    [0.5, "0.5", np.float64(0.5)],
]
DIFFERENT = ["01", "+1", " 1", "1 ", "1e0", "1.", "one", "A", "1.50", "-0", "", "nan", "١", "1_0"]
TRUTHS = [(True, "True"), (True, "true"), (True, "TRUE"), (np.bool_(False), "False")]


@pytest.mark.parametrize("labels", SAME, ids=lambda labels: str(labels[0]))
def test_labels_of_one_class_are_the_same_however_they_are_written(labels):
    for one in labels:
        for other in labels:
            assert same_label(one, other)
            assert label_key(one) == label_key(other)


def test_labels_of_different_classes_are_not():
    kinds = [*(labels[0] for labels in SAME), *DIFFERENT]
    for i, one in enumerate(kinds):
        for j, other in enumerate(kinds):
            assert same_label(one, other) == (i == j), (one, other)


def test_truth_values_are_their_names_and_their_numbers():
    for truth, text in TRUTHS:
        assert same_label(truth, text)
        assert same_label(text, truth)
        assert not same_label(not truth, text)
    # A text can't be two classes.
    assert not same_label("True", "1")
    assert not same_label("True", "true")


@examples(50)
@given(st.integers(-(2**70), 2**70))
def test_every_whole_number_is_its_text(number):
    assert same_label(number, str(number))
    assert same_label(str(number), f"{number}.0")
    assert not same_label(number, str(number + 1))
    assert not same_label(str(number), "0" + str(abs(number)))


@examples(50)
@given(st.text(), st.text())
def test_texts_are_the_same_where_they_are_equal_or_whole_numbers(one, other):
    assert same_label(one, one)
    if same_label(one, other) and one != other:
        assert float(one) == float(other)


def test_one_written_alike_is_found_first():
    assert find_label("1.0", ["1", "1.0"]) == 1
    assert find_label(1, ["1.0", "1"]) == 1
    assert find_label(1, ["1.0", "2.0"]) == 0
    assert find_label(True, ["False", "True"]) == 1
    assert find_label("01", ["1", "2"]) is None


# Class weights --------------------------------------------------------------------------------

N = 60
KEYS = {
    "int": int,
    "float": float,
    "text": str,
    "text of a float": lambda k: f"{k}.0",
    "numpy int": np.int32,
    "numpy uint": np.uint8,
    "numpy float": np.float32,
    "numpy text": np.str_,
}


def numbered(values=(1, 2)):
    """Return rows, and their classes, of which one is rare and one frequent."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(N, 2)), np.array(values)[(rng.uniform(size=N) > 0.8).astype(int)]


def write(path, x, y):
    rows = [f"{a!r},{b!r},{label}" for (a, b), label in zip(x.tolist(), y, strict=True)]
    path.write_text("\n".join(["a,b,y", *rows]) + "\n", encoding="utf-8")
    return path


def saved(tmp_path, x, y):
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    return gd.NpySource(tmp_path / "x.npy", tmp_path / "y.npy")


NUMBERS = {
    "arrays": lambda tmp_path, x, y: (x, y),
    "a column": lambda tmp_path, x, y: (x, y[:, None]),
    "floats": lambda tmp_path, x, y: (x, y.astype("float32")),
    "an array source": lambda tmp_path, x, y: (gd.ArraySource(x, y),),
    "npy": lambda tmp_path, x, y: (saved(tmp_path, x, y),),
    "a stream": lambda tmp_path, x, y: (gd.IterableSource([(x[:7], y[:7]), (x[7:], y[7:])]),),
    "a table of numbers": lambda tmp_path, x, y: (
        gd.CsvSource(write(tmp_path / "t.csv", x, y), target="y"),
    ),
}
NAMES = {
    "a table of names": lambda tmp_path, x, y: (
        gd.CsvSource(write(tmp_path / "t.csv", x, y), target="y", classes=["1", "2"]),
    ),
    "names in another order": lambda tmp_path, x, y: (
        gd.CsvSource(write(tmp_path / "t.csv", x, y), target="y", classes=["2", "1"]),
    ),
    "numbers as names": lambda tmp_path, x, y: (
        gd.CsvSource(write(tmp_path / "t.csv", x, y), target="y", classes=[1, 2]),
    ),
    "a cache": lambda tmp_path, x, y: (
        gd.CsvSource(write(tmp_path / "t.csv", x, y), target="y", classes=[2, 1]).cache(
            tmp_path / "cache"
        ),
    ),
}


def weights_of(batches):
    return np.concatenate([batch.weight for batch in batches])


@pytest.mark.few
@pytest.mark.parametrize("make", [*NUMBERS.values(), *NAMES.values()], ids=[*NUMBERS, *NAMES])
@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
def test_a_class_weight_goes_by_the_label_however_it_is_written(tmp_path, make, key):
    x, y = numbered()
    data = make(tmp_path, x, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        batches = gd.Batches(*data, batch_size=7, class_weight={key(1): 1, key(2): 20})
        found = weights_of(batches)
    np.testing.assert_array_equal(found, np.where(y == 2, 20.0, 1.0))


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
def test_fit_takes_the_same_labels(key):
    x, y = numbered((0, 1))
    found = []
    for weights in (
        {"class_weight": {key(0): 1, key(1): 20}},
        {"sample_weight": np.where(y == 1, 20.0, 1.0)},
    ):
        model = gd.Sequential([gd.Dense(1), gd.Sigmoid()], inputs=2)
        model.fit(x, y, loss="binary_crossentropy", **weights)
        found.append(model.flat_params.copy())
    np.testing.assert_array_equal(*found)


LABELS = {"ints": [1, 2], "texts": ["1", "2"], "floats": [1.0, 2.0], "uint8": np.uint8([1, 2])}


@pytest.mark.each
@pytest.mark.parametrize("values", LABELS.values(), ids=LABELS)
@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
@pytest.mark.parametrize("early_stopping", [False, True])
def test_a_classifier_takes_the_same_labels(values, key, early_stopping):
    x, y = numbered(values)
    settings = {"epochs": 3, "random_state": 0, "early_stopping": early_stopping}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one = gd.MiniBatchClassifier(class_weight={key(1): 1, key(2): 20}, **settings).fit(x, y)
    weight = np.where(y == np.asarray(values)[1], 20.0, 1.0)
    other = gd.MiniBatchClassifier(**settings).fit(x, y, sample_weight=weight)
    np.testing.assert_array_equal(one.model_.flat_params, other.model_.flat_params)
    assert one.classes_.tolist() == np.asarray(values).tolist()


@pytest.mark.each
@pytest.mark.parametrize("make", [*NUMBERS.values(), *NAMES.values()], ids=[*NUMBERS, *NAMES])
@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
@pytest.mark.parametrize("by", ["source", "Batches"])
def test_a_classifier_of_a_source_takes_the_same_labels(tmp_path, make, key, by):
    x, y = numbered()
    data = make(tmp_path, x, y)
    weights = {"class_weight": {key(1): 1, key(2): 20}}
    settings = {"epochs": 3, "random_state": 0}
    if by == "source":
        if len(data) == 2:
            data = (data[0], data[1].reshape(-1))
        one = gd.MiniBatchClassifier(**weights, **settings).fit(*data)
        expected = gd.MiniBatchClassifier(**settings)
        expected.fit(*data, sample_weight=np.where(y == 2, 20.0, 1.0))
    else:
        one = gd.MiniBatchClassifier(**settings).fit(gd.Batches(*data, batch_size=7, **weights))
        expected = gd.MiniBatchClassifier(**settings)
        expected.fit(gd.Batches(*data, batch_size=7, sample_weight=np.where(y == 2, 20.0, 1.0)))
    np.testing.assert_array_equal(one.model_.flat_params, expected.model_.flat_params)


@pytest.mark.parametrize("keys", [(False, True), ("False", "True"), (0, 1), ("0", 1.0)])
@pytest.mark.parametrize("estimator", [False, True])
def test_truth_values_have_weights_by_any_of_their_names(keys, estimator):
    x, y = numbered((0, 1))
    table = dict(zip(keys, (1.0, 20.0), strict=True))
    if estimator:
        settings = {"epochs": 2, "random_state": 0}
        one = gd.MiniBatchClassifier(class_weight=table, **settings).fit(x, y == 1)
        weight = np.where(y == 1, 20.0, 1.0)
        other = gd.MiniBatchClassifier(**settings).fit(x, y == 1, weight)
        np.testing.assert_array_equal(one.model_.flat_params, other.model_.flat_params)
    else:
        found = weights_of(gd.Batches(x, y == 1, class_weight=table))
        np.testing.assert_array_equal(found, np.where(y == 1, 20.0, 1.0))


@pytest.mark.parametrize("keys", [("yes", "no"), (1, 0), (True, False), (np.int64(1), 0.0)])
def test_names_that_are_no_numbers_have_weights_by_name_or_by_number(tmp_path, keys):
    x, y = numbered(("no", "yes"))
    source = gd.CsvSource(write(tmp_path / "t.csv", x, y), target="y")
    found = weights_of(gd.Batches(source, class_weight=dict(zip(keys, (20, 1), strict=True))))
    np.testing.assert_array_equal(found, np.where(y == "yes", 20.0, 1.0))


# Classes that are not there -------------------------------------------------------------------


@pytest.mark.parametrize("make", NUMBERS.values(), ids=NUMBERS)
@pytest.mark.parametrize("absent", [3, "3", 0.0, "d", np.int8(7), "01"])
def test_a_class_that_is_in_no_row_is_warned_about_by_name(tmp_path, make, absent):
    x, y = numbered()
    data = make(tmp_path, x, y)
    name = repr(absent) if label_key(absent) in ("d", "01") else str(label_key(absent))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        batches = gd.Batches(*data, batch_size=7, class_weight={2: 20, absent: 5})
        found = weights_of(batches)
    (warning,) = caught
    words = f"class_weight has a weight for {name}, but the data have no such class"
    assert str(warning.message).startswith(words)
    np.testing.assert_array_equal(found, np.where(y == 2, 20.0, 1.0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # there is only one warning
        weights_of(batches)


@pytest.mark.few
@pytest.mark.parametrize("make", NAMES.values(), ids=NAMES)
@pytest.mark.parametrize("absent", [3, "3", 0, "d"])
def test_a_class_that_is_not_declared_is_warned_about_by_name(tmp_path, make, absent):
    x, y = numbered()
    data = make(tmp_path, x, y)
    words = f"class_weight has a weight for {absent!r}, but the data have no.*the classes are '"
    with pytest.warns(UserWarning, match=words):
        batches = gd.Batches(*data, class_weight={2: 20, absent: 5})
    np.testing.assert_array_equal(weights_of(batches), np.where(y == 2, 20.0, 1.0))


def test_a_class_that_is_declared_may_lack_rows(tmp_path):
    x, y = numbered()
    path = write(tmp_path / "t.csv", x, y)
    source = gd.CsvSource(path, target="y", classes=["1", "2", "3"])
    onehot = np.eye(3)[y - 1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        weights_of(gd.Batches(source, class_weight={3: 5}))
        weights_of(gd.Batches(x, onehot, class_weight={2: 5}))
        one = gd.MiniBatchClassifier(epochs=1, class_weight={3: 5})
        one.partial_fit(x, y, classes=[1, 2, 3])
        gd.MiniBatchClassifier(epochs=1, class_weight={3: 5}).fit(source)


def test_a_fold_that_lacks_a_class_is_warned_and_trained():
    x, y = numbered(("a", "b"))
    settings = {"epochs": 2, "random_state": 0}
    words = (
        "class_weight has a weight for 'd', but the data have no such class.*classes are 'a', 'b'"
    )
    with pytest.warns(UserWarning, match=words):
        one = gd.MiniBatchClassifier(class_weight={"b": 20, "d": 5}, **settings).fit(x, y)
    other = gd.MiniBatchClassifier(class_weight={"b": 20}, **settings).fit(x, y)
    np.testing.assert_array_equal(one.model_.flat_params, other.model_.flat_params)
    # For scikit-learn's estimators, the number of a class is not its label.
    with pytest.warns(UserWarning, match="class_weight has a weight for 1, but the data have no"):
        gd.MiniBatchClassifier(class_weight={1: 5}, **settings).fit(x, y)


def test_a_row_of_weight_0_is_no_row_of_its_class():
    x, y = numbered()
    own = np.where(y == 2, 0.0, 1.0)
    with pytest.warns(UserWarning, match="class_weight has a weight for 2"):
        gd.Batches(x, y, sample_weight=own, class_weight={2: 5})


# Refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", [{1: 2, "1": 3}, {"1": 2, 1.0: 3}, {"1.0": 1, "1": 3}])
def test_two_weights_for_one_class_are_refused(table):
    x, y = numbered()
    with pytest.raises(ValueError, match="class_weight has two weights for the class"):
        gd.Batches(x, y, class_weight=table)
    with pytest.raises(ValueError, match="class_weight has two weights for the class"):
        gd.MiniBatchClassifier(class_weight=table).fit(x, y)


@pytest.mark.parametrize("key", [None, (1,), b"1", 1j, Decimal(1)])
def test_what_is_no_label_is_refused(key):
    with pytest.raises(ValueError, match="a class of class_weight must be a number or a text, not"):
        check_class_weight({key: 1.0})


def test_a_text_of_thousands_of_digits_is_a_label_like_any_other():
    long = "1" * 5000  # Python does not convert this to an int
    assert label_key(long) == long
    assert not same_label(long, long + "1")
    assert find_label(long, ["1", long]) == 1
