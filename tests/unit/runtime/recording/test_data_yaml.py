"""The part of YAML that `data.yaml` files are written in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sepilot_runtime.base.errors import DriveError
from sepilot_runtime.recording.data_yaml import read_data_yaml


def read(path: Path, text: str) -> dict[str, Any]:
    file = path / "data.yaml"
    file.write_text(text)
    return read_data_yaml(file, ("path", "train", "names", "nc", "kpt_shape"))


@pytest.mark.parametrize(("text", "value"), [
    ("names: [a, b]", ["a", "b"]),
    ("names: ['traffic light', \"it's\", 'it''s', a b ]  # three", ["traffic light", "it's", "it's", "a b"]),
    ("names: [a,\n  b,\n]", ["a", "b"]),
    ("names: []", []),
    ("names:\n- a\n-  'b: c'  # c\n- d#e", ["a", "b: c", "d#e"]),
    ("names:\n  - a\n\n  # nothing\n  - b", ["a", "b"]),
    ("names:\n  0: a\n  1: 'b'", {"0": "a", "1": "b"}),
    ("names: {0: a, 1: 'b, c'}", {"0": "a", "1": "b, c"}),
    ("names: a.txt", "a.txt"),
    ("names:", ""),
])  # fmt: skip
def test_lists_tables_and_texts(text: str, value: object, tmp_path: Path) -> None:
    assert read(tmp_path, f"# head\n---\nnc: 2\n{text}\ntrain: x\n") == {"nc": "2", "names": value, "train": "x"}


def test_what_nobody_asks_for_is_passed_over(tmp_path: Path) -> None:
    """Ultralytics' own files end in a script that downloads the set."""
    script = (
        "download: |\n  import x\n  names: [\n  for a in b:\n    - {\n\nkpt_shape: [17, 3]\nanchors: &a !!python/x {\n"
    )
    assert read(tmp_path, f"names: [a]\n{script}") == {"names": ["a"], "kpt_shape": ["17", "3"]}


@pytest.mark.parametrize("text", [
    "names: [a, b", "names: [a, [b]]", "names: {a: b", "names: {a}", "names: *a", "names: |\n  a", "names:\n  - a\n  b",
    "names:\n  a\n", "names:\n  0: a\n  0: b", "names: {0: a, 0: b}", "names: 'a", "names:\n- [a]", "names: ]",
])  # fmt: skip
def test_what_is_not_known_is_one_line_with_its_number(text: str, tmp_path: Path) -> None:
    if text == "names: ]":
        assert read(tmp_path, text) == {"names": "]"}
        return
    with pytest.raises(DriveError, match=r"data.yaml: line 3: names: a text, a list or a table expected, found ") as e:
        read(tmp_path, f"nc: 1\ntrain: x\n{text}")
    assert "\n" not in str(e.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "b.yaml").write_bytes(b"#" * (1 << 20) + b"\n")
    for name in "abc":
        with pytest.raises(DriveError, match=f"{name}.yaml: cannot be read"):
            read_data_yaml(tmp_path / f"{name}.yaml", ("names",))
