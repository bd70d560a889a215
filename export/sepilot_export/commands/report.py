"""`sepilot report`: a run, its files and their figures in one HTML page."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sepilot_runtime.commands.arguments import flag, request_from

__all__ = ["main"]

EPILOG = """examples:
  sepilot report runs/week --out report.html
  sepilot report runs/week --export runs/week-export --out report.html
  sepilot bench runs/week-export --json > bench.json
  sepilot closed-loop runs/week-export --json > closed_loop.json
  sepilot report runs/week --export runs/week-export --bench bench.json --closed-loop closed_loop.json --out report.html

The page is one file that loads nothing, for any browser, desktop or phone. A section whose input is missing says which
command makes it.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportRequest:
    run: Path = flag("the run directory of `sepilot train`", "RUN", positional=True)
    out: Path = flag("the HTML file to write; replaced if it exists", "FILE", required=True)
    export: Path | None = flag("the directory of `sepilot export`, checked or not", "DIR")
    bench: Path | None = flag("what `sepilot bench --json` printed", "JSON")
    closed_loop: Path | None = flag("what `sepilot closed-loop --json` printed", "JSON")
    drives: tuple[Path, ...] = flag("where the run's drives are now, if they moved", "PATH", nargs="+", default=())


def main(argv: Sequence[str]) -> int:
    request = request_from(
        argv, ReportRequest, "report",
        "Gather a training run, its exported files and their figures in one self-contained HTML page.", EPILOG,
    )  # fmt: skip
    # TensorFlow's start-up lines say nothing that a user can act on; errors still come through.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from sepilot_export.report.material import gather
    from sepilot_export.report.page import render
    from sepilot_runtime.base.files import atomic_file, require_place

    require_place(request.out)
    material = gather(
        request.run, export_path=request.export, bench_path=request.bench, closed_loop_path=request.closed_loop,
        moved_to=request.drives,
    )  # fmt: skip
    html = render(material)
    with atomic_file(request.out) as part:
        part.write_text(html, encoding="utf-8")
    print(request.out)
    return 0
