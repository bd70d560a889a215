"""The overlay shows what was decided: direction, amount, and the recorded steering beside it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fakes import ConstantEngine
from model_factory import contract_of, two_output_contract
from sepilot_runtime.base.errors import OutputError, UsageError
from sepilot_runtime.contract.contract import Picture
from sepilot_runtime.drive.step import Step
from sepilot_runtime.engine.pilot import Pilot
from sepilot_runtime.source.protocol import Frame
from sepilot_runtime.view import drawing
from sepilot_runtime.view.drawing import MODEL_COLOR
from sepilot_runtime.view.overlay import Overlay
from sepilot_runtime.view.road_path import RoadView, ribbon
from sepilot_runtime.view.stage import CANVAS_HEIGHT
from sepilot_runtime.view.video import VideoWriter, overlay_video

VIEW = RoadView(width=960, height=720, horizon=0.45)


def step(steering: float, *, label: float | None = None, size: tuple[int, int] = (120, 160), at: int = 0) -> Step:
    pilot = Pilot(ConstantEngine(contract_of(), steering))
    image = np.full((*size, 3), 90, np.uint8)
    frame = Frame(id=at, time_s=at / 20, image=image, arrived_ns=0, labels={} if label is None else {"steering": label})
    return Step(frame=frame, prediction=pilot.predict(image), steering=steering, total_us=38.0, age_ms=1.0)


def overlay(picture: Picture | None = None) -> Overlay:
    contract = contract_of(picture) if picture else contract_of()
    return Overlay(Pilot(ConstantEngine(contract)), title="swift", rate_hz=20)


def accent(canvas: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where the model's colour was painted."""
    return (canvas[:, :, 2].astype(int) - canvas[:, :, 0]) > 60


@pytest.mark.parametrize(
    ("size", "canvas"),
    [((120, 160), (720, 960)), ((540, 960), (720, 1280)), ((480, 640), (720, 960)), ((1080, 1920), (720, 1280)),
     ((400, 100), (720, 840)), ((100, 1000), (720, 1600)), ((1, 1), (720, 840)), ((66, 101), (720, 1102))],
)  # fmt: skip
def test_any_frame_lands_on_an_even_canvas(size: tuple[int, int], canvas: tuple[int, int]) -> None:
    drawn = overlay().draw(step(0.3, label=-0.2, size=size))
    assert drawn.shape == (*canvas, 3) and drawn.dtype == np.uint8
    assert drawn.shape[1] % 2 == 0 and drawn.shape[0] == CANVAS_HEIGHT


@pytest.mark.parametrize("color", ["gray", "bgr"])
def test_gray_and_colour_models(color: str) -> None:
    picture = Picture(height=66, width=200, color=color)  # type: ignore[arg-type]
    assert overlay(picture).draw(step(0.0)).std() > 5


@given(st.floats(-1, 1))
def test_the_path_bends_where_the_steering_points(steering: float) -> None:
    left, right = ribbon(25 * steering, VIEW)
    middle = (left + right) / 2
    assert np.isfinite(left).all() and np.isfinite(right).all()
    assert middle[0, 1] > middle[-1, 1], "nearest first"
    far_x = middle[-1, 0] - VIEW.width / 2
    assert far_x * steering >= 0
    if abs(steering) > 0.02:
        assert abs(far_x) > 1
    mirrored = ribbon(-25 * steering, VIEW)[::-1]
    assert np.allclose(VIEW.width - mirrored[:, :, 0], [left[:, 0], right[:, 0]], atol=1e-6)


def test_the_path_narrows_with_distance_and_widens_with_steering() -> None:
    left, right = ribbon(0.0, VIEW)
    widths = (right - left)[:, 0]
    assert (np.diff(widths) < 0).all() and widths[-1] > 0
    bends = [abs(ribbon(angle, VIEW)[:, -1, 0].mean() - 480) for angle in (2, 5, 10, 20)]
    assert bends == sorted(bends)


def test_extreme_angles_stay_finite() -> None:
    for angle in (-90.0, 90.0, 1e-9, 1e6):
        assert np.isfinite(ribbon(angle, VIEW)).all()


def test_the_drawing_follows_the_steering() -> None:
    to_left, to_right = overlay().draw(step(-0.8)), overlay().draw(step(0.8))
    road = slice(380, 540)
    half = to_left.shape[1] // 2
    assert accent(to_left)[road, :half].sum() > 2 * accent(to_left)[road, half:].sum()
    assert accent(to_right)[road, half:].sum() > 2 * accent(to_right)[road, :half].sum()


def test_the_recorded_steering_is_drawn_where_there_is_one() -> None:
    without, with_label = overlay().draw(step(0.2)), overlay().draw(step(0.2, label=-0.9))
    assert (without != with_label).any(axis=2).sum() > 1000


