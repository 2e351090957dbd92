"""Files that a job has published."""

from __future__ import annotations

from pydantic import Field

from secateur.schemas.base import Body, Timestamp


class Artifact(Body):
    """One file; `path` stands after `/jobs/{job_id}/artifacts/`."""

    path: str = Field(description="Stage and path within it, such as recover/checkpoint/model.safetensors.")
    stage: str = Field(description="Key of the stage.")
    size: int = Field(description="Bytes.")
    sha256: str = Field(description="Of the whole file, in hexadecimal; its ETag too.")
    content_type: str
    created_at: Timestamp


class ArtifactList(Body):
    """All artifacts of a job, by path."""

    data: list[Artifact]
