"""Names for type hints."""

from typing import Any, TypeAlias

Array: TypeAlias = Any
"""`numpy.ndarray` or `cupy.ndarray`, whichever the backend at hand works on; no narrower type is
true of both."""