def test_the_trace_fills_and_then_scrolls() -> None:
    drawer = Overlay(Pilot(ConstantEngine(contract_of())), title="swift", rate_hz=5)
    ink = []
    for at in range(60):
        canvas = drawer.draw(step(0.1 * float(np.sin(at / 2)), at=at, size=(12, 16)))
        ink.append(int(accent(canvas[580:680, 40:300]).sum()))
    assert ink[5] < ink[20] < ink[39]
    assert abs(ink[59] - ink[45]) < 0.2 * ink[45], "forty samples, eight seconds, and no more"


def test_blending_covers_fully_half_and_not_at_all() -> None:
    canvas = np.full((1, 3, 3), 100, np.uint8)
    drawing.blend(canvas, (200, 0, 40), np.array([[0, 128, 255]], np.uint8))
    assert canvas[0, 0].tolist() == [100, 100, 100]
    assert canvas[0, 2].tolist() == [200, 0, 40]
    assert np.abs(canvas[0, 1].astype(int) - [150, 50, 70]).max() <= 1


def test_text_without_the_proportional_face(monkeypatch: pytest.MonkeyPatch) -> None:
    for faces in (drawing._FACES, {}):
        monkeypatch.setattr(drawing, "_FACES", faces)
        canvas = np.zeros((60, 300, 3), np.uint8)
        drawing.text(canvas, "12.3° · 38 µs", (150, 40), size=24, color=MODEL_COLOR, weight=600, align="middle")
        ink = np.flatnonzero(canvas.any(axis=(0, 2)))
        assert ink.size > 30 and abs((ink[0] + ink[-1]) / 2 - 150) < 20


# --- Videos ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_a_video_appears_whole(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"o{suffix}"
    with overlay_video(path, overlay(), rate_hz=20) as sink:
        for at in range(6):
            # The fourth frame has another size: the video's own stays.
            sink.write(step(at / 10, at=at, size=(120, 160) if at != 3 else (100, 300)))
            assert not path.exists()
    video = cv2.VideoCapture(str(path))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 6 and video.get(cv2.CAP_PROP_FPS) == 20
    ok, first = video.read()
    assert ok and first.shape == (720, 960, 3)
    assert np.abs(first.astype(int) - overlay().draw(step(0.0))).mean() < 8
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, BrokenPipeError, OutputError])
def test_a_drive_that_fails_leaves_the_video_so_far(error: type[BaseException], tmp_path: Path) -> None:
    path = tmp_path / "o.mp4"
    with pytest.raises(error), overlay_video(path, overlay(), rate_hz=20) as sink:
        for at in range(3):
            sink.write(step(0.1, at=at))
        raise error
    assert cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FRAME_COUNT) == 3
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_nothing_is_left_of_a_video_without_frames(tmp_path: Path) -> None:
    path = tmp_path / "o.mp4"
    with pytest.raises(OutputError, match="no frame"), overlay_video(path, overlay(), rate_hz=20):
        pass
    with pytest.raises(ZeroDivisionError), overlay_video(path, overlay(), rate_hz=20):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_of_a_video_that_is_not_whole_the_error_of_the_drive_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(VideoWriter, "_arrived", lambda self: 0)
    path = tmp_path / "o.mp4"
    with pytest.raises(OutputError, match="0 of 1 frames"), overlay_video(path, overlay(), rate_hz=20) as sink:
        sink.write(step(0.1))
    with pytest.raises(ZeroDivisionError), overlay_video(path, overlay(), rate_hz=20) as sink:
        sink.write(step(0.1))
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_paths_that_cannot_become_a_video(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.mp4 or \.webm"), overlay_video(tmp_path / "o.gif", overlay(), rate_hz=20):
        pass
    (tmp_path / "o.mp4").write_text("")
    with pytest.raises(OutputError, match="exists already"), overlay_video(tmp_path / "o.mp4", overlay(), rate_hz=20):
        pass


def test_another_output_has_a_gauge_of_its_own() -> None:
    """Above the trace; fuller for more, with a mark where the recording is; a file without it draws none."""
    drawn = {}
    for name, contract, value, labels in (
        ("none", contract_of(), 0.2, {}),
        ("low", two_output_contract(), 0.2, {}),
        ("high", two_output_contract(), 0.9, {}),
        ("marked", two_output_contract(), 0.9, {"throttle": 0.1}),
    ):
        pilot = Pilot(ConstantEngine(contract, value))
        image = np.full((120, 160, 3), 90, np.uint8)
        said = pilot.predict(image)
        said = said._replace(values={**said.values, "steering": 0.0})
        frame = Frame(id=0, time_s=0.0, image=image, arrived_ns=0, labels=labels)
        canvas = Overlay(pilot, title="swift", rate_hz=20).draw(
            Step(frame=frame, prediction=said, steering=0.0, total_us=38.0, age_ms=1.0)
        )
        drawn[name] = canvas[CANVAS_HEIGHT - 136 - 78 : CANVAS_HEIGHT - 136 - 38, 125:225]
    assert not accent(drawn["none"]).any()
    assert accent(drawn["low"]).sum() * 3 < accent(drawn["high"]).sum()
    assert not np.array_equal(drawn["high"], drawn["marked"])
