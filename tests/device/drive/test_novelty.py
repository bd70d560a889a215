"""The novelty score knows the pictures that it was made from, and none that are spoiled."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from model_factory import contract_of
from sepilot_runtime.base.errors import ContractError, FrameError
from sepilot_runtime.base.images import natural_key, read_image
from sepilot_runtime.contract.contract import Contract, FrameStatistics, Picture
from sepilot_runtime.contract.preprocess import picture_of
from sepilot_runtime.contract.statistics import PictureDistribution, WhitenedGaussian
from sepilot_runtime.drive.novelty import NoveltyMonitor, novelty_of, statistics_of
from sepilot_runtime.drive.older_measures import OlderMeasures
from sepilot_runtime.drive.supervisor import Limits

Pixels = NDArray[np.uint8]
Fault = Callable[[Pixels], Pixels]

PICTURE = Picture(height=64, width=96, crop_top=0.25)


def roads(count: int, seed: int, picture: Picture = PICTURE) -> Pixels:
    """Pictures of a lane between a cluttered wall and a smooth floor, (n, h, w, c)."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        frame = np.full((96, 128, 3), rng.integers(80, 110), np.uint8)
        wall = rng.integers(40, 220, (5, 16, 1), np.uint8).repeat(3, axis=2)
        frame[:44] = cv2.resize(wall, (128, 44), interpolation=cv2.INTER_NEAREST)
        foot, head = rng.integers(20, 110), rng.integers(40, 90)
        cv2.line(frame, (int(foot), 95), (int(head), 44), (230, 230, 230), 4, cv2.LINE_AA)
        noisy = frame + rng.normal(0, 2, frame.shape)
        made.append(picture_of(np.clip(noisy, 0, 255).astype(np.uint8), picture))
    return np.stack(made)


def monitor(statistics: FrameStatistics, picture: Picture = PICTURE) -> NoveltyMonitor:
    return NoveltyMonitor(contract_of(picture, statistics=statistics))


@pytest.fixture(scope="module")
def trained() -> FrameStatistics:
    return statistics_of(roads(400, seed=0))


