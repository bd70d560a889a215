"""Documents that some sepilot wrote: an older one's are whole, a later one's are understood as far as they can be."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import pytest

from sepilot_runtime.base.documents import parse, read_document
from sepilot_runtime.base.errors import RunError, UsageError


class Kind(StrEnum):
    FILE = "file"
    MODEL = "model"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    kind: Kind
    us: float
    sha256: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    rows: tuple[Row, ...]


def written(path: Path, **row: object) -> Path:
    path.write_text(json.dumps({"rows": [{"kind": "file", "us": 1, **row}]}))
    return path


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    document = Document(rows=(Row(kind=Kind.MODEL, us=2.5, sha256="ab"), Row(kind=Kind.FILE, us=1.0)))
    (tmp_path / "d.json").write_text(json.dumps(dataclasses.asdict(document)))
    assert read_document(Document, tmp_path / "d.json", RunError) == document


def test_keys_of_a_later_sepilot_are_left_alone_and_those_that_an_older_had_not_have_defaults(tmp_path: Path) -> None:
    found = read_document(Document, written(tmp_path / "d.json", unheard_of=3), RunError)
    assert found.rows == (Row(kind=Kind.FILE, us=1.0),)
    with pytest.raises(UsageError, match=r"rows\[0\].unheard_of: unknown key"):
        parse(Document, json.loads((tmp_path / "d.json").read_text()), "", UsageError, complete=True)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"us": "1"}, "rows[0].us: a number expected, found '1'"),
        ({"kind": "car"}, "rows[0].kind: one of file, model expected, found 'car'"),
    ],
)
def test_what_is_wrong_is_one_line_that_names_file_and_key(tmp_path: Path, row: dict[str, object], says: str) -> None:
    path = written(tmp_path / "d.json", **row)
    with pytest.raises(RunError) as caught:
        read_document(Document, path, RunError)
    assert str(caught.value) == f"{path}: {says}"
