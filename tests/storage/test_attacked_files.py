"""Files that a bad disk or an enemy wrote: read right, or a `CheckpointError` that names them.

The short form of the attack on model files in `benchmarks/attack.py`. No size in a file is
believed: memory is measured while it is refused.
"""

import json
import os
import random
import struct
import sys
import tracemalloc
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest

import minigd as gd
from minigd.cli.main import main
from minigd.storage import npz
from minigd.training import model_files

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.attack import Tally, damaged_files, mutate


def saved(path):
    gd.Sequential([gd.Dense(3)], 2, seed=1).save(path)
    return path


def edit(path, change):
    """Rewrite a file with its description and arrays changed, and a checksum that fits them."""
    description, arrays = npz.read(path)
    change(description, arrays)
    npz.write(path, description, arrays)


def refused(path, match=None):
    """Check that a file is refused with its name, and takes little memory for it."""
    tracemalloc.start()
    try:
        with pytest.raises(gd.CheckpointError, match=match) as caught:
            gd.load(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert repr(str(path)) in str(caught.value)
    assert peak < 10 * os.path.getsize(path) + 1_000_000
    return str(caught.value)


def thinly(step):
    """Return a mark that gives a test one of so many of its cases, and all under `-m slow`."""
    return pytest.mark.parametrize("step", [step, pytest.param(1, marks=pytest.mark.slow)])


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Write files that need not outlive a loss of power."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


# Bits and bytes -----------------------------------------------------------------------------------


@thinly(44)
def test_a_damaged_file_is_read_right_or_refused_by_name(tmp_path, step):
    original, path, tally = saved(tmp_path / "original.npz"), tmp_path / "m.npz", Tally()
    expected = gd.load(original)
    x = np.ones((1, 2))

    def is_right():
        model = gd.load(path)
        return model.describe() == expected.describe() and (
            model.predict(x).tobytes() == expected.predict(x).tobytes()
        )

    attempts = list(damaged_files(original, random.Random(0), 900))[::step]
    for what, data in attempts:
        path.write_bytes(data)
        tally.attempt(what, is_right, gd.CheckpointError, repr(str(path)))
    assert tally.others == []
    assert tally.errors > len(attempts) / 2
    assert tally.right > len(attempts) / 10


def test_a_damaged_member_longer_than_a_chunk_of_zipfile(tmp_path):
    # zipfile checks what it has read, 4,096 bytes at a time, only at the end of a member.
    path = tmp_path / "m.npz"
    model = gd.Sequential([gd.Dense(2000)], 2)
    model.save(path)
    whole, errors = path.read_bytes(), []
    with zipfile.ZipFile(path) as archive:
        at = archive.getinfo("params/dense1.W.npy").header_offset
    begin = whole.index(b"\x93NUMPY", at)
    for bit in range(8 * begin, 8 * (begin + 80)):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        try:
            assert (gd.load(path).flat_params == model.flat_params).all()  # =f4 is <f4
        except gd.CheckpointError as error:
            errors.append(str(error))
    assert len(errors) > 600
    assert all("m.npz" in error for error in errors)


# A description that an enemy wrote ----------------------------------------------------------------


def write_run(path):
    x = np.linspace(-1, 1, 12).reshape(6, 2)
    model = gd.Sequential([gd.Standardize(), gd.Dense(3), gd.BatchNorm(), gd.Dense(1)], 2)
    batches = gd.Batches(x, x[:, 0], batch_size=4)
    model.adapt(batches)
    trainer = gd.Trainer(model, "mse", gd.Adam(gd.WarmUp(0.1, updates=3)), ["mae"], accumulate=2)
    trainer.fit(batches, epochs=2, callbacks=[gd.EarlyStopping("loss")])
    trainer.save(path)
    return path


def places(tree, path=()):
    """Yield the way to each value in nested dicts and lists."""
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in inner:
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from places(value, (*path, key))


def put(tree, path, value):
    for key in path[:-1]:
        tree = tree[key]
    tree[path[-1]] = value


ODD = [10**12, -1, True, None, "x", [], {"array": "no"}]
ODD_IDS = ["huge", "negative", "true", "null", "text", "list", "array"]


@pytest.mark.few(2)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("value", ODD, ids=ODD_IDS)
@thinly(14)
def test_an_odd_value_anywhere_in_a_description_is_taken_or_refused(tmp_path, value, step):
    path = write_run(tmp_path / "run.npz")
    description, arrays = npz.read(path)
    ways, unnamed = list(places(description)), []
    tracemalloc.start()
    for way in ways[2 * ODD.index(value) % step :: step]:
        changed = json.loads(json.dumps(description))
        put(changed, way, value)
        npz.write(path, changed, arrays)
        for read in (gd.load, gd.Trainer.resume):
            try:
                read(path)
            except gd.CheckpointError as error:
                unnamed += [] if "run.npz" in str(error) else [(way, str(error))]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert unnamed == []
    assert peak < 100_000_000  # with what is imported on the way


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("read", [gd.load, gd.Trainer.resume])
@thinly(9)
def test_a_description_without_one_of_its_parts(tmp_path, read, step):
    path = write_run(tmp_path / "run.npz")
    description, arrays = npz.read(path)
    errors = []
    for place in list(places(description))[::step]:
        changed = json.loads(json.dumps(description))
        inner = changed
        for key in place[:-1]:
            inner = inner[key]
        del inner[place[-1]]
        npz.write(path, changed, arrays)
        try:
            read(path)
        except gd.CheckpointError as error:
            errors.append(str(error))
    assert errors
    assert all("run.npz" in error for error in errors)


def test_a_deep_description_is_refused(tmp_path):
    path = saved(tmp_path / "m.npz")
    for deep in ("[" * 900 + "]" * 900, '{"class":' * 900 + "1" + "}" * 900):
        edit(path, lambda d, a, deep=deep: d.update(layers=[json.loads(deep)]))
        refused(path)


# Sizes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("units", [10**8, 10**12, 10**30])
def test_a_width_that_the_arrays_do_not_have_takes_no_memory(tmp_path, units):
    path = saved(tmp_path / "m.npz")
    edit(path, lambda d, a: d["layers"][0]["arguments"].update(units=units))
    refused(path, rf"shape \(2, 3\) in the file and \(2, {units}\) in the model")
    edit(path, lambda d, a: d.update(inputs=units))
    refused(path)


def test_parameters_that_are_overwritten_are_not_drawn_first(tmp_path, monkeypatch):
    path = saved(tmp_path / "m.npz")
    model = gd.load(path)
    draw = pytest.fail
    monkeypatch.setattr("minigd.nn.sequential.draw_first_values", draw)
    for again in (gd.load(path), model.copy()):
        assert (again.flat_params == model.flat_params).all()


def archive_of(path, members, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def members_of(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compressed_members_are_refused_before_they_are_unpacked(tmp_path, method):
    path = saved(tmp_path / "m.npz")
    members = members_of(path)
    archive_of(path, {**members, "params/dense1.W.npy": bytes(5_000_000)}, method)
    refused(path, "is compressed; minigd never compresses arrays")


def test_members_that_lie_over_each_other_are_refused(tmp_path):
    # Each entry of the directory names the same bytes: 200 members of 1 MB in a file of 1 MB.
    path = tmp_path / "m.npz"
    archive_of(path, {"a.npy": bytes(1_000_000)})
    whole = path.read_bytes()
    at = whole.rindex(b"PK\1\2")
    end = whole.rindex(b"PK\5\6")
    entries = whole[at:end] * 200
    tail = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 200, 200, len(entries), at, 0)
    path.write_bytes(whole[:at] + entries + tail)
    assert len(zipfile.ZipFile(path).namelist()) == 200
    refused(path, "claim to be larger than")


@pytest.mark.parametrize("shape", [(10**12,), (10**6, 10**6), (0, 10**17)])
def test_a_shape_that_the_file_has_no_room_for_is_refused(tmp_path, shape):
    path = saved(tmp_path / "m.npz")
    members = members_of(path)
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header = header.ljust(117) + b"\n"
    head = b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little")
    archive_of(path, {**members, "params/dense1.W.npy": head + header + bytes(24)})
    refused(path, "is not a file that minigd saved, or it is damaged: its ")


def test_many_layers_take_time_in_proportion(tmp_path):
    def calls(layers):
        path = saved(tmp_path / "m.npz")
        tanh = {"class": "Tanh", "arguments": {}}
        edit(path, lambda d, a: d["layers"].extend([tanh] * layers))
        count = 0

        def counted(*event):
            nonlocal count
            count += 1

        sys.setprofile(counted)
        try:
            gd.load(path)
        finally:
            sys.setprofile(None)
        return count

    few, many = calls(500), calls(2000)
    assert many < 5 * few


# Values that can't be -----------------------------------------------------------------------------


@pytest.mark.parametrize("version", [0, -5, True, False, 1.0, "1", None, [1]])
def test_a_version_that_there_never_was_is_refused(tmp_path, version):
    path = saved(tmp_path / "m.npz")
    edit(path, lambda d, a: d.update(version=version))
    refused(path, "is not a file that minigd saved")


@pytest.mark.parametrize("name", ["standardize1.std", "standardize1.rows", "batchnorm1.variance"])
def test_a_negative_deviation_is_refused(tmp_path, name):
    path = write_run(tmp_path / "run.npz")
    edit(path, lambda d, a: a[f"buffers/{name}"].fill(-1))
    refused(path, rf"{name} in the file contains -1.0, but must not be negative")
    with pytest.raises(gd.CheckpointError, match=r"run\.npz'.* must not be negative"):
        gd.Trainer.resume(path)


@pytest.mark.parametrize("count", ["updates", "epoch", "batch", "passes"])
def test_a_negative_count_is_refused(tmp_path, count):
    path = write_run(tmp_path / "run.npz")
    edit(path, lambda d, a: d["run"].update({count: -3}))
    message = rf"run\.npz'.* is damaged: {count} must be an integer, at least 0"
    with pytest.raises(gd.CheckpointError, match=message):
        gd.Trainer.resume(path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("params/dense2.W", np.nan),
        ("params/dense1.b", np.inf),
        ("params/batchnorm1.gamma", -np.inf),
        ("buffers/batchnorm1.mean", np.nan),
    ],
)
def test_numbers_that_are_not_finite_are_loaded_with_a_warning(tmp_path, name, value):
    path = write_run(tmp_path / "run.npz")
    edit(path, lambda d, a: a[name].flat.__setitem__(0, value))
    for read in (gd.load, gd.Trainer.resume):
        with pytest.warns(RuntimeWarning, match=rf"not finite in {name.partition('/')[2]}: ") as w:
            read(path)
        assert len(w) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(RuntimeWarning, match="not finite"):
            gd.load(path)


@pytest.mark.parametrize(
    ("value", "warned"),
    [(np.nan, True), (-np.inf, True), (3e38, False), (np.float64(3e38), False), (1e39, True)],
)
def test_the_last_number_of_many_is_looked_at_and_large_ones_are_finite(tmp_path, value, warned):
    path = tmp_path / "m.npz"
    gd.Sequential([gd.Dense(70_000)], 2, seed=1).save(path)

    def put_last(description, arrays):
        values = arrays["params/dense1.W"]
        # A file of float64, for a model of float32, where 1e39 is infinite.
        wide = isinstance(value, np.float64) or value == 1e39
        arrays["params/dense1.W"] = values.astype("float64" if wide else values.dtype)
        arrays["params/dense1.W"][-1, -3:] = value

    edit(path, put_last)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        gd.load(path)
    assert ["not finite in dense1.W" in str(w.message) for w in caught].count(True) == warned


def test_a_running_minimum_may_begin_at_infinity(tmp_path):
    class Least(gd.Layer):
        def build(self, n_in):
            self.add_buffer("least", (n_in,), lambda rng, shape: np.full(shape, np.inf))
            return n_in

        def forward(self, x, train=False):
            return x

        def backward(self, dy):
            return dy

    gd.Sequential([Least()], 2).save(tmp_path / "m.npz")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gd.load(tmp_path / "m.npz", custom=[Least])


def test_what_could_not_be_read_again_is_not_written(tmp_path):
    records = np.zeros(2, dtype=[("a", "f4"), ("b", "i4")])
    with pytest.raises(ValueError, match="holds records"):
        npz.write(tmp_path / "a.npz", {}, {"records": records})
    arrays = {
        "texts": np.array(["a", "ü"]),
        "times": np.array(["2020-01-01"], "M8[s]"),
        "turned": np.arange(6.0).reshape(2, 3).T,
        "big-endian": np.arange(3, dtype=">i4"),
    }
    npz.write(tmp_path / "a.npz", {}, arrays)
    for name, array in npz.read(tmp_path / "a.npz")[1].items():
        assert array.dtype == arrays[name].dtype
        np.testing.assert_array_equal(array, arrays[name])
        array[...] = arrays[name]  # it belongs to the reader


# What the command saved ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    rng = np.random.default_rng(0)
    rows = [
        f"{a:.3f},{'rg'[int(a > b)]},{['no', 'yes', 'maybe'][int(3 * b)]}\n"
        for a, b in rng.random((60, 2))
    ]
    (folder / "t.csv").write_text("a,color,y\n" + "".join(rows))
    command = ["train", str(folder / "t.csv"), "--target", "y", "--epochs", "2", "--hidden", "3"]
    assert main([*command, "--out", str(folder / "m.npz")]) == 0
    return folder


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("value", ODD, ids=ODD_IDS)
@thinly(7)
def test_an_odd_value_in_the_columns_of_a_model_file_is_one_line(
    trained, tmp_path, capsys, value, step
):
    path = tmp_path / "m.npz"
    description, arrays = npz.read(trained / "m.npz")
    for place in list(places(description))[ODD.index(value) % step :: step]:
        if place[0] not in ("table", "history"):
            continue
        changed = json.loads(json.dumps(description))
        put(changed, place, value)
        npz.write(path, changed, arrays)
        for command in (["info"], ["predict"]):
            data = [] if command == ["info"] else [str(trained / "t.csv")]
            code = main([*command, str(path), *data])
            err = capsys.readouterr().err
            assert code == 0 or "m.npz" in err or "t.csv" in err, (place, err)


def test_random_mutations_of_a_model_file_on_the_command_line(trained, tmp_path, capsys):
    path, rng = tmp_path / "m.npz", random.Random(1)
    whole = (trained / "m.npz").read_bytes()
    main(["predict", str(trained / "m.npz"), str(trained / "t.csv")])
    expected = capsys.readouterr().out
    for _ in range(30):
        path.write_bytes(mutate(whole, rng))
        for command in (["info", str(path)], ["predict", str(path), str(trained / "t.csv")]):
            code = main(command)
            out, err = capsys.readouterr()
            assert code == 0 or str(path) in err
            assert code == 1 or command[0] == "info" or out == expected


def write_table_model(path):
    day = ["2024-05-02 06:00", "2025-01-01 12:00", "2025-02-03 18:00"]
    rows = [{"day": day, "city": ["Rome", "Oslo", "Bern"], "kind": ["a", "b", "a"], "a": [1, 2, 4]}]
    source = gd.IterableSource(rows, target="kind", hashed={"city": 3}, missing="mean")
    model = gd.Sequential([gd.Dense(1), gd.Sigmoid()], inputs=len(source.names))
    gd.TableModel(model, source.schema).save(path)


@pytest.mark.parametrize("value", [{"city": 10**9}, {"city": 10**30}, {"city": -3}, {"city": "3"}])
def test_columns_that_a_file_claims_to_hash_are_not_made(tmp_path, value):
    path = tmp_path / "m.npz"
    write_table_model(path)
    edit(path, lambda d, a: put(d, ("table", "schema", "hashed"), value))
    with pytest.raises(gd.CheckpointError, match=r"the columns in '.*m.npz' are damaged"):
        gd.load_table(path)
    edit(path, lambda d, a: d.update(schema=d["table"]["schema"]))
    with pytest.raises(gd.CheckpointError, match=r"m\.npz.*description of the model is damaged"):
        gd.load(path)


CLAIMS = {
    "levels": [{"city": "abc"}, {"city": [1]}, []],
    "classes": [["a"], "ab", {"a": 1, "b": 2}, [], ["a", None]],
    "integer": [True, -0.5, None],
    "dates": [{"day": [[], 0.0, ["year"]]}, {"day": ["ISO8601", "0", []]}, {"day": 3}],
    "missing": ["often", None, {"a": []}],
    "unknown": [True, "ignore"],
    "exact": ["int32", 64],
    "fills": [{"a": None}, {"a": "1"}, {"b": 1.0}],
    "features": ["day", [["day"]], ["a", "a", "a"]],
}


@pytest.mark.parametrize("name", CLAIMS)
def test_columns_that_can_not_be_are_refused_when_a_model_is_loaded(tmp_path, name):
    path = tmp_path / "m.npz"
    write_table_model(path)
    for value in CLAIMS[name]:
        write_table_model(path)
        edit(path, lambda d, a: put(d, ("table", "schema", name), value))  # noqa: B023
        with pytest.raises(gd.CheckpointError, match=r"the columns in '.*m.npz' are damaged"):
            gd.load_table(path)


STATES = [("best", "low"), ("best", [None]), ("waited", -1), ("stopped", "no"), ("arrays", 3)]
STATES += [("arrays", {"params/dense1.W": 0.5}), ("last", {"params/dense1.W": "W"})]


@pytest.mark.parametrize(("key", "value"), STATES)
def test_a_damaged_state_of_a_callback_is_named(tmp_path, key, value):
    path = write_run(tmp_path / "run.npz")
    edit(path, lambda d, a: put(d, ("run", "callbacks", "EarlyStopping", key), value))
    trainer = gd.Trainer.resume(path)
    x = np.linspace(-1, 1, 12).reshape(6, 2)
    is_model = isinstance(value, dict)
    said = "params/dense1.W in the file is" if is_model else "state of the callback 'EarlyStopping'"
    with pytest.raises(gd.CheckpointError, match=said):
        trainer.fit(gd.Batches(x, x[:, 0], batch_size=4), callbacks=[gd.EarlyStopping("loss")])


def test_errors_that_are_not_the_files_fault_stay_what_they_are(tmp_path):
    path = saved(tmp_path / "m.npz")
    with pytest.raises(TypeError, match="custom must be a list of classes"):
        gd.load(path, custom=gd.Dense)
    with pytest.raises(ValueError, match="unknown backend 'nunpy'"):
        gd.load(path, backend="nunpy")
    with pytest.raises(TypeError, match=r"batches must be a minigd\.Batches"):
        gd.Trainer.resume(write_run(tmp_path / "run.npz"), [1])
    assert model_files.load is gd.load
