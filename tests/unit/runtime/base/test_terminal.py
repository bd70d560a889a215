"""What others named cannot write to the terminal as it likes, and no name ends a program with a traceback."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drive_factory import write_tub, write_video
from model_factory import write_frames, write_tflite
from sepilot_runtime import cli
from sepilot_runtime.base.errors import UsageError
from sepilot_runtime.base.processes import own_environment
from sepilot_runtime.base.terminal import legible, one_line
from sepilot_runtime.base.unique_names import names_of

EVIL = "a\x1b]0;owned\x07\x1b[2J\x9b31m\u202egpj.\u2066\udcff"
OBEYED = set("\x1b\x07\x9b\u202e\u2066\udcff\x00\r\u2028\u200b")


@given(st.text(st.characters(exclude_categories=())))
def test_what_a_terminal_obeys_is_escaped_and_lines_stay(text: str) -> None:
    shown = legible(text)
    assert not OBEYED & set(shown)
    assert shown.count("\n") == text.count("\n")
    shown.encode()  # No half of a character.
    assert legible(shown) == shown
    assert len(one_line(text).splitlines()) <= 1


def test_what_people_write_stays_as_it_is() -> None:
    text = "Straße 7°, µs – «été»\t日本語 🚗\n"
    assert legible(text) == text and one_line(text) == text.replace("\t", "\\t").replace("\n", "\\n")


def test_errors_and_output_of_verbs_are_legible(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def verb(_: object) -> int:
        print(EVIL)
        print(f"warning: {EVIL}", file=sys.stderr)
        raise UsageError(f"{EVIL}\nsecond line")

    monkeypatch.setattr(cli, "_load", lambda _: verb)
    streams = sys.stdout, sys.stderr
    assert cli.main(["drive"]) == 2
    assert (sys.stdout, sys.stderr) == streams
    out, err = capsys.readouterr()
    assert not OBEYED & set(out + err)
    assert out.count("\n") == 1 and err.count("\n") == 2


def test_an_encoding_that_lacks_a_character_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    monkeypatch.setattr(cli, "_load", lambda _: lambda _: print("25° in 3 µs") or 0)
    assert cli.main(["drive"]) == 0
    assert raw.getvalue() == b"25? in 3 ?s\n"
    assert sys.stdout.errors == "strict"


def test_short_names_are_legible(tmp_path: Path) -> None:
    assert names_of([tmp_path / EVIL]) == [legible(EVIL)]


def evil_places(folder: Path) -> dict[str, list[str]]:
    """Verbs with every kind of input under such a name: those that succeed and those that do not."""
    # OpenCV writes to no such name: it is given afterwards.
    plain, home = folder / "plain", folder / EVIL
    plain.mkdir()
    write_frames(plain / "frames", 2)
    write_tub(plain / "tub")
    write_video(plain / "video.mp4")
    plain.rename(home)
    pictures, tub = str(home / "frames"), str(home / "tub")
    model = str(write_tflite(home / f"{EVIL}.tflite"))
    (home / "torn.tflite").write_bytes(b"\0\0\0\0TFL3")
    (home / "car.toml").write_text('"\\u001b[2J" = 1\n')
    return {
        "drive": ["drive", model, "--source", pictures],
        "drive tub": ["drive", model, "--source", tub],
        "drive video": ["drive", model, "--source", str(home / "video.mp4")],
        "drive overlay": ["drive", model, "--source", pictures, "--overlay", str(home / "out.mp4")],
        "drive nothing": ["drive", model, "--source", str(home / "nothing\x1b")],
        "drive torn": ["drive", str(home / "torn.tflite"), "--source", pictures],
        "drive car": ["drive", model, "--source", pictures, "--car", str(home / "car.toml")],
        "drive set": ["drive", model, "--source", pictures, "--set", f"{EVIL}=1"],
        "unknown option": ["drive", model, f"--{EVIL}"],
        "unknown verb": [EVIL],
        "install": ["install", model, "--slots", str(home / "slots")],
        "slots": ["slots", "--slots", str(home / "slots")],
        "bench": ["bench", model, "--frames", "20", "--no-cold"],
        "compare": ["compare", model, model, "--source", pictures],
        "drives": ["drives", str(home)],
        "train nothing": ["train", str(home / "nothing\x1b"), "--out", str(folder / "run")],
    }


VERBS = (
    "drive", "drive tub", "drive video", "drive overlay", "drive nothing", "drive torn", "drive car", "drive set",
    "unknown option", "unknown verb", "install", "slots", "bench", "compare", "drives", "train nothing",
)  # fmt: skip


@pytest.mark.parametrize("name", VERBS)
def test_no_verb_hands_on_what_a_name_holds(name: str, tmp_path: Path) -> None:
    words = evil_places(tmp_path)[name]
    words = [sys.executable, "-m", "sepilot_runtime", *words]
    done = subprocess.run(words, capture_output=True, timeout=100, env=own_environment(), cwd="/", check=False)
    said = (done.stdout + done.stderr).decode("utf-8")
    assert "Traceback" not in said and done.returncode in (0, 2), said
    assert not OBEYED & set(said), said
