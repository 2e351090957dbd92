"""Publishing to MLflow: a real server keeps what is sent, and is asked for it by MLflow's own client."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from secateur.client.errors import NotPublishable, TargetFailed
from secateur.client.publishing.target import Published
from secateur.client.publishing.tracked import curve, figures, parameters
from tests.fixtures.finished_jobs import WEIGHTS, a_report, downloaded, finished_job, its_files
from tests.fixtures.hub_server import serving
from tests.fixtures.mlflow_server import running_mlflow
from tests.fixtures.scripted_service import JOB, Fake

pytestmark = [pytest.mark.thorough]  # the library alone takes seconds to import, and the server as long again


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_mlflow(tmp_path_factory.mktemp("mlflow")) as url:
        yield url


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def push(to: str, fake: Fake | None = None, **options: Any) -> Published:
    with (fake or finished_job()).client() as client:
        return client.jobs.publish(JOB, to, quiet=True, **options)


def asked(url: str) -> Any:
    """MLflow's own client."""
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=url, registry_uri=url)


def paths_below(client: Any, run: str, path: str | None = None) -> Iterator[str]:
    for found in client.list_artifacts(run, path):
        yield from paths_below(client, run, found.path) if found.is_dir else [found.path]


def test_a_job_is_a_run(server: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    done = push(f"mlflow:{server}", experiment="whole", register="small")
    assert capfd.readouterr().out == ""  # which is for addresses alone
    client = asked(server)
    experiment = client.get_experiment_by_name("whole").experiment_id
    (run,) = client.search_runs([experiment])
    assert done == Published(
        f"mlflow:{server}", f"{server}/#/experiments/{experiment}/runs/{run.info.run_id}", "small 1", changed=True
    )
    report = a_report()
    assert run.info.status == "FINISHED"
    assert run.data.params == parameters(report)
    sent = figures(report, "recovered")
    assert len(sent) > 60
    assert {name: value for name, value in run.data.metrics.items() if not name.startswith("recovery/")} == sent
    losses = client.get_metric_history(run.info.run_id, "recovery/loss")
    assert [(point.step, point.value) for point in losses] == [(s, v["recovery/loss"]) for s, v in curve(report)]
    assert run.data.tags["secateur.job"] == JOB
    assert run.data.tags["label.commit"] == "abc123"
    there = set(paths_below(client, run.info.run_id))
    model = {path.replace("recover/checkpoint", "model") for path in its_files(report) if "recover/checkpoint" in path}
    assert there == {*model, "report/report.html", "report/report.md"}

    (version,) = client.search_model_versions("name = 'small'")
    assert (version.version, version.run_id) == ("1", run.info.run_id)
    client.download_artifacts(run.info.run_id, "model", str(tmp_path))
    assert version.source.endswith("/artifacts/model")
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == WEIGHTS


def test_again_it_is_the_same_run_and_the_same_version(server: str) -> None:
    first = push(f"mlflow:{server}/", experiment="again", register="again")
    fake = finished_job()
    again = push(f"mlflow:{server}", fake, experiment="again", register="again")
    assert again == Published(first.target, first.url, first.version, changed=False)
    client = asked(server)
    experiment = client.get_experiment_by_name("again").experiment_id
    (run,) = client.search_runs([experiment])
    client.set_tag(run.info.run_id, "secateur.content", "that of a try which broke off")
    assert push(f"mlflow:{server}", experiment="again", register="again").changed
    assert len(client.search_runs([experiment])) == len(client.search_model_versions("name = 'again'")) == 1
    assert len(client.get_metric_history(run.info.run_id, "speedup")) == 1
    assert len(client.get_metric_history(run.info.run_id, "recovery/loss")) == len(curve(a_report()))


def test_another_variant_is_another_run(server: str) -> None:
    push(f"mlflow:{server}", experiment="variants")
    fake = finished_job()
    push(f"mlflow:{server}", fake, experiment="variants", variants=["recovered-gguf-q8_0"])
    client = asked(server)
    runs = client.search_runs([client.get_experiment_by_name("variants").experiment_id])
    there = {run.data.tags["secateur.variants"]: set(paths_below(client, run.info.run_id, "model")) for run in runs}
    assert set(there) == {"recovered", "recovered-gguf-q8_0"}
    assert there["recovered-gguf-q8_0"] == {"model/LICENSE", "model/README.md", "model/model-q8_0.gguf"}
    assert not [path for path in downloaded(fake) if path.endswith(".safetensors")]


def test_the_server_of_the_environment(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotPublishable, match="names no server: write mlflow:https://HOST, or set MLFLOW_TRACKING_URI"):
        push("mlflow:")
    with pytest.raises(NotPublishable, match=r"mlflow:gopher://x: .*unsupported URI"):
        push("mlflow:gopher://x")
    with pytest.raises(NotPublishable, match=r"mlflow:http://\[bad: .*IPv6"):
        push("mlflow:http://[bad")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    assert push("mlflow:", experiment="environment").url.startswith(server)


def test_labels_that_are_no_names_to_mlflow(server: str) -> None:
    report = a_report(labels={"team//stage": "x", "team/": "y"})
    asked_for = {**report.spec, "baseline": {"label": {"team//stage": "x", "empty": ""}}}  # which names labels too
    push(f"mlflow:{server}", finished_job(report.model_copy(update={"spec": asked_for})), experiment="labels")
    client = asked(server)
    (run,) = client.search_runs([client.get_experiment_by_name("labels").experiment_id])
    assert (run.data.tags["label.team/_/stage"], run.data.tags["label.team/_"]) == ("x", "y")
    assert run.data.params["baseline.label.team/_/stage"] == "x"


def test_a_deleted_experiment_is_not_written_to(server: str) -> None:
    client = asked(server)
    client.delete_experiment(client.create_experiment("gone"))
    with pytest.raises(TargetFailed, match="the experiment 'gone' is deleted"):
        push(f"mlflow:{server}", experiment="gone")


def test_nobody_answers() -> None:
    fake = finished_job()
    with pytest.raises(TargetFailed, match=r"MLflow at http://127\.0\.0\.1:9 does not answer"):
        push("mlflow:http://127.0.0.1:9", fake)
    assert downloaded(fake) == []


@pytest.mark.parametrize("status", [401, 403])
def test_a_server_that_wants_credentials(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "a-secret-token")
    fake = finished_job()
    with serving(lambda *_: (status, {}, b"a-secret-token is not known")) as url:
        address = url.replace("://", "://somebody:secret-word@")
        with pytest.raises(TargetFailed, match="refuses: set MLFLOW_TRACKING_TOKEN, or ") as caught:
            push(f"mlflow:{address}", fake)
    assert "secret-word" not in str(caught.value)
    assert "a-secret-token" not in str(caught.value)
    assert downloaded(fake) == []