FAULTS: dict[str, Fault] = {
    "covered": lambda p: np.full_like(p, 8),
    "half covered": lambda p: np.concatenate([p[:, :48] // 16, p[:, 48:]], axis=1),
    "over-exposed": lambda p: np.clip(p.astype(int) * 3, 0, 255).astype(np.uint8),
    "dark": lambda p: p // 4,
    "defocused": lambda p: cv2.GaussianBlur(p, (0, 0), 3).reshape(p.shape).astype(np.uint8),
    "noisy": lambda p: np.clip(p + np.random.default_rng(0).normal(0, 25, p.shape), 0, 255).astype(np.uint8),
    "upside down": lambda p: np.ascontiguousarray(p[::-1, ::-1]),
    "on its side": lambda p: cv2.resize(np.rot90(p), (96, 64)).reshape(p.shape).astype(np.uint8),
}


@pytest.mark.parametrize("fault", list(FAULTS))
def test_spoiled_pictures_lie_beyond_the_edge(fault: str, trained: FrameStatistics) -> None:
    watch = monitor(trained)
    assert min(watch.score(FAULTS[fault](p)) for p in roads(40, seed=1)) > 1


def test_like_pictures_lie_within(trained: FrameStatistics) -> None:
    scores = np.array([monitor(trained).score(p) for p in roads(150, seed=2)])
    assert (scores > 1.25).mean() < 0.01 and 0.1 < np.median(scores) < 0.9


def test_one_training_picture_in_a_thousand_is_the_edge() -> None:
    pictures = roads(1000, seed=3)
    watch = monitor(statistics_of(pictures))
    scores = np.array([watch.score(p) for p in pictures])
    # Two groups with an edge each.
    assert 1 <= (scores > 1).sum() <= 3


def test_colour_pictures_score_as_gray_ones(trained: FrameStatistics) -> None:
    gray = roads(20, seed=4)
    color = np.repeat(gray, 3, axis=3)
    assert statistics_of(color) == statistics_of(gray)
    watch = monitor(trained, dataclasses.replace(PICTURE, color="bgr"))
    assert watch.score(color[0]) == pytest.approx(monitor(trained).score(gray[0]))


@pytest.mark.parametrize("size", [(65, 97), (8, 8), (66, 200), (63, 8)])
def test_any_size_is_scored(size: tuple[int, int]) -> None:
    picture = Picture(height=size[0], width=size[1])
    pictures = roads(60, seed=5, picture=picture)
    watch = monitor(statistics_of(pictures), picture)
    assert watch.score(pictures[0]) < 1.5 < watch.score(np.zeros_like(pictures[0]))


def test_tiny_and_even_pictures_have_a_score() -> None:
    tiny = Picture(height=4, width=4)
    statistics = statistics_of(roads(20, seed=6, picture=tiny))
    assert statistics.likeness is None
    assert monitor(statistics, tiny).score(np.zeros((4, 4, 1), np.uint8)) > 1
    black = np.zeros((3, 64, 96, 1), np.uint8)
    watch = monitor(statistics_of(black))
    assert watch.score(black[0]) < 0.1 and watch.score(roads(1, seed=0)[0]) > 1


def test_a_contract_carries_it(trained: FrameStatistics) -> None:
    contract = contract_of(PICTURE, statistics=trained)
    again = Contract.from_json(contract.to_json(), "file")
    assert again == contract
    picture = roads(1, seed=7)[0]
    assert NoveltyMonitor(again).score(picture) == NoveltyMonitor(contract).score(picture)
    assert len(contract.to_json()) - len(contract_of(PICTURE).to_json()) < 1200


def test_an_older_contract_has_a_coarser_score(trained: FrameStatistics) -> None:
    older = contract_of(PICTURE, statistics=dataclasses.replace(trained, likeness=None))
    again = Contract.from_json(older.to_json(), "file")
    assert again == older
    watch = NoveltyMonitor(again)
    assert np.mean([watch.score(p) > 1 for p in roads(200, seed=8)]) < 0.02
    assert watch.score(np.zeros((64, 96, 1), np.uint8)) > 1
    # What the newer one is for.
    assert watch.score(FAULTS["upside down"](roads(1, seed=1)[0])) < 1


def test_a_contract_from_before_the_limit_keeps_its_measures(trained: FrameStatistics) -> None:
    """Version 1.1: a likeness of thirteen other measures, and no limit of its own."""
    pictures = roads(400, seed=0)
    older = OlderMeasures(PICTURE.height, PICTURE.width)
    logs = np.stack([older.logs_of(p[:, :, 0]) for p in pictures])
    whole, bands = logs[:, :5], np.column_stack([logs[:, 2], logs[:, 5:]]) - logs[:, 5:].mean(axis=1, keepdims=True)
    likeness = PictureDistribution(whole=spread_of(whole, 2e-4), bands=spread_of(bands, 0.05))
    statistics = dataclasses.replace(trained, likeness=likeness, flat_rows=None)
    contract = contract_of(PICTURE, statistics=statistics)
    again = Contract.from_json(contract.to_json(), "file")
    watch = NoveltyMonitor(again)
    assert again == contract and watch.limit == 1.5
    assert np.mean([watch.score(p) > 1.5 for p in roads(100, seed=2)]) == 0
    for fault in FAULTS:
        assert min(watch.score(FAULTS[fault](p)) for p in roads(20, seed=1)) > 1, fault


def spread_of(values: NDArray[np.float64], ridge: float) -> WhitenedGaussian:
    mean, deviation = values.mean(axis=0), values.std(axis=0)
    scaled = (values - mean) / deviation
    whiten = np.linalg.inv(np.linalg.cholesky(scaled.T @ scaled / len(scaled) + ridge * np.eye(len(mean)))) / deviation
    whiten /= np.percentile(np.linalg.norm((values - mean) @ whiten.T, axis=1), 99.9)
    return WhitenedGaussian(mean=tuple(mean.tolist()), whiten=tuple(whiten[np.tril_indices(len(mean))].tolist()))


def test_the_limit_lies_beyond_what_other_parts_of_the_training_reach() -> None:
    def limit(pictures: Pixels) -> float:
        likeness = statistics_of(pictures).likeness
        assert likeness is not None and likeness.limit is not None
        return likeness.limit

    alike = limit(roads(400, seed=0))
    darker = [(roads(60, seed=part) * (1 - 0.15 * part)).astype(np.uint8) for part in range(5)]
    assert 1.25 <= alike < limit(np.concatenate(darker)) <= 3.0
    assert limit(roads(5, seed=0)) == 3.0, "too few to tell"


def test_what_a_drive_is_told_to_look_for(trained: FrameStatistics) -> None:
    contract = contract_of(PICTURE, statistics=trained)
    assert trained.likeness is not None
    found = novelty_of(contract, Limits())
    assert found is not None and found.limit == trained.likeness.limit
    found = novelty_of(contract, Limits(max_novelty=2))
    assert found is not None and found.limit == 2.0
    assert novelty_of(contract, Limits(max_novelty="off")) is None
    without = contract_of(PICTURE)
    assert novelty_of(without, Limits()) is None
    with pytest.raises(ContractError, match="train and export again"):
        novelty_of(without, Limits(max_novelty=2))


def test_without_statistics_there_is_no_monitor() -> None:
    with pytest.raises(ContractError, match="train and export again"):
        NoveltyMonitor(contract_of(PICTURE))


def test_another_picture_is_refused(trained: FrameStatistics) -> None:
    with pytest.raises(FrameError, match="wrong shape"):
        monitor(trained).score(np.zeros((64, 97, 1), np.uint8))


def test_a_forged_spread_is_refused_by_name(trained: FrameStatistics) -> None:
    with pytest.raises(ContractError, match="whiten: 3 values expected"):
        WhitenedGaussian(mean=(0.0, 0.0), whiten=(1.0,))
    assert trained.likeness is not None
    with pytest.raises(ContractError, match=r"bands\.mean: 9 values expected, found 5"):
        PictureDistribution(whole=trained.likeness.whole, bands=trained.likeness.whole)


def test_it_is_cheap(trained: FrameStatistics) -> None:
    """8 µs where making a camera's frame gray takes 85; so on any machine, busy or not, less than that."""
    watch, picture = monitor(trained), roads(1, seed=0)[0]
    frame = np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8)
    cv2.setNumThreads(1)

    def fastest_ns(call: Callable[[], object]) -> int:
        found = []
        for _ in range(300):
            start = time.perf_counter_ns()
            call()
            found.append(time.perf_counter_ns() - start)
        return min(found)

    assert fastest_ns(lambda: watch.score(picture)) < fastest_ns(lambda: cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY))


def test_real_drives(real_drives: Path) -> None:
    """Trained on one recording: another of the same track passes, another place and a turned camera do not."""

    def pictures(name: str, step: int) -> Pixels:
        paths = sorted((real_drives / name / "images").iterdir(), key=natural_key)
        return np.stack([picture_of(read_image(path), PICTURE) for path in paths[::step]])

    watch = monitor(statistics_of(pictures("club_track_run_a", 8)))
    other = pictures("club_track_run_b", 25)

    def beyond(given: Pixels, limit: float = 1.0) -> float:
        return float(np.mean([watch.score(p) > limit for p in given]))

    assert beyond(other) < 0.02 and beyond(other, 1.5) < 0.003
    assert beyond(pictures("warehouse_tub", 5)) > 0.4
    for name, least in (("covered", 1.0), ("half covered", 1.0), ("over-exposed", 1.0), ("defocused", 0.95)):
        assert beyond(np.stack([FAULTS[name](p) for p in other])) >= least, name
