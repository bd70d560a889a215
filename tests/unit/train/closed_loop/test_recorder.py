"""Recorded tubs: whole, readable by hand, equal for equal seeds, with the way back in them."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from sepilot_runtime.base.errors import OutputError, UsageError
from sepilot_train.closed_loop.recorder import new_tub, record
from sepilot_train.commands import record as verb
from sepilot_train.simulator import EVALUATION_SEED, State
from sepilot_train.simulator.builtin import BuiltinSimulator


class StraightRoad:
    """A road that the car leaves after ten steps to the right of it; frames tell the step."""

    name = "straight"
    rate_hz = 20.0
    full_scale_deg = 20.0
    speed_mps = 1.0

    def __init__(self) -> None:
        self.count = self.aside = self.recentred = 0

    def reset(self, seed: int) -> tuple[np.ndarray, State]:
        self.count = self.aside = 0
        return self._now()

    def step(self, steering: float, throttle: float | None = None) -> tuple[np.ndarray, State]:
        self.count += 1
        self.aside += 1
        return self._now()

    def expert(self) -> float:
        return -self.aside / 10

    def recentre(self) -> tuple[np.ndarray, State]:
        self.aside = 0
        self.recentred += 1
        return self._now()

    def _now(self) -> tuple[np.ndarray, State]:
        state = State(
            cte_m=self.aside / 10,
            heading_rad=0,
            curvature_per_m=0,
            progress_m=self.count,
            laps=0,
            off_road=self.aside > 10,
            speed_mps=self.speed_mps,
        )
        return np.full((12, 16, 3), self.count % 256, np.uint8), state


def read_tub(path: Path) -> tuple[list, list[dict]]:
    """Manifest lines and rows, by the layout's own rules: offsets from line_lengths, nothing skipped."""
    manifest = [json.loads(line) for line in (path / "manifest.json").read_text().splitlines()]
    rows: list[dict] = []
    for name in manifest[4]["paths"]:
        beside = json.loads((path / f"{name}_manifest").read_text())
        assert beside["path"] == f"{name}_manifest"
        assert beside["start_index"] == len(rows)
        data = (path / name).read_bytes()
        at = 0
        for length in beside["line_lengths"]:
            assert data[at + length - 1 : at + length] == b"\n"
            rows.append(json.loads(data[at : at + length]))
            at += length
        assert at == len(data)
    return manifest, rows


