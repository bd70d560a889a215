"""The contract survives the round trip, and every way of spoiling it is refused by name."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import struct
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_factory import contract_of, frames, steering_output
from sepilot_runtime.base.documents import plain as plain_values
from sepilot_runtime.base.errors import ContractError
from sepilot_runtime.contract.contract import (
    Contract,
    FrameInput,
    FrameStatistics,
    Golden,
    Picture,
    Vector,
    golden_frame,
    golden_from,
)

fractions = st.floats(0, 0.45)
PNG = golden_from(frames(1)[0], {}).frame_png


@st.composite
def contracts(draw: st.DrawFn) -> Contract:
    picture = Picture(
        height=draw(st.integers(1, 300)),
        width=draw(st.integers(1, 300)),
        color=draw(st.sampled_from(["gray", "bgr"])),
        crop_top=draw(fractions),
        crop_bottom=draw(fractions),
        crop_left=draw(fractions),
        crop_right=draw(fractions),
    )
    low = draw(st.floats(-1, -0.1))
    outputs = tuple(
        steering_output(
            name=name, scale=draw(st.floats(0.01, 360)), low=low, high=min(1.0, -low * draw(st.floats(0.5, 2)))
        )
        for name in draw(st.lists(st.sampled_from(["steering", "throttle", "brake"]), min_size=1, unique=True))
    )
    values = {output.name: (draw(st.floats(-2, 2)),) for output in outputs}
    statistics = FrameStatistics(brightness=(1.0, 2.0, 3.0), contrast=(0.0, 1.5, 9.0), sharpness=(0.1, 0.2, 0.3))
    return dataclasses.replace(
        contract_of(golden=0),
        inputs=(picture, *draw(st.sampled_from([(), (Vector(name="speed", size=1, columns=("speed",)),)]))),
        outputs=outputs,
        golden=(Golden(frame_png=PNG, expected=values),),
        statistics=draw(st.sampled_from([None, statistics])),
        tolerance={output.name: draw(st.floats(1e-6, 0.2)) for output in outputs},
    )


def png_of(height: int, width: int) -> str:
    """A PNG file whose header announces a size, and which has nothing behind it."""
    size = struct.pack(">II", width, height)
    return base64.b64encode(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + size + b"\x08\x02\0\0\0").decode()


@given(contracts())
def test_round_trip(contract: Contract) -> None:
    assert Contract.from_json(contract.to_json(), "file") == contract


def test_text_is_canonical() -> None:
    contract = contract_of()
    assert contract.to_json() == Contract.from_json(contract.to_json(), "file").to_json()


def signed(body: dict[str, Any]) -> str:
    """What a forger would write who knows the digest."""
    body = {key: value for key, value in body.items() if key != "digest"}
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return json.dumps({**body, "digest": hashlib.sha256(text.encode()).hexdigest()})


def spoil(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(body: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        target: Any = body
        for key in parents:
            target = target[int(key)] if isinstance(target, list) else target[key]
        if value is None:
            del target[last]
        else:
            target[int(last) if isinstance(target, list) else last] = value

    return change


OUTPUT = plain_values(steering_output())
PICTURE = plain_values(Picture(height=66, width=100))
VECTOR = {"kind": "vector", "name": "speed", "size": 1, "columns": [], "one_hot": [], "previous": ""}
FRAME = plain_values(FrameInput(height=120, width=160))
STATISTICS = {
    "likeness": None,
    "frame_size": None,
    "flat_rows": None,
    "brightness": [1.0, 2.0, 3.0],
    "contrast": [1.0, 2.0, 3.0],
    "sharpness": [1.0, 2.0, 3.0],
}


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("colour", "blue", "colour"),
        ("inputs.0.crop", 0.2, "crop"),
        ("outputs.0.factor", 3, "factor"),
        ("inputs.0.height", None, "height"),
        ("golden", None, "golden"),
        ("inputs.0.height", "66", "height"),
        ("inputs.0.height", 66.5, "height"),
        ("inputs.0.height", True, "height"),
        ("inputs.0.height", 0, "height"),
        ("inputs.0.color", "green", "green"),
        ("inputs.0.crop_top", 1.5, "crop_top"),
        ("inputs.0.crop_bottom", 0.9, "crop"),
        ("inputs.0.scale", 1.0, "1/255"),
        ("outputs", [], "outputs"),
        ("outputs.0.scale", -25.0, "scale"),
        ("outputs.0.low", 2.0, "low"),
        ("outputs.0.scale", 1e308, "scale"),
        ("outputs.0.scale", 10**400, "scale: a finite number"),
        ("outputs.0.positive", "left", "one of right, forward,  expected, found 'left'"),
        (
            "outputs.0.kind",
            "scalars",
            "outputs[0].kind: one of scalar, classes, boxes, points, embedding expected, found 'scalars'",
        ),
        (
            "outputs.0.kind",
            None,
            "outputs[0].kind: one of scalar, classes, boxes, points, embedding expected, found None",
        ),
        ("inputs.0.kind", "sound", "inputs[0].kind: one of picture, vector expected, found 'sound'"),
        ("inputs", [], "one picture expected"),
        ("inputs", [PICTURE, {**PICTURE, "name": "behind"}], "one picture expected"),
        (
            "inputs",
            [PICTURE, {**VECTOR, "name": "image", "size": 1, "columns": []}],
            "names must differ",
        ),
        (
            "inputs",
            [PICTURE, {**VECTOR, "name": "speed", "size": 0, "columns": []}],
            "a size of 1 to",
        ),
        (
            "inputs",
            [PICTURE, {**VECTOR, "name": "v", "size": 3, "columns": ["a"]}],
            "3 columns expected",
        ),
        ("tolerance", {}, "tolerance: one for each of steering expected"),
        ("tolerance", {"throttle": 0.1}, "tolerance: one for each of steering expected"),
        ("outputs.0.low", 0.0, "around 0"),
        ("outputs.0.low", -5.0, "around 0"),
        ("outputs.0.high", 9.0, "around 0"),
        ("outputs.0.high", 0.1, "neither side more than twice"),
        ("outputs", [{**OUTPUT, "low": 5.0, "high": 9.0}], "around 0"),
        ("outputs", [{**OUTPUT, "name": f"o{i}"} for i in range(17)], "at most 16"),
        ("inputs.0.height", 16_000, "pixels"),
        ("inputs.0.width", 10**30, "pixels"),
        ("inputs", [{**PICTURE, "height": 4096, "width": 4096}], "pixels"),
        ("frame", {**FRAME, "height": 16_000}, "pixels"),
        ("golden.0.frame_png", "A" * 400_000, "frame_png: at most"),
        ("golden.0.frame_png", png_of(16_000, 16_000), "16000x16000"),
        ("golden.0.frame_png", png_of(0, 8), "0x8"),
        ("golden.0.frame_png", base64.b64encode(b"GIF89a" + b"x" * 40).decode(), "not a PNG"),
        ("provenance.recipe", "swift\x1b]0;owned\x07", "provenance.recipe: a printable text"),
        ("provenance.recipe", "\ud800", "'\\ud800'"),
        ("provenance.recipe", "swift\u202egnp", "printable"),
        ("provenance.drives", ["a\nb"], "provenance.drives[0]: a printable text"),
        ("provenance.drives", ["a"] * 30_001, "at most 30000"),
        ("provenance.versions", {"numpy\x1b[2J": "1"}, "provenance.versions: printable names"),
        ("provenance.created", "x" * 5000, "at most 4096"),
        ("statistics", {**STATISTICS, "contrast": [5.0, 1.0, 9.0]}, "contrast: three rising"),
        ("statistics", {**STATISTICS, "contrast": [5.0, 6.0, 10**400]}, "finite"),
        ("tolerance.steering", 10**400, "tolerance.steering: a finite number"),
        ("provenance.precision", "int4", "int4"),
        ("provenance.drives", "all", "drives"),
        ("golden.0.expected", {"steering": ["left"]}, "golden[0].expected.steering[0]"),
        ("tolerance.steering", 0.9, "tolerance.steering: must be in"),
        ("version", "3.0", "version"),
        ("version", None, "version"),
        ("version", 1, "version"),
    ],
)
def test_a_spoilt_contract_is_refused_even_with_a_right_digest(path: str, value: Any, words: str) -> None:
    body = json.loads(contract_of().to_json())
    spoil(path, value)(body)
    with pytest.raises(ContractError) as caught:
        Contract.from_json(signed(body), "model.tflite")
    message = str(caught.value)
    assert message.startswith("model.tflite: ")
    assert words in message
    assert message.isprintable() and len(message) < 400


def test_any_change_without_a_new_digest_is_refused() -> None:
    text = contract_of().to_json()
    body = json.loads(text)
    body["inputs"][0]["crop_top"] = 0.3
    with pytest.raises(ContractError, match="digest"):
        Contract.from_json(json.dumps(body), "model.tflite")
    with pytest.raises(ContractError, match="digest"):
        Contract.from_json(text.replace('"digest":"', '"digest":"f'), "model.tflite")


@pytest.mark.parametrize(
    "text", ["", "nonsense", "[]", "null", '{"version":"1.0"}', "[" * 100_000, '{"version":' + "9" * 10_000 + "}"]
)
def test_what_is_no_contract_is_refused(text: str) -> None:
    with pytest.raises(ContractError, match=r"^model\.onnx: "):
        Contract.from_json(text, "model.onnx")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            spoil(
                "golden",
                [{"expected": {"steering": [0.0]}, "vectors": {}, "frame_png": PNG[:200], "picture_crc32": 0}] * 3000,
            ),
            "at most 32",
        ),
        (
            spoil(
                "golden",
                [{"expected": {"steering": [0.0]}, "vectors": {}, "frame_png": PNG, "picture_crc32": 0}] * 10_000,
            ),
            "at most 1048576",
        ),
        (spoil("provenance.created", "x" * (50 << 20)), "at most 1048576"),
    ],
)
def test_what_is_too_large_is_refused_before_it_costs_anything(
    change: Callable[[dict[str, Any]], None], words: str
) -> None:
    body = json.loads(contract_of().to_json())
    change(body)
    text = signed(body)
    tracemalloc.start()
    try:
        with pytest.raises(ContractError, match=words):
            Contract.from_json(text, "model.tflite")
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


plain = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([10**400, -(10**400), 1e308, -0.0, 0.5]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=()), max_size=20),
)
anything = st.recursive(
    plain,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


def places_in(value: Any, at: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, below in inner for place in ((*at, key), *places_in(below, (*at, key)))]


BODY = json.loads(contract_of(golden=1).to_json())
PLACES = [place for place in places_in(BODY) if place[0] != "digest"]


@given(st.sampled_from(PLACES), anything)
def test_no_value_anywhere_gives_more_than_one_line(place: tuple[str | int, ...], value: Any) -> None:
    body = json.loads(json.dumps(BODY))
    holder: Any = body
    for key in place[:-1]:
        holder = holder[key]
    holder[place[-1]] = value
    try:
        taken = Contract.from_json(signed(body), "model.tflite")
    except ContractError as e:
        assert "\n" not in str(e) and len(str(e)) < 1000
    else:
        for output in taken.outputs:
            assert output.positive != "right" or -1 <= output.low < 0 < output.high <= 1
        assert Contract.from_json(taken.to_json(), "again") == taken


def test_lists_without_end_inside_each_other_are_one_line() -> None:
    for depth in (100, 900, 5000):
        body = json.loads(contract_of().to_json())
        body["tolerance"] = "DEEP"
        nested = json.dumps(body).replace('"DEEP"', "[" * depth + "]" * depth)
        with pytest.raises(ContractError, match=r"^model\.tflite: "):
            Contract.from_json(nested, "model.tflite")


def test_not_a_number_cannot_be_written() -> None:
    golden = (Golden(frame_png=PNG, expected={"steering": (float("nan"),)}),)
    spoilt = dataclasses.replace(contract_of(golden=0), golden=golden)
    with pytest.raises(ContractError):
        spoilt.to_json()


def test_golden_frame_round_trip() -> None:
    frame = frames(1)[0]
    assert np.array_equal(golden_frame(golden_from(frame, {"steering": 0.5})), frame)


@pytest.mark.parametrize("png", ["", "not base64!", "AAAA", golden_from(frames(1)[0], {}).frame_png[:200]])
def test_a_broken_golden_frame_is_refused(png: str) -> None:
    with pytest.raises(ContractError, match="golden"):
        golden_frame(Golden(frame_png=png, expected={"steering": (0.0,)}))


def test_outputs_are_found_by_name() -> None:
    assert contract_of().output("steering").scale == 25.0
    with pytest.raises(ContractError, match="throttle"):
        contract_of().output("throttle")
