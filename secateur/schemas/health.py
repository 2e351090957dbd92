"""Liveness and readiness."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from secateur.schemas.base import Body


class Health(Body):
    """The process answers."""

    status: Literal["ok"] = "ok"
    version: str
    instance: str = Field(description="A name of the process that answers; another one after each start.")


class Check(Body):
    """One thing that the service needs."""

    ok: bool
    detail: str
    needed: bool = Field(default=True, description="Whether the service is ready only with it.")


class Readiness(Body):
    """Whether the service can do its work; `ready` only if every check is that it needs."""

    ready: bool
    checks: dict[str, Check] = Field(
        description="database, migrations, broker, store, and workers, without which jobs wait."
    )
