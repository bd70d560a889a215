"""A contract's fields to their edges, and its text key by key."""

from __future__ import annotations

import base64
import dataclasses
import json
import zlib
from typing import Any

import numpy as np
import pytest

import model_factory as factory
from model_factory import steering_output
from sepilot_runtime.base.caps import CONTRACT_BYTES, GOLDEN_PIXELS, GOLDEN_PNG_BYTES, LIST_ENTRIES, TEXT_LENGTH
from sepilot_runtime.base.errors import ContractError
from sepilot_runtime.contract import contract
from sepilot_runtime.contract.contract import (
    Contract,
    FrameInput,
    Golden,
    Provenance,
    Scalar,
    golden_frame,
    golden_from,
)
from sepilot_runtime.drive.novelty import statistics_of

CONTRACT = factory.contract_of()


def test_what_an_output_means_unless_it_says_otherwise() -> None:
    plain = Scalar(name="brake")
    assert (plain.unit, plain.positive, plain.shape) == ("", "", (1,))
    assert (plain.scale, plain.low, plain.high) == (1.0, -1.0, 1.0)


@pytest.mark.parametrize("scale", [0.0, -25.0, float("inf"), float("nan")])
def test_a_scale_is_positive_and_finite(scale: float) -> None:
    with pytest.raises(ContractError, match=r"outputs\.steering\.scale"):
        steering_output(scale=scale)
    assert steering_output(scale=0.5).scale == 0.5


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.0), (0.5, -0.5), (float("nan"), 1.0), (-1.0, float("inf"))])
def test_low_lies_below_high(low: float, high: float) -> None:
    with pytest.raises(ContractError, match=r"outputs\.angle: low must lie below high"):
        steering_output(name="angle", low=low, high=high)


def test_a_full_turn_is_the_largest_scale() -> None:
    assert steering_output(scale=360.0).scale == 360.0
    with pytest.raises(ContractError, match=r"scale: must be in \(0, 360\], found 360\.5"):
        steering_output(scale=360.5)


@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (-1.0, 0.5), (-0.5, 1.0), (-0.01, 0.01)])
def test_steering_lies_around_straight_ahead(low: float, high: float) -> None:
    assert (steering_output(low=low, high=high).low, steering_output(low=low, high=high).high) == (low, high)


@pytest.mark.parametrize(
    ("low", "high"),
    [(0.0, 0.5), (-0.5, 0.0), (0.0, 1.0), (-1.5, 1.0), (-1.0, 1.5), (-1.0, 0.4), (-0.4, 1.0), (-0.9, 0.35)],
)
def test_a_range_that_steers_one_way_is_refused(low: float, high: float) -> None:
    with pytest.raises(ContractError, match=r"outputs\.steering: a range around 0 within \[-1, 1\] expected"):
        steering_output(low=low, high=high)


def sealed(body: dict[str, Any]) -> str:
    """A contract of these values, with the digest that fits."""
    return json.dumps({**body, "digest": contract._digest(body)})


def body_of(**provenance: Any) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(CONTRACT.to_json())
    del body["digest"]
    body["provenance"] |= provenance
    return body


def test_counts_to_their_edges() -> None:
    """As many entries and letters as are allowed, and one more."""
    fields = {field.name: getattr(CONTRACT.provenance, field.name) for field in dataclasses.fields(Provenance)}
    most = ("d",) * LIST_ENTRIES
    assert len(Provenance(**fields | {"drives": most}).drives) == LIST_ENTRIES
    with pytest.raises(ContractError, match=r"provenance\.drives: at most 30000 entries expected, found 30001"):
        Provenance(**fields | {"drives": (*most, "d")})
    for length, name in ((TEXT_LENGTH, "recipe"), (TEXT_LENGTH, "created")):
        assert Contract.from_json(sealed(body_of(**{name: "x" * length})), "f").provenance
        with pytest.raises(ContractError, match=f"{name}: a text of at most {length} characters expected"):
            Contract.from_json(sealed(body_of(**{name: "x" * (length + 1)})), "f")
    assert Contract.from_json(sealed(body_of(versions={"x" * TEXT_LENGTH: "1"})), "f")
    with pytest.raises(ContractError, match="printable names expected"):
        Contract.from_json(sealed(body_of(versions={"x" * (TEXT_LENGTH + 1): "1"})), "f")
    with pytest.raises(ContractError, match=r"contract: provenance\.drives: at most 30000 entries"):
        Contract.from_json(sealed(body_of(drives=["d"] * (LIST_ENTRIES + 1))), "f")
    with pytest.raises(ContractError, match=r"contract: provenance\.oddity: at most 30000 entries"):
        Contract.from_json(sealed(body_of(oddity=[1] * (LIST_ENTRIES + 1))), "f")


