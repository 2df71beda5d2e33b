"""How a text file is written, and its conversion to UTF-8 with a separator of one byte.

Rows are always found, parsed and checked in UTF-8. A file in another encoding is converted while it
is read, some bytes at a time.
"""

import codecs
import contextlib
import io
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

from minigd.data.sources.csv_blocks import BLANKS
from minigd.data.sources.csv_files import open_file
from minigd.data.sources.file_kinds import HEAD, ends_in_returns, kind_of
from minigd.data.tables.remedy import Remedy, TableError
from minigd.errors import DataError

_UTF8 = "utf-8"
_STAND_IN = "\x1f"  # for a separator of several bytes: the control character "unit separator"
_CHUNK = 1 << 16


class Dialect(NamedTuple):
    r"""How a text file is written.

    Attributes
    ----------
    letter : str
        The separator as the caller writes it, which may be "blanks".
    encoding : str
        Its name in `codecs.lookup`.
    comment : bytes
        How comment lines begin; empty for no comments.

    Examples
    --------
    >>> dialect = Dialect.make("§", "latin1", "#")
    >>> dialect.encoding, dialect.separator, dialect.is_plain
    ('iso8859-1', b'\x1f', False)
    """

    letter: str = ","
    encoding: str = _UTF8
    comment: bytes = b""

    @classmethod
    def make(cls, separator: Any, encoding: Any, comment: Any) -> "Dialect":
        """Return a dialect from the caller's arguments, or refuse them."""
        text = separator if isinstance(separator, str) else ""
        if text != "blanks" and (len(text) != 1 or text in '"\r\n\0'):
            raise ValueError(
                "separator must be one character other than a quote, or 'blanks' for runs of "
                f"blanks and tabs: {separator!r}"
            )
        dialect = cls(separator, codec_of(encoding))
        if not isinstance(comment, str):
            raise TypeError(
                f"comment must be what comment lines begin with, such as '#', not {comment!r}"
            )
        lines = set(comment) & set('"\r\n\0')
        if lines or comment != comment.strip() or comment.startswith(separator):
            raise ValueError(
                "comment must be what comment lines begin with, such as '#', without blanks, "
                f"quotes and separators: {comment!r}"
            )
        return dialect._replace(comment=dialect.translated(comment).encode())

    @property
    def separator(self) -> bytes:
        """The byte that separates fields where the file is read, or `BLANKS`."""
        return BLANKS if self.letter == "blanks" else self.translated(self.letter).encode()

    @property
    def spaces(self) -> bool:
        """Whether spaces after a separator are skipped: unless they are separators themselves."""
        return not self.separator.startswith(b" ")

    @property
    def has_stand_in(self) -> bool:
        """Whether another character replaces the separator while the file is read."""
        return self.letter != "blanks" and not self.letter.isascii()

    @property
    def is_plain(self) -> bool:
        """Whether the file is read without conversion."""
        return self.encoding == _UTF8 and not self.has_stand_in

    def translated(self, text: str) -> str:
        """Return a text with the stand-in for its separators."""
        return text.replace(self.letter, _STAND_IN) if self.has_stand_in else text

    def restored(self, text: str) -> str:
        """Return a text with its separators for the stand-in."""
        return text.replace(_STAND_IN, self.letter) if self.has_stand_in else text


def codec_of(encoding: Any) -> str:
    """Return the name of an encoding of text, "utf-8" for all of its spellings.

    >>> codec_of("UTF8"), codec_of("utf_8_sig"), codec_of("Windows-1252"), codec_of("utf-16")
    ('utf-8', 'utf-8', 'cp1252', 'utf-16')
    """
    known = "such as 'utf-8', 'cp1252' or 'utf-16'"
    if not isinstance(encoding, str):
        raise TypeError(f"encoding must be a name {known}, not {encoding!r}")
    try:
        found = codecs.lookup(encoding)
        text = b"".decode(encoding) == "" and "\n".encode(encoding) != b""
    except (LookupError, ValueError, TypeError, AttributeError):
        text = False
    if not text:
        raise ValueError(f"encoding must be one that Python knows, {known}: {encoding!r}")
    # A byte order mark is always skipped.
    return _UTF8 if found.name == "utf-8-sig" else found.name


