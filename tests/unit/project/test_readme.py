"""The README's Python runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import model_factory
from repository import ROOT

README = (ROOT / "README.md").read_text()


class Vehicle:
    """As much of Donkeycar's as a part sees: `add`, and one turn of the loop."""

    def __init__(self) -> None:
        self.parts: list[tuple[Any, list[str], list[str]]] = []

    def add(self, part: Any, inputs: list[str], outputs: list[str], run_condition: str) -> None:
        assert run_condition == "run_pilot"
        self.parts.append((part, inputs, outputs))

    def turn(self, memory: dict[str, Any]) -> None:
        ((part, inputs, (output,)),) = self.parts
        memory[output] = part.run(*(memory[name] for name in inputs))


def test_the_python_of_the_readme_steers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model_factory.write_tflite(tmp_path / "swift-float32.tflite", model_factory.contract_of())
    frame = np.zeros((48, 64, 3), np.uint8)
    frame[:, 40:, 0] = 250  # Blue, which would give another gray if it were taken for red.
    cv2.imwrite(str(tmp_path / "frame.jpg"), frame)
    monkeypatch.chdir(tmp_path)
    vehicle = Vehicle()
    names: dict[str, Any] = {"V": vehicle}

    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(block, names)

    steering, steering_deg = map(float, capsys.readouterr().out.split())
    assert 0.06 < steering <= 1 and steering_deg == pytest.approx(25 * steering)
    memory: dict[str, Any] = {"cam/image_array": cv2.cvtColor(cv2.imread("frame.jpg"), cv2.COLOR_BGR2RGB)}
    vehicle.turn(memory)
    assert memory["pilot/angle"] == pytest.approx(steering)
