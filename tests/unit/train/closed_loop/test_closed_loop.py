"""The bench itself: a driver that is wrong must lose here, and a right one must not."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from model_factory import BIAS, PICTURE, contract_of, frames, weights_of, write_tflite
from sepilot_runtime.base.bootstrap import bootstrap_mean, bootstrap_ratio
from sepilot_runtime.base.errors import ModelFileError
from sepilot_runtime.cli import main as sepilot
from sepilot_train import simulator as simulators
from sepilot_train.closed_loop.drivers import ConstantDriver, ExpertDriver, open_file_drivers, open_model_driver
from sepilot_train.closed_loop.evaluation import (
    ClosedLoopResult,
    Command,
    CommandDelay,
    DriverKind,
    evaluation_seeds,
    run_closed_loop,
)
from sepilot_train.closed_loop.statistics import poisson_interval, wilson_interval
from sepilot_train.closed_loop.tables import against_model
from sepilot_train.simulator.builtin import BuiltinSimulator
from sepilot_train.simulator.protocol import EVALUATION_SEED, State

HALF_WIDTH_M = 0.5


class FakeSimulator:
    """A winding road. The side to steer to is the brighter one, by so much that the factory's ramp model drives it."""

    name = "fake"
    rate_hz = 20.0
    full_scale_deg = 26.0
    speed_mps = 1.6

    def __init__(self) -> None:
        self.seeds: list[int] = []

    def reset(self, seed: int) -> tuple[NDArray[np.uint8], State]:
        self.seeds.append(seed)
        self._phase = np.random.default_rng(seed).uniform(0, math.tau)
        self._s = self._cte = self._heading = 0.0
        return self._look()

    def step(self, steering: float, throttle: float | None = None) -> tuple[NDArray[np.uint8], State]:
        ds = self.speed_mps / self.rate_hz
        self._heading += (min(max(steering, -1.0), 1.0) * 1.8 - self._curvature()) * ds
        self._cte += math.sin(self._heading) * ds
        self._s += ds
        return self._look()

    def expert(self) -> float:
        return min(max(self._curvature() / 1.8 - 1.2 * self._cte - 1.0 * self._heading, -1.0), 1.0)

    def recentre(self) -> tuple[NDArray[np.uint8], State]:
        self._cte = self._heading = 0.0
        return self._look()

    def _curvature(self) -> float:
        return 0.7 * math.sin(self._s / 2.5 + self._phase)

    def _look(self) -> tuple[NDArray[np.uint8], State]:
        frame = np.zeros((48, 64, 3), np.uint8)
        # Half a picture of brightness b makes the ramp answer 0.8 b / 255, beside its bias.
        light = (self.expert() - BIAS) / 0.8 * 255
        frame[:, :32] = min(max(-light, 0), 255)
        frame[:, 32:] = min(max(light, 0), 255)
        state = State(
            cte_m=self._cte,
            heading_rad=self._heading,
            curvature_per_m=self._curvature(),
            progress_m=self._s,
            laps=self._s / 20.0,
            off_road=abs(self._cte) > HALF_WIDTH_M,
            speed_mps=self.speed_mps,
        )
        return frame, state


class Mirrored:
    """The expert with its sign turned round: the classic fault of a steering pipeline."""

    name = "mirrored"
    kind = DriverKind.FILE

    def __init__(self, simulator: FakeSimulator) -> None:
        self._simulator = simulator

    def command(self, frame: NDArray[np.uint8]) -> Command:
        return Command(steering=-self._simulator.expert())


class Recorder:
    """Remembers what it is shown."""

    name = "recorder"
    kind = DriverKind.CONTROL

    def __init__(self) -> None:
        self.frames: list[int] = []

    def command(self, frame: NDArray[np.uint8]) -> Command:
        self.frames.append(hash(frame.tobytes()))
        return Command(steering=1.0)


def by_name(results: Sequence[ClosedLoopResult]) -> dict[str, ClosedLoopResult]:
    return {result.driver: result for result in results}


def test_the_controls_bound_the_scale_and_a_mirrored_sign_is_caught() -> None:
    simulator = FakeSimulator()
    drivers = [ExpertDriver(simulator), ConstantDriver(0.0), Mirrored(simulator)]
    results = by_name(run_closed_loop(simulator, drivers, evaluation_seeds(6), 300))
    assert results["expert"].survived == 6
    assert results["expert"].interventions == 0
    assert results["expert"].mean_cte_m < 0.1
    assert results["steering = 0"].survived == 0
    assert results["mirrored"].survived == 0
    assert results["mirrored"].interventions_per_km > 100


