"""The models of one drive, as its command line names them: what steers, what is installed meanwhile, what looks on."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from sepilot_runtime.base.errors import ModelFileError, SepilotError, UsageError
from sepilot_runtime.contract.picture import Picture
from sepilot_runtime.device.checked import failure_of
from sepilot_runtime.drive.actuation import require_drivable, require_shown
from sepilot_runtime.drive.car_config import CarConfig
from sepilot_runtime.drive.step import Sink
from sepilot_runtime.engine.engines import engine_of
from sepilot_runtime.engine.model_file import read_model_file
from sepilot_runtime.engine.names import engine_named
from sepilot_runtime.engine.pilot import Pilot, load_pilot
from sepilot_runtime.engine.trial import time_limit, try_model

# What only some drives need is imported where they need it: the first angle comes sooner.
if TYPE_CHECKING:
    import subprocess

    from sepilot_runtime.commands.drive_request import DriveRequest
    from sepilot_runtime.device.slot_watcher import ModelReloader
    from sepilot_runtime.drive.shadow import Shadow

__all__ = ["DriveModels"]


INTERPRETERS = ("ai_edge_litert", "onnxruntime")

MOST_PAUSE_S = 0.05
"""One frame at 20 Hz. LiteRT lets no other thread run while it opens a file: 3 ms for the shipped recipes."""


class DriveModels:
    """A file, or the active one of a slots directory; and a shadow beside it, if any."""

    def __init__(self, request: DriveRequest, car: CarConfig) -> None:
        """
        Raises:
            UsageError: the flags contradict each other.
            SepilotError: what `load_pilot` and `ModelReloader` raise.
        """
        if request.profile:
            request = _by_profile(request, request.profile)
        self._engine = engine_named(request.engine) if request.engine else None
        self._threads = request.threads or 1
        self._limits, self._actuation, self._shows = car.limits, car.actuation, request.shows
        self._gallery, self._claim = request.gallery, request.claim
        if request.claim is not None and request.gallery is None:
            raise UsageError(f"--claim {request.claim}: --gallery FILE expected beside it")
        self._picture: Picture | None = None
        self._trial: subprocess.Popen[str] | None = None
        if request.file and request.slots:
            raise UsageError(f"--slots {request.slots}: either a FILE or --slots, not both")
        self._follower: ModelReloader[Pilot] | None = None
        if request.file:
            self._first = self._load_fitting(request.file)
        else:
            self._follower = self._follow(request.slots)
            self._first = self._follower.loaded
        self._candidate = self._load_candidate(request)
        if request.file and (why := failure_of(request.file, self._engine)):
            does = "is run" if request.shows else "steers"
            print(f"warning: {request.file.name} {does}, though {why}", file=sys.stderr)

    def driving(self) -> Pilot:
        """What steers now."""
        return self._follower.loaded if self._follower else self._first

    def newer(self) -> Pilot | None:
        """Asked between two frames: a model that was installed meanwhile, or None."""
        return self._follower.poll() if self._follower else None

    def close(self) -> None:
        """Give up a model that is being loaded."""
        if self._trial is not None:
            self._trial.kill()

    def picture(self) -> Picture | None:
        """The picture that is all that any of them needs of a frame; None where whole frames in colour are needed."""
        picture = _picture_alone(self.driving())
        return picture if self._candidate is None or _picture_alone(self._candidate) == picture else None

    def bind_to(self, picture: Picture | None) -> None:
        """From now on the camera gives no more than this picture takes; a model that needs more is not taken."""
        self._picture = picture

    def start_shadow(self, sinks: list[Sink], stack: contextlib.ExitStack) -> Shadow | None:
        """Show the candidate every frame that was steered by, after all other outputs; `stack` ends it."""
        if self._candidate is None:
            return None
        from sepilot_runtime.drive.shadow import Shadow, ShadowSink

        shadow = Shadow(self._candidate)
        stack.callback(shadow.close)
        sinks.append(ShadowSink(shadow))
        return shadow

    def _load(self, path: Path) -> Pilot:
        with time_limit(path):
            return load_pilot(path, threads=self._threads, engine=self._engine)

    def _load_fitting(self, path: Path) -> Pilot:
        return self._fitting(self._load(path), path)

    def _load_beside(self, path: Path) -> Pilot:
        """A model that is installed while another drives; runs in the background.

        The golden frames run in a process of their own, and of this one's time it takes no more than opening a file
        that is known to be good: the very bytes that were tried.
        """
        proof = try_model(path, threads=self._threads, engine=self._engine, started=self._keep_trial)
        self._trial = None
        if proof.opening_s > MOST_PAUSE_S and path.suffix.lower() == ".tflite":
            raise UsageError(
                f"{path.name}: opening it takes {proof.opening_s * 1000:.0f} ms, in which nothing would steer; "
                "drive anew for it"
            )
        file = read_model_file(path)
        if file.checksum != proof.checksum:
            raise ModelFileError(f"{path}: was changed while it was tried")
        pilot = Pilot(engine_of(file, threads=self._threads, engine=self._engine))
        # The first answer takes longer than others: not in the drive's loop.
        pilot.engine.input_tensor().fill(0)
        pilot.engine.run()
        return self._fitting(pilot, path)

    def _keep_trial(self, process: subprocess.Popen[str]) -> None:
        self._trial = process

    def _fitting(self, pilot: Pilot, path: Path) -> Pilot:
        """The same, where this drive can go on with it.

        Raises:
            ContractError: it does not steer, or does where no car is driven; limits.max_novelty is set and the
                model has no statistics; the gallery is another model's.
            UsageError: it needs other frames than the camera was asked for, or nobody is called as is claimed.
        """
        if self._limits.max_novelty not in ("auto", "off"):
            from sepilot_runtime.drive.novelty import NoveltyMonitor

            NoveltyMonitor(pilot.contract)
        if self._shows:
            require_shown(pilot.contract, path)
        else:
            require_drivable(pilot.contract, path, self._actuation)
        if self._picture is not None and _picture_alone(pilot) != self._picture:
            raise UsageError(f"{path.name}: needs other frames than the camera gives now; drive anew for it")
        if self._gallery is not None:
            from sepilot_runtime.contract.outputs.embedding.gallery import gallery_for
            from sepilot_runtime.contract.outputs.embedding.recognition import Recognizer

            gallery = gallery_for(pilot.contract, path.name, self._gallery)
            pilot.decode_by(gallery.output, Recognizer(gallery, self._claim).named)
        return pilot

    def _follow(self, slots: Path | None) -> ModelReloader[Pilot]:
        """What drives by the slots directory, where no file is named."""
        if slots is None:
            raise UsageError("FILE, --slots DIR or --profile JSON expected")
        from sepilot_runtime.device.slot_watcher import ModelReloader

        for package in INTERPRETERS:
            # Importing one while driving would stop the drive for 0.1 s.
            if importlib.util.find_spec(package):
                importlib.import_module(package)
        return ModelReloader(
            slots,
            self._load_fitting,
            load_beside=self._load_beside,
            warn=lambda line: print(f"warning: {line}", file=sys.stderr),
        )

    def _load_candidate(self, request: DriveRequest) -> Pilot | None:
        """What runs as a shadow: the file that was named, or the one that was installed so."""
        if request.shadow is not None:
            return self._load(request.shadow)
        if not request.slots:
            return None
        from sepilot_runtime.device.slots import shadow_model

        try:
            path = shadow_model(request.slots)
            return self._load(path) if path is not None else None
        except SepilotError as e:
            # The car drives without it.
            print(f"warning: shadow: {e}", file=sys.stderr)
            return None


def _picture_alone(pilot: Pilot) -> Picture | None:
    """The picture that is all a model needs of a frame; None where it takes whole frames."""
    return None if pilot.contract.frame else pilot.contract.picture


def _by_profile(request: DriveRequest, path: Path) -> DriveRequest:
    """With file, engine and threads as `sepilot bench --write-profile` chose them. Raises UsageError."""
    from sepilot_runtime.bench.profile import read_profile

    given = {"FILE": request.file, "--slots": request.slots, "--engine": request.engine, "--threads": request.threads}
    for name, value in given.items():
        if value is not None:
            raise UsageError(f"--profile {path}: it says which {name}; leave that out")
    profile, file = read_profile(path)
    return dataclasses.replace(request, file=file, engine=profile.engine, threads=profile.threads)