def test_tub_is_complete_and_consistent(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frames = [cv2.resize(rng.integers(0, 255, (3, 4, 3), dtype=np.uint8), (40, 30)) for _ in range(5)]
    with new_tub(tmp_path / "tub", rate_hz=20, metadata={"full_scale_deg": 26.0}) as tub:
        for i in range(2003):
            tub.add(frames[i % 5], steering=(i % 21 - 10) / 10)
    manifest, rows = read_tub(tmp_path / "tub")
    assert manifest[0] == ["cam/image_array", "user/angle", "user/throttle", "user/mode"]
    assert manifest[1] == ["image_array", "float", "float", "str"]
    assert manifest[2] == {"full_scale_deg": 26.0}
    assert manifest[3]["sessions"]["all_full_ids"] == [rows[0]["_session_id"]]
    assert manifest[4] == {
        "paths": ["catalog_0.catalog", "catalog_1.catalog", "catalog_2.catalog"],
        "current_index": 2003,
        "max_len": 1000,
        "deleted_indexes": [],
    }
    assert [row["_index"] for row in rows] == list(range(2003))
    assert set(np.diff([row["_timestamp_ms"] for row in rows])) == {50}
    assert [row["user/angle"] for row in rows[:21]] == [(i - 10) / 10 for i in range(21)]
    assert {row["user/mode"] for row in rows} == {"user"}
    assert {row["user/throttle"] for row in rows} == {0.3}
    assert {p.name for p in (tmp_path / "tub" / "images").iterdir()} == {row["cam/image_array"] for row in rows}
    image = cv2.imread(str(tmp_path / "tub" / "images" / rows[2001]["cam/image_array"]))
    assert np.abs(image.astype(int) - frames[2001 % 5]).mean() < 3
    assert np.abs(image.astype(int) - frames[2001 % 5][..., ::-1]).mean() > 10, "channel order"


def test_each_frame_carries_the_label_of_its_own_moment(tmp_path: Path) -> None:
    simulator = StraightRoad()
    record(simulator, tmp_path / "out", drives=1, frames=30, kicks=False)
    _, rows = read_tub(tmp_path / "out" / "drive_000")
    for row in rows:
        image = cv2.imread(str(tmp_path / "out" / "drive_000" / "images" / row["cam/image_array"]))
        steps = round(float(image.mean()))
        assert row["user/angle"] == pytest.approx(-(steps % 11) / 10)


def test_the_throttle_of_an_expert_that_slows_for_bends_is_recorded_and_driven(tmp_path: Path) -> None:
    record(BuiltinSimulator(), tmp_path / "slow", drives=1, frames=300, slow_for_bends=True)
    record(BuiltinSimulator(), tmp_path / "usual", drives=1, frames=300)
    throttles, ends = {}, {}
    for name in ("slow", "usual"):
        _, rows = read_tub(tmp_path / name / "drive_000")
        throttles[name] = [row["user/throttle"] for row in rows]
        ends[name] = cv2.imread(str(tmp_path / name / "drive_000" / "images" / rows[-1]["cam/image_array"]))
    assert set(throttles["usual"]) == {0.3}
    assert min(throttles["slow"]) < 0.22 and max(throttles["slow"]) == 0.3
    assert np.abs(ends["slow"].astype(int) - ends["usual"]).mean() > 1, "it came less far"


def test_leaving_the_road_starts_a_session_from_the_centre(tmp_path: Path) -> None:
    simulator = StraightRoad()
    (recording,) = record(simulator, tmp_path / "out", drives=1, frames=30, kicks=False)
    manifest, rows = read_tub(tmp_path / "out" / "drive_000")
    assert recording.recentred == simulator.recentred == 2
    assert recording.max_cte_m == 1.0
    assert [row["_session_id"][-2:] for row in rows] == ["_0"] * 11 + ["_1"] * 11 + ["_2"] * 8
    assert manifest[2]["full_scale_deg"] == 20.0
    assert manifest[3]["sessions"]["last_id"] == 2


def test_kicks_spread_the_car_over_the_road(tmp_path: Path) -> None:
    kicked = record(BuiltinSimulator(), tmp_path / "kicked", drives=2, frames=250)
    steady = record(BuiltinSimulator(), tmp_path / "steady", drives=2, frames=250, kicks=False)
    for a, b in zip(kicked, steady, strict=True):
        assert a.max_cte_m > 0.12
        assert b.max_cte_m < 0.06
        assert a.mean_cte_m > 3 * b.mean_cte_m
    labels = {
        name: [row["user/angle"] for row in read_tub(tmp_path / name / "drive_000")[1]] for name in ("kicked", "steady")
    }
    assert np.std(labels["kicked"]) > 1.2 * np.std(labels["steady"]), "recovery needs stronger labels"


def test_equal_arguments_give_equal_files(tmp_path: Path) -> None:
    for name in ("one", "two"):
        record(BuiltinSimulator(), tmp_path / name, drives=1, frames=40, seed=5)
    files = [p.relative_to(tmp_path / "one") for p in (tmp_path / "one").rglob("*") if p.is_file()]
    assert len(files) == 43
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_evaluation_worlds_are_refused(tmp_path: Path) -> None:
    for seed in (EVALUATION_SEED, EVALUATION_SEED - 3, -1):
        with pytest.raises(UsageError, match=r"kept unseen"):
            record(StraightRoad(), tmp_path / "out", drives=4, frames=1, seed=seed)
    record(StraightRoad(), tmp_path / "out", drives=4, frames=1, seed=EVALUATION_SEED - 4)


def test_existing_output_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(OutputError, match="exists already"):
        verb.main(["--out", str(tmp_path / "out"), "--drives", "1"])
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]


def test_interrupt_leaves_nothing(tmp_path: Path) -> None:
    calls = 0

    def interrupt() -> None:
        nonlocal calls
        calls += 1
        if calls == 15:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        record(StraightRoad(), tmp_path / "out", drives=3, frames=10, progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_verb_records_what_our_reader_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from sepilot_runtime.recording.opening import open_drives
    from sepilot_runtime.recording.options import ReaderOptions

    assert verb.main(["--out", str(tmp_path / "out"), "--drives", "2", "--frames", "20", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    drives = open_drives([tmp_path / "out" / r["name"] for r in told], ReaderOptions())
    assert [r["frames"] for r in told] == [20, 20]
    assert [len(drive.labels["steering"]) for drive in drives] == [20, 20]
    for drive, r in zip(drives, told, strict=True):
        _, rows = read_tub(tmp_path / "out" / r["name"])
        assert drive.labels["steering"] == pytest.approx([row["user/angle"] for row in rows])
        assert drive.full_scale_deg == pytest.approx(26.0)