class Paced(ExpertDriver):
    """The expert's steering, always at one throttle."""

    def __init__(self, simulator: BuiltinSimulator, throttle: float) -> None:
        super().__init__(simulator)
        self.name, self._throttle = f"{throttle:g}", throttle

    def command(self, frame: NDArray[np.uint8]) -> Command:
        return Command(steering=super().command(frame).steering, throttle=self._throttle)


def test_a_throttle_is_obeyed_up_to_its_cap() -> None:
    simulator = BuiltinSimulator(randomize=False)
    drivers = [ExpertDriver(simulator), Paced(simulator, 0.15), Paced(simulator, 0.3), Paced(simulator, 0.9)]
    usual, slow, same, fast = run_closed_loop(simulator, drivers, evaluation_seeds(1), 200, max_throttle=0.45)
    assert usual.mean_speed_mps == simulator.speed_mps and usual.distance_m == 200 * simulator.speed_mps / 20
    assert slow.laps < 0.6 * usual.laps and slow.distance_m < 0.6 * usual.distance_m
    assert same.world_cte_m == usual.world_cte_m and same.laps == usual.laps
    # The cap is half more than usual; the first moments are spent on getting there.
    assert 1.4 < fast.mean_speed_mps / simulator.speed_mps < 1.5
    assert fast.reaction_m > usual.reaction_m


def test_a_throttle_comes_as_late_as_the_steering_does() -> None:
    simulator = BuiltinSimulator(randomize=False)
    driver = Paced(simulator, 0.0)
    at_once, late = run_closed_loop(simulator, [driver], evaluation_seeds(1), 60, [0.0, 500.0])
    assert late.distance_m > at_once.distance_m + 0.4 * simulator.speed_mps


def test_recorded_worlds_are_never_driven() -> None:
    simulator = FakeSimulator()
    run_closed_loop(simulator, [ConstantDriver()], evaluation_seeds(3, 5), 2)
    assert simulator.seeds == [EVALUATION_SEED + 5, EVALUATION_SEED + 6, EVALUATION_SEED + 7]


def test_worlds_are_the_outer_loop_and_every_driver_starts_alike() -> None:
    simulator, a, b = FakeSimulator(), Recorder(), Recorder()
    run_closed_loop(simulator, [a, b], [11, 12], 3, [0.0, 100.0])
    assert simulator.seeds == [11] * 4 + [12] * 4
    assert a.frames[::3] == b.frames[::3]
    assert len(a.frames) == 4 * 3 and a.frames[0] == a.frames[3] != a.frames[6]


def test_interventions_are_counted_and_the_drive_goes_on() -> None:
    simulator, driver = FakeSimulator(), Recorder()
    (result,) = run_closed_loop(simulator, [driver], [7], 200)
    # Full lock leaves the road again and again.
    assert result.interventions >= 3
    assert result.distance_m == pytest.approx(200 * 1.6 / 20)
    assert result.interventions_per_km == pytest.approx(result.interventions / (result.distance_m / 1000))
    assert result.laps == pytest.approx(200 * 1.6 / 20 / 20)
    assert result.max_cte_m <= HALF_WIDTH_M
    assert result.survived == 0


def test_delay_makes_it_worse_and_reads_in_metres() -> None:
    simulator = FakeSimulator()
    results = run_closed_loop(simulator, [ExpertDriver(simulator)], evaluation_seeds(4), 300, [0.0, 250.0, 1500.0])
    none, some, much = results
    assert none.mean_cte_m < some.mean_cte_m
    assert much.survived < none.survived
    assert some.reaction_m == pytest.approx(0.4, abs=0.001)


@pytest.mark.parametrize(
    ("delay_ms", "expected"),
    [
        (0.0, [1.0, 0.5, -1.0, 0.0]),
        (50.0, [0.0, 1.0, 0.5, -1.0]),
        (100.0, [0.0, 0.0, 1.0, 0.5]),
        # A quarter of a step late: a quarter of the step is still driven with the command before.
        (12.5, [0.75, 0.625, -0.625, -0.25]),
        (62.5, [0.0, 0.75, 0.625, -0.625]),
    ],
)
def test_a_delayed_command_takes_effect_when_it_arrives(delay_ms: float, expected: list[float]) -> None:
    delay = CommandDelay(delay_ms, rate_hz=20.0)
    assert [delay.send(value) for value in (1.0, 0.5, -1.0, 0.0)] == pytest.approx(expected)


