"""Nothing half-written, nothing lost."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from sepilot_runtime.base.errors import DriveError, OutputError
from sepilot_runtime.base.files import (
    atomic_directory,
    atomic_file,
    exists,
    read_json,
    require_new,
    sha256_of,
    write_json,
)


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_when_the_block_succeeds(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "out.txt"
    with atomic_file(target) as part:
        part.write_text("whole")
        assert not target.exists()
        assert part.suffix == ".txt"
    assert target.read_text() == "whole"
    assert leftovers(target.parent) == ["out.txt"]
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(target.stat().st_mode) == 0o666 & ~umask


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failure_keeps_what_stood_there(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "out.txt"
    target.write_text("old")
    with pytest.raises(error), atomic_file(target) as part:
        part.write_text("half")
        raise error
    assert target.read_text() == "old"
    assert leftovers(tmp_path) == ["out.txt"]


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    target = tmp_path / "out.txt"
    with pytest.raises(OutputError, match=r"out\.txt: cannot be written: No space left on device"), atomic_file(target):
        raise OSError(28, os.strerror(28))
    assert leftovers(tmp_path) == []


def test_a_folder_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "blocked").write_text("")
    with pytest.raises(OutputError, match="cannot be written"), atomic_file(tmp_path / "blocked" / "out.txt"):
        pytest.fail("the block must not run")
    with pytest.raises(OutputError, match="cannot be written"), atomic_directory(tmp_path / "blocked" / "out"):
        pytest.fail("the block must not run")


def test_a_directory_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "run"
    with atomic_directory(target) as part:
        (part / "a").write_text("1")
        assert not target.exists()
    assert (target / "a").read_text() == "1"
    assert leftovers(tmp_path) == ["run"]


def test_an_existing_directory_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="exists already"), atomic_directory(tmp_path):
        pytest.fail("the block must not run")
    with pytest.raises(OutputError, match="exists already"):
        require_new(tmp_path)
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    with pytest.raises(OutputError, match="exists already"):
        require_new(tmp_path / "dangling")


def test_what_exists(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    found = [exists(tmp_path / name, OutputError) for name in ("", "file", "nowhere", "dangling", "file/below")]
    assert found == [True, True, False, False, False]


def test_overwriting_replaces_all_or_nothing(tmp_path: Path) -> None:
    target = tmp_path / "run"
    target.mkdir()
    (target / "old").write_text("")
    with pytest.raises(KeyboardInterrupt), atomic_directory(target, overwrite=True) as part:
        (part / "new").write_text("")
        raise KeyboardInterrupt
    assert leftovers(target) == ["old"]
    with atomic_directory(target, overwrite=True) as part:
        (part / "new").write_text("")
    assert leftovers(target) == ["new"]
    assert leftovers(tmp_path) == ["run"]


def test_json_round_trip_and_refusals(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"b": [1, 2.5, "ü"]})
    assert read_json(path) == {"b": [1, 2.5, "ü"]}
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "nan.json", float("nan"))
    assert leftovers(tmp_path) == ["a.json"]
    with pytest.raises(DriveError, match=r"nowhere\.json: no such file"):
        read_json(tmp_path / "nowhere.json", DriveError)
    path.write_text('{\n "b": }')
    with pytest.raises(DriveError, match="line 2"):
        read_json(path, DriveError)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DriveError, match="cannot be read"):
        read_json(path, DriveError)


def test_digest_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    assert sha256_of(tmp_path / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_written_json_ends_with_a_newline(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", [])
    assert (tmp_path / "a.json").read_text().endswith("\n")
    assert json.loads((tmp_path / "a.json").read_text()) == []