def test_the_size_of_a_contract_to_its_edge() -> None:
    contract.require_contract_size(CONTRACT_BYTES, "f")
    with pytest.raises(ContractError, match=f"f: a contract of at most {CONTRACT_BYTES} bytes expected"):
        contract.require_contract_size(CONTRACT_BYTES + 1, "f")


@pytest.mark.parametrize("depth", range(200, 1000, 50))
def test_lists_inside_each_other_are_one_line(depth: int) -> None:
    nested: Any = 0
    for _ in range(depth):
        nested = [nested]
    text = json.dumps(body_of())
    # The digest is made of the same text; where that cannot be made, nobody can have made the file.
    body = body_of(oddity=nested)
    try:
        text = sealed(body)
    except (RecursionError, ContractError):
        text = text.replace("{", "{" + '"a":' + "[" * depth + "]" * depth + ",", 1)
    with pytest.raises(ContractError):
        Contract.from_json(text, "f")


def test_a_limit_that_was_not_known_yet_is_none() -> None:
    pictures = np.random.default_rng(0).integers(0, 255, (40, 24, 32, 1), np.uint8)
    statistics = statistics_of(pictures)
    assert statistics.likeness is not None
    older = dataclasses.replace(statistics, likeness=dataclasses.replace(statistics.likeness, limit=None))
    text = dataclasses.replace(CONTRACT, statistics=older).to_json()
    read = Contract.from_json(text, "f").statistics
    assert read is not None and read.likeness is not None and read.likeness.limit is None


@pytest.mark.parametrize("tolerance", [1e-9, 0.2])
def test_a_tolerance(tolerance: float) -> None:
    found = dataclasses.replace(CONTRACT, tolerance={"steering": tolerance}).tolerance
    assert found == {"steering": tolerance}


@pytest.mark.parametrize("tolerance", [0.0, -0.1, 0.2001, float("nan"), float("inf")])
def test_a_tolerance_that_proves_nothing(tolerance: float) -> None:
    with pytest.raises(ContractError, match=r"tolerance\.steering: must be in \(0, 0\.2\]"):
        dataclasses.replace(CONTRACT, tolerance={"steering": tolerance})


def test_outputs_are_some_and_have_names_of_their_own() -> None:
    with pytest.raises(ContractError, match="outputs: at least one is needed"):
        dataclasses.replace(CONTRACT, outputs=())
    with pytest.raises(ContractError, match="outputs: names must differ"):
        dataclasses.replace(CONTRACT, outputs=(steering_output(), steering_output(scale=30.0)))
    assert CONTRACT.output("steering") is CONTRACT.outputs[0]
    with pytest.raises(ContractError, match="outputs: 'throttle' expected, found steering"):
        CONTRACT.output("throttle")


def test_the_input_is_the_picture_or_the_frame() -> None:
    assert (CONTRACT.input_name, CONTRACT.input_shape) == ("image", (1, *CONTRACT.picture.shape))
    framed = dataclasses.replace(CONTRACT, frame=FrameInput(height=48, width=64))
    assert (framed.input_name, framed.input_shape) == ("frame", (1, 48, 64, 3))


def test_a_wide_range_has_a_wide_tolerance() -> None:
    """Of an output in 0 to 100 an answer that is one off proves as much as one that is 0.02 off of one in -1 to 1."""
    speed = Scalar(name="speed", low=0.0, high=100.0)
    assert dataclasses.replace(CONTRACT, outputs=(speed,), tolerance={"speed": 10.0})
    with pytest.raises(ContractError, match=r"tolerance\.speed: must be in \(0, 10\]"):
        dataclasses.replace(CONTRACT, outputs=(speed,), tolerance={"speed": 10.1})


