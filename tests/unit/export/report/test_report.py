"""`sepilot report`: one page that stands by itself, shows what the verbs wrote, and escapes what is not its own."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drive_factory import angles, write_tub
from export_factory import write_record
from model_factory import PICTURE, contract_of, frames, steering_of, two_output_contract, write_tflite
from repository import ROOT
from sepilot_export.record.checks import ErrorHistogram
from sepilot_export.report.formatting import fixed, percent, signed, span
from sepilot_export.report.material import PageContent, gather
from sepilot_export.report.page import render, stages_of
from sepilot_export.verify.reference import Reference
from sepilot_runtime.base.errors import RunError
from sepilot_runtime.base.files import sha256_of
from sepilot_runtime.cli import main
from sepilot_runtime.contract.preprocess import picture_of
from sepilot_runtime.recording.options import DriveFilter, ReaderOptions
from sepilot_train.base.frame_set import Answers, FrameLabels
from sepilot_train.base.plots import ACCENT, BAD, GOOD, GRID, INK, SECOND
from sepilot_train.fit.outputs.scalar.metrics import scalar_metrics
from sepilot_train.run.leak import Leak
from sepilot_train.run.recipe import load_recipe
from sepilot_train.run.recipe_toml import to_toml
from sepilot_train.run.validation import Validation

HOSTILE = "<img src=x onerror=alert(1)> & 'b' \"q\""
"""The name of a drive. Nothing of it may reach the page as markup."""

FRAMES = 60


def write_run(folder: Path, drive: Path) -> Path:
    """A finished run whose model is one dense layer and whose held-out frames are those of `drive`."""
    import keras

    folder.mkdir(parents=True)
    image = keras.Input(PICTURE.shape, name="image")
    flat = keras.layers.Flatten(name="flat")(image)
    keras.Model(image, keras.layers.Dense(1, name="steering")(flat)).save(folder / "model.keras")
    provenance = dataclasses.replace(contract_of().provenance, drives=(drive.name,), validation_drives=(drive.name,))
    contract = dataclasses.replace(contract_of(), provenance=provenance)
    (folder / "contract.json").write_text(contract.to_json())
    (folder / "recipe.toml").write_text(to_toml(load_recipe("swift", [f"summary={HOSTILE}"])))
    request: dict[str, Any] = {"drives": [str(drive)], "validation_drives": [], "seed": 0}
    request |= {"reader": dataclasses.asdict(ReaderOptions()), "filter": dataclasses.asdict(DriveFilter())}
    (folder / "request.json").write_text(json.dumps(request))
    labels = np.array(angles(FRAMES), np.float32)
    predictions = (labels * 0.9).astype(np.float32)
    predictions[40] = -labels[40]
    names = tuple(f"{i}_cam_image_array_.jpg" for i in range(FRAMES))
    frames = FrameLabels(drives=(drive.name,) * FRAMES, names=names, labels={"steering": labels})
    Answers(frames=frames, values={"steering": predictions}).save(folder / "predictions.npz")
    with (folder / "history.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["epoch", "loss", "val_loss", "learning_rate"])
        rows.writerows([i, 0.2 / i, 0.25 / i, 0.002 / i] for i in (1, 2, 3))
    metrics = scalar_metrics(labels, predictions, 0.0)
    found = Validation(
        split="given",
        train_frames=1200,
        validation_frames=FRAMES,
        train_drives=(drive.name,),
        validation_drives=(drive.name,),
        full_scale_deg=25.0,
        metrics=metrics,
        outputs={"steering": metrics},
        leak=Leak(lookup_mae=0.3, constant_mae=0.5, close_in_time=0.0),
        epochs=3,
        kept_epoch=3,
        stopped_early=False,
        seconds=12.5,
        skipped={drive.name: {"image is missing": 2}},
    )
    (folder / "validation.json").write_text(json.dumps(dataclasses.asdict(found)))
    return folder


def write_export(folder: Path, run: Path) -> Path:
    """An export of the ramp model: one file that passes its gates, and one with a planted fault."""
    folder.mkdir()
    write_tflite(folder / "ramp-float32.tflite")
    write_tflite(folder / "ramp-int8.tflite", int8=True, bias=0.5)
    pictures = np.stack([picture_of(f, PICTURE) for f in frames(FRAMES, seed=1)])
    said = np.array([steering_of(p) for p in pictures], np.float32)
    Reference(
        pictures=pictures,
        drives=("held",) * FRAMES,
        names=tuple(map(str, range(FRAMES))),
        labels={"steering": said},
        predictions={"steering": said},
        constant={"steering": 0.0},
        contract=contract_of(),
    ).save(folder / "reference.npz")
    write_record(folder, ("float32.tflite", "int8.tflite"), model_sha256=sha256_of(run / "model.keras"))
    return folder


@dataclasses.dataclass(frozen=True)
class Made:
    """Where everything lies. check.json, bench.json and closed_loop.json are what the verbs themselves wrote."""

    drive: Path
    run: Path
    export: Path
    bench: Path
    closed_loop: Path

    def gathered(self) -> PageContent:
        return gather(self.run, export_path=self.export, bench_path=self.bench, closed_loop_path=self.closed_loop)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("report")
    drive = write_tub(folder / HOSTILE, count=FRAMES)
    made = Made(
        drive=drive,
        run=write_run(folder / "run", drive),
        export=write_export(folder / "export", folder / "run"),
        bench=folder / "bench.json",
        closed_loop=folder / "closed_loop.json",
    )
    files = [str(made.export / f"ramp-{name}.tflite") for name in ("float32", "int8")]
    good = files[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEPILOT_CACHE", str(folder / "cache"))
        assert main(["check", str(made.export)]) in (1, 2)
        capture(["bench", good, "--rounds", "1", "--calls", "5", "--json"], made.bench)
        loop = ["closed-loop", good, "--worlds", "1", "--steps", "4", "--delay-ms", "0,100", "--json"]
        capture(loop, made.closed_loop)
    return made


def capture(arguments: list[str], path: Path) -> None:
    """Run a verb and keep what it prints."""
    import contextlib
    import io

    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        assert main(arguments) == 0
    path.write_text(text.getvalue())


@pytest.fixture(scope="module")
def material(made: Made) -> PageContent:
    return made.gathered()


@pytest.fixture(scope="module")
def page(material: PageContent) -> str:
    return render(material)


class Markup(HTMLParser):
    """The elements of a page, with what each opening tag carries; unbalanced tags are collected."""

    VOID = ("meta", "img", "br", "path", "circle", "use", "image", "rect")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.unbalanced: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.unbalanced += self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag in self.VOID:
            return
        if not self._open or self._open.pop() != tag:
            self.unbalanced.append(f"/{tag}")


def test_the_page_loads_nothing_and_runs_nothing(page: str) -> None:
    markup = Markup(page)
    assert markup.unbalanced == []
    tags = {tag for tag, _ in markup.elements}
    assert not tags & {"script", "link", "iframe", "object", "embed", "base", "form"}
    for _, attributes in markup.elements:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "xlink:href"):
            target = attributes.get(name)
            assert target is None or target.startswith(("#", "data:image/")), target
    assert "@import" not in page and "url(" not in page.replace("url(#", "")


def test_ids_are_unique_so_that_no_plot_borrows_from_another(page: str) -> None:
    ids = [attributes["id"] for _, attributes in Markup(page).elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {"training", "layers", "files", "latency", "closed-loop", "provenance"} <= set(ids)


def test_a_hostile_drive_name_stays_text(page: str) -> None:
    assert "onerror=alert(1)>" not in page
    assert "&lt;img src=x onerror=alert(1)&gt; &amp; &#39;b&#39; &#34;q&#34;" in page
    pictures = [attributes for tag, attributes in Markup(page).elements if tag == "img"]
    assert pictures and all(HOSTILE in (attributes["alt"] or "") for attributes in pictures)


def test_strings_of_every_input_are_escaped(material: PageContent) -> None:
    assert material.check and material.export and material.bench and material.closed_loop
    check, export, bench, loop = material.check, material.export, material.bench, material.closed_loop
    replace = dataclasses.replace
    spoilt = replace(
        material,
        export=replace(export, warnings=("<b>warning",), files=tuple(replace(f, file="<b>file") for f in export.files)),
        check=replace(check, files=tuple(replace(f, file="<b>file", reasons=("<b>reason",)) for f in check.files)),
        bench=replace(
            bench, settings={"<b>key": "<b>value"}, rows=tuple(replace(r, file="<b>measured") for r in bench.rows)
        ),
        closed_loop=replace(loop, results=tuple(replace(row, driver="<b>driver") for row in loop.results)),
        recipe_toml="<b>recipe",
        samples_note="<b>note",
    )
    page = render(spoilt)
    assert "<b>" not in page.replace('class="numbers"><b>', "")  # The page's own.
    for word in ("warning", "file", "reason", "key", "value", "measured", "driver", "recipe", "note"):
        assert f"&lt;b&gt;{word}" in page, word


def test_the_strip_shows_the_key_figure_of_each_step(material: PageContent) -> None:
    drives, train, export, check, bench, loop = stages_of(material)
    assert (drives.figure, export.figure) == ("1,260", "2 files")
    assert train.figure == f"R² {material.validation.metrics.r2:.3f}"
    assert (check.figure, check.failed) == ("1 of 2 pass", True)
    assert bench.figure.endswith(" µs") and float(bench.figure.split()[0]) > 0
    assert loop.figure in ("0 of 1", "1 of 1") and "expert (1)" in loop.detail


def test_a_failed_file_is_shown_with_its_reasons(material: PageContent, page: str) -> None:
    assert material.check
    failed = next(f for f in material.check.files if not f.passed)
    assert failed.file == "ramp-int8.tflite" and failed.reasons
    assert page.count('class="pill bad"') == 1 and page.count('class="pill good"') == 1
    assert "golden" in page[page.index('class="reasons"') :][:500]


def test_a_format_that_could_not_be_made_is_shown_and_a_failed_file_is_no_pick(
    made: Made, tmp_path: Path, material: PageContent
) -> None:
    assert material.check and material.bench
    (failed,) = [f.file for f in material.check.files if not f.passed]
    quick = dataclasses.replace(material.bench.rows[0], file=failed, us_p50=0.1)
    bench = dataclasses.replace(material.bench, rows=(*material.bench.rows, quick))
    stages = stages_of(dataclasses.replace(material, bench=bench))
    assert failed not in stages[4].detail and f"; failed: {failed}" in stages[3].detail
    folder = shutil.copytree(made.export, tmp_path / "export")
    lost = [{"format": "int8.onnx", "reason": "<b>crash", "way_out": "take int8.tflite"}]
    edit(folder / "export.json", lambda record: record.update(failed=lost))
    found = gather(made.run, export_path=folder)
    export = stages_of(found)[2]
    assert (export.figure, export.failed) == ("2 files", True) and export.detail.endswith("; not made: int8.onnx")
    assert "&lt;b&gt;crash. Next: take int8.tflite" in render(found)


def test_every_driver_and_delay_of_the_closed_loop_is_shown(material: PageContent, page: str) -> None:
    assert material.closed_loop and material.closed_loop.delays_ms == (0.0, 100.0)
    table = page[page.index('id="closed-loop"') :]
    for name in ("ramp-float32.tflite", "expert", "steering = 0", "+100 ms"):
        assert name in table
    assert "says nothing about a real road" in table


def test_each_missing_input_names_the_command_that_makes_it(made: Made) -> None:
    page = render(gather(made.run))
    for command in ("sepilot export RUN", "sepilot bench FILE", "sepilot closed-loop FILE", "sepilot check DIR"):
        assert command in page
    assert [stage.done for stage in stages_of(gather(made.run))] == [True, True, False, False, False, False]


def test_an_unchecked_export_still_shows_its_sizes(made: Made, tmp_path: Path) -> None:
    shutil.copytree(made.export, tmp_path / "export")
    (tmp_path / "export" / "check.json").unlink()
    page = render(gather(made.run, export_path=tmp_path / "export"))
    assert f"sepilot check {tmp_path / 'export'}" in page
    assert "ramp-int8.tflite" in page and "pill" not in page.split("</style>")[1]


def test_samples_go_from_left_to_right_and_end_with_the_worst(material: PageContent) -> None:
    spread = [s for s in material.samples if not s.worst]
    worst = [s for s in material.samples if s.worst]
    labels = [s.label_deg for s in spread if s.label_deg is not None]
    assert labels == sorted(labels) and labels[0] < -20 and labels[-1] > 20
    assert worst[0].name == "40_cam_image_array_.jpg"
    for sample in material.samples:
        # Positive is right, on the arrow as everywhere.
        assert np.sign(sample.prediction_tip[0] - sample.foot[0]) == np.sign(round(sample.prediction_deg, 1))


def test_a_drive_that_moved_is_found_or_replaced_by_golden_frames(made: Made, tmp_path: Path) -> None:
    shutil.copytree(made.run, tmp_path / "run")
    request = json.loads((tmp_path / "run" / "request.json").read_text())
    request["drives"] = [str(tmp_path / "gone")]
    (tmp_path / "run" / "request.json").write_text(json.dumps(request))
    golden = gather(tmp_path / "run")
    assert len(golden.samples) == 3 and "gone" in golden.samples_note and "--drives" in render(golden)
    found = gather(tmp_path / "run", moved_to=[made.drive])
    assert found.samples_note == "" and found.samples[0].drive == HOSTILE


def test_a_training_without_epochs_leaves_the_curve_out(made: Made, tmp_path: Path) -> None:
    shutil.copytree(made.run, tmp_path / "run")
    (tmp_path / "run" / "history.csv").write_text("")
    assert "The training curve is made by" in render(gather(tmp_path / "run"))


def test_a_model_that_a_constant_beats_is_called_so(material: PageContent) -> None:
    assert "A constant answer beats the model" not in render(material)
    metrics = material.validation.metrics
    worse = dataclasses.replace(metrics, mae=2 * metrics.constant_mae)
    poor = dataclasses.replace(material.validation, metrics=worse, outputs={"steering": worse})
    assert "A constant answer beats the model" in render(dataclasses.replace(material, validation=poor))


def test_a_benchmark_on_a_busy_machine_says_so(material: PageContent) -> None:
    assert material.bench
    for load, said in ((0.8, False), (7.0, True)):
        machine = dataclasses.replace(material.bench.conditions, load=load, cores=2)
        bench = dataclasses.replace(material.bench, conditions=machine)
        assert ("busy with other work" in render(dataclasses.replace(material, bench=bench))) is said


def edit(path: Path, change: Callable[[Any], None]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


@pytest.mark.parametrize(
    ("name", "change", "expected"),
    [
        ("export/check.json", lambda v: v["files"][1].pop("passed"), "files[1].passed: missing"),
        (
            "export/check.json",
            lambda v: v["files"][0].update(bytes="many"),
            "bytes: a whole number expected, found 'many'",
        ),
        (
            "export/check.json",
            lambda v: v["files"][0].update(error_histogram={"edges_deg": [1], "counts": [1]}),
            "edges_deg",
        ),
        ("export/export.json", lambda v: v.update(files=3), "files: a list expected, found 3"),
        ("export/export.json", lambda v: v.update(model_sha256="cd" * 32), "the export of another run"),
        ("bench.json", lambda v: v["rows"][0].pop("us_p50"), "rows[0].us_p50: missing"),
        (
            "bench.json",
            lambda v: v["rows"][0].update(sha256="cd" * 32),
            "found cdcdcdcdcdcd…; another file of this name was measured",
        ),
        ("bench.json", lambda v: v["rows"][0]["infer"].pop("p50_us"), "infer.p50_us: missing"),
        (
            "closed_loop.json",
            lambda v: v["results"][0].update(survived=9),
            "0 to 1 of at least 1 world expected, found 9",
        ),
        ("closed_loop.json", lambda v: v.pop("results"), "results: missing"),
        ("run/validation.json", lambda v: v["metrics"].update(mae=None), "mae: a number expected, found None"),
    ],
)
def test_damaged_inputs_are_one_line_that_names_file_and_key(
    made: Made, tmp_path: Path, name: str, change: Callable[[Any], None], expected: str
) -> None:
    root = tmp_path / "copy"
    shutil.copytree(made.run.parent, root, ignore=shutil.ignore_patterns("cache", "<*"))
    edit(root / name, change)
    with pytest.raises(RunError) as caught:
        gather(
            root / "run",
            export_path=root / "export",
            bench_path=root / "bench.json",
            closed_loop_path=root / "closed_loop.json",
        )
    assert str(root / name) in str(caught.value) and expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_measured_files_are_known_by_their_bytes(made: Made, tmp_path: Path) -> None:
    document = json.loads(made.bench.read_text())
    (row,) = document["rows"]
    other = {**row, "file": "b/ramp-float32.tflite", "sha256": "cd" * 32, "us_p50": row["us_p50"] / 2}
    document["rows"] = [{**row, "file": "a/ramp-float32.tflite"}, other]
    (tmp_path / "bench.json").write_text(json.dumps(document))
    bench = gather(made.run, export_path=made.export, bench_path=tmp_path / "bench.json").bench
    assert bench and [r.file for r in bench.rows] == ["ramp-float32.tflite", "b/ramp-float32.tflite"]
    assert bench.median_us("ramp-float32.tflite") == row["us_p50"]


def test_error_histograms_stand_on_one_axis_with_the_gate(material: PageContent) -> None:
    assert material.check
    edges = tuple(np.logspace(-7, 2, 10).tolist())
    histogram = ErrorHistogram(edges_deg=edges, counts=(0, 5, 40, 10, 3, 1, 1, 0, 0))
    files = tuple(dataclasses.replace(f, error_histogram=histogram) for f in material.check.files)
    page = render(dataclasses.replace(material, check=dataclasses.replace(material.check, files=files)))
    section = page[page.index("Error of every frame") : page.index('id="latency"')]
    assert section.count("<svg") == 2 and "10⁻⁶" in section and "10⁰" in section
    assert "var(--second)" in section


def test_the_command_writes_the_page(made: Made, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "made" / "report.html"
    inputs = ["--export", str(made.export), "--bench", str(made.bench), "--closed-loop", str(made.closed_loop)]
    assert main(["report", str(made.run), *inputs, "--out", str(out)]) == 0
    assert capfd.readouterr().out.strip() == str(out)
    assert out.read_text().startswith("<!doctype html>")
    assert [p.name for p in out.parent.iterdir()] == ["report.html"]


def test_the_command_refuses_what_is_no_run(made: Made, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(made.export), "--out", str(tmp_path / "report.html")]) == 2
    assert main(["report", str(made.run), "--export", str(made.run), "--out", str(tmp_path / "report.html")]) == 2
    lines = capfd.readouterr().err.strip().splitlines()
    assert len(lines) == 2 and "not a run directory" in lines[0] and "no export.json" in lines[1]
    assert not (tmp_path / "report.html").exists()


def test_numbers_read_well() -> None:
    assert (fixed(0.00004), fixed(-0.00004), fixed(0.0), fixed(None), fixed(-1.5, 1)) == (
        "<0.001", ">−0.001", "0.000", "–", "−1.5",
    )  # fmt: skip
    assert (signed(0.00312, 4), signed(-0.2, 1), signed(-0.00001, 4)) == ("+0.0031", "−0.2", "0.0000")
    assert (percent(0.004), percent(0.5), percent(0.0)) == ("<1 %", "50 %", "0 %")
    assert (span(3, 3, str), span(23, 24, str)) == ("3", "23–24")


def test_each_output_of_a_net_is_shown(made: Made, tmp_path: Path) -> None:
    root = tmp_path / "copy"
    shutil.copytree(made.run.parent, root, ignore=shutil.ignore_patterns("cache", "<*"))
    (root / "run" / "contract.json").write_text(two_output_contract().to_json())
    with (root / "run" / "recipe.toml").open("a") as file:
        file.write("[outputs.steering]\n[outputs.throttle]\n")
    held = made.gathered().predictions
    throttle = np.linspace(0.1, 0.5, FRAMES).astype(np.float32)
    labels = {**held.frames.labels, "throttle": throttle}
    frames_ = dataclasses.replace(held.frames, labels=labels)
    Answers(frames=frames_, values={**held.values, "throttle": throttle * np.float32(0.5)}).save(
        root / "run" / "predictions.npz"
    )

    def judged(v: dict[str, Any]) -> None:
        edges = tuple(np.linspace(0, 1, 8).tolist())
        own = scalar_metrics(throttle, throttle * np.float32(0.5), 0.3, edges=edges)
        v["outputs"]["throttle"] = dataclasses.asdict(own)

    def checked(v: dict[str, Any]) -> None:
        first = v["files"][0]["outputs"]["steering"]
        v["files"][0]["outputs"]["throttle"] = {**first, "unit": "", "max_error": 0.5, "passed": False}

    edit(root / "run" / "validation.json", judged)
    edit(root / "export" / "check.json", checked)
    page = render(gather(root / "run", export_path=root / "export"))
    assert Markup(page).unbalanced == []
    for words in ("Model against driver, held-out frames: throttle", "Mean error by throttle", ">throttle</h3>"):
        assert words in page, words
    assert re.search(r">throttle 0\.\d+, driver 0\.\d+<", page)
    row = page[page.index("<td><small>throttle</small></td>") :][:600]
    assert 'class="pill bad"' in row and "0.500" in row


def test_drawings_take_the_colours_of_the_page() -> None:
    palette = (ROOT / "runtime/sepilot_runtime/output/web/static/palette.css").read_text()
    light = palette[: palette.index("@media")]
    named = {"--ink": INK, "--accent": ACCENT, "--second": SECOND, "--grid": GRID, "--good": GOOD, "--bad": BAD}
    assert all(f"{name}: {color};" in light for name, color in named.items())
