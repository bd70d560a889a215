"""OpenCV's own lines are kept off stderr with every version that pyproject.toml allows."""

from __future__ import annotations

import runpy
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from sepilot_runtime.base import opencv


@pytest.mark.parametrize("moved", [False, True], ids=["up to 4.12", "from 4.13"])
def test_the_log_level_is_set_where_this_version_has_it(moved: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    levels = [3]

    def set_log_level(level: int) -> int:
        levels.append(level)
        return levels[-2]

    logging: Any = SimpleNamespace(setLogLevel=set_log_level)
    cv2 = SimpleNamespace(utils=SimpleNamespace(logging=logging)) if moved else logging
    monkeypatch.setitem(sys.modules, "cv2", cv2)
    with runpy.run_path(opencv.__file__)["silenced"]():
        assert levels == [3, 0]
    assert levels == [3, 0, 3]
