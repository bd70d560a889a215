"""Contracts and files of version 1, as the sepilot of their time wrote them, read and answer as they did."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from model_factory import frames
from sepilot_runtime.base.errors import ContractError
from sepilot_runtime.contract.contract import CONTRACT_VERSION, Contract
from sepilot_runtime.engine.model_file import read_model_file
from sepilot_runtime.engine.pilot import load_pilot

FOLDER = Path(__file__).parents[3] / "fixtures" / "contract1"
ANSWERS = json.loads((FOLDER / "answers.json").read_text())


def text_of(version: str) -> str:
    return (FOLDER / f"contract-{version}.json").read_text()


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2"])
def test_what_it_said_is_what_is_read(version: str) -> None:
    old = json.loads(text_of(version))
    found = Contract.from_json(text_of(version), "old")
    (output,), (said,) = found.outputs, old["outputs"]
    assert {key: getattr(output, key) for key in said} == said
    assert {key: getattr(found.picture, key) for key in old["picture"]} == old["picture"]
    assert found.inputs == (found.picture,) and found.vectors == ()
    assert found.tolerance == {"steering": old["tolerance"]}
    assert [g.expected["steering"] for g in found.golden] == [(g["expected"]["steering"],) for g in old["golden"]]
    assert [g.frame_png for g in found.golden] == [g["frame_png"] for g in old["golden"]]
    assert found.statistics is not None and list(found.statistics.contrast) == old["statistics"]["contrast"]
    assert (found.statistics.likeness is not None) == (version != "1.0")
    assert (found.statistics.frame_size == (64, 48)) == (version == "1.2")
    assert found.provenance.recipe == old["provenance"]["recipe"]
    # It is written as the version of today, and that reads as the same.
    assert json.loads(found.to_json())["version"] == CONTRACT_VERSION
    assert Contract.from_json(found.to_json(), "new") == found


@pytest.mark.parametrize("name", sorted(ANSWERS))
def test_files_answer_as_they_did(name: str) -> None:
    """Floats to the last bit. An int8 file's answer is now the float32 nearest to what the product of its step was."""
    pilot = load_pilot(FOLDER / name)
    for frame, (steering, raw, degrees) in zip(frames(5, seed=11), ANSWERS[name], strict=True):
        found = pilot.predict(frame)
        if "int8" in name:
            assert found.raw["steering"] == pytest.approx(raw, rel=2**-24)
            assert found.in_unit("steering") == pytest.approx(degrees, rel=2**-24)
        else:
            assert (found.values["steering"], found.raw["steering"]) == (steering, raw)
            assert found.in_unit("steering") == degrees


def test_a_golden_answer_that_was_changed_is_still_caught(tmp_path: Path) -> None:
    name = "float32-1.2.tflite"
    contract = read_model_file(FOLDER / name).contract
    old = json.loads(text_of("1.2"))
    assert contract.golden[0].expected["steering"][0] == old["golden"][0]["expected"]["steering"]
    old["golden"][0]["expected"]["steering"] += 0.5
    with pytest.raises(ContractError, match="digest"):
        Contract.from_json(json.dumps(old), "old")


def signed(body: dict[str, Any]) -> str:
    body = {key: value for key, value in body.items() if key != "digest"}
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return json.dumps({**body, "digest": hashlib.sha256(text.encode()).hexdigest()})


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("task", "landmarks", "task: steering expected, found 'landmarks'"),
        ("task", None, "task: steering expected, found None"),
        ("tolerance", 0.9, "tolerance.steering: must be in"),
        ("tolerance", None, "tolerance: missing"),
        ("picture", "gray", "inputs[0]: a table expected"),
        ("outputs", 3, "outputs: a list expected"),
        ("golden", [3], "golden[0]: a table expected"),
        ("speed", 1, "speed: unknown key"),
    ],
)
def test_a_spoilt_one_is_one_line(key: str, value: Any, words: str) -> None:
    body = json.loads(text_of("1.2"))
    if value is None:
        del body[key]
    else:
        body[key] = value
    with pytest.raises(ContractError) as caught:
        Contract.from_json(signed(body), "old.tflite")
    assert str(caught.value).startswith("old.tflite: ") and words in str(caught.value)
