"""Versions of the tools that made a file."""

from __future__ import annotations

__all__ = ["tool_versions"]

_TOOLS = ("sepilot", "tensorflow", "keras", "ai-edge-quantizer", "ai-edge-litert", "tf2onnx", "onnx", "onnxruntime",
          "numpy")  # fmt: skip


def tool_versions() -> dict[str, str]:
    """Versions of everything that has a say in the files."""
    from importlib import metadata

    found = {}
    for package in _TOOLS:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
