"""How a page comes out of its template: one set of rules for the report and for the trade-off."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sepilot_export.report.formatting import FILTERS
from sepilot_train.base import plots

__all__ = ["render_page"]

_PALETTE = {
    "ink": plots.INK, "accent": plots.ACCENT, "second": plots.SECOND, "faint": plots.FAINT, "grid": plots.GRID,
    "good": plots.GOOD, "bad": plots.BAD,
}  # fmt: skip
"""For style.css, on light paper."""


def render_page(template: str, packages: Sequence[str], **values: Any) -> str:
    """Render a template of one of `packages`, the first one that has it. Every text in `values` is escaped."""
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=ChoiceLoader([*map(PackageLoader, packages), PackageLoader("sepilot_runtime.output.web", "static")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(FILTERS)
    return environment.get_template(template).render(**_PALETTE, **values)
