"""Versions of the tools that made a file."""

from __future__ import annotations

__all__ = ["tool_versions"]

_TOOLS = ("sepilot", "tensorflow", "keras", "ai-edge-quantizer", "ai-edge-litert", "tf2onnx", "onnx", "onnxruntime",
          "numpy")  # fmt: skip


def tool_versions() -> dict[str, str]:
    """Versions of everything that has a say in the files."""
    from sepilot_runtime.device.conditions import versions

    return versions(_TOOLS)
