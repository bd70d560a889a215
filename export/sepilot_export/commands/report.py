"""`sepilot report`: a run, its files and their figures in one HTML page."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from sepilot_runtime.commands.arguments import verb_parser

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


def main(argv: Sequence[str]) -> int:
    arguments = _parser().parse_args(argv)
    # TensorFlow's start-up lines say nothing that a user can act on; errors still come through.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from sepilot_export.report.material import gather
    from sepilot_export.report.page import render
    from sepilot_runtime.base.files import atomic_file, require_place

    require_place(arguments.out)
    material = gather(
        arguments.run,
        export_path=arguments.export,
        bench_path=arguments.bench,
        closed_loop_path=arguments.closed_loop,
        moved_to=arguments.drives,
    )
    html = render(material)
    with atomic_file(arguments.out) as part:
        part.write_text(html, encoding="utf-8")
    print(arguments.out)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = verb_parser(
        "report", "Gather a training run, its exported files and their figures in one self-contained HTML page.", EPILOG
    )
    parser.add_argument("run", metavar="RUN", type=Path, help="the run directory of `sepilot train`")
    parser.add_argument(
        "--out", metavar="FILE", type=Path, required=True, help="the HTML file to write; replaced if it exists"
    )
    parser.add_argument("--export", metavar="DIR", type=Path, help="the directory of `sepilot export`, checked or not")
    parser.add_argument("--bench", metavar="JSON", type=Path, help="what `sepilot bench --json` printed")
    parser.add_argument("--closed-loop", metavar="JSON", type=Path, help="what `sepilot closed-loop --json` printed")
    parser.add_argument(
        "--drives",
        metavar="PATH",
        nargs="+",
        type=Path,
        default=[],
        help="where the run's drives are now, if they moved",
    )
    return parser
