"""MLPerf Tiny's reference ResNet-8, adopted, on the 200 pictures of its accuracy set ic01; not a submission."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from foreign_models import adopted
from sepilot_export.commands import check
from sepilot_runtime.base.exit_codes import run_verb

STATED = '[picture]\ncolor = "rgb"\nrange = "0..255"\n[outputs.class]\nkind = "classes"\n'


@pytest.mark.parametrize(("name", "precision"), [("pretrainedResnet", "float32"), ("pretrainedResnet_quant", "int8")])
def test_the_reference_net_has_its_published_accuracy(
    name: str, precision: str, real_sets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = real_sets / "mlperf-tiny"
    if not (folder / f"{name}.tflite").is_file():
        pytest.skip(f"MLPerf Tiny's files are absent: no {name}.tflite in {folder}")
    assert adopted(folder / f"{name}.tflite", folder / "ic01", tmp_path / "out", STATED) == 0
    assert "gives probabilities" in capsys.readouterr().err
    file = tmp_path / "out" / f"{name}-{precision}.tflite"
    assert run_verb(lambda: check.main([str(file), "--data", str(folder / "ic01"), "--json"])) == 0
    (found,) = (engine["class"] for engine in json.loads(capsys.readouterr().out)["engines"].values())
    assert found["pictures"] == 200 and found["figures"]["accuracy"] == pytest.approx(0.87, abs=1e-6)
    assert found["error"]["low"] < 0.13 < found["error"]["high"]
