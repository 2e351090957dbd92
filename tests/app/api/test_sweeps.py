"""Sweeps over HTTP: many jobs of one body, made together, watched and ended together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from fastapi import FastAPI
from sqlalchemy import func, select
from starlette.testclient import TestClient

from app.api.example_sweeps import SUBMIT
from app.db.session import SessionFactory, unit_of_work
from app.db.tables.jobs import Job
from app.db.tables.sweeps import Sweep
from app.main import create_app
from app.settings import Settings
from secateur.contract.sweep_report import SweepReport
from secateur.report.sweep_forms import SWEEP_FORMS
from tests.app.conftest import BASE_URL
from tests.fixtures.played_worker import PlayedWorker
from tests.fixtures.small_files import write_gguf

PROBLEM = {"type": "about:blank", "title": "Stage failed", "status": 500, "detail": "it broke"}
Post = Callable[..., dict[str, Any]]


@pytest.fixture
def base(spec: dict[str, Any]) -> dict[str, Any]:
    return {**spec, "pruning": {"kind": "depth"}}


@pytest.fixture
def sweep(client: TestClient, base: dict[str, Any]) -> Post:
    """Submit a sweep; what came back."""

    def post(*, headers: dict[str, str] | None = None, **changes: Any) -> dict[str, Any]:
        grid = {} if "points" in changes else {"grid": {"pruning.blocks": [1, 2, 3]}}
        body = {"spec": base, **grid, **changes}
        response = client.post("/sweeps", json=body, headers=headers)
        assert response.status_code == 202, response.text
        found: dict[str, Any] = response.json()
        assert response.headers["location"] == f"/sweeps/{found['id']}"
        return found

    return post


def rows(sessions: SessionFactory) -> tuple[int, int]:
    with unit_of_work(sessions) as session:
        return session.scalar(select(func.count(Sweep.id))) or 0, session.scalar(select(func.count(Job.id))) or 0


def refused(client: TestClient, body: dict[str, Any]) -> list[dict[str, Any]]:
    response = client.post("/sweeps", json=body)
    assert response.status_code == 422, response.text
    errors: list[dict[str, Any]] = response.json()["errors"]
    return errors


def test_a_grid_becomes_a_job_for_every_combination(client: TestClient, sweep: Post) -> None:
    made = sweep(
        grid={"pruning.ratio": [0.1, 0.2], "scoring.criterion": ["perplexity", "taylor"]},
        gates={"min_speedup": 1.1},
        labels={"branch": "main"},
    )
    assert [point["changes"] for point in made["points"]] == [
        {"pruning.ratio": ratio, "scoring.criterion": criterion}
        for ratio in (0.1, 0.2)
        for criterion in ("perplexity", "taylor")
    ]
    assert [point["place"] for point in made["points"]] == [0, 1, 2, 3]
    assert (made["state"], made["verdict"], made["model"]) == ("queued", "none", "some/model")
    assert made["counts"] == {
        "queued": 4, "running": 0, "cancelling": 0, "succeeded": 0, "failed": 0, "cancelled": 0
    }  # fmt: skip
    for point in made["points"]:
        job = client.get(f"/jobs/{point['job_id']}").json()
        assert job["sweep_id"] == made["id"]
        assert job["labels"] == {"branch": "main"}
        assert job["spec"]["pruning"]["ratio"] == point["changes"]["pruning.ratio"]
        assert job["spec"]["scoring"]["criterion"] == point["changes"]["scoring.criterion"]
        assert job["spec"]["gates"]["min_speedup"] == 1.1
    assert client.get(f"/sweeps/{made['id']}").json() == made


def test_a_list_becomes_a_job_for_each_partial_spec(client: TestClient, sweep: Post, base: dict[str, Any]) -> None:
    del base["pruning"]
    made = sweep(points=[{"pruning": {"kind": "depth", "blocks": 2}}, {"pruning": {"kind": "flap", "ratio": 0.2}}])
    assert [point["changes"] for point in made["points"]] == [
        {"pruning.kind": "depth", "pruning.blocks": 2},
        {"pruning.kind": "flap", "pruning.ratio": 0.2},
    ]
    jobs = [client.get(f"/jobs/{point['job_id']}").json() for point in made["points"]]
    assert [job["spec"]["pruning"]["kind"] for job in jobs] == ["depth", "flap"]
    assert all(job["spec"]["recovery"]["kind"] == "none" for job in jobs)


def test_the_same_key_gives_the_same_sweep(
    client: TestClient, sweep: Post, sessions: SessionFactory, base: Any
) -> None:
    headers = {"Idempotency-Key": "run-1"}
    first, again = sweep(headers=headers), sweep(headers=headers)
    assert first == again
    assert rows(sessions) == (1, 3)
    body = {"spec": base, "grid": {"pruning.blocks": [1, 2]}}
    assert client.post("/sweeps", json=body, headers=headers).status_code == 422
    body["grid"] = {"pruning.blocks": [1, 2, 3]}
    assert client.post("/sweeps", json=body, headers=headers).headers["idempotent-replayed"] == "true"


def test_a_bad_point_makes_no_job_at_all(client: TestClient, base: dict[str, Any], sessions: SessionFactory) -> None:
    errors = refused(client, {"spec": base, "grid": {"pruning.ratio": [0.1, 0.2, 1.5]}})
    assert [(error["pointer"], error["value"]) for error in errors] == [("/grid/pruning.ratio/2", 1.5)]
    assert rows(sessions) == (0, 0)


def test_what_only_the_model_tells_names_the_point(client: TestClient, base: dict[str, Any], model_root: Path) -> None:
    write_gguf(model_root / "m.gguf", 30)
    body = {"spec": {**base, "model": {"source": "local", "path": "m.gguf"}}, "grid": {"pruning.blocks": [1, 2, 40]}}
    (error,) = refused(client, body)
    assert (error["pointer"], error["value"]) == ("/grid/pruning.blocks/2", 40)
    body["spec"]["model"]["path"] = "none.gguf"
    (error,) = refused(client, body)  # of all points, and told once
    assert (error["pointer"], error["value"]) == ("/spec/model/path", "none.gguf")


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"grid": {"pruning.blocks": list(range(1, 101)), "seed": list(range(100))}}, "/grid"),
        ({"grid": {}}, "/grid"),
        ({"grid": {"pruning.blocks": []}}, "/grid/pruning.blocks"),
        ({"points": []}, "/points"),
        ({"grid": {"pruning.blokcs": [1, 2]}}, "/grid/pruning.blokcs"),
        ({"grid": {"pruning..blocks": [1, 2]}}, "/grid/pruning..blocks"),
        ({"grid": {"pruning.blocks": [1, 2, 1]}}, "/grid/pruning.blocks/2"),
        ({"grid": {"pruning": [{"kind": "depth", "blocks": 1}], "pruning.blocks": [1]}}, "/grid/pruning.blocks"),
        ({"grid": {"gates.max_kl": [0.1]}}, "/grid/gates.max_kl"),
        ({"points": [{"pruning": {"blocks": 1}}, {"gates": {"max_kl": 0.1}}]}, "/points/1/gates"),
        ({"points": [{"pruning": {"blocks": 1}}, {"pruning": {"blocks": 1}}]}, "/points/1"),
        ({"grid": {"pruning.blocks": [1]}, "points": [{}]}, "/grid"),
        ({}, "/grid"),
        ({"grid": {"pruning.blocks": [1]}, "gates": {"max_kl": -1}}, "/gates/max_kl"),
        ({"grid": {"pruning.blocks": [1]}, "gates": {"max_accuracy_drop": 0.1}}, "/gates/max_accuracy_drop"),
        ({"grid": {"pruning.blocks": [1]}, "labels": {"": "x"}}, "/labels/"),
        ({"grid": {"pruning.blocks": [1]}, "more": 1}, "/more"),
        ({"grid": {"model.id.name": [1]}}, "/grid/model.id.name/0"),
        ({"grid": {"a." * 40 + "b": [1]}}, "/grid/" + "a." * 40 + "b"),
        ({"grid": {"pruning.target": [{"speedup": 1.3}, {"speedup": 0.9}]}}, "/grid/pruning.target/1/speedup"),
        ({"grid": {"pruning.target": [{"speedup": 1.3}], "pruning.blocks": [2]}}, "/grid/pruning.target/0"),
        ({"grid": {"pruning.blocks": [1]}, "baseline": {"job": str(uuid4())}}, "/baseline"),
    ],
)
def test_what_is_refused_is_named(
    client: TestClient, base: dict[str, Any], sessions: SessionFactory, changes: dict[str, Any], pointer: str
) -> None:
    errors = refused(client, {"spec": base, **changes})
    assert pointer in [error["pointer"] for error in errors], errors
    assert all(error["detail"] and error["expected"] for error in errors)
    assert rows(sessions) == (0, 0)


def test_a_baseline_that_there_is_not_is_refused(
    client: TestClient, base: dict[str, Any], sessions: SessionFactory
) -> None:
    for baseline in ({"job": str(uuid4())}, {"label": {"branch": "none"}}):
        spec = {**base, "baseline": {**baseline, "max_regression": {"speedup": 0.1}}}
        (error, *_) = refused(client, {"spec": spec, "grid": {"pruning.blocks": [1, 2]}})
        assert error["pointer"].startswith("/spec/baseline/")
    assert rows(sessions) == (0, 0)


def test_a_long_spec_many_times_over_is_refused(make_settings: Callable[..., Settings], base: Any) -> None:
    application: FastAPI = create_app(make_settings(max_sweep_bytes=50_000))
    with TestClient(application, base_url=BASE_URL) as client:
        body = {"spec": {**base, "labels": {"note": "x" * 200}}, "grid": {"seed": list(range(256))}}
        body["spec"]["pruning"] = {"kind": "depth", "blocks": 1}
        (error,) = refused(client, body)
        assert error["pointer"] == "/grid"
        assert "may take 50.0 kB (SECATEUR_MAX_SWEEP_BYTES)" in error["detail"]
        body["grid"]["seed"] = [1, 2]
        assert client.post("/sweeps", json=body).status_code == 202


def test_a_grid_is_counted_before_it_is_unfolded(client: TestClient, base: dict[str, Any]) -> None:
    huge = {f"seed.{number}": list(range(100)) for number in range(200)}  # 10⁴⁰⁰ points
    (error,) = refused(client, {"spec": base, "grid": huge})
    assert "more than 1,000,000,000 points; a sweep has at most 256 (SECATEUR_MAX_SWEEP_POINTS)" in error["detail"]


def test_how_many_points_there_may_be_is_a_setting(make_settings: Callable[..., Settings], base: Any) -> None:
    application: FastAPI = create_app(make_settings(max_sweep_points=2))
    with TestClient(application, base_url=BASE_URL) as client:
        grid = {"pruning.blocks": [1, 2, 3]}
        assert [error["pointer"] for error in refused(client, {"spec": base, "grid": grid})] == ["/grid"]
        points = [{"pruning": {"blocks": number}} for number in (1, 2, 3)]
        assert [error["pointer"] for error in refused(client, {"spec": base, "points": points})] == ["/points"]
        grid["pruning.blocks"].pop()
        assert client.post("/sweeps", json={"spec": base, "grid": grid}).status_code == 202


def test_gates_stand_in_one_place(client: TestClient, base: dict[str, Any]) -> None:
    body = {"spec": {**base, "gates": {"max_kl": 1}}, "grid": {"pruning.blocks": [1, 2]}}
    assert client.post("/sweeps", json=body).json()["gates"]["max_kl"] == 1
    (error,) = refused(client, {**body, "gates": {"max_kl": 2}})
    assert error["pointer"] == "/gates"


def test_a_failed_point_fails_no_other(client: TestClient, sweep: Post, worker: PlayedWorker) -> None:
    made = sweep(gates={"min_speedup": 1.0})
    first, second, third = (point["job_id"] for point in made["points"])
    worker.fail(worker.claim(first), PROBLEM)
    found = client.get(f"/sweeps/{made['id']}").json()
    assert (found["state"], found["verdict"], found["counts"]["failed"]) == ("running", "none", 1)
    assert found["points"][0]["problem"]["detail"] == "it broke"
    claim = worker.reach(second, "score")
    point = client.get(f"/sweeps/{made['id']}").json()["points"][1]
    assert (point["running"], point["stages_done"], point["stages"]) == (["score"], 1, 5)
    worker.succeed(claim)
    for job in (second, third):
        worker.finish(job)
    assert [point["state"] for point in client.get(f"/sweeps/{made['id']}").json()["points"]] == [
        "failed", "succeeded", "succeeded"
    ]  # fmt: skip


def test_the_end_of_a_sweep(client: TestClient, sweep: Post, worker: PlayedWorker) -> None:
    made = sweep(gates={"min_speedup": 1.0})
    first, *others = (point["job_id"] for point in made["points"])
    worker.fail(worker.claim(first), PROBLEM)
    for job in others:
        worker.finish(job)
    over = client.get(f"/sweeps/{made['id']}").json()
    assert (over["state"], over["verdict"]) == ("failed", "passed")  # the points that succeeded have passed
    assert over["finished_at"] == max(point["finished_at"] for point in over["points"])
    again = client.post(f"/sweeps/{made['id']}/retry")
    assert again.status_code == 202
    assert again.json()["counts"] == {**over["counts"], "failed": 0, "queued": 1}
    assert again.json()["finished_at"] is None
    worker.finish(first)
    assert client.get(f"/sweeps/{made['id']}").json()["state"] == "succeeded"
    assert client.post(f"/sweeps/{made['id']}/retry").status_code == 409


def test_a_cancel_ends_what_is_not_over(client: TestClient, sweep: Post, worker: PlayedWorker) -> None:
    made = sweep()
    done, running, waiting = (point["job_id"] for point in made["points"])
    worker.finish(done)
    claim = worker.claim(running)
    found = client.post(f"/sweeps/{made['id']}/cancel").json()
    assert [point["state"] for point in found["points"]] == ["succeeded", "cancelling", "cancelled"]
    assert found["state"] == "cancelling"
    assert client.delete(f"/sweeps/{made['id']}").status_code == 409
    worker.stop(claim)
    assert client.post(f"/sweeps/{made['id']}/cancel").json()["state"] == "cancelled"
    assert client.post(f"/sweeps/{made['id']}/retry").json()["counts"]["queued"] == 2
    assert client.get(f"/jobs/{waiting}").json()["state"] == "queued"


def test_a_sweep_is_deleted_with_its_jobs(client: TestClient, sweep: Post, sessions: SessionFactory) -> None:
    made = sweep()
    job = made["points"][1]["job_id"]
    client.post(f"/sweeps/{made['id']}/cancel")
    refusal = client.delete(f"/jobs/{job}")
    assert refusal.status_code == 409
    assert f"point 1 of sweep {made['id']}" in refusal.json()["detail"]
    assert client.delete(f"/sweeps/{made['id']}").status_code == 204
    assert rows(sessions) == (0, 0)
    assert client.get(f"/jobs/{job}").status_code == 404


def test_pages_of_sweeps(client: TestClient, sweep: Post) -> None:
    made = [sweep()["id"] for _ in range(3)]
    first = client.get("/sweeps?limit=2").json()
    assert [found["id"] for found in first["data"]] == made[:0:-1]
    assert first["data"][0]["counts"]["queued"] == 3
    second = client.get("/sweeps", params={"limit": 2, "cursor": first["next_cursor"]})
    assert [found["id"] for found in second.json()["data"]] == made[:1]
    assert second.json()["next_cursor"] is None
    assert client.get("/sweeps?cursor=nonsense").status_code == 422


def test_sweeps_are_found_by_how_an_id_begins_or_ends(client: TestClient, sweep: Post) -> None:
    made = [sweep()["id"] for _ in range(3)]
    for part in (made[1], made[1][-8:].upper(), made[1].replace("-", "")[-20:]):
        assert [found["id"] for found in client.get("/sweeps", params={"id": part}).json()["data"]] == [made[1]]
    beginning = client.get("/sweeps", params={"id": made[0][:4], "limit": 2})  # those of seven weeks are alike
    assert [found["id"] for found in beginning.json()["data"]] == made[:0:-1]
    rest = client.get(beginning.links["next"]["url"])
    assert [found["id"] for found in rest.json()["data"]] == made[:1]
    assert client.get("/sweeps?id=ffffffff").json()["data"] == []
    refusal = client.get("/sweeps?id=xyz!")
    assert (refusal.status_code, refusal.json()["errors"][0]["parameter"]) == (422, "query id")


def test_no_such_sweep(client: TestClient) -> None:
    path = f"/sweeps/{uuid4()}"
    answers = [client.get(path), client.post(f"{path}/cancel"), client.post(f"{path}/retry"), client.delete(path)]
    assert [answer.status_code for answer in answers] == [404] * 4
    assert client.get("/sweeps/7").json()["errors"][0]["parameter"] == "path sweep_id"


def test_jobs_of_a_sweep_have_its_deadline(client: TestClient, sweep: Post, sessions: SessionFactory) -> None:
    made = sweep(headers={"Cancel-After": "90s"})
    with unit_of_work(sessions) as session:
        deadlines = set(session.scalars(select(Job.deadline_at).where(Job.sweep_id == UUID(made["id"]))))
    assert len(deadlines) == 1
    assert deadlines.pop() is not None


def test_examples_of_requests_run(client: TestClient, model_root: Path) -> None:
    write_gguf(model_root / "SmolLM2-135M-Instruct.Q4_1.gguf", 30)
    for name, example in SUBMIT.items():
        assert client.post("/sweeps", json=example["value"]).status_code == 202, name


def test_a_report_while_it_runs_and_after(client: TestClient, sweep: Post, worker: PlayedWorker) -> None:
    made = sweep(gates={"min_speedup": 1.2, "max_parameters": 3_000_000})
    path = f"/sweeps/{made['id']}"
    first, second, third = (point["job_id"] for point in made["points"])
    early = client.get(f"{path}/report")
    assert (early.status_code, early.json()["detail"]) == (404, f"no point of sweep {made['id']} has a report yet")
    assert client.get(f"{path}/verdict").json()["verdict"] == "none"
    worker.finish(first)
    found = client.get(f"{path}/report").json()
    assert (found["state"], found["verdict"]) == ("running", "none")
    assert [point["standing"] for point in found["points"]] == ["front", "no result", "no result"]
    assert found["recommended"] == 0
    worker.finish(second)
    worker.fail(worker.claim(third), PROBLEM)
    found = SweepReport.model_validate(client.get(f"{path}/report").json())
    assert (found.state, found.verdict) == ("failed", "passed")
    assert found.point(2).note == "it broke"
    assert (found.x.metric, found.y.metric) == ("speedup", "exact_match")  # of what the examples have measured
    assert [(kind.kind, kind.computed, kind.taken_over) for kind in found.shared] == [
        (name, 2, 0) for name in ("check", "score", "prune", "benchmark", "report")
    ]
    verdict = client.get(f"{path}/verdict").json()
    assert (verdict["state"], verdict["verdict"]) == ("failed", "passed")
    assert verdict["recommended"]["place"] == found.recommended
    assert verdict["why"] == found.why


def test_a_report_in_every_form(client: TestClient, sweep: Post, worker: PlayedWorker) -> None:
    made = sweep()
    worker.finish(made["points"][0]["job_id"])
    path = f"/sweeps/{made['id']}/report"
    for form in SWEEP_FORMS.values():
        by_header = client.get(path, headers={"Accept": form.media_type}, params={"x": "speedup", "y": "parameters"})
        by_suffix = client.get(f"{path}.{form.suffix}", params={"x": "speedup", "y": "parameters"})
        assert by_header.status_code == by_suffix.status_code == 200
        assert by_header.content == by_suffix.content
        assert by_header.headers["content-type"].startswith(form.media_type)
        assert by_header.headers["vary"] == "Accept"
        assert b"parameters" in by_header.content.lower()
    assert client.get(path, headers={"Accept": "image/png"}).status_code == 406


def test_the_pair_of_figures_has_to_be_one(client: TestClient, sweep: Post, worker: PlayedWorker) -> None:
    made = sweep()
    worker.finish(made["points"][0]["job_id"])
    path = f"/sweeps/{made['id']}/report"
    for params, parameter in (({"x": "speed"}, "query x"), ({"x": "kl", "y": "kl"}, "query y")):
        response = client.get(path, params=params)
        assert response.status_code == 422
        assert [error["parameter"] for error in response.json()["errors"]] == [parameter]
    assert client.get(f"/sweeps/{uuid4()}/report").status_code == 404
    assert client.get(f"/sweeps/{uuid4()}/verdict").status_code == 404
