"""Contracts of versions before this one, which files of today and run directories carry: read, never written.

Version 1 knew one picture and numbers, one tolerance for all of them, and a task, which was steering.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sepilot_runtime.base.errors import ContractError

__all__ = ["of_version_2", "of_version_2_1"]

THE_TASK = "steering"


def of_version_2(body: Mapping[str, Any], version: str) -> dict[str, Any]:
    """A contract of version 1 (without its digest) as one of `version`.

    What is of a wrong type stays as it is, for the reader of version 2 to refuse.

    Raises:
        ContractError: it has another task.
    """
    whole = {**body, "version": version}
    if (task := whole.pop("task", None)) != THE_TASK:
        raise ContractError(f"task: {THE_TASK} expected, found {task!r}")
    whole["inputs"] = [_whole(_tagged("picture", whole.pop("picture", None)))]
    if isinstance(outputs := body.get("outputs"), list):
        whole["outputs"] = [_tagged("scalar", output) for output in outputs]
        if "tolerance" in body:
            names = [output.get("name") for output in outputs if isinstance(output, dict)]
            whole["tolerance"] = {name: body["tolerance"] for name in names if isinstance(name, str)}
    if isinstance(golden := body.get("golden"), list):
        whole["golden"] = [_golden(entry) for entry in golden]
    # The keys that came with versions 1.1 and 1.2.
    whole.setdefault("frame", None)
    if isinstance(statistics := body.get("statistics"), dict):
        whole["statistics"] = found = {"likeness": None, "frame_size": None, "flat_rows": None, **statistics}
        if isinstance(likeness := found["likeness"], dict):
            found["likeness"] = {"limit": None, **likeness}
    return whole


def of_version_2_1(body: Mapping[str, Any], version: str) -> dict[str, Any]:
    """A contract of version 2.0 (without its digest) as one of `version`: the keys that came since have one meaning."""
    inputs = body.get("inputs")
    whole = [_whole(i) for i in inputs] if isinstance(inputs, list) else inputs
    return {**body, "version": version, "inputs": whole}


_SINCE: Mapping[Any, Mapping[str, Any]] = {"picture": {"fit": "stretch"}, "vector": {"one_hot": [], "previous": ""}}
"""What inputs of a kind had no key for."""


def _whole(entry: Any) -> Any:
    kind = entry.get("kind") if isinstance(entry, dict) else None
    return {**_SINCE[kind], **entry} if isinstance(kind, str) and kind in _SINCE else entry


def _tagged(kind: str, value: Any) -> Any:
    return {"kind": kind, **value} if isinstance(value, dict) else value


def _golden(entry: Any) -> Any:
    if not (isinstance(entry, dict) and isinstance(expected := entry.get("expected"), dict)):
        return entry
    return {"vectors": {}, **entry, "expected": {name: [value] for name, value in expected.items()}}
