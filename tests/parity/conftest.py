"""Nets are fitted and exported once for all parity tests."""

from __future__ import annotations

import os
from typing import Any

import pytest

# Before anything imports Keras: only TensorFlow's graphs convert.
os.environ["KERAS_BACKEND"] = "tensorflow"

from parity.bar_nets import GRAY, SMALL_V27, Bench, bench_of, fitted


@pytest.fixture(scope="session")
def v27(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Gray pictures; batch normalization that cannot be folded."""
    net: Any = fitted("v27", GRAY, SMALL_V27, seed=0)
    return bench_of(net, GRAY, "v27", tmp_path_factory.mktemp("v27"))
