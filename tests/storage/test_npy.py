"""The header of a `.npy` array: what NumPy writes is read, and any other bytes are a ValueError.

NumPy's own reader is the truth for whatever is not refused.
"""

import io

import numpy as np
import pytest
from budgets import examples
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays, scalar_dtypes

from minigd.storage.npy import read_header


def written(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def header_of(data):
    return read_header(io.BytesIO(data), len(data))


def with_header(text, numbers=b"", version=(1, 0)):
    width = 2 if version == (1, 0) else 4
    head = text.encode() + b"\n"
    begin = b"\x93NUMPY" + bytes(version) + len(head).to_bytes(width, "little")
    return begin + head + numbers


def check_against_numpy(data):
    """Compare a header that is not refused with what NumPy reads of the same bytes."""
    try:
        header = header_of(data)
    except ValueError:
        return False
    expected = np.load(io.BytesIO(data), allow_pickle=False)
    assert header.dtype == expected.dtype
    assert header.shape == expected.shape
    assert header.nbytes == expected.nbytes == len(data) - header.offset
    if expected.ndim > 1 and min(expected.shape) > 1:
        assert header.fortran == expected.flags.f_contiguous
    return True


@examples(50)
@given(data=st.data(), order=st.sampled_from("CF"), dtype=scalar_dtypes())
def test_what_numpy_writes_is_read(data, order, dtype):
    shape = data.draw(array_shapes(min_dims=0, min_side=0, max_dims=4, max_side=4))
    array = np.asarray(data.draw(arrays(dtype, shape)), order=order)
    assert check_against_numpy(written(array))


@pytest.mark.parametrize(
    "array", [np.array(["ab", "c"]), np.array([b"x"]), np.zeros(3, "V5"), np.zeros(2, "m8[25s]")]
)
def test_texts_and_times_are_read(array):
    assert check_against_numpy(written(array))


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize(
    "text",
    [
        "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }",
        '{"shape":(3,2),"descr":"<f4","fortran_order":True}',
        "{'descr': '<i8', 'fortran_order': False, 'shape': (3,)}        ",
        "{ 'fortran_order' : False , 'shape' : ( 3 , ) , 'descr' : '<f8' }",
    ],
)
def test_what_other_programs_write_is_read(text, version):
    assert check_against_numpy(with_header(text, bytes(24), version))


def test_long_integers_of_python_2_are_read():
    data = with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (3L, 2L), }", bytes(24))
    assert header_of(data).shape == (3, 2)


@pytest.mark.parametrize("array", [np.arange(12.0).reshape(3, 4), np.array(7, "int16")])
def test_each_bit_of_a_header_that_is_flipped_is_refused_or_read_as_numpy_does(array):
    whole = written(array)
    read = 0
    for bit in range(8 * 128):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        read += check_against_numpy(bytes(data))
    assert read < 30


@examples(200)
@given(st.binary(max_size=200), st.sampled_from([b"", b"\x93NUMPY\1\0", b"\x93NUMPY\3\0"]))
def test_any_bytes_are_refused_or_read_as_numpy_does(data, begin):
    check_against_numpy(begin + data)


@examples(200)
@given(
    st.text(alphabet="{}()[],:'\"<>|fiuOVUbM 0123456789TrueFalsdcpn_ordhL\n-*.", max_size=150),
    st.integers(0, 64),
)
def test_any_header_is_refused_or_read_as_numpy_does(text, size):
    check_against_numpy(with_header(text, bytes(size)))


@pytest.mark.parametrize(
    ("descr", "shape", "reason"),
    [
        ("'<f4'", "(1000000000000,)", r"says \(1000000000000,\) of float32, 4000000000000 bytes"),
        ("'<f4'", "(4294967296, 4294967296, 4294967296)", "its shape is"),
        ("'<f4'", "(0, 99999999999999999)", "its shape is"),
        ("'<f4'", f"({'1, ' * 33})", "its shape is"),
        ("'<f4'", f"({'9' * 5000},)", "its header is"),
        ("'V1000000000'", "()", "its dtype is V1000000000"),
        ("'<U0'", "(100000000000,)", "its dtype is <U0"),
        ("'|O'", "(2,)", "Python objects, which are never read"),
        ("'<i3'", "(2,)", "its dtype is <i3"),
        ("[('a', '<f4')]", "(2,)", "it holds records"),
        ("'<f4'", "(-2,)", "its header is"),
        ("'<f4'", "(10**12,)", "its header is"),
        ("'<f4'", "(2,), 'more': 3", "its header is"),
    ],
)
def test_sizes_are_not_believed(descr, shape, reason):
    data = with_header(f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}", bytes(8))
    with pytest.raises(ValueError, match=reason):
        header_of(data)


def test_another_number_of_bytes_than_the_header_says_is_refused():
    whole = written(np.zeros((3, 2)))
    for data in (whole[:-1], whole + b"\0", whole[:128]):
        with pytest.raises(ValueError, match=r"says \(3, 2\) of float64, 48 bytes, but \d+ follow"):
            header_of(data)
