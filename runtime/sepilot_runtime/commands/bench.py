"""`sepilot bench FILE…`: latency from frame to angle on this machine."""

from __future__ import annotations

import dataclasses
import itertools
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sepilot_runtime.commands.bench_plan import RANDOM_INPUTS, BenchPlan, planned
from sepilot_runtime.commands.bench_request import BenchRequest, bench_request

if TYPE_CHECKING:
    from sepilot_runtime.bench.latency_bench import Variant
    from sepilot_runtime.bench.record import Benchmark, BenchRow
    from sepilot_runtime.bench.soak import SoakTest

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
    new = _measure(planned(request, old), request)
    # What was measured is said before anything else is done with it, which may fail.
    code = _compare(old, new, request) if old is not None else _say(new, request)
    if request.write_profile:
        _write_profile(request.write_profile, new)
    return code


def _measure(plan: BenchPlan, request: BenchRequest) -> Benchmark:
    from sepilot_runtime.bench.cold_start import cold_start
    from sepilot_runtime.bench.latency_bench import measure
    from sepilot_runtime.bench.record import Benchmark, conditions_of
    from sepilot_runtime.bench.roofline import gemm_rate
    from sepilot_runtime.device.conditions import conditions_now

    before = conditions_now()
    rows = measure(
        plan.variants, plan.frames, rounds=request.rounds, calls=request.calls, seed=request.seed,
        references=plan.references,
    )  # fmt: skip
    starts, size = request.cold_starts, {name: plan.settings[f"frame_{name}"] for name in ("height", "width")}
    colds = [cold_start(variant, starts, **size) for variant in plan.variants] if starts else []
    paced = [_paced(variant, plan.frames, request) for variant in plan.variants] if request.paced else []
    after, rate = conditions_now(), gemm_rate()
    return Benchmark(
        conditions=conditions_of(before, after),
        settings=plan.settings,
        gemm_gmacs=rate,
        rows=tuple(
            dataclasses.replace(row, cold_start=cold, paced=pace)
            for row, cold, pace in itertools.zip_longest(_with_work(rows, plan, rate), colds, paced)
        ),
        missing=tuple(plan.missing),
    )


def _with_work(rows: Sequence[BenchRow], plan: BenchPlan, rate_gmacs: float | None) -> Iterator[BenchRow]:
    """The rows with their own names, checksums, and what their multiplications take."""
    from sepilot_runtime.base.files import sha256_of
    from sepilot_runtime.bench.roofline import floor_us, model_macs

    macs_of = {path: model_macs(path) for path in dict.fromkeys(variant.path for variant in plan.variants)}
    recipes = {file.path: file.contract.provenance.recipe_sha256 for file in plan.files}
    of_recipe = {recipe: macs_of[path] for path, recipe in recipes.items() if macs_of[path]}
    for row in rows:
        path = Path(row.path)
        # An ONNX file does not say it; that of the same recipe does, and the references stand beside the first.
        recipe = next(iter(recipes.values()), "") if row.reference else recipes.get(path, "")
        macs = (None if row.reference else macs_of[path]) or of_recipe.get(recipe)
        floor = floor_us(macs, rate_gmacs) if macs and rate_gmacs else None
        yield dataclasses.replace(
            row, file=plan.names[path], sha256=sha256_of(path) if path in macs_of else None, macs=macs, floor_us=floor,
            infer_over_floor=row.infer.p50_us / floor if floor else None,
        )  # fmt: skip


def _paced(variant: Variant, frames: Sequence[Any], request: BenchRequest) -> SoakTest:
    from sepilot_runtime.bench.soak import soak_test
    from sepilot_runtime.engine.pilot import load_pilot
    from sepilot_runtime.engine.trial import time_limit

    with time_limit(variant.path):
        pilot = load_pilot(variant.path, threads=variant.threads, engine=variant.engine)
    found = soak_test(pilot, frames, rate_hz=request.paced, seconds=request.minutes * 60)
    return dataclasses.replace(found, resources=found.resources[-1:])


def _say(new: Benchmark, request: BenchRequest) -> int:
    """Print what was measured; the exit code."""
    from sepilot_runtime.bench.tables import paced_table, table

    if request.json:
        print(json.dumps(dataclasses.asdict(new), indent=2))
        return 0
    conditions, settings = new.conditions, new.settings
    print(conditions)
    if conditions.governor not in (None, "performance"):
        print(f"sepilot: governor {conditions.governor!r}; 'performance' gives steadier figures", file=sys.stderr)
    if conditions.throttled_after not in (None, "no"):
        print(f"sepilot: throttled: {conditions.throttled_after}; cool or power it better", file=sys.stderr)
    size = f"frame {settings['frame_width']}x{settings['frame_height']}"
    path = f"{size} ({settings['frames']}, {settings['frame_count']} in memory) to angle"
    print(
        f"\n{RANDOM_INPUTS + ' to outputs' if settings['frames'] == RANDOM_INPUTS else path}, microseconds,\n"
        f"{settings['rounds']} rounds x {settings['calls']} calls, interleaved\n"
    )
    print(table(new, by_engine=bool(request.engine)))
    if request.paced:
        print(f"\npaced at {request.paced:g} Hz for {request.minutes:g} min, the whole turn of the live loop\n")
        print(paced_table(new))
    return 0


def _compare(old: Benchmark, new: Benchmark, request: BenchRequest) -> int:
    from sepilot_runtime.bench.regression import compare
    from sepilot_runtime.bench.tables import comparison_table

    found, remarks = compare(old, new, tolerance=request.tolerance)
    failed = any(row.failed for row in found)
    if request.json:
        found_words = [dataclasses.asdict(row) for row in found]
        print(json.dumps(dataclasses.asdict(new) | {"against": found_words, "remarks": remarks}, indent=2))
    else:
        print(comparison_table(found))
        print("".join(f"\n{remark}" for remark in remarks).removeprefix("\n"))
        if failed:
            print(f"slower by more than {request.tolerance:.0%}")
    return 1 if failed else 0


def _write_profile(path: Path, new: Benchmark) -> None:
    from sepilot_runtime.bench.profile import write_profile

    profile, lines = write_profile(path, new.rows, new.conditions.cpu)
    for line in lines:
        print(f"not eligible: {line}", file=sys.stderr)
    threads = f"{profile.threads} thread{'s' * (profile.threads > 1)}"
    print(f"{path}: {profile.file} on {profile.engine}, {threads}, {profile.us_p50:.1f} us", file=sys.stderr)
