"""How whatever is hostile has to be refused: in one line, at once, and without much memory."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable

import pytest

from sepilot_runtime.base.errors import SepilotError

__all__ = ["refused_at_once"]


def refused_at_once(call: Callable[[], object], error: type[SepilotError], *, within_s: float, most_bytes: int) -> str:
    """The one line of the error that `call` raises."""
    start = time.monotonic()
    tracemalloc.start()
    try:
        with pytest.raises(error) as caught:
            call()
        assert tracemalloc.get_traced_memory()[1] < most_bytes
    finally:
        tracemalloc.stop()
    assert time.monotonic() - start < within_s
    assert "\n" not in str(caught.value)
    return str(caught.value)