def test_a_car_that_was_put_back_does_not_obey_old_commands() -> None:
    delay = CommandDelay(100.0, rate_hz=20.0)
    delay.send(1.0)
    delay.clear()
    assert [delay.send(0.25) for _ in range(3)] == [0.0, 0.0, 0.25]


def test_poisson_interval_against_the_exact_one() -> None:
    # Exact (Garwood): 0 -> 0..3.689, 1 -> 0.025..5.572, 10 -> 4.795..18.390.
    assert poisson_interval(0) == pytest.approx((0.0, 3.6889), abs=1e-3)
    assert poisson_interval(1) == pytest.approx((0.025, 5.572), abs=0.06)
    assert poisson_interval(10) == pytest.approx((4.795, 18.390), abs=0.02)


def test_wilson_interval_by_hand() -> None:
    # 24 of 24: low end n / (n + z^2) = 24 / 27.8415, high end exactly 1.
    assert wilson_interval(24, 24) == pytest.approx((24 / (24 + 1.959964**2), 1.0), abs=1e-6)
    assert wilson_interval(0, 24) == pytest.approx((0.0, 1.959964**2 / (24 + 1.959964**2)), abs=1e-6)
    # 15 of 20, worked with a pocket calculator: (0.75 + 0.0960 -+ 0.2118) / 1.1921.
    assert wilson_interval(15, 20) == pytest.approx((0.5313, 0.8881), abs=2e-4)


def test_bootstrap_covers_what_worlds_differ_by_and_pairs_them() -> None:
    values = np.array([0.01, 0.02, 0.03, 0.04])
    estimate = bootstrap_mean(values)
    assert estimate.mean == pytest.approx(0.025)
    assert 0.01 < estimate.low < 0.025 < estimate.high < 0.04
    # The same 10 % in every world is certain, however much the worlds differ.
    ratio = bootstrap_ratio(values * 1.1, values)
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((1.1, 1.1, 1.1))


def test_files_are_compared_with_the_model_at_the_same_delay() -> None:
    simulator = FakeSimulator()

    class Model(ExpertDriver):
        name = "Keras"
        kind = DriverKind.MODEL

    results = run_closed_loop(
        simulator,
        [Mirrored(simulator), Model(simulator), ExpertDriver(simulator)],
        evaluation_seeds(3),
        100,
        [0.0, 200.0],
    )
    ratios = [against_model(result, results) for result in results]
    assert ratios[2] is None
    assert ratios[5] is None
    assert ratios[1] is not None
    assert ratios[1].value == ratios[4].value == 1.0  # type: ignore[union-attr]
    assert ratios[0] is not None
    assert ratios[0].value == pytest.approx(results[0].mean_cte_m / results[1].mean_cte_m)
    assert ratios[0].low > 2


@pytest.mark.slow
def test_the_training_model_drives_as_its_file_does(tmp_path: Path) -> None:
    keras = pytest.importorskip("keras", reason="keras is not installed (extra train)")
    from sepilot_train.run.recipe import load_recipe
    from sepilot_train.run.run import Run

    image = keras.Input(PICTURE.shape, name="image")
    dense = keras.layers.Dense(1, name="steering")
    net = keras.Model(image, dense(keras.layers.Flatten()(image)))
    dense.set_weights([weights_of(PICTURE).reshape(-1, 1), np.array([BIAS], np.float32)])
    net.save(tmp_path / "model.keras")
    run = Run(path=tmp_path, recipe=load_recipe("swift"), contract=contract_of(), request=None)  # type: ignore[arg-type]
    (file,) = open_file_drivers([write_tflite(tmp_path / "ramp.tflite")])
    model = open_model_driver(run)
    for frame in frames(5):
        assert model.command(frame).steering == pytest.approx(file.command(frame).steering, abs=1e-6)
    simulator = FakeSimulator()
    by_model, by_file = run_closed_loop(simulator, [model, file], evaluation_seeds(2), 20)
    assert by_file.mean_cte_m == pytest.approx(by_model.mean_cte_m, rel=1e-4)
    dense.set_weights([weights_of(PICTURE).reshape(-1, 1), np.array([np.nan], np.float32)])
    net.save(tmp_path / "model.keras")
    with pytest.raises(ModelFileError, match="answered nan"):
        open_model_driver(run).command(frames(1)[0])


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(simulators.SIMULATORS, "fake", FakeSimulator)


