"""`secateur doctor`: what it finds wrong, and that it says how to mend it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from app.local.doctor import gpu
from tests.fixtures.processes import secateur_environment

SECATEUR = Path(sys.executable).with_name("secateur")
CLOSED = "127.0.0.1:9"
CUDA: dict[str, Any] = {"cuda": "12.8", "devices": [], "error": "the driver is too old"}


def examined(tmp_path: Path, **settings: str) -> tuple[int, dict[str, dict[str, str]]]:
    environment = secateur_environment(SECATEUR_DATA_DIR=str(tmp_path), HF_ENDPOINT=f"http://{CLOSED}", **settings)
    command = [str(SECATEUR), "doctor", "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, {line["name"]: line for line in map(json.loads, done.stdout.splitlines())}


@pytest.mark.thorough
def test_all_is_well(tmp_path: Path, database_url: str, redis_url: str) -> None:
    settings = {"SECATEUR_DATABASE_URL": database_url, "SECATEUR_REDIS_URL": redis_url}
    code, found = examined(tmp_path, SECATEUR_MODEL_ROOTS=str(tmp_path), **settings)
    assert code == 0, found
    for name in ("versions", "database", "migrations", "broker", "store", "folder", "disk", "GPU"):
        assert found[name]["state"] == "ok", found[name]
    assert found["hub"]["state"] == "note"


@pytest.mark.thorough
def test_what_is_wrong_comes_with_its_remedy(tmp_path: Path) -> None:
    code, found = examined(
        tmp_path,
        SECATEUR_DATABASE_URL=f"postgresql://nobody@{CLOSED}/none",
        SECATEUR_REDIS_URL=f"redis://{CLOSED}/0",
        SECATEUR_MODEL_ROOTS=str(tmp_path / "missing"),
    )
    assert code == 40
    wrong = {name for name, line in found.items() if line["state"] == "wrong"}
    assert wrong == {"database", "migrations", "broker", "folder"}
    assert "SECATEUR_DATABASE_URL" in found["database"]["mend"]
    assert "SECATEUR_MODEL_ROOTS" in found["folder"]["mend"]


@pytest.mark.parametrize(
    ("torch", "device", "driver", "state", "word"),
    [
        (None, "auto", True, "note", "no worker"),
        ({"broken": "torch cannot be imported: x"}, "auto", False, "wrong", "imported"),
        (CUDA | {"devices": ["H200"]}, "auto", True, "ok", "CUDA 12.8"),
        (CUDA | {"cuda": None}, "auto", True, "wrong", "CPUs alone"),
        (CUDA, "auto", True, "wrong", "too old"),
        (CUDA, "auto", False, "ok", "on the CPU"),
        (CUDA, "cuda:1", False, "wrong", "cuda:1"),
    ],
)
def test_gpu_and_driver_against_torch(
    torch: dict[str, Any] | None, device: str, driver: bool, state: str, word: str
) -> None:
    finding = gpu(torch, device=device, driver=driver)
    assert (finding.state, word in finding.detail) == (state, True)
    assert bool(finding.mend) == (state == "wrong")
