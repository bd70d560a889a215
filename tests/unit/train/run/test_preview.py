"""The sheet shows every kind that is on, and names the others."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sepilot_train.base import plots
from sepilot_train.base.frame_set import FrameSet
from sepilot_train.fit.augment import Augmentation
from sepilot_train.run.preview import KINDS, draw_preview
from sepilot_train.run.recipe import load_recipe


def test_every_strength_stands_in_one_row() -> None:
    shown = [name for fields in KINDS.values() for name in fields]
    assert sorted(shown) == sorted(field.name for field in dataclasses.fields(Augmentation))


def test_kinds_that_are_on_have_a_row(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    saved: list[Any] = []
    monkeypatch.setattr(plots, "save", lambda fig, path: saved.append(fig))
    frames = FrameSet(pictures=np.zeros((2, 6, 9, 3), np.uint8), labels={"steering": np.zeros(2, np.float32)})
    augmentation = Augmentation(mirror=0.0, rotate_deg=10.0, cutout=0.3)
    recipe = dataclasses.replace(load_recipe("swift"), augmentation=augmentation)
    draw_preview(frames, recipe, tmp_path / "sheet.png", seed=0)
    words = [text.get_text() for ax in saved[0].axes for text in ax.texts]
    assert words == ["as recorded", "rotate", "cutout", "all of them"]
    off = "off: mirror, flip, shift, zoom, shear, light, color, shadow, blur, noise, mixup"
    assert saved[0].get_supxlabel() == off
    cut = [ax.images[0].get_array() for ax in saved[0].axes[12:18]]
    assert all((picture == 0.5).any() for picture in cut), "what has a chance is shown in each picture"
