"""The number of examples for a property: few fixed ones, or many new ones."""

from typing import Any

from hypothesis import settings


def examples(count: int, **more: Any) -> settings:
    """Return the settings of a property: `count` examples, or 50 times as many under `-m slow`."""
    thorough = not settings.default.derandomize
    return settings(max_examples=50 * count if thorough else count, **more)
