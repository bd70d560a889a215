"""What other packages add by entry points: code that the user installed, looked for where packages are installed.

The working directory is no such place (`safe_path.py`). Our own names come first and are found without this search, so
that nothing takes their place, runtime/ copied alone has them, and a drive starts as quickly as without.
"""

from __future__ import annotations

from typing import Any

from sepilot_runtime.base.errors import UsageError

__all__ = ["ENGINES", "OUTPUTS", "REFERENCES", "load_plugin", "plugin_names"]

OUTPUTS = "sepilot.outputs"
"""`opener(Address) -> Sink`, see `output/registry.py`."""

ENGINES = "sepilot.engines"
"""`opener(ModelFile, threads: int) -> Engine`, see `engine/engines.py`."""

REFERENCES = "sepilot.references"
"""`opener(Path, Contract) -> list[Engine]`: engines to compare with, for `sepilot bench`."""


def plugin_names(group: str) -> list[str]:
    """Names that are installed in a group, sorted."""
    from importlib import metadata

    return sorted({point.name for point in metadata.entry_points(group=group)})


def load_plugin(group: str, name: str) -> Any:
    """What an installed name of the group stands for; None where there is none of that name.

    Raises:
        UsageError: its package is broken, or lacks what it needs.
    """
    from importlib import metadata

    for point in metadata.entry_points(group=group, name=name):
        try:
            return point.load()
        except (ImportError, AttributeError) as e:
            raise UsageError(f"{name}: {point.value} of {group} cannot be loaded: {e}") from e
    return None
