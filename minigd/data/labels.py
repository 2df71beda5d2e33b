"""Decides when two class labels are the same, such as 1, 1.0 and "1" in dicts, files and arrays.

This one rule serves `class_weight`, `classes`, and the cells of a file.
"""

import re
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

_WRITTEN = (str, str.lower, str.upper)  # the spellings of a boolean
# How a whole number is written as an int and as a float: no plus, zero or blank before it. Python
# refuses to read an int of thousands of digits, and no dtype holds one of 40 digits.
_WHOLE = re.compile(r"(0|-?[1-9][0-9]{0,39})(\.0+)?")


def label_key(label: Any) -> Any:
    """Return a key that is the same for equal labels, as an int or a text.

    A whole number of any type is its own key, and so is a text such as "1" or "1.0". Any other text
    is its own key: "01", " 1" and "+1" are not 1. True and False are 1 and 0.

    >>> [label_key(label) for label in (1, 1.0, True, "1", "1.0", "01", "one", 0.5, "1.50")]
    [1, 1, 1, 1, 1, '01', 'one', '0.5', '1.50']
    """
    if isinstance(label, str):
        written = _WHOLE.fullmatch(label)
        return str(label) if written is None else int(written[1])
    # NumPy's bool is not registered as an Integral.
    whole = "bool" in type(label).__name__ or isinstance(label, Integral)
    if whole or (isinstance(label, Real) and float(label).is_integer()):
        return int(label)
    return str(label)


def read_truth(text: str) -> bool | None:
    """Return the boolean that a text means, or None.

    >>> [read_truth(text) for text in ("True", "FALSE", "true", "tRUE", "1")]
    [True, False, True, None, None]
    """
    known = {write(str(truth)): truth for truth in (False, True) for write in _WRITTEN}
    return known.get(text)


def same_label(one: Any, other: Any) -> bool:
    """Tell whether two labels are of the same class.

    Labels are the same if their `label_key` is, and so are True, "True", "true" and "TRUE".

    >>> same_label(2, "2.0"), same_label("2", "02"), same_label(True, "true"), same_label("a", "A")
    (True, False, True, False)
    """
    if label_key(one) == label_key(other):
        return True
    for truth, text in ((one, other), (other, one)):
        if "bool" in type(truth).__name__ and isinstance(text, str):
            return read_truth(text) == bool(truth)
    return False


def find_label(label: Any, labels: Sequence[Any]) -> int | None:
    """Return the index of a label in a list, or None; an identical label is preferred.

    >>> find_label(2.0, ["1", "2"]), find_label("1.0", ["1", "1.0"]), find_label("3", [1, 2])
    (1, 1, None)
    """
    texts = [str(known) for known in labels]
    if str(label) in texts:
        return texts.index(str(label))
    return next((i for i, known in enumerate(labels) if same_label(label, known)), None)
