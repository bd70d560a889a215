"""Reading .keras files, and .h5 files of Keras 2 and 3: what is wrong with one is told in one line."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

from sepilot_runtime.base.errors import ModelFileError

__all__ = ["load_keras"]


def load_keras(path: Path) -> Any:
    """The net of a .keras or .h5 file, without what it was trained with.

    Raises:
        ModelFileError: no such file, a damaged one, or not a net that Keras can make.
    """
    from sepilot_train.base.quiet import start_keras

    if not path.is_file():
        raise ModelFileError(f"{path}: no such file")
    if path.suffix != ".h5" and not _is_whole(path):
        # Keras calls a file that is cut off "not found".
        raise ModelFileError(f"{path}: damaged: it is not a whole .keras file; copy or save it again")
    start_keras()
    import keras

    try:
        return keras.saving.load_model(path, compile=False)
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RuntimeError) as e:
        text = str(e).strip().splitlines()
        raise ModelFileError(f"{path}: not a Keras model: {text[0] if text else type(e).__name__}") from e


def _is_whole(path: Path) -> bool:
    """Whether it is a zip archive all of whose members agree with their checksums."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError):
        return False
