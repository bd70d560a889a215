"""The search for layers to keep in float32, with a quantizer that only pretends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from model_factory import steering_output
from sepilot_export.convert.formats import format_named, limits_of
from sepilot_export.quantize import mixed_precision
from sepilot_export.quantize.mixed_precision import Cost, Sensitivity
from sepilot_export.verify.gates import drop_from
from sepilot_runtime.base.errors import UsageError

LIMITS = {"steering": format_named("int8.tflite").limits}
DAMAGE = {"stem": 0.2, "act": 5.0, "wide": 3.0, "head": 0.4, "pool": 0.0, "late": 0.1}


class Pretender:
    """Its files are the names of the layers in float32."""

    suffix = "tflite"
    layers = tuple(DAMAGE)

    def quantize(self, kept: Sequence[str]) -> bytes:
        return ",".join(kept).encode()

    def quantize_alone(self, layer: str) -> bytes:
        return self.quantize([name for name in self.layers if name != layer])

    float32 = ",".join(DAMAGE).encode()


class Frames:
    """Holds when `needed` are in float32; counts what it was asked."""

    def __init__(self, *needed: str) -> None:
        self.needed, self.asked = set(needed), 0
        self.pictures = np.zeros((1, 1, 1, 1), np.uint8)

    def misses(self, content: bytes, suffix: str, limits: object) -> tuple[str, ...]:
        self.asked += 1
        return tuple(f"{n} hurts" for n in sorted(self.needed - set(content.decode().split(","))))


@pytest.fixture(autouse=True)
def no_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    cost = Cost(us=2.0, plain_us=1.0, float32_us=3.0, bytes=2, plain_bytes=1, float32_bytes=3)
    monkeypatch.setattr(mixed_precision, "_cost", lambda *_: cost)


def ranking() -> tuple[Sensitivity, ...]:
    found = [Sensitivity(layer=n, output="steering", unit="deg", mean=d, max=d, share=d) for n, d in DAMAGE.items()]
    return tuple(sorted(found, key=lambda d: -d.share))


def keep(frames: Frames, **options: Any) -> mixed_precision.Mixed:
    return mixed_precision.keep_float(Pretender(), frames, LIMITS, options.pop("ranking", ranking), **options)  # type: ignore[arg-type]


def test_a_file_that_holds_its_gates_stays_as_it_is() -> None:
    def never() -> tuple[Sensitivity, ...]:
        raise AssertionError("ranked without need")

    found = keep(Frames(), ranking=never)
    assert (found.content, found.kept, found.reasons, found.cost) == (b"", (), (), None)


def test_the_worst_are_kept_until_the_gates_hold() -> None:
    found = keep(Frames("act"))
    assert (found.kept, found.reasons) == (("act",), ("act hurts",))
    assert found.content == b"act" and found.cost is not None and found.damage[0].layer == "act"
    assert keep(Frames("act", "wide", "head")).kept == ("act", "wide", "head")


def test_a_layer_that_was_not_needed_goes_back_to_int8() -> None:
    """Alone it does the most damage, but not in the whole file."""
    assert keep(Frames("wide")).kept == ("wide",)


def test_where_half_the_layers_do_not_suffice_the_plain_file_remains() -> None:
    frames = Frames("late")
    found = keep(frames)
    assert (found.content, found.kept, found.reasons, found.cost) == (b"", (), ("late hurts",), None)
    assert frames.asked == 1 + 3


def test_layers_that_are_float_anyway_are_not_chosen() -> None:
    found = keep(Frames("act", "head"), always=["head"])
    assert (found.kept, found.content) == (("act",), b"head,act")


@pytest.mark.parametrize(("word", "drop"), [("0.5deg", 0.02), ("0.002", 0.002), (" 25 deg ", 1.0), ("1e-3", 0.001)])
def test_the_drop_is_told_in_degrees_or_labels(word: str, drop: float) -> None:
    assert drop_from(word, steering_output()) == pytest.approx(drop)


@pytest.mark.parametrize("word", ["", "deg", "0.5rad", "0", "-1", "-0.5deg", "nan", "inf", "half"])
def test_other_drops_are_refused(word: str) -> None:
    with pytest.raises(UsageError, match="--max-drop: a number"):
        drop_from(word, steering_output())


def test_the_drop_replaces_one_limit_of_int8() -> None:
    for name in ("int8.tflite", "int8.onnx", "int8-float-head.tflite", "int8-twin.onnx"):
        form = format_named(name)
        assert limits_of(form, {}, [steering_output()], 0.02) == {"steering": {**form.limits, "mae_increase": 0.02}}
    dynamic = format_named("dynamic.tflite")
    assert limits_of(dynamic, {}, [steering_output()], 0.02) == {"steering": dynamic.limits}
