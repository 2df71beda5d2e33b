"""IDX files, the format of MNIST, give the numbers that were written into them, gzipped or not.

A file that is not an IDX file, or does not have the length in its header, is refused by name.
"""

import gzip
import struct

import numpy as np
import pytest

import minigd as gd

KINDS = {
    0x08: "uint8",
    0x09: "int8",
    0x0B: ">i2",
    0x0C: ">i4",
    0x0D: ">f4",
    0x0E: ">f8",
}


def idx(array, kind):
    """Return the bytes of an IDX file, by the letter of its definition."""
    array = np.asarray(array)
    header = bytes([0, 0, kind, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(KINDS[kind]).tobytes()


def written(path, content, packed=False):
    path.write_bytes(gzip.compress(content) if packed else content)
    return path


def images(n=7):
    return np.random.default_rng(0).integers(0, 120, size=(n, 4, 3))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_number(tmp_path, kind, packed):
    pixels, labels = images(), np.arange(7) % 3
    source = gd.IdxSource(
        written(tmp_path / "images", idx(pixels, kind), packed),
        written(tmp_path / "labels", idx(labels, kind), packed),
        scale=None,
    )
    for rows in (slice(0, 7), slice(2, 5), np.array([6, 0, 6])):
        x, y = source.take(rows)
        np.testing.assert_array_equal(x, pixels.reshape(7, 12)[rows])
        np.testing.assert_array_equal(y, labels[rows])


@pytest.mark.parametrize("kind", KINDS)
def test_x_is_scaled_batch_by_batch_and_y_is_not(tmp_path, kind):
    path = written(tmp_path / "images", idx(images(), kind))
    labels = written(tmp_path / "labels", idx(np.arange(7), 8))
    x, y = gd.IdxSource(path, labels).take(np.array([3, 1]))
    assert x.dtype == np.float32
    np.testing.assert_array_equal(
        x, images().reshape(7, 12)[[3, 1]].astype("float32") / np.float32(255)
    )
    assert y.tolist() == [3, 1]


def test_the_gzipped_file_is_found_under_the_name_of_the_plain_one(tmp_path):
    written(tmp_path / "images.gz", idx(images(), 8), packed=True)
    assert gd.IdxSource(tmp_path / "images").rows == 7
    with pytest.raises(FileNotFoundError):
        gd.IdxSource(tmp_path / "labels")


def test_it_trains(tmp_path):
    path = written(tmp_path / "images", idx(images(60), 8))
    labels = written(tmp_path / "labels", idx(np.arange(60) % 3, 8))
    source = gd.IdxSource(path, labels)
    model = gd.Sequential([gd.Dense(3), gd.Softmax()], inputs=12)
    history = model.fit(source, loss="categorical_crossentropy", batch_size=10, epochs=20)
    assert history["loss"][-1] < history["loss"][0]


def test_the_scale_shows_in_the_fingerprint(tmp_path):
    path = written(tmp_path / "images", idx(images(), 8))
    prints = [gd.IdxSource(path, scale=scale).fingerprint() for scale in (255.0, 1.0, None)]
    assert prints[0] != prints[1] != prints[2]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("change", [lambda b: b[:-1], lambda b: b + b"x", lambda b: b[:16]])
def test_another_length_than_the_header_says(tmp_path, change, packed):
    path = written(tmp_path / "images", change(idx(images(), 8)), packed)
    with pytest.raises(gd.DataError, match=r"images is cut short, or too long: .*\(7, 4, 3\), 84"):
        gd.IdxSource(path)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    "content",
    [b"", b"\0\0", b"\0\0\x08\x03\0\0", b"a,b\n1,2\n", b"\0\0\x0a\x01\0\0\0\0", b"\0\0\x08\0"],
)
def test_other_files_are_refused(tmp_path, content, packed):
    path = written(tmp_path / "images", content, packed)
    with pytest.raises(gd.DataError, match="images is not an IDX file"):
        gd.IdxSource(path)


@pytest.mark.parametrize("spoil", [lambda b: b[:30], lambda b: b[:-4], lambda b: b[:20] + b"?" * 9])
def test_a_damaged_gzipped_file(tmp_path, spoil):
    path = tmp_path / "images"
    path.write_bytes(spoil(gzip.compress(idx(images(50), 8))))
    with pytest.raises(gd.DataError, match="images is not an IDX file, or is damaged"):
        gd.IdxSource(path)


def test_no_images_are_nothing_to_train_on(tmp_path):
    path = written(tmp_path / "images", idx(np.zeros((0, 4, 3)), 8))
    with pytest.raises(gd.DataError, match=r"images has the shape \(0, 4, 3\): it has no rows"):
        gd.IdxSource(path)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("dimensions", [33, 65, 255])
def test_more_dimensions_than_an_array_has_are_refused(tmp_path, packed, dimensions):
    path = written(tmp_path / "images", idx(images(), 8))
    sizes = b"".join(n.to_bytes(4, "big") for n in (7, *[1] * (dimensions - 1)))
    content = bytes([0, 0, 8, dimensions]) + sizes + bytes(7)
    labels = written(tmp_path / "labels", content, packed)
    with pytest.raises(gd.DataError, match="labels is not an IDX file: it begins with"):
        gd.IdxSource(path, labels)


def test_images_and_labels_of_different_lengths(tmp_path):
    path = written(tmp_path / "images", idx(images(), 8))
    labels = written(tmp_path / "labels", idx(np.arange(6), 8))
    with pytest.raises(gd.ShapeError, match="images has 7 rows of x and 6 of y"):
        gd.IdxSource(path, labels)
