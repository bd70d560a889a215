"""From recorded drives to a trained net.

TensorFlow, Keras and Matplotlib read the variables below when they are imported, so they are set before anything here
can import one of them.

By itself TensorFlow turns oneDNN's kernels on only for x86-64 processors with AVX512_VNNI, AVX512_BF16 or AMX; on the
others they train two to three times as fast, too (`scripts/bench-training --onednn`). The user's own value stays.

A net is the same whatever other software has in `~/.keras/keras.json` or in the environment: Keras reads no such file
(the null device is a home without one), and what cuts every training and prediction short for debugging is taken away.
Only the back end is the user's choice, by KERAS_BACKEND. Figures are drawn into files, whatever window is asked for.
"""

import os
import platform

if platform.machine() in ("x86_64", "AMD64"):
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

os.environ["KERAS_HOME"] = os.devnull
os.environ["MPLBACKEND"] = "agg"
for name in ("KERAS_MAX_EPOCHS", "KERAS_MAX_STEPS_PER_EPOCH", "KERAS_NNX_ENABLED"):
    os.environ.pop(name, None)
