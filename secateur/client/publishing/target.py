"""What a result can be published to, and what each such target has to do.

A target is written `kind:place`, as in `hub:ORG/NAME`. Each kind is a module with a class of its own, which is loaded
when it is asked for; the library that it speaks by comes with an extra of the client.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
    quiet: bool


@dataclass(frozen=True)
class Options:
    """How a result is published; each target reads what is about it."""

    variants: Sequence[str] = ()  # of the report; the one that the job hands out, if none
    even_if_failed: bool = False  # though its gates failed
    base_model: str | None = None  # the original's id on the hub, where the job has named a local one
    public: bool = False  # whether a repository of the hub that has to be made is seen by all
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
        return [place.variant for place in self.places if not place.beside]

    def files(self, *, wanted: tuple[Place, ...] | None = None) -> dict[str, Path]:
        """The files of the places, by what they are called there."""
        return {
            place.name(artifact.path): self.folder / artifact.path
            for place in (self.places if wanted is None else wanted)
            for artifact in self.artifacts
            if place.holds(artifact.path)
        }


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


KINDS: Mapping[str, Kind] = {
    "hub": Kind("secateur.client.publishing.hub", "hub", "huggingface_hub", "hub:ORG/NAME"),
}
FORMS = " or ".join(kind.form for kind in KINDS.values())


def find_target(text: str, options: Options) -> Target:
    """The target that is written so.

    Raises:
        NotPublishable: there is no such kind, its place is malformed, or its library is not installed.
    """
    name, _, place = text.partition(":")
    kind = KINDS.get(name)
    if kind is None:
        raise NotPublishable(f"there is no target {redact(text)!r}: write {FORMS}")
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
