"""Names for type hints."""

from typing import Any, TypeAlias

Array: TypeAlias = Any
"""`numpy.ndarray` or `cupy.ndarray`, depending on the backend. No narrower type fits both."""
