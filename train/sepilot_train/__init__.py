"""From recorded drives to a trained net.

TensorFlow reads the variable below when it is imported, so it is set before anything here can import it. By itself
TensorFlow turns oneDNN's kernels on only for x86-64 processors with AVX512_VNNI, AVX512_BF16 or AMX; on the others they
train two to three times as fast, too (`scripts/bench-training --onednn`). The user's own value stays.
"""

import os
import platform

if platform.machine() in ("x86_64", "AMD64"):
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