def test_statistics_with_and_without_a_distribution() -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (40, *CONTRACT.picture.shape), np.uint8)
    whole = dataclasses.replace(CONTRACT, statistics=statistics_of(pictures))
    assert whole.statistics is not None and whole.statistics.likeness is not None
    without = dataclasses.replace(whole, statistics=dataclasses.replace(whole.statistics, likeness=None))
    for one in (whole, without):
        assert Contract.from_json(one.to_json(), "x") == one


def test_another_minor_version_is_read() -> None:
    text = dataclasses.replace(CONTRACT, version="2.7").to_json()
    assert Contract.from_json(text, "x").version == "2.7"


@pytest.mark.parametrize("version", ["0.1", "3.1", "3.0", "11.1", "", "x"])
def test_another_major_version_is_not(version: str) -> None:
    text = dataclasses.replace(CONTRACT, version=version).to_json()
    with pytest.raises(ContractError, match=r"x: contract version 1\.0 to 2\.\d expected, found"):
        Contract.from_json(text, "x")


def test_a_golden_frame_is_base64_to_the_letter() -> None:
    frame = np.arange(36, dtype=np.uint8).reshape(3, 4, 3)
    golden = golden_from(frame, {"steering": 0.5})
    assert np.array_equal(golden_frame(golden), frame) and golden.expected == {"steering": (0.5,)}
    assert golden.picture_crc32 == 0
    assert golden_from(frame, {}, frame).picture_crc32 == zlib.crc32(frame.tobytes())
    for text in (golden.frame_png + "\n", "!" + golden.frame_png, golden.frame_png[:-1]):
        with pytest.raises(ContractError, match=r"golden\.frame_png: not base64"):
            golden_frame(dataclasses.replace(golden, frame_png=text))
    with pytest.raises(ContractError, match="not a PNG file"):
        golden_frame(dataclasses.replace(golden, frame_png="AAAA"))


def png_of(height: int, width: int, *, letters: int = 0, header: int = 24) -> str:
    """The first bytes of a PNG file in base64, filled up to so many letters; only they are looked at."""
    head = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big")
    return base64.b64encode(head[:header]).decode().ljust(letters, "A")


def test_golden_frames_to_their_edges() -> None:
    most = -(-GOLDEN_PNG_BYTES // 3) * 4
    plain = Golden(frame_png=png_of(30, 40, letters=most), expected={})
    assert (plain.picture_crc32, len(plain.frame_png)) == (0, most)
    with pytest.raises(ContractError, match=r"golden\.frame_png"):
        Golden(frame_png=png_of(30, 40, letters=most + 4), expected={})
    with pytest.raises(ContractError, match=r"golden\.frame_png"):
        Golden(frame_png=png_of(30, 40, letters=most + 1), expected={})
    for height, width in ((1, 1), (480, 640), (GOLDEN_PIXELS, 1)):
        assert Golden(frame_png=png_of(height, width), expected={})
    for height, width in ((481, 640), (0, 40), (30, 0), (GOLDEN_PIXELS + 1, 1)):
        with pytest.raises(ContractError, match=r"golden\.frame_png"):
            Golden(frame_png=png_of(height, width), expected={})
    with pytest.raises(ContractError, match="not a PNG file"):
        Golden(frame_png=png_of(30, 40, header=23), expected={})
    with pytest.raises(ContractError, match="not base64"):
        Golden(frame_png="!!!!" + png_of(30, 40), expected={})


def test_a_frame_that_cannot_be_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cv2.imencode", lambda *_: (False, np.zeros(0, np.uint8)))
    with pytest.raises(ContractError, match="cannot be encoded as PNG"):
        golden_from(np.zeros((4, 4, 3), np.uint8), {})


def test_what_is_not_said_of_a_net_is_nothing() -> None:
    plain = Contract(
        inputs=CONTRACT.inputs, outputs=CONTRACT.outputs, provenance=CONTRACT.provenance, tolerance=CONTRACT.tolerance
    )
    assert (plain.golden, plain.statistics, plain.frame, plain.vectors) == ((), None, None, ())
    defaults = {f.name: f.default for f in dataclasses.fields(Provenance)}
    assert defaults["sparsity"] == 0.0
