"""Rows of a packed table are those of the plain one to the bit, whatever the name of the file.

Damaged files are refused, and a small file with huge content takes little memory.
"""

import bz2
import contextlib
import gzip
import io
import lzma
import tracemalloc
import zipfile
from unittest import mock

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigd as gd
from minigd.data.sources import packed
from minigd.data.sources.packed import Unpacked, packing_of

RNG = np.random.default_rng(0)
N = 400
PLAIN = b"a,color,y\n" + b"".join(
    b"%r,%s,%d\n" % (float(a), [b"red", b"blue"][i % 2], i % 3)
    for i, a in enumerate(RNG.normal(size=N))
)


def in_zip(data, *more, method=zipfile.ZIP_DEFLATED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.mkdir("t") if hasattr(archive, "mkdir") else archive.writestr("t/", b"")
        for name, content in [("t/t.csv", data), *more]:
            archive.writestr(name, content)
    return file.getvalue()


PACK = {
    "gzip": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zstd": lambda data: pa.Codec("zstd").compress(data, asbytes=True),
    "zip": in_zip,
    "stored": lambda data: in_zip(data, method=zipfile.ZIP_STORED),
    "zip by macOS": lambda data: in_zip(data, ("__MACOSX/t/._t.csv", b"\0\5\x16\7")),
    "old lzma": lambda data: lzma.compress(data, format=lzma.FORMAT_ALONE),
}
STREAMS = ["gzip", "bz2", "xz", "zstd"]
"""The kinds whose files can be concatenated."""


def whole(source):
    xs, ys = zip(*source.chunks(), strict=True)
    return np.concatenate(xs).tobytes(), np.concatenate(ys).tobytes(), source.names


@pytest.mark.few
@pytest.mark.parametrize("kind", PACK)
@pytest.mark.parametrize(("name", "size"), [("rows.csv", 3000), ("rows.gz", 1 << 21)])
def test_the_rows_are_those_of_the_plain_file_to_the_bit(tmp_path, kind, name, size):
    path = tmp_path / name
    path.write_bytes(PACK[kind](PLAIN))
    plain = gd.CsvSource(io.BytesIO(PLAIN), target="y", block_size=size)
    for file in (path, str(path), io.BytesIO(path.read_bytes())):
        source = gd.CsvSource(file, target="y", block_size=size)
        assert whole(source) == whole(plain)
        assert source.random_access is False
    rows = RNG.permutation(N)
    cached = source.cache(tmp_path / "cache")
    for given_rows in (rows, slice(5, 9)):
        for one, other in zip(cached.take(given_rows), plain.take(given_rows), strict=True):
            np.testing.assert_array_equal(one, other)
    assert source.places(rows) == plain.places(rows)


@pytest.mark.parametrize("kind", STREAMS)
@pytest.mark.parametrize("cuts", [(500,), (7, 8, 5_000)])
def test_packed_files_that_were_put_together(kind, cuts):
    pieces = [PLAIN[a:b] for a, b in zip((0, *cuts), (*cuts, len(PLAIN)), strict=True)]
    data = b"".join(map(PACK[kind], pieces)) + (bytes(4) if kind == "xz" else b"")
    source = gd.CsvSource(io.BytesIO(data), target="y")
    assert whole(source) == whole(gd.CsvSource(io.BytesIO(PLAIN), target="y"))


@pytest.mark.parametrize("kind", PACK)
def test_lone_returns_and_a_byte_order_mark_are_read_as_in_a_plain_file(kind):
    text = b"\xef\xbb\xbf" + PLAIN.replace(b"\n", b"\r")
    source = gd.CsvSource(io.BytesIO(PACK[kind](text)), target="y")
    assert whole(source) == whole(gd.CsvSource(io.BytesIO(PLAIN), target="y"))


@settings(deadline=None, max_examples=12)
@given(st.sampled_from(sorted(PACK)), st.binary(max_size=300), st.data())
def test_a_reader_goes_anywhere(kind, content, data):
    packed_bytes = PACK[kind](content)
    reader = Unpacked(io.BytesIO(packed_bytes), "x", packing_of(packed_bytes))
    expected = io.BytesIO(content)
    for _ in range(6):
        if data.draw(st.booleans()):
            place = data.draw(st.integers(0, len(content)))
            reader.seek(place)
            expected.seek(place)
        size = data.draw(st.sampled_from([-1, 0, 1, 7, 1000]))
        assert reader.read(size) == expected.read(size)


# What is wrong ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", PACK)
@pytest.mark.parametrize("cut", [20, 0.5, -1])
def test_a_file_that_is_cut_short_is_refused(tmp_path, kind, cut):
    data = PACK[kind](PLAIN)
    path = tmp_path / "rows.csv"
    path.write_bytes(data[: int(cut * len(data)) if cut == 0.5 else cut])
    with pytest.raises(gd.DataError, match=r"rows.csv.* damaged") as caught:
        gd.CsvSource(path, target="y")
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize("kind", [kind for kind in PACK if kind not in ("zstd", "old lzma")])
def test_a_file_with_a_wrong_bit_is_refused(kind):
    data = bytearray(PACK[kind](PLAIN))
    for place in (len(data) // 2, len(data) // 3):
        spoilt = data.copy()
        spoilt[place] ^= 0x10
        with pytest.raises(gd.DataError):
            gd.CsvSource(io.BytesIO(bytes(spoilt)), target="y")


def test_each_flipped_bit_of_a_zip_is_read_right_or_refused(tmp_path):
    data, errors, right = in_zip(PLAIN[:40]), [], 0
    path = tmp_path / "t.zip"
    for bit in range(8 * len(data)):
        spoilt = bytearray(data)
        spoilt[bit // 8] ^= 1 << bit % 8
        path.write_bytes(spoilt)
        # In memory and on a disk, a place before the beginning is another error of Python.
        for opened in (io.BytesIO(spoilt), path.open("rb")):
            with opened, contextlib.closing(Unpacked(opened, "t.zip", "zip")) as reader:
                try:
                    right += reader.read() == PLAIN[:40]
                except gd.DataError as error:
                    errors.append(str(error))
    assert right + len(errors) == 16 * len(data)
    assert min(right, len(errors)) > 200
    assert all(error.startswith("t.zip: the file is damaged: ") for error in errors)


def test_an_xz_that_asks_for_much_memory_is_refused(tmp_path):
    data = bytearray(PACK["old lzma"](PLAIN))
    data[1:5] = (1 << 29).to_bytes(4, "little")  # the size of its dictionary
    (tmp_path / "rows.csv").write_bytes(data)
    message = r"rows.csv needs more than 128 MiB of memory.*unpack it first, with xz"
    with pytest.raises(gd.DataError, match=message):
        gd.CsvSource(tmp_path / "rows.csv", target="y")


@pytest.mark.parametrize("kind", [kind for kind in PACK if kind != "stored"])
def test_a_bomb_takes_little_memory(kind):
    """A line of 20 MB is in a file of some KB; the dictionary of an xz takes 8 MB."""
    data = PACK[kind](b"0" * 20_000_000)
    assert len(data) < 30_000
    tracemalloc.start()
    try:
        with contextlib.closing(Unpacked(io.BytesIO(data), "x", packing_of(data))) as reader:
            assert all(reader.read(1 << 16) for _ in range(20))
        assert tracemalloc.get_traced_memory()[1] < 9 << 20
    finally:
        tracemalloc.stop()


def test_without_arrow_zstd_says_what_to_install():
    error = ImportError("pyarrow is not installed, and a file packed by zstd needs it")
    data = PACK["zstd"](PLAIN)
    with (
        mock.patch.object(packed, "optional", side_effect=error),
        pytest.raises(ImportError, match="zstd needs it"),
    ):
        gd.CsvSource(io.BytesIO(data), target="y")
