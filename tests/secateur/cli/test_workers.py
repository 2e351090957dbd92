"""`secateur workers`."""

from __future__ import annotations

import json
from collections.abc import Callable

from typer.testing import Result

from app.api.workers import EXAMPLE
from tests.fixtures.answers import Service

Run = Callable[..., Result]


def test_a_table(service: Service, run: Run) -> None:
    broken = {**EXAMPLE["data"][0], "state": "idle", "device": None, "device_name": None, "problem": "no driver"}
    service.answers["GET /workers"] = {"data": [EXAMPLE["data"][0], {**broken, "name": "gpu-4:1", "running": []}]}
    shown = run("workers").stdout
    for words in ("gpu-3:4711", "NVIDIA H200", "151 GB", "score of", "gpu-4:1", "idle", "no driver"):
        assert words in shown


def test_json_and_nobody(service: Service, run: Run) -> None:
    service.answers["GET /workers"] = EXAMPLE
    assert json.loads(run("workers", "--json").stdout)["name"] == "gpu-3:4711"
    service.answers["GET /workers"] = {"data": []}
    assert "no workers" in run("workers").stdout
