"""Paths side by side have names that tell them apart, and no longer ones than it takes."""

from __future__ import annotations

from pathlib import Path

from sepilot_runtime.base.unique_names import names_of


def test_names_are_as_long_as_it_takes() -> None:
    paths = [Path(p) for p in ("/a/week", "/b/slim", "/c/slim", "/r/swift/0", "/r/v27/0")]
    assert names_of(paths) == ["week", "b/slim", "c/slim", "swift/0", "v27/0"]
    files = [Path(p) for p in ("/a/export/x.tflite", "/b/export/x.tflite", "y.onnx")]
    assert names_of(files) == ["a/export/x.tflite", "b/export/x.tflite", "y.onnx"]


def test_a_path_twice_has_one_name() -> None:
    assert names_of([Path("/a/x"), Path("/a/b/../x"), Path("/b/y")]) == ["x", "x", "y"]
