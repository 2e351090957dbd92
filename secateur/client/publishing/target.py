"""What a result can be published to, and what each such target has to do.

A target is written `kind:place`, as in `hub:ORG/NAME`. Each kind is a module with a class of its own, which is loaded
when it is asked for; the library that it speaks by comes with an extra of the client.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Protocol, TypedDict

from secateur.about import install_with
from secateur.client.errors import NotPublishable
from secateur.client.publishing.places import Place
from secateur.contract.report import Report
from secateur.masking import redact
from secateur.schemas.artifacts import Artifact
from secateur.schemas.jobs import Job


class Asked(TypedDict, total=False):
    """The same as arguments by name."""

    variants: Sequence[str]
    even_if_failed: bool
    base_model: str | None
    public: bool
    experiment: str
    register: str | None
    quiet: bool


@dataclass(frozen=True)
class Options:
    """How a result is published; each target reads what is about it."""

    variants: Sequence[str] = ()  # of the report; the one that the job hands out, if none
    even_if_failed: bool = False  # though its gates failed
    base_model: str | None = None  # the original's id on the hub, where the job has named a local one
    public: bool = False  # whether a repository of the hub that has to be made is seen by all
    experiment: str = "secateur"  # of MLflow
    register: str | None = None  # the registered model of MLflow that it becomes a version of
    quiet: bool = False  # whether the target's own progress bars are left out


@dataclass(frozen=True)
class Finished:
    """What is published: a finished job, and the files of it that were asked for."""

    job: Job
    report: Report
    service: str  # its address
    places: tuple[Place, ...]
    artifacts: tuple[Artifact, ...]  # all of the job
    folder: Path  # where artifacts lie, each at its path

    @property
    def variants(self) -> list[str]:
        """The variants that are published, by name."""
        return [place.variant for place in self.places if place.role == "variant"]

    def files(self, *roles: str) -> dict[str, Path]:
        """The files of the model and what goes along, or of these roles, by what they are called there."""
        return {name: self.folder / artifact.path for name, artifact in self._artifacts(*roles)}

    def checksums(self) -> dict[str, str]:
        """The sha256 of everything that is published, by its path among the job's files."""
        found = self._artifacts("variant", "beside", "report")
        return {artifact.path: artifact.sha256 for _, artifact in found}

    def _artifacts(self, *roles: str) -> Iterator[tuple[str, Artifact]]:
        for place in self.places:
            if place.role in (roles or ("variant", "beside")):
                found = [artifact for artifact in self.artifacts if place.holds(artifact.path)]
                yield from ((place.name(artifact.path), artifact) for artifact in found)


@dataclass(frozen=True)
class Published:
    """Where a result is now."""

    target: str  # as it was asked for
    url: str
    version: str  # a commit of the hub, a run of a tracker
    changed: bool  # False where all of it was there already


class Target(Protocol):
    """One place that results are published to."""

    needs_files: bool  # whether the files have to be downloaded for it
    needs_report: bool  # and the report in its forms along with them

    def check(self) -> None:
        """See that it can be reached and may be written to, before anything is downloaded.

        Raises:
            TargetFailed: it cannot.
        """

    def send(self, result: Finished) -> Published:
        """Publish; what is there already stays. Raises TargetFailed."""


@dataclass(frozen=True)
class Kind:
    """One kind of target."""

    module: str  # has a function `target(place, options)` that gives a Target, or raises NotPublishable
    extra: str  # of the client, which brings its library
    package: str  # the library
    form: str  # how it is written
    settings: Mapping[str, str] = field(default_factory=dict)  # of its environment, unless the user has set them


KINDS: Mapping[str, Kind] = {
    "hub": Kind("secateur.client.publishing.hub", "hub", "huggingface_hub", "hub:ORG/NAME"),
    "mlflow": Kind(
        "secateur.client.publishing.mlflow",
        "mlflow",
        "mlflow",
        "mlflow:URI",
        {
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
            "MLFLOW_LOGGING_LEVEL": "WARNING",
            "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        },
    ),
    "wandb": Kind(
        "secateur.client.publishing.wandb", "wandb", "wandb", "wandb:PROJECT", {"WANDB_ERROR_REPORTING": "false"}
    ),
}
FORMS = ", ".join(kind.form for kind in KINDS.values())


def find_target(text: str, options: Options) -> Target:
    """The target that is written so.

    Raises:
        NotPublishable: there is no such kind, its place is malformed, or its library is not installed.
    """
    name, _, place = text.partition(":")
    kind = KINDS.get(name)
    if kind is None:
        raise NotPublishable(f"there is no target {redact(text)!r}: write one of {FORMS}")
    for variable, value in kind.settings.items():
        os.environ.setdefault(variable, value)
    try:
        import_module(kind.package)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != kind.package:
            raise
        raise NotPublishable(
            f"the package `{kind.package}` is missing; the client's extra brings it: {install_with(kind.extra)}"
        ) from error
    found: Target = import_module(kind.module).target(place, options)
    return found
