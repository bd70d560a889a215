"""A folder without permission is one line, wherever it is named."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from model_factory import write_tflite
from sepilot_runtime.base.errors import DriveError, ModelFileError, OutputError
from sepilot_runtime.base.files import exists, require_new
from sepilot_runtime.device import installation
from sepilot_runtime.device.slots import active_model, read_slots, rollback
from sepilot_runtime.drive.supervisor import Control
from sepilot_runtime.engine.model_file import ModelFile, read_model_file
from sepilot_runtime.output.tub_recorder import TubRecorder
from sepilot_runtime.source.opening import open_source

NOBODY = 65534


@pytest.fixture
def file(tmp_path: Path) -> ModelFile:
    return read_model_file(write_tflite(tmp_path / "m.tflite"))


@pytest.fixture
def locked(file: ModelFile) -> Iterator[Path]:
    """A folder in which this process may do nothing; root may do all, and so is somebody else meanwhile."""
    me = os.geteuid()
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        folder = Path(name) / "locked"
        folder.mkdir(mode=0)
        try:
            if me == 0:
                os.seteuid(NOBODY)
            yield folder
        finally:
            os.seteuid(me)
            folder.chmod(0o700)


def test_nothing_is_written_there(locked: Path) -> None:
    for path in (locked / "out", locked / "deep" / "out"):
        with pytest.raises(OutputError, match=r"out: cannot be .*ermission"):
            require_new(path)
        with pytest.raises(OutputError, match=r"out: cannot be .*ermission"):
            TubRecorder(path, Control(), full_scale_deg=25.0, model="ramp")
        with pytest.raises(DriveError, match="out: cannot be read: Permission denied"):
            exists(path, DriveError)


def test_it_is_no_source(locked: Path) -> None:
    for path in (locked, locked / "tub", locked / "road.mp4", locked / "frame.png"):
        with pytest.raises(DriveError, match=f"{path.name}.*: cannot be read: Permission denied"):
            open_source(str(path))


def test_it_holds_no_slots(locked: Path, file: ModelFile) -> None:
    for look in (read_slots, active_model):
        with pytest.raises(ModelFileError, match=r"slots\.json: cannot be read: Permission denied"):
            look(locked)
    with pytest.raises(OutputError, match="cannot be written: Permission denied"):
        rollback(locked)
    # Where nobody can tell whether only signed files are trusted, none is.
    with pytest.raises(ModelFileError, match=r"trusted\.pem: cannot be read: Permission denied"):
        installation._require_signatures(file, locked, None)
