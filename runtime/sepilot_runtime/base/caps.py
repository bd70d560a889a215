"""How large what is read from outside may be. All of it is asked before memory or time is spent on it.

Each lies far above what sepilot writes or a car needs, and low enough that the largest of all does not press a small
board: a file above one is a mistake or an attack.
"""

from __future__ import annotations

__all__ = [
    "CONTRACT_BYTES",
    "DOCUMENT_BYTES",
    "FRAME_PIXELS",
    "GOLDEN_FRAMES",
    "GOLDEN_PIXELS",
    "GOLDEN_PNG_BYTES",
    "IMAGE_BYTES",
    "IMAGE_PIXELS",
    "INPUTS",
    "LABEL_FILE_BYTES",
    "LABEL_SET_BYTES",
    "LIST_ENTRIES",
    "MODEL_BYTES",
    "OUTPUTS",
    "PICTURE_PIXELS",
    "RECORDING_BYTES",
    "ROW_BYTES",
    "SETTINGS_BYTES",
    "SIDE_PIXELS",
    "TABLE_ENTRIES",
    "TEXT_LENGTH",
    "VECTOR_SIZE",
]

MODEL_BYTES = 128 << 20
"""Of a model file: the largest recipe's float32 file has 10 MB; a Pi with 512 MB must still hold it twice."""

CONTRACT_BYTES = 1 << 20
"""Of a contract's JSON: 6 kB for one drive; 10,000 drives with long names fit."""

GOLDEN_FRAMES = 32
"""Of a contract: export writes 3. Each costs one run of the model at every start."""

GOLDEN_PNG_BYTES = 256 << 10
"""Of one golden frame: 1.1 kB at 40x30, as export writes it."""

GOLDEN_PIXELS = 640 * 480
"""Of one golden frame, by its PNG header."""

PICTURE_PIXELS = 2048 * 2048
"""Of what a model sees: shipped recipes take 200x66 to 224x224; a float picture of this size has 50 MB."""

FRAME_PIXELS = 1 << 24
"""Of a camera frame that a model takes as it is: 12 MP cameras fit."""

SIDE_PIXELS = 8192
"""Of a picture's or a frame's height and width."""

INPUTS = 8
"""Of a model: its picture, and vectors."""

VECTOR_SIZE = 4096
"""Of a vector input: a command has 4 numbers, a lidar's scan 720."""

OUTPUTS = 16
"""Of a model: two of them drive."""

LIST_ENTRIES = 30_000
"""Of a list or table inside a contract: a detector's answer to a golden frame has 7,000 numbers."""

TEXT_LENGTH = 4096
"""Of a text inside a contract, golden frames apart."""

TABLE_ENTRIES = 1 << 16
"""Of a list inside a model file's own format: tensors, operators, metadata. Large nets have some thousands."""

SETTINGS_BYTES = 1 << 20
"""Of a file that people write by hand: car.toml, recipes, keys, profiles, slots.json."""

DOCUMENT_BYTES = 256 << 20
"""Of a JSON file that sepilot writes about its work: split.json has 150 bytes for each frame of training."""

IMAGE_BYTES = 64 << 20
"""Of an image file: a 12 MP photograph without compression has 36 MB."""

IMAGE_PIXELS = 1 << 25
"""Of an image file, by its header: 33 MP, 100 MB in memory; the largest cameras on cars give 12 MP."""

RECORDING_BYTES = 256 << 20
"""Of a catalog, a log or a table of a recording: two million rows. Donkeycar starts a new catalog every 1,000."""

ROW_BYTES = 1 << 16
"""Of one row of a recording: 250 bytes; a row with a lidar's scan has 10 kB."""

LABEL_FILE_BYTES = 1 << 20
"""Of the labels of one picture: an XML file with 30 boxes has 10 kB, a text file with 100 outlines 200."""

LABEL_SET_BYTES = 512 << 20
"""Of a JSON file with the labels of a whole set: COCO's own for training has 448 MB."""
