"""`sepilot bench FILE…`: latency from frame to angle on this machine."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sepilot_runtime.commands.bench_plan import RANDOM_INPUTS, BenchPlan, planned
from sepilot_runtime.commands.bench_request import BenchRequest, bench_request

if TYPE_CHECKING:
    from sepilot_runtime.bench.latency_bench import Variant
    from sepilot_runtime.bench.record import Benchmark
    from sepilot_runtime.bench.tables import Report

__all__ = ["main"]


def main(argv: Sequence[str]) -> int:
    """Run `sepilot bench`."""
    request = bench_request(argv)
    from sepilot_runtime.base.files import require_new
    from sepilot_runtime.bench.regression import read_benchmark

    old = read_benchmark(request.against) if request.against else None
    if old is not None and request.compares_documents:
        return _compare(old, read_benchmark(request.files[0]), request)
    if request.write_profile:
        require_new(request.write_profile)
    report = _measure(planned(request, old), request)
    # What was measured is said before anything else is done with it, which may fail.
    code = _say(report, old, request)
    if request.write_profile:
        _write_profile(request.write_profile, report)
    return code


def _measure(plan: BenchPlan, request: BenchRequest) -> Report:
    from sepilot_runtime.base.files import sha256_of
    from sepilot_runtime.bench.cold_start import cold_start
    from sepilot_runtime.bench.latency_bench import measure
    from sepilot_runtime.bench.roofline import gemm_rate, model_macs
    from sepilot_runtime.bench.tables import Report
    from sepilot_runtime.device.conditions import conditions_now

    files, frames, settings = plan.files, plan.frames, plan.settings
    before = conditions_now()
    results = measure(
        plan.variants, frames, rounds=request.rounds, calls=request.calls, seed=request.seed,
        references=plan.references,
    )  # fmt: skip
    starts, height, width = request.cold_starts, settings["frame_height"], settings["frame_width"]
    colds = [cold_start(variant, starts, height=height, width=width) for variant in plan.variants] if starts else []
    paced = [_paced(variant, frames, request) for variant in plan.variants] if request.paced else []
    macs_of = {path: model_macs(path) for path in dict.fromkeys(variant.path for variant in plan.variants)}
    of_recipe = {f.contract.provenance.recipe_sha256: macs_of[f.path] for f in files if macs_of[f.path]}
    recipes = {file.path: file.contract.provenance.recipe_sha256 for file in files}
    # An ONNX file does not say it; that of the same recipe does, and the references stand beside the first.
    macs = [macs_of.get(r.path) or of_recipe.get(recipes.get(r.path, "")) for r in results if not r.reference]
    return Report(
        settings=settings,
        before=before,
        after=conditions_now(),
        results=results,
        macs=macs + [of_recipe.get(next(iter(recipes.values()), ""))] * (len(results) - len(macs)),
        colds=colds,
        paced=paced,
        gemm_gmacs=gemm_rate(),
        missing=plan.missing,
        names=plan.names,
        sha256={path: sha256_of(path) for path in macs_of},
    )


def _paced(variant: Variant, frames: Sequence[Any], request: BenchRequest) -> Any:
    from sepilot_runtime.bench.soak import soak_test
    from sepilot_runtime.engine.pilot import load_pilot
    from sepilot_runtime.engine.trial import time_limit

    with time_limit(variant.path):
        pilot = load_pilot(variant.path, threads=variant.threads, engine=variant.engine)
    return soak_test(pilot, frames, rate_hz=request.paced, seconds=request.minutes * 60)


def _say(report: Report, old: Benchmark | None, request: BenchRequest) -> int:
    """Print what was measured, or how it compares; the exit code."""
    from dataclasses import asdict

    from sepilot_runtime.bench.tables import document

    new = document(report)
    if old is not None:
        return _compare(old, new, request)
    if request.json:
        print(json.dumps(asdict(new), indent=2))
    else:
        _print(report, request)
    return 0


def _print(report: Report, request: BenchRequest) -> None:
    from sepilot_runtime.bench.tables import paced_table, table

    before, settings = report.before, report.settings
    print(before)
    if before.governor not in (None, "performance"):
        print(f"sepilot: governor {before.governor!r}; 'performance' gives steadier figures", file=sys.stderr)
    if report.after.throttled not in (None, "no"):
        print(f"sepilot: throttled: {report.after.throttled}; cool or power it better", file=sys.stderr)
    size = f"frame {settings['frame_width']}x{settings['frame_height']}"
    path = f"{size} ({settings['frames']}, {settings['frame_count']} in memory) to angle"
    print(
        f"\n{RANDOM_INPUTS + ' to outputs' if settings['frames'] == RANDOM_INPUTS else path}, microseconds,\n"
        f"{settings['rounds']} rounds x {settings['calls']} calls, interleaved\n"
    )
    print(table(report, by_engine=bool(request.engine)))
    if report.paced:
        print(f"\npaced at {request.paced:g} Hz for {request.minutes:g} min, the whole turn of the live loop\n")
        print(paced_table(report))


def _compare(old: Benchmark, new: Benchmark, request: BenchRequest) -> int:
    from dataclasses import asdict

    from sepilot_runtime.bench.regression import compare
    from sepilot_runtime.bench.tables import comparison_table

    found, remarks = compare(old, new, tolerance=request.tolerance)
    failed = any(row.failed for row in found)
    if request.json:
        print(json.dumps({**asdict(new), "against": [asdict(row) for row in found], "remarks": remarks}, indent=2))
    else:
        print(comparison_table(found))
        print("".join(f"\n{remark}" for remark in remarks).removeprefix("\n"))
        if failed:
            print(f"slower by more than {request.tolerance:.0%}")
    return 1 if failed else 0


def _write_profile(path: Path, report: Report) -> None:
    from sepilot_runtime.bench.profile import write_profile

    profile, lines = write_profile(path, report.results, report.before.cpu)
    for line in lines:
        print(f"not eligible: {line}", file=sys.stderr)
    threads = f"{profile.threads} thread{'s' * (profile.threads > 1)}"
    print(f"{path}: {profile.file} on {profile.engine}, {threads}, {profile.us_p50:.1f} us", file=sys.stderr)
