"""The likely encoding of a text that is not UTF-8."""

import codecs
import contextlib
import re
import unicodedata

from minigd.data.tables.remedy import Remedy

_LOOKED_AT = 1 << 16  # bytes
_FEWEST, _FEWEST_DIFFERENT = 8, 5  # letters that are enough to tell an encoding


def recode(data: bytes) -> Remedy:
    """Return how to read a file that is not in UTF-8, from some of its bytes."""
    encoding = likely_encoding(data)
    says = f"it looks like {encoding}: read it with {{}}"
    if encoding is None:
        says = "find out its encoding; if that is cp1252 (Western Europe), pass {}"
    return Remedy(says, {"encoding": encoding or "cp1252"})


def likely_encoding(data: bytes) -> str | None:
    r"""Return the encoding of bytes that are not UTF-8, if it is certain.

    It is cp932 if that gives Japanese syllables. It is cp1252 if single letters with accents are
    among plain ones, and encodings similar to cp1252 would give the same letters. For letters that
    are not Latin, charset-normalizer finds the encoding, if it is installed.

    >>> likely_encoding("Köln,1".encode("cp1252")), likely_encoding("Łódź,1".encode("cp1250"))
    ('cp1252', None)
    """
    with contextlib.suppress(UnicodeDecodeError):
        letters = [letter for letter in data.decode("cp932") if not letter.isascii()]
        kana = sum("\u3041" <= letter <= "\u30fe" for letter in letters)
        if 3 * kana >= len(letters):
            return "cp932"
    with contextlib.suppress(UnicodeDecodeError):
        text = data.decode("cp1252")
        alike = all(data.decode(one) == text for one in ("latin-1", "cp1250", "iso8859-15"))
        words = [word for word in re.findall(r"[^\x00-@]+", text) if not word.isascii()]
        if alike and all(w.isalpha() and 2 * len(re.sub("[A-z]", "", w)) <= len(w) for w in words):
            return "cp1252"
    return _by_letters(data)


def _by_letters(data: bytes) -> str | None:
    """Return the encoding in which bytes are words of Greek, Russian, Korean and so on.

    Among encodings of Latin letters, charset-normalizer chooses no better than at random.
    """
    try:
        from charset_normalizer import from_bytes
    except ImportError:
        return None
    data = data[: _LOOKED_AT + data[_LOOKED_AT:].find(b"\n")] if len(data) > _LOOKED_AT else data
    best = from_bytes(data).best()
    if best is None:
        return None
    letters = [letter for letter in str(best) if not letter.isascii() and letter.isalpha()]
    latin = sum("LATIN" in unicodedata.name(letter, "LATIN") for letter in letters)
    if len(letters) < _FEWEST or len({*letters}) < _FEWEST_DIFFERENT or 2 * latin > len(letters):
        return None
    with contextlib.suppress(UnicodeDecodeError):
        japanese = [letter for letter in data.decode("cp932") if not letter.isascii()]
        halves = any("\uff61" <= letter <= "\uff9f" for letter in japanese)
        # Japanese characters are pairs of bytes that other encodings read as their own.
        if not halves and best.encoding != "cp932" and max(japanese) >= "\u4e00":
            return None
    return codecs.lookup(best.encoding).name
