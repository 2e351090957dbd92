"""`secateur report`, `artifacts`, `download`, `watch`, `status`, `jobs`, `cancel`, `retry`, `catalog`."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from typer.testing import Result

from app.api import example_errors, example_results, examples
from secateur.cli.session import parse_seconds
from secateur.contract.catalog import TABLES
from secateur.contract.presets import PRESETS
from secateur.contract.sweep_presets import SWEEP_PRESETS
from tests.fixtures.answers import JOB, Service, event, finished, stream

Run = Callable[..., Result]


def test_report_as_a_table(service: Service, run: Run) -> None:
    service.answers["GET /report"] = example_results.REPORT
    result = run("report", JOB)
    assert result.exit_code == 0, result.output
    for words in ("1 of 4 blocks removed", "Magnitude", "original", "pruned", "1.22 to 1.28", "3,154,432", "✓"):
        assert words in result.stdout


@pytest.mark.parametrize(
    ("format", "accept"), [("md", "text/markdown"), ("html", "text/html"), ("junit", "application/xml")]
)
def test_report_in_other_forms(service: Service, run: Run, tmp_path: Path, format: str, accept: str) -> None:
    service.answers[f"GET /report {accept}"] = httpx.Response(200, text="the report")
    assert run("report", JOB, "--format", format).stdout == "the report\n"
    file = tmp_path / "deep" / "report"
    result = run("report", JOB, "--format", format, "--output", str(file))
    assert result.exit_code == 0
    assert file.read_text() == "the report"
    assert [path.name for path in file.parent.iterdir()] == ["report"]


def test_a_table_is_not_written_to_a_file(service: Service, run: Run, tmp_path: Path) -> None:
    assert run("report", JOB, "--output", str(tmp_path / "x")).exit_code == 2


def test_no_report_yet_is_usage(service: Service, run: Run) -> None:
    service.answers["GET /report"] = httpx.Response(404, json=example_errors.NO_REPORT.to_problem())
    result = run("report", JOB)
    assert result.exit_code == 2
    assert "it has no report yet" in result.stderr


def test_artifacts_and_download(service: Service, run: Run, tmp_path: Path) -> None:
    content = b'{"a": 1}'
    file = {
        **examples.ARTIFACT_LIST["data"][0],
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    service.answers["GET /artifacts"] = {"data": [file]}
    service.answers[f"GET /artifacts/{file['path']}"] = httpx.Response(200, content=content)
    assert "prune/checkpoint/config.json" in run("artifacts", JOB).stdout
    result = run("download", JOB, str(tmp_path), "--prefix", "prune/")
    assert result.exit_code == 0, result.output
    assert Path(result.stdout.strip()).read_bytes() == content
    told = json.loads(run("download", JOB, str(tmp_path), "--prefix", "prune/", "--json").stdout)
    assert told == {"file": result.stdout.strip(), **file}
    assert run("download", JOB, str(tmp_path), "--prefix", "recover/").exit_code == 2


def test_a_place_that_cannot_be_written_to_is_named(service: Service, run: Run, tmp_path: Path) -> None:
    blocked = tmp_path / "file" / "below"
    blocked.parent.write_text("in the way")
    content = b"x"
    file = {
        **examples.ARTIFACT_LIST["data"][0],
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    service.answers |= {
        "GET /artifacts": {"data": [file]},
        f"GET /artifacts/{file['path']}": httpx.Response(200, content=content),
        "GET /report text/html": httpx.Response(200, text="the report"),
    }
    for command in (("download", JOB, str(blocked)), ("report", JOB, "-f", "html", "-o", str(blocked))):
        result = run(*command)
        assert result.exit_code == 2, result.exception
        assert f"error: {blocked}" in result.stderr


def test_watch_tells_stages_and_figures_in_lines(service: Service, run: Run) -> None:
    service.answers["GET /job"] = finished(last=6)
    service.answers["GET /events"] = stream(
        event(1, "state", "score", state="running"),
        event(2, "progress", "score", done=3, total=30, unit="blocks"),
        event(3, "log", "score", message="30 blocks [of] llama"),
        event(4, "metrics", "benchmark", step=5, loss=2.3123),
        event(5, "state", "score", state="succeeded"),
        event(6, "state", state="succeeded"),
    )
    result = run("watch", JOB)
    assert result.exit_code == 0, result.output
    lines = result.stderr.splitlines()
    assert "score: running" in lines
    assert "score: 3 of 30 blocks" in lines
    assert "score: 30 blocks [of] llama" in lines
    assert "score: succeeded in 4.0 s" in lines


def test_watch_ends_with_the_job_as_json(service: Service, run: Run) -> None:
    for state, code in (("succeeded", 0), ("failed", 20)):
        service.answers["GET /job"] = finished(state)
        service.answers["GET /events"] = stream(event(3, "state", state=state))
        result = run("watch", JOB, "--json")
        assert result.exit_code == code
        assert json.loads(result.stdout)["state"] == state


def test_jobs_lists_and_filters(service: Service, run: Run) -> None:
    service.answers["GET /jobs"] = {"data": examples.JOB_PAGE["data"], "has_more": False, "next_cursor": None}
    table = run("jobs", "--state", "running", "--label", "commit=abc")
    assert table.exit_code == 0, table.output
    assert JOB[-8:] in table.stdout
    assert dict(service.requests[-1].url.params) == {"limit": "20", "status": "running", "label": "commit=abc"}
    assert json.loads(run("jobs", "--json").stdout)["id"] == JOB
    assert run("jobs", "--label", "nameless").exit_code == 2


def test_status(service: Service, run: Run) -> None:
    soon = datetime.now(UTC) + timedelta(hours=2)
    queue = {"position": 2, "workers": 1, "expected_start": f"{soon:%Y-%m-%dT%H:%M:%SZ}", "expected_end": None}
    service.answers["GET /job"] = {**examples.JOB_QUEUED, "queue": queue}
    result = run("status", JOB)
    assert result.exit_code == 0, result.output
    assert f"job {JOB} is queued" in result.stderr
    assert "It is number 2 in the queue; 1 worker is up. It is expected to go on in " in result.stderr
    assert "; when it is over is unknown, by how long" in result.stderr
    assert re.search(r"score +queued", result.stdout)
    assert json.loads(run("status", JOB, "--json").stdout)["queue"] == queue
    service.answers["GET /job"] = examples.JOB_CANCELLING
    said = " ".join(run("status", JOB).stdout.split())
    assert re.search(r"benchmark cancelling 2 of 8 runs .* 1.2 GB of memory \(at most 1.4 GB\), 1.9 cores", said)
    problem = {"type": "about:blank", "title": "Stage failed", "status": 500, "detail": "it broke"}
    service.answers["GET /job"] = finished("failed", problem=problem)
    assert "it broke" in run("status", JOB).stderr


def test_cancel_and_retry(service: Service, run: Run) -> None:
    service.answers["POST /cancel"] = examples.JOB_CANCELLING
    service.answers["POST /retry"] = httpx.Response(409, json=example_errors.NOT_RETRIABLE.to_problem())
    assert "cancelling" in run("cancel", JOB).stderr
    result = run("retry", JOB)
    assert result.exit_code == 2
    assert "only a failed or cancelled job" in result.stderr


@pytest.mark.thorough
def test_catalog_shows_every_row(service: Service, run: Run) -> None:
    rows = {section: [row.to_dict() for row in table.values()] for section, table in TABLES.items()}
    presets = [asdict(preset) for preset in PRESETS.values()]
    sweeps = [asdict(preset) for preset in SWEEP_PRESETS.values()]
    service.answers["GET /catalog"] = {**rows, "presets": presets, "sweep_presets": sweeps, "spec": {}}
    text = run("catalog").stdout
    assert all(row["name"] in text for table in (*rows.values(), presets) for row in table)
    assert all(sweep["settings"]["name"] in text for sweep in sweeps)
    assert json.loads(run("catalog", "--json").stdout)["criteria"][0]["name"] == "perplexity"


def test_durations() -> None:
    assert [parse_seconds(text) for text in ("90", "90s", "1.5m", "2h", "1d")] == [90, 90, 90, 7200, 86400]
    for wrong in ("", "h", "-1s", "soon", "nan"):
        with pytest.raises(ValueError, match=r".+"):
            parse_seconds(wrong)
