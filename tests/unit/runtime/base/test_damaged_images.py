"""JPEGs that decode, with pixels made up: OpenCV says nothing, libjpeg does on C's stderr."""

from __future__ import annotations

import ctypes
import os
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import drive_factory as make
from sepilot_runtime.base.errors import FrameError
from sepilot_runtime.base.images import decode_image
from sepilot_runtime.base.jpeg_warnings import with_jpeg_warnings
from sepilot_runtime.contract.contract import Picture
from sepilot_runtime.recording.opening import open_drives
from sepilot_runtime.recording.options import ReaderOptions
from sepilot_runtime.source.camera_request import PixelFormat
from sepilot_runtime.source.pixel_formats import taker_of
from sepilot_train.base.cache import load_pictures


def jpeg(*, restart: int = 0, seed: int = 0) -> bytes:
    rng = np.random.default_rng(seed)
    image = np.clip(make.frame(0.3, height=240, width=320).astype(int) + rng.integers(-9, 9, (240, 320, 3)), 0, 255)
    return cv2.imencode(".jpg", image.astype(np.uint8), [cv2.IMWRITE_JPEG_RST_INTERVAL, restart])[1].tobytes()


def scan_of(data: bytes) -> int:
    start = data.rfind(b"\xff\xda") + 2
    return start + int.from_bytes(data[start : start + 2], "big")


def lost_block(data: bytes, length: int = 4096) -> bytes:
    start = scan_of(data) + 2000
    return data[:start] + bytes(length) + data[start + length :]


def test_a_lost_block_in_the_middle_is_no_picture(capfd: pytest.CaptureFixture[str]) -> None:
    whole = jpeg()
    assert decode_image(whole, "x").shape == (240, 320, 3)
    with pytest.raises(FrameError, match=r"damaged image: road\.jpg: Corrupt JPEG data") as raised:
        decode_image(lost_block(whole), "road.jpg")
    assert raised.value.reason == "damaged image"
    for flags in (cv2.IMREAD_GRAYSCALE, cv2.IMREAD_REDUCED_GRAYSCALE_4):
        with pytest.raises(FrameError, match="damaged"):
            decode_image(lost_block(whole), "road.jpg", flags)
    assert decode_image(whole, "x").shape == (240, 320, 3), "what was said of one picture does not count for the next"
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("restart", [0, 4])
def test_most_damage_is_seen(restart: int) -> None:
    rng, whole = random.Random(1), jpeg(restart=restart)
    start = scan_of(whole)

    def cut(_: int) -> bytes:
        return whole[: rng.randrange(start + 100, len(whole) - 600)] + b"\xff\xd9"

    def zeros(length: int) -> bytes:
        at = rng.randrange(start, len(whole) - length)
        return whole[:at] + bytes(length) + whole[at + length : -2] + b"\xff\xd9"

    for damage, length, least in ((cut, 0, 30), (zeros, 4096, 29)):
        assert sum(_refused(damage(length)) for _ in range(30)) >= least, (damage, length)


def _refused(data: bytes) -> bool:
    try:
        decode_image(data, "x")
    except FrameError:
        return True
    return False


def test_padding_of_webcams_is_no_damage() -> None:
    whole = jpeg(restart=4)
    image = decode_image(whole, "x")
    marker = whole.find(b"\xff\xd0", scan_of(whole))
    padded = whole[:marker] + bytes(9) + whole[marker:]
    assert np.array_equal(decode_image(padded, "C270"), image)
    with pytest.raises(FrameError, match="17 extraneous bytes"):
        decode_image(whole[:marker] + bytes(17) + whole[marker:], "x")
    tables = whole.find(b"\xff\xdb")
    assert np.array_equal(decode_image(whole[:tables] + bytes(30) + whole[tables:], "header"), image)
    with pytest.raises(FrameError, match="before marker 0xd9"):
        decode_image(whole[:-2] + bytes(20) + whole[-2:], "x")


def test_threads_are_not_blamed_for_each_other() -> None:
    whole, spoilt = jpeg(), lost_block(jpeg())
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(_refused, [spoilt if i % 3 == 0 else whole for i in range(120)]))
    assert answers == [i % 3 == 0 for i in range(120)]


def test_a_picture_decoded_beside_a_spoilt_one_is_decoded_again() -> None:
    libc, calls = ctypes.PyDLL(None), []
    libc.fputs.argtypes = [ctypes.c_char_p, ctypes.c_void_p]
    beside, done = threading.Event(), threading.Event()

    def decode() -> int:
        calls.append(1)
        if len(calls) == 1:
            beside.set()
            assert done.wait(10)
        return 7

    def spoilt() -> None:
        assert beside.wait(10)
        decode_or_not = with_jpeg_warnings(
            lambda: libc.fputs(b"Corrupt JPEG data: x\n", ctypes.c_void_p.in_dll(libc, "stderr")) and done.set()
        )
        assert decode_or_not[1] == "Corrupt JPEG data: x"

    other = threading.Thread(target=spoilt)
    other.start()
    # The spoilt one waits for this one to leave before it decodes again alone.
    assert with_jpeg_warnings(decode) == (7, "")
    other.join()
    assert len(calls) == 2


def test_what_others_say_meanwhile_is_passed_on(capfd: pytest.CaptureFixture[str]) -> None:
    libc = ctypes.PyDLL(None)
    libc.fputs.argtypes = [ctypes.c_char_p, ctypes.c_void_p]

    def say() -> None:
        stream = ctypes.c_void_p.in_dll(libc, "stderr")
        libc.fputs(b"v4l2: a line of a driver\nCorrupt JPEG data: bad Huffman code\n", stream)

    assert with_jpeg_warnings(say)[1] == "Corrupt JPEG data: bad Huffman code"
    assert capfd.readouterr().err == "v4l2: a line of a driver\n"
    libc.fputs(b"said outside\n", ctypes.c_void_p.in_dll(libc, "stderr"))
    assert capfd.readouterr().err == "said outside\n"


def test_an_error_while_decoding_leaves_stderr_as_it_was(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ZeroDivisionError):
        with_jpeg_warnings(lambda: 1 // 0)
    os.write(2, b"python's own\n")
    libc = ctypes.PyDLL(None)
    libc.fputs.argtypes = [ctypes.c_char_p, ctypes.c_void_p]
    libc.fputs(b"C's own\n", ctypes.c_void_p.in_dll(libc, "stderr"))
    assert capfd.readouterr().err == "python's own\nC's own\n"


def test_a_camera_frame_with_a_lost_block_is_skipped() -> None:
    class Camera:
        def retrieve(self, image: Any = None) -> tuple[bool, Any]:
            return True, np.frombuffer(lost_block(jpeg()), np.uint8)[None]

    take = taker_of(PixelFormat.MJPG, Picture(height=60, width=80), 320, 240)
    with pytest.raises(FrameError, match="damaged image: camera"):
        take(Camera())


def test_training_leaves_damaged_pictures_out_and_counts_them(tmp_path: Path) -> None:
    tub = make.write_tub(tmp_path / "tub", count=20)
    for number in (3, 11):
        (tub / "images" / f"{number}_cam_image_array_.jpg").write_bytes(lost_block(jpeg(seed=number)))
    drive = open_drives([tub], ReaderOptions())[0]
    for _ in range(2):  # Decoded, and from the cache.
        found = load_pictures(drive, Picture(height=20, width=30), cache_dir=tmp_path / "cache", progress=False)
        assert len(found.drive) == 18 and found.drive.skipped == {"damaged image": 2}
