"""The report stage, as the stage process runs it: results of the other stages in, files out."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from secateur.contract.errors import StageFailed
from secateur.contract.measurements import Benchmarks, Measurement
from secateur.contract.protocol import Runtime, StageEvent, StageInput, StageSpec
from secateur.contract.report import Report
from secateur.contract.results import Environment, ModelInfo, Pruned
from secateur.contract.spec import CompressionSpec
from workers import stage as stage_process
from workers.stages import report as report_stage
from workers.stages.context import StageContext

MODEL = ModelInfo(id="m", fingerprint="00", family="llama", blocks=4, parameters=400, bytes_on_disk=1600)
MACHINE = Environment(
    device="cpu", device_name="a CPU", dtype="float32", threads=1, platform="Linux", python="3.11", versions={}
)


@pytest.fixture
def stage(tmp_path: Path) -> StageSpec:
    pruned = Pruned(
        kind="depth",
        dropped=[1],
        kept=[0, 2, 3],
        parameters_before=400,
        parameters_after=300,
        bytes_before=1600,
        bytes_after=1200,
        seconds=0.1,
        model=MODEL,
    )
    measured = Benchmarks(
        variants=[
            Measurement(variant="original", parameters=400, blocks=4, bytes_on_disk=1600),
            Measurement(variant="pruned", parameters=300, blocks=3, bytes_on_disk=1200),
        ],
        environment=MACHINE,
        seconds=1.0,
    )
    inputs = {"prune": tmp_path / "prune", "benchmark": tmp_path / "benchmark"}
    for folder in inputs.values():
        folder.mkdir()
    (inputs["prune"] / "pruned.json").write_text(pruned.model_dump_json())
    (inputs["benchmark"] / "benchmarks.json").write_text(measured.model_dump_json())
    return StageSpec(
        job_id=UUID("0193a1b2-0000-7000-8000-000000000001"),
        key="report",
        kind="report",
        created_at=datetime(2026, 11, 24, tzinfo=UTC),
        spec=CompressionSpec.model_validate(
            {
                "model": {"source": "local", "path": "m"},
                "pruning": {"kind": "depth", "drop": [1]},
                "recovery": {"kind": "none"},
                "gates": {"max_parameters": 350},
            }
        ),
        work=tmp_path / "work",
        inputs={name: StageInput(kind=name, folder=folder) for name, folder in inputs.items()},
        runtime=Runtime(cache=tmp_path / "cache", public_url="https://prune.example"),
    )


def test_every_form_is_written(stage: StageSpec, tmp_path: Path) -> None:
    spec, events = tmp_path / "spec.json", tmp_path / "events"
    spec.write_text(stage.model_dump_json())
    with events.open("wb") as pipe:
        assert stage_process.main(spec, pipe.fileno()) == 0
    out = stage.work / "out"
    assert sorted(str(file.relative_to(out)) for file in out.rglob("*") if file.is_file()) == [
        "cards/prune/checkpoint/README.md",
        "model_card.md",
        "report.html",
        "report.json",
        "report.junit.xml",
        "report.md",
    ]
    report = Report.model_validate_json((out / "report.json").read_text())
    assert report.verdict == "passed"
    assert report.baseline is None
    card = (out / "cards/prune/checkpoint/README.md").read_text()
    assert "| Parameters |" in card
    assert "had not been measured" not in card
    last = json.loads(events.read_text().splitlines()[-1])
    assert last["type"] == "result"
    assert Report.model_validate(last["data"]) == report
    assert "https://prune.example/jobs/" in (out / "report.md").read_text()


def test_a_missing_input_is_a_clear_error(stage: StageSpec) -> None:
    events: list[StageEvent] = []
    context = StageContext(stage.model_copy(update={"inputs": {}}), events.append)
    with pytest.raises(StageFailed, match="needs the files of the prune stage"):
        report_stage.run(context)


def test_it_is_held_against_an_earlier_report(stage: StageSpec, tmp_path: Path) -> None:
    """The one of the stage's inputs that is a report."""
    context = StageContext(stage, lambda _: None)
    context.out.mkdir(parents=True)
    earlier = report_stage.run(context)
    (tmp_path / "earlier").mkdir()
    slim = earlier.benchmarks.variants[-1].model_copy(update={"parameters": 200})
    variants = [earlier.benchmarks.variants[0], slim]
    slimmer = earlier.model_copy(
        update={
            "job_id": UUID("0193a1b2-0000-7000-8000-000000000000"),
            "benchmarks": earlier.benchmarks.model_copy(update={"variants": variants}),
        }
    )
    (tmp_path / "earlier" / "report.json").write_text(slimmer.model_dump_json())
    for allowed, verdict in ((0.5, "passed"), (0.49, "failed")):
        body = stage.spec.model_dump(mode="json")
        body["baseline"] = {"label": {"branch": "main"}, "max_regression": {"parameters": allowed}}
        held = stage.model_copy(
            update={
                "spec": CompressionSpec.model_validate(body),
                "inputs": {**stage.inputs, "baseline": StageInput(kind="report", folder=tmp_path / "earlier")},
            }
        )
        report = report_stage.run(StageContext(held, lambda _: None))
        assert report.verdict == verdict
        assert report.baseline is not None
        assert report.baseline.job_id == slimmer.job_id
        assert [gate.gate for gate in report.gates] == ["max_parameters", "max_regression.parameters"]
        assert "max_regression.parameters" in (context.out / "report.junit.xml").read_text()
        assert (
            "50.0 % worse" in (context.out / "report.md").read_text()
            or "50 % worse" in (context.out / "report.html").read_text()
        )
