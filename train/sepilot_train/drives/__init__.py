"""Recordings in one normal form, whatever wrote them, and their frames decoded once.

    drives = open_drives([Path("tubs")], ReaderOptions())
    pictures = load_pictures(drives[0], recipe.picture)

Nothing is ever written into a recording.

Names are imported when they are first used: the flags of a command line need neither NumPy nor OpenCV.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sepilot_train.drives.cache import PictureSet as PictureSet
    from sepilot_train.drives.cache import load_pictures as load_pictures
    from sepilot_train.drives.cache import usable_cache as usable_cache
    from sepilot_train.drives.drive import Drive as Drive
    from sepilot_train.drives.drive import Frames as Frames
    from sepilot_train.drives.drive import frames_of as frames_of
    from sepilot_train.drives.opening import open_apart as open_apart
    from sepilot_train.drives.opening import open_drives as open_drives
    from sepilot_train.drives.options import DriveFilter as DriveFilter
    from sepilot_train.drives.options import ReaderOptions as ReaderOptions
    from sepilot_train.drives.options import add_filter_arguments as add_filter_arguments
    from sepilot_train.drives.options import add_reader_arguments as add_reader_arguments
    from sepilot_train.drives.options import drive_filter as drive_filter
    from sepilot_train.drives.options import reader_options as reader_options
    from sepilot_train.drives.stored import Pictures as Pictures
    from sepilot_train.drives.stored import StoredPictures as StoredPictures

_HOME = {
    "Drive": "drive",
    "DriveFilter": "options",
    "Frames": "drive",
    "PictureSet": "cache",
    "Pictures": "stored",
    "ReaderOptions": "options",
    "StoredPictures": "stored",
    "add_filter_arguments": "options",
    "add_reader_arguments": "options",
    "drive_filter": "options",
    "frames_of": "drive",
    "load_pictures": "cache",
    "open_apart": "opening",
    "open_drives": "opening",
    "reader_options": "options",
    "usable_cache": "cache",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value
