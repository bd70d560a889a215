"""The command line: verbs are found, errors are one line, exit codes mean what they say."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from repository import ROOT
from sepilot_runtime import cli
from sepilot_runtime.base.errors import DriveError, MissingExtraError


@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"]])
def test_help_lists_the_verbs(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(argv) == 0
    printed = capsys.readouterr().out
    assert "drive" in printed and "bench" in printed
    assert all(len(line) <= 100 for line in printed.splitlines())


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("sepilot ")


def test_an_unknown_verb_names_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["steer"]) == 2
    assert "'steer'" in (message := capsys.readouterr().err) and "drive" in message


@pytest.mark.parametrize("value", ["-1", "4294967296"])
@pytest.mark.parametrize(
    "argv",
    [["bench", "x"], ["closed-loop"], ["export"], ["record", "--out", "x"], ["tradeoff", "x"], ["train", "x"]],
    ids=lambda argv: argv[0],
)
def test_a_seed_that_is_none_is_one_line(argv: list[str], value: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*argv, "--seed", value]) == 2
    assert capsys.readouterr().err == f"sepilot: --seed: 0 to 4294967295 expected, found {value}\n"


def test_every_verb_of_the_summary_has_one_target() -> None:
    assert set(cli.RUNTIME_VERBS) <= set(cli.SUMMARIES)


def failing(error: BaseException) -> Callable[[], int]:
    def call() -> int:
        raise error

    return call


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (DriveError("tub: no frames"), 2, "sepilot: tub: no frames\n"),
        (MissingExtraError("onnxruntime", "onnx"), 2, "pip install 'sepilot[onnx]'"),
        (ModuleNotFoundError("No module named 'keras'", name="keras"), 2, "pip install 'sepilot[train]'"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_errors_are_one_line(error: BaseException, code: int, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run_verb(failing(error)) == code
    message = capsys.readouterr().err
    assert words in message
    assert message.count("\n") == 1


def test_a_fault_of_ours_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        cli.run_verb(failing(ZeroDivisionError()))
    with pytest.raises(ModuleNotFoundError):
        cli.run_verb(failing(ModuleNotFoundError("No module named 'sepilot_typo'", name="sepilot_typo")))
    # Its package is there, so no extra would help.
    with pytest.raises(ModuleNotFoundError):
        cli.run_verb(failing(ModuleNotFoundError("No module named 'sepilot_train.typo'", name="sepilot_train.typo")))


def test_a_reader_that_goes_away_is_no_error() -> None:
    verb = "lambda: [print('x' * 99) for _ in range(9999)] and 0"
    code = f"import sys; from sepilot_runtime import cli; sys.exit(cli.run_verb({verb}))"
    command = f'"{sys.executable}" -c "{code}" | head -1; echo ${{PIPESTATUS[0]}}'
    done = subprocess.run(
        ["bash", "-c", command],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "runtime")},
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "0"
    assert done.stderr == ""
