"""The catalogue: what a job may ask for."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from secateur.schemas.base import Body


class Method(Body):
    """One criterion, pruner, recovery, quantisation or benchmark."""

    name: str = Field(description="As it stands in a job's spec.")
    title: str
    summary: str
    paper: str
    options: dict[str, Any] = Field(description="JSON schema of the object in the spec that names it.")


class Preset(Body):
    """Settings under one name, for what a spec leaves out."""

    name: str = Field(description="As it stands in a job's spec.")
    title: str
    summary: str
    paper: str
    spec: dict[str, Any] = Field(description="The part of a spec that it fills in.")
    depth_alone: bool = Field(description="Whether it is for the pruning of whole blocks alone.")


class SweepPreset(Body):
    """The points of a sweep under one name, and settings for what its spec leaves out."""

    settings: Preset
    points: list[dict[str, Any]] = Field(description="What each point changes of the spec.")


class Catalog(Body):
    """Every method that this service offers."""

    presets: list[Preset]
    sweep_presets: list[SweepPreset]

    criteria: list[Method]
    pruners: list[Method]
    recoveries: list[Method]
    quantisations: list[Method]
    benchmarks: list[Method]
    spec: dict[str, Any] = Field(description="JSON schema of the body of POST /jobs.")
