"""Recordings in one normal form, whatever wrote them, and their frames decoded once.

    drives = open_drives([Path("tubs")], ReaderOptions())
    pictures = load_pictures(drives[0], recipe.picture)

Nothing is ever written into a recording.
"""

from sepilot_train.drives.cache import PictureSet as PictureSet
from sepilot_train.drives.cache import load_pictures as load_pictures
from sepilot_train.drives.drive import Drive as Drive
from sepilot_train.drives.drive import DriveFilter as DriveFilter
from sepilot_train.drives.drive import Frames as Frames
from sepilot_train.drives.drive import frames_of as frames_of
from sepilot_train.drives.opening import open_drives as open_drives
from sepilot_train.drives.options import ReaderOptions as ReaderOptions
from sepilot_train.drives.options import add_filter_arguments as add_filter_arguments
from sepilot_train.drives.options import add_reader_arguments as add_reader_arguments
from sepilot_train.drives.options import drive_filter as drive_filter
from sepilot_train.drives.options import reader_options as reader_options

__all__ = [
    "Drive",
    "DriveFilter",
    "Frames",
    "PictureSet",
    "ReaderOptions",
    "add_filter_arguments",
    "add_reader_arguments",
    "drive_filter",
    "frames_of",
    "load_pictures",
    "open_drives",
    "reader_options",
]
