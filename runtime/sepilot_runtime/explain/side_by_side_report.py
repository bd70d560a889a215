"""Two files side by side, as a document and as a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from sepilot_runtime.base.bootstrap import Interval
from sepilot_runtime.contract.outputs.kinds import Output, task_of
from sepilot_runtime.contract.outputs.units import amount, mark_of
from sepilot_runtime.engine.pilot import Pilot
from sepilot_runtime.explain.side_by_side import Answers, Difference, Judgement, Said, latencies, worst_frames

__all__ = ["document_of", "name_of", "table"]

NAME_WIDTH = 38

Found = Mapping[str, tuple[Difference, Judgement | None]]
"""Of each output."""


def name_of(pilot: Pilot) -> str:
    """File and interpreter."""
    return f"{pilot.engine.path.name} on {pilot.engine.name}"


def document_of(pilots: tuple[Pilot, Pilot], answers: Answers, found: Found, frames: str, count: int) -> dict[str, Any]:
    """What compare.json holds.

    Args:
        frames: the recording.
        count: of the worst frames.
    """
    return {
        "files": [
            {
                "path": str(pilot.engine.path),
                "engine": pilot.engine.name,
                "precision": pilot.contract.provenance.precision,
                "picture": list(pilot.contract.picture.shape),
                "latency": asdict(latency),
            }
            for pilot, latency in zip(pilots, latencies(answers), strict=True)
        ],
        "frames": frames,
        "outputs": {name: _output(answers, said, *found[name], count) for name, said in answers.said.items()},
    }


def _output(answers: Answers, said: Said, found: Difference, judged: Judgement | None, count: int) -> dict[str, Any]:
    return {
        "unit": said.output.unit,
        "far": said.far,
        "difference": asdict(found),
        "judgement": asdict(judged) if judged else None,
        "worst": [
            {
                "frame": int(answers.ids[place]),
                "time_s": round(float(answers.times_s[place]), 4),
                "a": round(float(said.values[0, place]), 4),
                "b": round(float(said.values[1, place]), 4),
                "recorded": _told(said.recorded[place]),
            }
            for place in worst_frames(answers, said, count)
        ],
    }


def _told(recorded: float | str | None) -> float | str | None:
    return round(recorded, 4) if isinstance(recorded, float) else recorded


def table(pilots: tuple[Pilot, Pilot], answers: Answers, found: Found) -> str:
    """Lines of 80 columns for people."""
    said, (_, judged) = next(iter(answers.said.values())), next(iter(found.values()))
    errors = [f"{mae:.2f}" for mae in judged.mae] if judged else ["-", "-"]
    head = f"{'':2}{'file':{NAME_WIDTH}}  precision        p50 µs p99 µs  error{mark_of(said.output)}"
    lines = [f"{len(answers.ids):,} frames", "", head]
    for letter, pilot, latency, error in zip("AB", pilots, latencies(answers), errors, strict=True):
        precision = pilot.contract.provenance.precision
        timing = f"{latency.p50_us:>6.0f} {latency.p99_us:>6.0f}"
        lines.append(f"{letter} {_short(name_of(pilot)):{NAME_WIDTH}}  {precision:<15} {timing}  {error:>6}")
    for name, said in answers.said.items():
        lines += ["", *([f"{name}:"] if len(found) > 1 else []), *_output_lines(said, *found[name])]
    return "\n".join(lines)


def _output_lines(said: Said, found: Difference, judged: Judgement | None) -> list[str]:
    def told(number: float, digits: int = 3) -> str:
        return amount(number, said.output, digits)

    task = task_of(said.output)
    correlation = "-" if found.correlation is None else f"{found.correlation:.4f}"
    sizes = [("mean", found.mean), ("p50", found.p50), ("p99", found.p99), ("max", found.max)]
    far = "1/3°" if said.output.unit == "deg" else told(said.far)
    further = f"{told(abs(found.bias))} {'further ' * (task.ends == ('left', 'right'))}{task.ends[found.bias >= 0]}"
    lines = [
        "difference   " + "   ".join(f"{name} {told(size)}" for name, size in sizes),
        f"             B is {further} in the mean",
        f"             {found.far:.1%} of the frames beyond {far}, correlation {correlation}",
    ]
    if task.contrary_means:
        lines.append(f"             {found.contrary} frames {task.contrary_means}")
    return lines + (["", *_judged_lines(judged, said.output)] if judged else [])


def _judged_lines(judged: Judgement, output: Output) -> list[str]:
    change = judged.b_over_a
    verdict = "B is nearer" if change.high < 0 else "A is nearer" if change.low > 0 else "no difference to be seen"
    constant = amount(judged.constant_mae, output)
    lines = [
        f"recorded     {judged.frames:,} frames; the best constant answer is off by {constant}",
        f"             B - A {_interval(change, output)}: {verdict}",
    ]
    for letter, over in zip("AB", judged.over_constant, strict=True):
        word = "better" if over.high < 0 else "worse" if over.low > 0 else "no better"
        lines.append(f"             {letter} - constant {_interval(over, output)}: {word} than the constant")
    return lines


def _interval(interval: Interval, output: Output) -> str:
    return f"{interval.mean:+.3f}{mark_of(output)} (95 %: {interval.low:+.3f} to {interval.high:+.3f})"


def _short(name: str) -> str:
    """A name that fits its column. The middle is cut: the end tells files of one model apart."""
    if len(name) <= NAME_WIDTH:
        return name
    head = NAME_WIDTH // 3
    return f"{name[:head]}…{name[head + 1 - NAME_WIDTH :]}"