def closed_loop(capsys: pytest.CaptureFixture[str], *arguments: Any) -> tuple[int, str, str]:
    code = sepilot(["closed-loop", *map(str, arguments), "--simulator", "fake"])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_a_file_drives_from_the_command_line(fake: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_tflite(tmp_path / "ramp-float32.tflite")
    code, out, err = closed_loop(capsys, file, "--worlds", 3, "--steps", 120, "--delay-ms", "0,300", "--json")
    assert (code, err) == (0, "")
    record = json.loads(out)
    assert {"simulator", "worlds", "steps", "speed_mps", "results"} <= record.keys()
    assert [(r["driver"], r["delay_ms"]) for r in record["results"]] == [
        (name, delay) for delay in (0.0, 300.0) for name in ("ramp-float32.tflite", "expert", "steering = 0")
    ]
    row = record["results"][0]
    wanted = "worlds survived mean_cte_m max_cte_m laps interventions interventions_per_km latency_us_p50 reaction_m"
    assert set(wanted.split()) <= row.keys()
    assert row["survived"] == 3
    assert row["latency_us_p50"] > 0
    assert row["vs_model"] is None


def test_the_table_fits_80_columns(fake: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_tflite(tmp_path / "swift-int8-float-head.tflite")
    write_tflite(tmp_path / "swift-float32.tflite")
    code, out, _ = closed_loop(capsys, tmp_path, "--worlds", 2, "--steps", 60, "--delay-ms", "0,100,200")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    assert "Delay 100 ms = 0.16 m" in out
    assert "swift-float32.tflite" in out


def test_files_of_one_name_in_folders_of_one_name_are_told_apart(
    fake: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exports = [tmp_path / name / "export" for name in "ab"]
    for export in exports:
        export.mkdir(parents=True)
        write_tflite(export / "x.tflite")
        (export / "calibration.json").write_text("{}")
    options = ("--worlds", 1, "--steps", 20, "--delay-ms", "0,100")
    _, out, _ = closed_loop(capsys, *exports, *options)
    survival = out[out.index("Worlds survived") :]
    assert "a/export/x.tflite" in survival and "b/export/x.tflite" in survival
    _, out, _ = closed_loop(capsys, *exports, exports[0] / "x.tflite", *options, "--json")
    rows = json.loads(out)["results"]
    assert {(row["driver"], row["path"]) for row in rows if row["kind"] == "file"} == {
        (f"{name}/export/x.tflite", str(tmp_path / name / "export" / "x.tflite")) for name in "ab"
    }
    assert all(row["path"] is None for row in rows if row["kind"] != "file")


class MirroredCamera(FakeSimulator):
    """Left and right of the picture swapped, as by a camera driver's flip option."""

    def _look(self) -> tuple[NDArray[np.uint8], State]:
        frame, state = super()._look()
        return np.ascontiguousarray(frame[:, ::-1]), state


def test_the_gate_fails_a_file_that_leaves_the_road(
    fake: None, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_tflite(tmp_path / "ramp.tflite")
    options = ("--worlds", 2, "--steps", 150, "--min-survived", 2)
    assert closed_loop(capsys, file, *options)[0] == 0
    monkeypatch.setitem(simulators.SIMULATORS, "fake", MirroredCamera)
    code, _, err = closed_loop(capsys, file, *options)
    assert code == 1
    assert err == "FAIL ramp.tflite: 2 worlds survived expected, found 0\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--worlds", 0), "--worlds: 1 or more expected, found 0"),
        (("--steps", -1), "--steps: 1 or more expected"),
        (("--seed", -3), "--seed: 0 to 4294967295 expected, found -3"),
        (("--min-survived", 3), "--min-survived: a FILE to judge expected"),
        (("absent.tflite",), "absent.tflite"),
    ],
)
def test_mistakes_are_one_line(
    fake: None, capsys: pytest.CaptureFixture[str], arguments: tuple[Any, ...], message: str
) -> None:
    code, out, err = closed_loop(capsys, *arguments)
    assert code == 2
    assert out == ""
    assert message in err
    assert err.count("\n") == 1
