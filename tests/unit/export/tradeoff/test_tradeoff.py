"""`sepilot tradeoff`: what is on the front, what is picked and why, and what cannot be compared."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from sepilot_export.tradeoff.candidate import Entry
from sepilot_export.tradeoff.common_frames import FEWEST_FRAMES, Labels, common_frames
from sepilot_export.tradeoff.discovery import Place, find
from sepilot_export.tradeoff.lineage import commands_of
from sepilot_export.tradeoff.pareto import choose, cost_gzip, cost_us, eligible, grouped, pareto
from sepilot_runtime.base.errors import RunError
from sepilot_runtime.base.files import sha256_of
from sepilot_runtime.recording.options import DriveFilter, ReaderOptions
from tradeoff_factory import DRIVES, entry, write_export

GAIN = 4.0
"""Degrees that the best of the tables below gains over the constant answer."""


def picked(entries: list[Entry]) -> dict[str, str]:
    """Letter to name."""
    return {pick.letter: pick.entry.name for pick in choose(eligible(entries, DRIVES), DRIVES)}


def names(entries: list[Entry]) -> list[str]:
    return [e.name for e in entries]


def test_a_dominated_file_is_not_on_the_front() -> None:
    table = [entry("slow", 1.0, 200, 80), entry("fast", 1.2, 100, 90), entry("worse", 1.3, 150, 85)]
    assert names(pareto(table, cost_us)) == ["fast", "slow"]
    assert names(pareto(table, cost_gzip)) == ["slow"]


def test_a_failing_file_is_neither_on_the_front_nor_picked() -> None:
    table = [entry("good", 1.5, 200, 80), entry("broken", 1.0, 50, 10, reasons=["max error"])]
    assert names(pareto(table, cost_us)) == ["good"]
    assert set(picked(table).values()) == {"good"}


def test_a_file_that_was_not_timed_is_not_picked() -> None:
    table = [entry("good", 1.5, 200, 80), dataclasses.replace(entry("unknown", 1.0, 50, 10), timing=None)]
    assert set(picked(table).values()) == {"good"}


def test_the_three_picks_of_a_hand_made_table() -> None:
    table = [
        entry("lowest", 1.00, 300, 200),
        entry("as-good", 1.00 + 0.009 * GAIN, 200, 200),
        entry("quick", 1.00 + 0.04 * GAIN, 100, 150),
        entry("small", 1.00 + 0.09 * GAIN, 120, 50),
        entry("too-small", 1.00 + 0.20 * GAIN, 20, 10),
    ]
    assert picked(table) == {"A": "as-good", "B": "quick", "S": "small"}
    picks = choose(eligible(table, DRIVES), DRIVES)
    assert [round(pick.kept, 3) for pick in picks] == [0.991, 0.96, 0.91]
    assert [pick.above_deg.mean for pick in picks] == pytest.approx([0.036, 0.16, 0.36])


def test_a_file_must_keep_its_share_with_the_whole_of_its_interval() -> None:
    # On average it keeps 97 % of the gain, but the frames do not show that it keeps 95 %.
    noisy = entry("noisy", 1.00 + 0.03 * GAIN, 50, 50, spread=6.0)
    steady = entry("steady", 1.00 + 0.03 * GAIN, 50, 50, spread=0.3)
    assert picked([entry("lowest", 1.0, 300, 200), noisy])["B"] == "lowest"
    assert picked([entry("lowest", 1.0, 300, 200), steady])["B"] == "steady"


def test_equal_times_go_to_the_smaller_file_and_equal_sizes_to_the_lower_error() -> None:
    table = [entry("float32", 1.0, 100, 200), entry("float16", 1.001, 102, 100)]
    assert picked(table)["A"] == "float16"
    table = [entry("first", 1.01, 100, 99), entry("second", 1.0, 102, 100)]
    assert picked(table) == {"A": "second", "B": "second", "S": "second"}
    assert [len(picks) for picks in grouped(choose(table, DRIVES))] == [3]


def test_smallest_is_by_the_compressed_size() -> None:
    table = [entry("dense", 1.0, 100, 100, gzip_kb=90), entry("pruned", 1.2, 100, 100, gzip_kb=40)]
    assert picked(table) == {"A": "dense", "B": "dense", "S": "pruned"}


@pytest.mark.parametrize("mae", [5.0, 5.1, 4.99])
def test_nothing_is_picked_that_is_not_surely_better_than_a_constant(mae: float) -> None:
    assert picked([entry("useless", mae, 10, 10, spread=3.0)]) == {}


def test_no_pick_fails_and_no_front_has_a_beaten_file_whatever_the_table() -> None:
    rng = np.random.default_rng(0)
    for _ in range(8):
        table = [
            entry(f"f{i}", *rng.uniform((1, 50, 10), (5.5, 500, 300)), reasons=["fails"] if rng.random() < 0.3 else [])
            for i in range(12)
        ]
        front = pareto(table, cost_us)
        for a in (e for e in table if e.passed):
            for b in front:
                assert a.mae_deg and b.mae_deg
                assert not (a.mae_deg.mean < b.mae_deg.mean and cost_us(a) <= cost_us(b))
        able = eligible(table, DRIVES)
        picks = choose(able, DRIVES)
        assert all(pick.entry.passed for pick in picks) and bool(picks) == bool(able)
        assert [pick.kept > share for pick, share in zip(picks, (0.99, 0.95, 0.9), strict=False)] == [True] * len(picks)


# --- frames ---------------------------------------------------------------------------------------------------------


def labels(name: str, numbers: range, *, drive: str = "d", shift: float = 0.0, output: str = "steering") -> Labels:
    return Labels(
        name=name,
        places={(drive, str(number)): i for i, number in enumerate(numbers)},
        in_unit=np.array([float(number % 20) + shift for number in numbers]),
        output=output,
        mark="°",
    )


def test_the_frames_that_all_hold_out_are_found_wherever_they_lie() -> None:
    common = common_frames([labels("a", range(500)), labels("b", range(100, 600))])
    assert common.count == 400 and common.left == (100, 100)
    assert common.index[0][0] == 100 and common.index[1][0] == 0
    assert common.in_unit[0] == 0.0 and common.in_unit[1] == 1.0


def test_few_frames_are_enough_where_all_hold_out_the_same() -> None:
    assert common_frames([labels("a", range(40)), labels("b", range(40))]).count == 40


def test_different_held_out_frames_are_refused_naming_two() -> None:
    parts = [labels("a", range(500)), labels("b", range(500)), labels("c", range(400, 900))]
    with pytest.raises(RunError, match=rf"^a and c .*100 of 500 and 500 .*{FEWEST_FRAMES} expected") as found:
        common_frames(parts)
    assert "\n" not in str(found.value)
    with pytest.raises(RunError, match="a and x were judged on different frames: 0 of 500"):
        common_frames([labels("a", range(500)), labels("x", range(500), drive="other")])


def test_other_labels_for_the_same_frames_are_refused() -> None:
    with pytest.raises(RunError, match=r"a and b have different labels for frame 0 of drive d: 0.000 and 0.500"):
        common_frames([labels("a", range(400)), labels("b", range(400), shift=0.5)])


def test_files_that_answer_something_else_first_are_refused() -> None:
    with pytest.raises(RunError, match="b: steering° as the first output expected, as a has it, found throttle°"):
        common_frames([labels("a", range(400)), labels("b", range(400), output="throttle")])


def test_frames_without_labels_say_so() -> None:
    with pytest.raises(RunError, match="b: no labelled"):
        common_frames([labels("a", range(400)), labels("b", range(0))])


# --- what is there --------------------------------------------------------------------------------------------------


def write_run(folder: Path, model: bytes = b"model", **request: object) -> Path:
    folder.mkdir(parents=True)
    (folder / "model.keras").write_bytes(model)
    asked = {"drives": ["tubs/monday"], "validation_drives": [], "seed": 3}
    asked |= {"reader": dataclasses.asdict(ReaderOptions()), "filter": dataclasses.asdict(DriveFilter())}
    (folder / "request.json").write_text(json.dumps(asked | request))
    return folder


def test_runs_and_exports_are_found_two_levels_down(tmp_path: Path) -> None:
    week = tmp_path / "runs" / "week"
    run, other = write_run(week / "0", b"one"), write_run(week / "1", b"two")
    export = write_export(tmp_path / "exports" / "week")
    record = json.loads((export / "export.json").read_text())
    record["model_sha256"] = sha256_of(run / "model.keras")
    (export / "export.json").write_text(json.dumps(record))
    (write_run(tmp_path / "runs" / "half") / "model.keras").unlink()
    (write_export(tmp_path / "exports" / "old") / "reference.npz").unlink()
    write_run(tmp_path / "runs" / "too" / "far" / "down", b"three")
    found = find([tmp_path / "runs", tmp_path / "exports", run])
    assert found.exports == ((export, run),), "its run is known by the model"
    assert found.runs == (other,)
    reasons = {Path(thing.what).name: thing.reason for thing in found.left_out}
    assert "not finished" in reasons["half"] and "reference.npz" in reasons["old"] and len(reasons) == 2


def test_an_export_knows_its_run_by_the_path_that_it_keeps(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    export = write_export(tmp_path / "export")
    record = json.loads((export / "export.json").read_text()) | {"run": str(run)}
    (export / "export.json").write_text(json.dumps(record))
    assert find([export]).exports == ((export, run),)


@pytest.mark.parametrize(
    ("name", "words"), [("nowhere", "found nothing"), ("file", "found a file"), ("empty", "neither")]
)
def test_paths_that_hold_nothing_are_named(name: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match=rf"{name}: .*{words}"):
        find([tmp_path / name])


# --- commands -------------------------------------------------------------------------------------------------------


def place_of(export: Path, run: Path | None) -> Place:
    return Place(path=export, shown=export, name="x", run=run)


def test_commands_follow_the_parents_of_a_compressed_run(tmp_path: Path) -> None:
    parent, run = write_run(tmp_path / "week"), write_run(tmp_path / "week-slim")
    (parent / "command.txt").write_text("sepilot train tubs --out week\n")
    (run / "command.txt").write_text("sepilot compress week --recipe slim --out week-slim\n")
    (run / "compression.json").write_text(json.dumps({"name": "slim", "parent": str(parent)}))
    export = write_export(tmp_path / "export")
    (export / "command.txt").write_text("sepilot export week-slim --out export\n")
    found = commands_of(place_of(export, run))
    assert [c.text.split()[1] for c in found] == ["train", "compress", "export"] and not any(c.note for c in found)


def test_a_parent_that_was_moved_with_its_child_is_found_beside_it(tmp_path: Path) -> None:
    write_run(tmp_path / "week")
    run = write_run(tmp_path / "week-slim")
    for parent, first in (("/elsewhere/week", "sepilot train"), ("/elsewhere/gone", "not recorded")):
        record = {"name": "slim", "parent": parent, "command": "sepilot compress week"}
        (run / "compression.json").write_text(json.dumps(record))
        found = commands_of(place_of(write_export(tmp_path / first.split()[0]), run))
        assert found[0].text.startswith(first) and found[1].text == "sepilot compress week"


def test_a_run_that_is_its_own_parent_ends(tmp_path: Path) -> None:
    run = write_run(tmp_path / "week")
    record = {"name": "slim", "parent": str(run), "command": "sepilot compress"}
    (run / "compression.json").write_text(json.dumps(record))
    found = commands_of(place_of(write_export(tmp_path / "export"), run))
    assert [c.text.split()[1] for c in found] == ["compress", "export"]


def test_commands_of_older_directories_are_put_together(tmp_path: Path) -> None:
    reader = dataclasses.asdict(ReaderOptions(full_scale_deg=30.0))
    run = write_run(tmp_path / "week", validation_drives=["tubs/friday 1"], reader=reader)
    export = write_export(tmp_path / "export")
    training, exporting = commands_of(place_of(export, run))
    assert training.text == (
        f"sepilot train tubs/monday --val 'tubs/friday 1' --recipe {run}/recipe.toml --seed 3 --full-scale-deg 30.0 "
        f"--out {run}"
    )
    assert exporting.text == f"sepilot export {run} --formats float32.tflite,int8.tflite --out {export}"
    assert "request.json" in training.note and "export.json" in exporting.note
    unknown, exporting = commands_of(place_of(export, None))
    assert unknown.text == "not recorded" and exporting.text.startswith("sepilot export RUN")
