"""What TensorFlow reads when it is imported is set before anything of ours can import it."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

VARIABLE = "TF_ENABLE_ONEDNN_OPTS"


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="oneDNN is asked for on x86-64 alone")
@pytest.mark.parametrize(
    "module", ["sepilot_train.base.quiet", "sepilot_export.convert.backend", "sepilot_export.verify.keras_engine"]
)
@pytest.mark.parametrize(("given", "expected"), [({}, "1"), ({VARIABLE: "0"}, "0")])
def test_onednn_is_on_before_tensorflow_comes_unless_the_user_says_otherwise(
    module: str, given: dict[str, str], expected: str
) -> None:
    code = f"import {module}, os, sys; print(os.environ.get({VARIABLE!r}), 'tensorflow' in sys.modules)"
    without = {key: value for key, value in os.environ.items() if key != VARIABLE}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**without, **given}
    )
    assert done.stdout.split() == [expected, "False"]
