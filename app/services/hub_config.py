"""The config.json of a model on the hub, for an estimate: from the cache of this machine, or from the hub in a moment.

Nothing else is fetched, and nothing waits for long: an estimate without sizes says so, and the job's first stage asks
the hub with patience.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from secateur.contract.errors import BadCheckpoint
from secateur.contract.models.config_limits import check_config_limits
from secateur.contract.spec import HubModel
from secateur.foreign_files.json_objects import MAX_CONFIG_BYTES, load_json_object

SECONDS = 0.7  # to wait for the hub in all
KEPT_SECONDS = 600  # a branch may move on meanwhile
_REFUSED = (401, 403, 404)
_THREADS = ThreadPoolExecutor(4, thread_name_prefix="hub-config")  # a look-up of a name has no time limit of its own


@dataclass(frozen=True)
class HubConfig:
    """A config, or why there is none."""

    config: dict[str, Any] | None
    problem: str = ""


def hub_config(model: HubModel, *, cache: Path) -> HubConfig:
    """The config of a hub model.

    Raises:
        BadCheckpoint: it is none.
    """
    for file in _cached(model, cache / "hub"):
        try:
            return HubConfig(_parsed(file.read_bytes()))
        except OSError:
            continue
    if os.environ.get("HF_HUB_OFFLINE", "0").upper() in {"1", "ON", "YES", "TRUE"}:
        return HubConfig(None, "HF_HUB_OFFLINE is set, and the model is not in this machine's cache")
    asked = _THREADS.submit(_fetched, model.id, model.revision or "main", round(time.monotonic() / KEPT_SECONDS))
    try:
        return HubConfig(_parsed(asked.result(SECONDS)))
    except TimeoutError:
        return HubConfig(None, f"the hub did not answer within {SECONDS:g} s")
    except _NoAnswerError as error:
        return HubConfig(None, str(error))


class _NoAnswerError(Exception):
    """The hub gave no config; the text says why."""


def _cached(model: HubModel, hub: Path) -> Iterator[Path]:
    """Where workers of this machine have put it, in the hub's own order of folders."""
    folder = hub / f"models--{model.id.replace('/', '--')}"
    revision = model.revision or "main"
    if ".." in revision.split("/"):
        return
    try:
        commit = (folder / "refs" / revision).read_text().strip()
    except OSError:
        commit = revision
    if "/" not in commit:
        yield folder / "snapshots" / commit / "config.json"


def _parsed(raw: bytes) -> dict[str, Any]:
    try:
        config = load_json_object(raw, "config.json")
    except BadCheckpoint as error:
        raise BadCheckpoint.field(
            "/model/id", error.detail.rstrip("."), expected="a model with a config.json"
        ) from error
    check_config_limits(config, pointer="/model/id")
    return config


@lru_cache(maxsize=256)  # of what was answered; failures are asked for again
def _fetched(id: str, revision: str, period: int) -> bytes:
    """What the hub answers; `period` has that forgotten after a while. Raises _NoAnswerError."""
    endpoint = (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
    token = os.environ.get("HF_TOKEN")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    url = f"{endpoint}/{quote(id)}/resolve/{quote(revision, safe='')}/config.json"
    raw = b""
    try:
        with (
            httpx.Client(timeout=SECONDS, follow_redirects=True, max_redirects=3) as client,
            client.stream("GET", url, headers=headers) as answer,
        ):
            if answer.status_code in _REFUSED:
                raise _NoAnswerError("the hub has no such model, or does not open it to this service")
            answer.raise_for_status()
            for piece in answer.iter_bytes():
                raw += piece
                if len(raw) > MAX_CONFIG_BYTES:
                    raise _NoAnswerError(f"its config.json has more than {MAX_CONFIG_BYTES:,} bytes")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise _NoAnswerError(f"the hub did not answer ({type(error).__name__})") from error
    return raw