@contextlib.contextmanager
def open_text(given: Any, dialect: Dialect, name: str) -> Iterator[BinaryIO]:
    """Open a path, or rewind a file object, as UTF-8 with lines that end in newlines."""
    with open_file(given, returns=dialect.is_plain) as file:
        yield file if dialect.is_plain else _Translated(file, dialect, name)  # type: ignore[misc]


class _Translated:
    """A reader of a file in another encoding; its positions are those in UTF-8."""

    def __init__(self, file: Any, dialect: Dialect, name: str) -> None:
        self._file, self._dialect, self._name = file, dialect, name
        self._returns = False
        self._returns = ends_in_returns(self._from(0, HEAD))
        self.seek(0)

    def _from(self, offset: int, size: int) -> bytes:
        self.seek(offset)
        return self.read(size)

    def seek(self, offset: int) -> None:
        """Move to a place, by converting everything before it."""
        self._file.seek(0)
        self._decoder = codecs.getincrementaldecoder(self._dialect.encoding)()
        self._ready, self._ended, self._line = b"", False, 1
        while offset and (skipped := self.read(min(offset, _CHUNK))):
            offset -= len(skipped)

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes of UTF-8, as many as requested unless the file ends."""
        pieces, there = [self._ready], len(self._ready)
        while not self._ended and (size < 0 or there < size):
            chunk = self._file.read(_CHUNK if size < 0 else max(_CHUNK, size - there))
            self._ended = not chunk
            pieces.append(self._translate(chunk))
            there += len(pieces[-1])
        data = b"".join(pieces)
        cut = len(data) if size < 0 else size
        self._ready = data[cut:]
        return data[:cut]

    def _translate(self, chunk: bytes) -> bytes:
        before = self._decoder.getstate()
        try:
            text = self._decoder.decode(chunk, self._ended)
            data = text.encode()
        except UnicodeDecodeError as error:
            self._decoder.setstate(before)
            self._decoder.errors = "replace"
            good = ""
            with contextlib.suppress(UnicodeError):
                good = self._decoder.decode(chunk, self._ended).partition("\ufffd")[0]
            what = f"0x{error.object[error.start]:02x} is not {self._dialect.encoding}"
            raise self._error(good, what) from error
        except UnicodeEncodeError as error:  # half of a pair, which some encodings can spell
            what = f"{error.object[error.start]!a} is not a character"
            raise self._error(text[: error.start], what) from error
        except UnicodeError as error:
            raise self._no_order(chunk, error) from error
        if self._dialect.has_stand_in and _STAND_IN in text:
            what = f"0x1f can't be read where {self._dialect.letter!r} separates columns"
            raise self._error(text.partition(_STAND_IN)[0], what)
        if self._dialect.has_stand_in:
            data = self._dialect.translated(text).encode()
        if self._returns:
            data = data.replace(b"\r", b"\n")
        self._line += data.count(b"\n")
        return data

    def _no_order(self, chunk: bytes, error: UnicodeError) -> DataError:
        """Return the error of a codec that names no place, such as UTF-16 without its mark."""
        encoding = self._dialect.encoding
        if not encoding.startswith(("utf-16", "utf-32")):
            return self._error("", f"it is not {encoding}: {error}")
        likely = kind_of(io.BytesIO(chunk[:HEAD]))
        order = likely if likely.startswith(encoding) else f"{encoding}-le"
        problem = f"{self._name} does not begin with the byte order mark of {encoding}"
        remedy = Remedy("name the order of its bytes with {}", {"encoding": order})
        return TableError(problem, remedy)

    def _error(self, good: str, what: str) -> DataError:
        line = self._line + good.count("\r" if self._returns else "\n")
        return DataError(f"{self._name}, line {line}: {what}")
