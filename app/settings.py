"""One typed Settings, read from the environment (prefix SECATEUR_) and checked when the process starts."""

from __future__ import annotations

import os
import re
from functools import lru_cache
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.logs import LogFormat
from secateur.contract.stage_kinds import STAGE_KINDS


def default_data_dir() -> Path:
    """$XDG_DATA_HOME/secateur, or ~/.local/share/secateur."""
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base) / "secateur"


class Settings(BaseSettings):
    """Every setting of API and workers. The same values work on one laptop and on a cluster."""

    model_config = SettingsConfigDict(env_prefix="SECATEUR_", frozen=True, extra="ignore")

    # where things are
    data_dir: Path = Field(
        default_factory=default_data_dir,
        description="Embedded servers, cache, artifacts, work; $XDG_DATA_HOME/secateur unless set.",
    )
    database_url: str | None = Field(
        default=None, description="postgresql://…; absent: `secateur up` starts a private one."
    )
    redis_url: str | None = Field(default=None, description="redis://…; absent: `secateur up` starts a private Valkey.")
    artifacts_url: str | None = Field(
        default=None, description="file:///… or s3://bucket/prefix; default DATA/artifacts."
    )
    model_roots: Annotated[tuple[Path, ...], NoDecode] = Field(
        default=(),
        description="Folders in which local models may lie, separated by the system's path separator.",
    )
    data_roots: Annotated[tuple[Path, ...], NoDecode] = Field(
        default=(), description="Folders in which local texts may lie, likewise."
    )

    check_local: bool = Field(
        default=True,
        description="Whether the API looks at local models and texts; false where only the workers see them.",
    )

    # the HTTP service
    host: str = Field(default="127.0.0.1", description="The address that the API listens on.")
    port: int = Field(default=8000, ge=0, le=65535, description="Its port; 0: one that is free.")
    public_url: str | None = Field(default=None, description="How users reach the service; for links in reports.")
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Further names that the API answers to, as name or *.domain, separated by commas.",
    )
    session_hours: float = Field(
        default=12.0, gt=0, le=24 * 90, description="How long the dashboard stays open after logging in with a key."
    )
    playground: bool = Field(
        default=True, description="Whether the models of finished jobs may be asked questions, which workers answer."
    )
    instance: str | None = Field(
        default=None, max_length=64, description="A name of this API process, which /healthz tells; random unless set."
    )
    api_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        default=(),
        description="Keys that may call the API, separated by commas. Required to listen beyond loopback.",
    )
    max_body_bytes: int = Field(
        default=1_048_576, ge=1024, description="Longest body of a request, but for uploads of data sets."
    )
    max_dataset_bytes: int = Field(
        default=1_073_741_824, ge=1024, description="Largest data set that may be uploaded, in bytes."
    )
    max_sweep_points: int = Field(default=256, ge=1, le=10_000, description="Most points of one sweep.")
    max_sweep_bytes: int = Field(
        default=33_554_432, ge=1024, description="What the specs of a sweep's points may take together, in bytes."
    )

    # workers
    device: str = Field(
        default="auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
        description="auto, cpu, cuda, cuda:1 …; auto is a GPU where there is one.",
    )
    threads: int = Field(default=0, ge=0, description="Torch threads of a stage; 0: one for each core over the slots.")
    training_processes: Annotated[int, Field(ge=1, le=64)] | Literal["auto"] = Field(
        default=1,
        description="Processes that train one model together, a GPU for each; auto: as many as there are GPUs.",
    )
    concurrency: int = Field(default=1, ge=1, le=64, description="Stages that one worker runs at a time.")
    stage_memory_bytes: int = Field(
        default=0,
        ge=0,
        description="Memory that a stage may use with all that it starts, mapped files apart; "
        "0: 85 % of the machine's, or of the container's, over the slots.",
    )
    heartbeat_seconds: float = Field(
        default=5.0, gt=0, description="How often a worker renews the lease of a running stage."
    )
    lease_seconds: float = Field(
        default=30.0, gt=0, description="A stage whose lease ran out is taken from its worker."
    )
    janitor_seconds: float = Field(default=10.0, gt=0, description="How often lost messages and leases are looked for.")
    resend_seconds: float = Field(default=30.0, gt=0, description="A stage unclaimed for so long is sent again.")
    cancel_grace_seconds: float = Field(default=1.5, ge=0, description="Between SIGTERM and SIGKILL of a stage.")
    stage_time_limit_seconds: float = Field(
        default=24 * 3600.0, gt=0, description="A stage that runs longer is stopped, and fails."
    )
    max_attempts: int = Field(default=3, ge=1, description="Starts of one stage, after crashes, before it fails.")
    stage_entry: str = Field(
        default="workers.stage:main",
        pattern=r"^[\w.]+:\w+$",
        description="What a stage process runs, module:function; another one is for tests.",
    )
    stage_preload: Annotated[tuple[str, ...], NoDecode] = Field(
        default_factory=lambda: ("torch", "transformers", "peft", *(kind.module for kind in STAGE_KINDS.values())),
        description="Modules that the fork server imports before it forks stages, separated by commas; torch, "
        "transformers, peft and those of all stages unless set.",
    )
    reuse_results: bool = Field(default=True, description="Whether identical stages of different jobs share results.")
    keep_days: float = Field(
        default=7.0, gt=0, description="How long the scratch of a stage that did not succeed is kept for a retry."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least level of the log lines of API and workers."
    )
    log_format: LogFormat = Field(
        default="auto",
        description="How they are written: JSON, or console, which is for people; auto: console on a terminal.",
    )
    otlp_endpoint: str | None = Field(
        default=None,
        description="http://…: a collector that takes traces, as OTLP over HTTP at /v1/traces; needs the extra otel.",
    )

    metrics_address: str | None = Field(
        default=None,
        description="HOST:PORT at which a worker shows its figures for Prometheus; absent: nowhere. One worker a port.",
    )

    @field_validator("model_roots", "data_roots", mode="before")
    @classmethod
    def _paths(cls, value: object) -> object:
        return tuple(part for part in value.split(os.pathsep) if part) if isinstance(value, str) else value

    @field_validator("api_keys", "allowed_hosts", "stage_preload", mode="before")
    @classmethod
    def _keys(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("allowed_hosts")
    @classmethod
    def _names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if not re.fullmatch(r"(?:\*\.)?[A-Za-z0-9_][A-Za-z0-9._-]*", name):
                raise ValueError(f"{name!r} is not a host's name: expected name or *.domain, without scheme and port")
        return value

    @field_validator("public_url")
    @classmethod
    def _address(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"https?://[^/\s@]+(?:/\S*)?", value):
            raise ValueError(f"{value!r} is not an address: expected https://name, or with a port and a path")
        return value

    @field_validator("metrics_address")
    @classmethod
    def _host_and_port(cls, value: str | None) -> str | None:
        if value is not None:
            found = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^:\s]+):(\d{1,5})", value)
            if found is None or int(found[2]) > 65_535:
                raise ValueError(f"{value!r} is no HOST:PORT, such as 127.0.0.1:9808")
        return value

    @field_validator("otlp_endpoint")
    @classmethod
    def _collector(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"https?://[^/\s]+(?:/\S*)?", value):
            raise ValueError(f"{value!r} is not an address: expected http://host:port, such as http://localhost:4318")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Settings:
        if not self.listens_on_loopback and not self.api_keys:
            raise ValueError(
                f"SECATEUR_HOST={self.host} listens beyond loopback, which needs SECATEUR_API_KEYS to be set"
            )
        if self.lease_seconds < 2 * self.heartbeat_seconds:
            raise ValueError("SECATEUR_LEASE_SECONDS must be at least twice SECATEUR_HEARTBEAT_SECONDS")
        return self

    @property
    def listens_on_loopback(self) -> bool:
        """Whether only this machine can reach the API."""
        if self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def secrets(self) -> tuple[str, ...]:
        """What no log may show."""
        return tuple(key.get_secret_value() for key in self.api_keys)

    @property
    def urls(self) -> tuple[str | None, ...]:
        """Addresses that may hold a password, which no log may show either."""
        return (self.database_url, self.redis_url, self.artifacts_url, self.otlp_endpoint)

    @property
    def store_url(self) -> str:
        """The artifact store: a folder in the data folder unless set."""
        return self.artifacts_url or (self.data_dir / "artifacts").resolve().as_uri()

    @property
    def cache_dir(self) -> Path:
        """Imported and downloaded models, by content; safe to delete while nothing runs."""
        return self.data_dir / "cache"

    @property
    def work_dir(self) -> Path:
        """The folders in which stages work; each is removed when its stage is over."""
        return self.data_dir / "work"


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """The process's settings, read once."""
    return Settings()
