"""A camera is asked for the cheapest mode that will do and says what it gave; luma makes the picture that BGR makes."""

from __future__ import annotations

import dataclasses
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from fake_capture import FakeCamera, black, frames, nv12_of, yuyv_of
from model_factory import frames as road_frames
from sepilot_runtime.base.errors import FrameError
from sepilot_runtime.base.images import decode_image
from sepilot_runtime.commands.drive_request import drive_request
from sepilot_runtime.contract.contract import Picture
from sepilot_runtime.contract.preprocess import LimitedLuma, Preprocessor, picture_of
from sepilot_runtime.source.camera import CameraSource, open_camera
from sepilot_runtime.source.camera_request import CameraRequest, PixelFormat
from sepilot_runtime.source.pixel_formats import Buffers, color_of, jpeg_reduction
from sepilot_runtime.source.protocol import Frame

GRAY = Picture(height=64, width=96, crop_top=0.25)
COLOR = Picture(height=64, width=96, color="bgr", crop_top=0.25)
ALL = {"YUYV": 30.0, "NV12": 30.0, "GREY": 30.0, "MJPG": 60.0}

Image = NDArray[np.uint8]


def scene(seed: int, height: int = 480, width: int = 640) -> Image:
    """Smooth, colourful and with edges, from black to white, as a camera sees it."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 40, width // 40, 3), np.uint8)
    image = np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)
    image[height // 2 :, width // 3 : width // 3 + 9] = 255
    image[height // 3 : height // 3 + 7] = 0
    return image


def opened(camera: FakeCamera, **request: Any) -> CameraSource:
    return open_camera("0", CameraRequest(**request), open_capture=camera.open)


def first(source: CameraSource, camera: FakeCamera) -> Frame:
    with source:
        frame = source.newest(2.0)
        camera.release_hangs()
    assert frame is not None
    return frame


# --- Which mode -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("formats", "picture", "words"),
    [
        (ALL, GRAY, "NV12, luma only"),
        ({"YUYV": 30.0, "GREY": 30.0}, GRAY, "GREY, luma only"),
        ({"MJPG": 30.0, "YUYV": 30.0}, GRAY, "YUYV, luma only"),
        ({"YUYV": 5.0, "MJPG": 30.0}, GRAY, "MJPG, decoded in gray at 1/4 of its size"),
        ({"BGR3": 30.0}, GRAY, "BGR3"),
        (ALL, COLOR, "YUYV"),
        ({"YUYV": 5.0, "MJPG": 30.0}, COLOR, "MJPG, decoded in colour at 1/4 of its size"),
        ({"YUYV": 5.0, "MJPG": 30.0}, None, "MJPG, decoded in colour"),
        (ALL, None, "YUYV"),
    ],
)
def test_auto_takes_the_cheapest_format_that_is_fast_enough(
    formats: dict[str, float], picture: Picture | None, words: str
) -> None:
    camera = FakeCamera(script=[frames(1)], formats=formats, width=640, height=480)
    source = opened(camera, picture=picture)
    assert (source.info.format, source.info.note) == (words, "")
    frame = first(source, camera)
    wants_luma = picture is GRAY and "BGR3" not in formats
    assert frame.image.ndim == (2 if wants_luma else 3)
    assert isinstance(frame.image, LimitedLuma) is ("luma" in words and "GREY" not in words)


def test_the_rate_that_is_asked_for_decides_the_format() -> None:
    camera = FakeCamera(script=[frames(1)], formats=ALL, width=640, height=480)
    source = opened(camera, picture=GRAY, rate_hz=60)
    assert source.info.format.startswith("MJPG") and source.info.rate_hz == 60


def test_what_was_asked_for_and_not_given_is_said() -> None:
    camera = FakeCamera(script=[], formats={"YUYV": 30.0}, sizes=((320, 240), (640, 480)))
    source = opened(camera, width=800, height=600, rate_hz=60, format=PixelFormat.MJPG)
    assert str(source.info) == ("camera 0, 640x480 at 30 Hz, YUYV (the camera does not give 800x600, 60 Hz, MJPG)")


def test_what_was_asked_for_and_given_is_said() -> None:
    camera = FakeCamera(script=[], formats=ALL)
    source = opened(camera, width=320, height=240, rate_hz=30, format=PixelFormat.YUYV, picture=GRAY)
    assert str(source.info) == "camera 0, 320x240 at 30 Hz, YUYV, luma only"


def test_the_format_it_opened_with_is_set_again_when_no_other_is_better() -> None:
    camera = FakeCamera(script=[frames(1)], formats={"YUYV": 15.0, "MJPG": 10.0}, width=640, height=480)
    source = opened(camera)
    assert source.info.format == "YUYV"
    assert first(source, camera).image.shape == (480, 640, 3)


def parsed(*argv: str) -> CameraRequest:
    return dataclasses.replace(drive_request(["m.tflite", "--source", "0", *argv]).camera, picture=GRAY)


def test_the_flags_make_the_request() -> None:
    assert parsed() == CameraRequest(picture=GRAY)
    asked = parsed("--camera-size", "1280x720", "--camera-rate-hz", "29.97", "--camera-format", "mjpg")
    assert asked == CameraRequest(width=1280, height=720, rate_hz=29.97, format=PixelFormat.MJPG, picture=GRAY)


@pytest.mark.parametrize(
    ("flag", "value"),
    [("size", "640"), ("size", "0x480"), ("size", "ax4"), ("rate-hz", "0"), ("rate-hz", "fast"), ("format", "jpeg")],
)
def test_a_flag_that_makes_no_sense_is_refused(flag: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parsed(f"--camera-{flag}", value)
    assert value in capsys.readouterr().err


# --- The same picture -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["NV12", "YUYV"])
@pytest.mark.parametrize("size", [(640, 480), (320, 240), (1280, 720)])
def test_luma_makes_the_picture_that_bgr_makes(format: str, size: tuple[int, int]) -> None:
    for seed in range(4):
        image = scene(seed, size[1], size[0])
        camera = FakeCamera(
            script=[frames(1)], formats={format: 30.0}, width=size[0], height=size[1], picture=lambda _, i=image: i
        )  # fmt: skip
        frame = first(opened(camera, picture=GRAY), camera)
        assert frame.image.shape == (size[1], size[0])
        seen = Preprocessor(GRAY).picture_of(frame.image)
        wanted = picture_of(image, GRAY)
        assert int(wanted.min()) < 20 and int(wanted.max()) > 235
        assert np.abs(seen.astype(int) - wanted).max() <= 2
        # The planted fault: luma taken for gray as it is.
        assert np.abs(picture_of(np.array(frame.image), GRAY).astype(int) - wanted).max() >= 12


def test_grey_makes_the_picture_that_bgr_makes() -> None:
    image = scene(5)
    camera = FakeCamera(
        script=[frames(1)], formats={"GREY": 30.0}, width=640, height=480, picture=lambda _: image
    )  # fmt: skip
    frame = first(opened(camera, picture=GRAY), camera)
    seen = Preprocessor(GRAY).picture_of(frame.image)
    assert np.abs(seen.astype(int) - picture_of(image, GRAY)).max() <= 2


def test_luma_in_any_memory_makes_the_same_picture() -> None:
    packed = yuyv_of(scene(1)).view(LimitedLuma)
    luma = packed[:, :, 0]
    preprocessor = Preprocessor(GRAY)
    wanted = preprocessor.picture_of(np.ascontiguousarray(luma).view(LimitedLuma)).copy()
    swapped = np.ascontiguousarray(packed[:, :, ::-1]).view(LimitedLuma)
    padded = np.zeros((480, 700, 2), np.uint8).view(LimitedLuma)
    padded[:, :640] = packed
    for same in (luma, swapped[:, :, 1], padded[:, :640, 0], nv12_of(scene(1)).view(LimitedLuma)[:480]):
        assert np.array_equal(preprocessor.picture_of(same), wanted)


def test_luma_is_refused_where_colour_is_wanted() -> None:
    with pytest.raises(FrameError, match="wrong shape"):
        picture_of(np.zeros((48, 64), np.uint8), COLOR)


def test_people_get_colour_and_full_range() -> None:
    image = scene(2)
    shown = color_of(nv12_of(image).view(LimitedLuma)[:480])
    gray = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), np.uint8)
    assert shown.shape == image.shape and np.abs(shown[:, :, 0].astype(int) - gray).max() <= 2
    assert np.array_equal(color_of(gray)[:, :, 1], gray)
    assert color_of(image) is image


def test_luma_stays_luma_when_it_is_copied_or_cut() -> None:
    luma = nv12_of(scene(1)).view(LimitedLuma)[:480]
    copied = np.empty_like(luma)
    np.copyto(copied, luma)
    preprocessor = Preprocessor(GRAY)
    wanted = preprocessor.picture_of(luma).copy()
    assert np.array_equal(preprocessor.picture_of(copied), wanted)
    assert isinstance(luma[10:20, 4:8].copy(), LimitedLuma)


# --- MJPG -----------------------------------------------------------------------------------------------------------


def test_a_jpeg_is_decoded_no_larger_than_the_picture_takes() -> None:
    def picture(height: int, width: int, crop_top: float = 0.5) -> Picture:
        return Picture(height=height, width=width, crop_top=crop_top)

    assert jpeg_reduction(None, 640, 480) == 1
    assert jpeg_reduction(picture(66, 200), 640, 480) == 2
    assert jpeg_reduction(picture(60, 160), 640, 480) == 4
    assert jpeg_reduction(picture(61, 160), 640, 480) == 2
    assert jpeg_reduction(picture(30, 80), 640, 480) == 8
    assert jpeg_reduction(picture(240, 640), 640, 480) == 1


def test_reduced_decoding_shows_the_same_scene() -> None:
    image = scene(3)
    camera = FakeCamera(
        script=[frames(1)], formats={"MJPG": 30.0}, width=640, height=480, picture=lambda _: image
    )  # fmt: skip
    frame = first(opened(camera, picture=GRAY), camera)
    assert frame.image.shape == (120, 160)
    seen = Preprocessor(GRAY).picture_of(frame.image)
    # Reducing averages where resizing samples, so edges differ; the rest does not.
    assert np.abs(seen.astype(int) - picture_of(image, GRAY)).mean() < 4


def test_a_jpeg_that_breaks_off_is_not_a_frame() -> None:
    camera = FakeCamera(script=[frames(3)], formats={"MJPG": 30.0}, width=640, height=480)
    source = opened(camera, picture=GRAY)
    take, calls = source._first._take, [0]

    class Broken:
        def __init__(self, capture: Any) -> None:
            self._capture = capture

        def retrieve(self, image: Any = None) -> tuple[bool, Any]:
            ok, raw = self._capture.retrieve(image)
            calls[0] += 1
            return ok, raw[:, : raw.shape[1] // 2] if calls[0] == 1 else raw

    source._first._take = lambda capture: take(Broken(capture))
    frame = first(source, camera)
    assert frame.image.shape == (120, 160)
    assert source.lost["truncated image"] == 1


def test_decoding_flags_of_opencv_are_obeyed() -> None:
    data = cv2.imencode(".jpg", road_frames(1)[0])[1].tobytes()
    assert decode_image(data, "x").shape == (48, 64, 3)
    assert decode_image(data, "x", cv2.IMREAD_REDUCED_GRAYSCALE_2).shape == (24, 32)


# --- Memory ---------------------------------------------------------------------------------------------------------


def test_a_buffer_is_free_when_nobody_looks_at_it() -> None:
    buffers = Buffers(most=2)
    assert buffers.free() is None
    image = np.zeros((4, 6, 2), np.uint8)
    buffers.keep(image)
    assert buffers.free() is None
    luma = image[:, :, 0]
    del image
    assert buffers.free() is None, "a view of it is alive"
    rows = luma[1:3]
    del luma
    assert buffers.free() is None, "a view of the view is alive"
    del rows
    free = buffers.free()
    assert free is not None and free.shape == (4, 6, 2)
    del free
    buffers.keep(np.zeros((2, 2), np.uint8))
    other = buffers.free()
    assert other is not None and other.shape == (2, 2), "buffers of the size before are forgotten"


def test_more_frames_than_buffers_may_be_held() -> None:
    camera = FakeCamera(script=[frames(30), black(1)], formats={"NV12": 30.0}, stepped=True)
    held = []
    with opened(camera, picture=Picture(height=12, width=16)) as source:
        for _ in range(20):
            camera.step(1)
            held.append(source.newest(1.0))
        camera.release_hangs()
    images = [frame.image for frame in held if frame is not None]
    assert len({image.tobytes() for image in images}) == 20
