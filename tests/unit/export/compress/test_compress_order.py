"""A step that would undo what an earlier one made is refused, in one command or in two."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_factory import contract_of
from sepilot_export.compress import tfmot_support
from sepilot_export.compress.kernels import kernels_of
from sepilot_export.compress.recipe import Compression, load_compression
from sepilot_export.compress.step_order import require_order
from sepilot_runtime.base.errors import SepilotError
from sepilot_runtime.cli import main
from sepilot_train.models import build_model
from sepilot_train.run.recipe import load_recipe
from sepilot_train.run.run import Run


def swift(*, zeros: float = 0.0, values: int = 0) -> Any:
    """A net, with a share of its pointwise weights zero, or all of them among a few values."""
    model = build_model("swift", (16, 24, 1), {"stem": 8, "widths": [16], "repeats": [1], "dense": [8]})
    for layer in model.layers:
        weights = layer.get_weights()
        if type(layer).__name__ in ("Conv2D", "SeparableConv2D"):
            kernel = weights[-1] if weights[-1].ndim == 4 else weights[-2]
            if values:
                kernel[:] = np.quantile(kernel, np.linspace(0, 1, values))[np.arange(kernel.size) % values].reshape(
                    kernel.shape
                )
            kernel[np.abs(kernel) < np.quantile(np.abs(kernel), zeros)] = 0
            layer.set_weights(weights)
    return model


def run_in(folder: Path, *, parent: str = "", int8: bool = False) -> Run:
    if parent:
        (folder / "compression.json").write_text(json.dumps({"parent": parent}))
    if int8:
        (folder / "int8.tflite").touch()
    return Run(path=folder, recipe=load_recipe("swift"), contract=contract_of(), request=None)  # type: ignore[arg-type]


def message(run: Run, model: Any, *names: str, overrides: tuple[str, ...] = ()) -> str:
    """Why this is refused; "" where it is not."""
    found: list[Compression] = [
        load_compression(name, [o for o in overrides if o.split(".")[0] in load_compression(name).sections])
        for name in names
    ]
    try:
        require_order(run, model, found)
    except SepilotError as e:
        return str(e)
    return ""


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["slim", "prune50"], ""),
        (["slim", "qat"], ""),
        (["prune50", "prune80"], ""),
        (["prune50", "cluster"], ""),
        (["distill", "slim", "pqat"], ""),
        (["prune50", "slim"], "--recipe: slim would undo the zeros of prune50; put slim first"),
        (["cluster", "slim"], "--recipe: slim would undo the shared values of cluster; put slim first"),
        (["cluster", "prune50"], "--recipe: prune50 would undo the shared values of cluster; put prune50 first"),
        (["prune80", "prune50"], "--recipe: prune50 would undo the zeros of prune80; put prune50 first"),
        (["qat", "slim"], "--recipe: qat quantizes and must be the last, found others after it"),
        (["slim", "distill"], "--recipe: distill begins with a student and must be the first"),
        ([], "--recipe NAME: at least one expected"),
    ],
)
def test_orders_in_one_command(names: list[str], expected: str, tmp_path: Path) -> None:
    assert message(run_in(tmp_path), swift(), *names) == expected


def test_int8_after_pruning_or_clustering_must_be_told_to_keep_it(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    said = message(run, swift(), "prune50", "qat")
    assert said == "--recipe: qat would undo the zeros of prune50; --set quantize.preserve=sparsity keeps them"
    assert "quantize.preserve=clusters keeps them" in message(run, swift(), "prune50", "cluster", "qat")
    keep = ("quantize.preserve=sparsity",)
    assert not message(run, swift(), "prune50", "qat", overrides=keep)
    tfmot_support.require_supported(swift(), load_compression("qat", keep), ["prune"])
    assert f"the zeros of {run.path}" in message(run, swift(zeros=0.5), "qat")
    assert not message(run, swift(zeros=0.5), "qat", overrides=keep)


def test_what_the_run_came_with(tmp_path: Path) -> None:
    run, pruned, clustered = run_in(tmp_path, parent="runs/week"), swift(zeros=0.5), swift(values=16)
    assert message(run, pruned, "slim") == (
        f"{tmp_path}: slim would undo its zeros; begin with runs/week and put slim first"
    )
    assert "slim would undo its shared values" in message(run, clustered, "slim")
    assert "prune50 would undo its shared values" in message(run, clustered, "prune50")
    assert "prune50 would undo its zeros" in message(run, swift(zeros=0.8), "prune50")
    assert not message(run, pruned, "prune80") and not message(run, pruned, "cluster")
    assert not message(run, pruned, "distill", "slim"), "a student has nothing of the run's"
    assert "distill would undo its zeros" in message(run, pruned, "distill", overrides=("distill.student=",))


def test_a_run_that_was_trained_for_int8(tmp_path: Path) -> None:
    run = run_in(tmp_path, int8=True)
    for name in ("slim", "prune50", "cluster"):
        assert f"{name} would undo its training for int8; begin with the run that" in message(run, swift(), name)
    assert not message(run, swift(), "qat") and not message(run, swift(), "distill")


def test_kernels_tell_what_was_done_to_them() -> None:
    assert not any(k.is_pruned or k.is_clustered for k in kernels_of(swift()))
    assert any(k.is_pruned for k in kernels_of(swift(zeros=0.8)))
    assert not any(k.is_clustered for k in kernels_of(swift(zeros=0.8))), "zeros are no shared value"
    assert any(k.is_clustered for k in kernels_of(swift(values=16)))


def test_a_teacher_that_nobody_would_ask_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--recipe", "slim", "qat", "--teacher", "runs/a", "--out", str(tmp_path / "out")]
    assert main(["compress", str(tmp_path), *words]) == 2
    expected = "sepilot: --teacher: --recipe with a distill section expected, such as distill, found slim qat\n"
    assert capsys.readouterr().err == expected
