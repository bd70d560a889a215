"""A recipe written out."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from sepilot_runtime.base.documents import plain
from sepilot_train.run.recipe import Recipe

__all__ = ["to_toml"]


def to_toml(recipe: Recipe) -> str:
    """The resolved recipe, every value written out, in a form that `load_recipe` reads back to an equal one."""
    lines: list[str] = []
    _write_table(lines, "", {**dataclasses.asdict(recipe), "outputs": plain(recipe.outputs)})
    return "\n".join(lines) + "\n"


def _write_table(lines: list[str], prefix: str, table: Mapping[str, Any]) -> None:
    scalars = {k: v for k, v in table.items() if not isinstance(v, Mapping) and v is not None}
    if prefix and (scalars or not any(isinstance(v, Mapping) for v in table.values())):
        lines += ["", f"[{prefix}]"]
    lines += [f"{key} = {_toml_value(value)}" for key, value in scalars.items()]
    for key, value in table.items():
        if isinstance(value, Mapping):
            _write_table(lines, f"{prefix}.{_toml_key(key)}" if prefix else _toml_key(key), value)


def _toml_key(key: str) -> str:
    return key if key.replace("-", "").replace("_", "").isalnum() else json.dumps(key)


def _toml_value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(_toml_value(v) for v in value)}]"
    # JSON's texts, numbers and truth values are valid TOML.
    return json.dumps(value)
