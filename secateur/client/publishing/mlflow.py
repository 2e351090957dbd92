"""Publishing to an MLflow server: `mlflow:https://mlflow.example`, or `mlflow:` for that of MLFLOW_TRACKING_URI.

A job is one run of an experiment: its spec as parameters, its figures as metrics, the training's curve by its steps,
the checkpoint under `model` and the report under `report`. Publishing again finds the run by its tags; where all of it
is there nothing is sent. Files go from disk in pieces. Credentials are MLflow's own (`MLFLOW_TRACKING_TOKEN`,
`MLFLOW_TRACKING_USERNAME` and `…_PASSWORD`).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import requests
from mlflow import MlflowClient, get_tracking_uri
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException, RestException

from secateur.client.errors import NotPublishable, TargetFailed
from secateur.client.publishing.reach import check_reach
from secateur.client.publishing.target import Finished, Options, Published
from secateur.client.publishing.tracked import curve, figures, parameters, tags
from secateur.contract.shown import first_line
from secateur.masking import learn_environment, learn_url, redact

_PARAMETERS, _METRICS = 100, 1000  # of a request, at most
_CONTENT = "secateur.content"  # the tag that holds the hash of all that was sent, once it was


def target(place: str, options: Options) -> MlflowTarget:
    """Raises NotPublishable: no server is named."""
    if not place and "MLFLOW_TRACKING_URI" not in os.environ:
        raise NotPublishable("mlflow: names no server: write mlflow:https://HOST, or set MLFLOW_TRACKING_URI")
    learn_environment(os.environ)
    try:
        return MlflowTarget(place or get_tracking_uri(), options)
    except (MlflowException, ValueError) as error:  # an address of a kind that it does not know, or none at all
        raise NotPublishable(redact(f"mlflow:{place}: {first_line(error).strip()}")) from None


class MlflowTarget:
    """One experiment of one server."""

    needs_files = True
    needs_report = True

    def __init__(self, uri: str, options: Options) -> None:
        learn_url(uri)
        self._uri, self._options = uri.rstrip("/"), options
        self._over_http = urlsplit(uri).scheme in ("http", "https")
        self._client = MlflowClient(tracking_uri=self._uri, registry_uri=self._uri)
        self._experiment = ""

    def check(self) -> None:
        """The experiment is made where there is none."""
        if self._over_http:
            check_reach("MLflow", self._uri)
        with self._told():
            found = self._client.get_experiment_by_name(self._options.experiment)
            if found is not None and found.lifecycle_stage != "active":
                raise TargetFailed(
                    f"the experiment {self._options.experiment!r} is deleted: restore it, or name another"
                )
            self._experiment = (
                found.experiment_id if found else self._client.create_experiment(self._options.experiment)
            )

    def send(self, result: Finished) -> Published:
        with self._told():
            run, content = self._run(result), _hash(result)
            changed = run.data.tags.get(_CONTENT) != content
            if changed:
                self._log(run, result)
                self._upload(run, result)
                self._client.set_tag(run.info.run_id, _CONTENT, content)
                self._client.set_terminated(run.info.run_id, "FINISHED", _milliseconds(result.job.finished_at))
            version = self._registered(run) if self._options.register else None
        url = f"{self._uri}/#/experiments/{self._experiment}/runs/{run.info.run_id}"
        return Published(f"mlflow:{redact(self._uri)}", redact(url), version or run.info.run_id, changed)

    def _run(self, result: Finished) -> Run:
        """The run of this job and these variants; it is made where there is none."""
        told = tags(result.report, service=result.service, variants=result.variants)
        wanted = " and ".join(f"tags.`{name}` = '{told[name]}'" for name in ("secateur.job", "secateur.variants"))
        if found := self._client.search_runs([self._experiment], wanted, max_results=1):
            return found[0]
        return self._client.create_run(
            self._experiment,
            start_time=_milliseconds(result.job.started_at or result.job.created_at),
            tags=told,
            run_name=f"{PurePosixPath(result.report.model.id).name}, {', '.join(result.variants)}",
        )

    def _log(self, run: Run, result: Finished) -> None:
        """The same twice is the same: MLflow keeps one of a metric at the same time and step, and equal parameters."""
        moment = _milliseconds(result.job.finished_at)
        metrics = [Metric(name, value, moment, 0) for name, value in figures(result.report, result.variants[0]).items()]
        metrics += [
            Metric(name, value, moment, step) for step, values in curve(result.report) for name, value in values.items()
        ]
        params = [Param(name, value) for name, value in parameters(result.report).items()]
        told = tags(result.report, service=result.service, variants=result.variants)
        self._client.log_batch(run.info.run_id, tags=[RunTag(name, value) for name, value in told.items()])
        for start in range(0, len(params), _PARAMETERS):
            self._client.log_batch(run.info.run_id, params=params[start : start + _PARAMETERS])
        for start in range(0, len(metrics), _METRICS):
            self._client.log_batch(run.info.run_id, metrics=metrics[start : start + _METRICS])

    def _upload(self, run: Run, result: Finished) -> None:
        for folder, files in (("model", result.files()), ("report", result.files("report"))):
            for name, path in files.items():
                within = str(PurePosixPath(folder, name).parent)
                self._client.log_artifact(run.info.run_id, str(path), within)

    def _registered(self, run: Run) -> str:
        """The version of the registered model that this run is, made where there is none."""
        name = self._options.register
        assert name is not None
        for version in self._client.search_model_versions(f"run_id = '{run.info.run_id}'"):
            if version.name == name:
                return f"{name} {version.version}"
        try:
            self._client.get_registered_model(name)
        except RestException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            self._client.create_registered_model(name)
        made = self._client.create_model_version(name, f"{run.info.artifact_uri}/model", run.info.run_id)
        return f"{name} {made.version}"

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What the library raises, as errors of the client."""
        try:
            yield
        except (MlflowException, requests.RequestException) as error:
            status = error.get_http_status_code() if isinstance(error, MlflowException) else 0
            words = first_line(error)
            if status in (401, 403):
                words = f"set MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and …_PASSWORD ({words})"
            raise TargetFailed(redact(f"MLflow at {self._uri} refuses: {words}")) from None


def _milliseconds(moment: datetime | None) -> int:
    assert moment is not None, "a job that has succeeded has begun and ended"
    return int(moment.timestamp() * 1000)


def _hash(result: Finished) -> str:
    """Over all that is sent, by which the same is known."""
    sent: list[Any] = [figures(result.report, result.variants[0]), curve(result.report), parameters(result.report)]
    sent += [tags(result.report, service="", variants=result.variants), sorted(result.checksums().items())]
    return hashlib.sha256(json.dumps(sent, sort_keys=True).encode()).hexdigest()
