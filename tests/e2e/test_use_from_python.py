"""Every program of docs/use-from-python.md, publishing.md and the client's own page, run but for the addresses."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from secateur import AsyncClient, Client
from tests.fixtures.played_service import MODEL, WEIGHTS
from tests.fixtures.pushed_hub import PushedHub

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "docs" / "use-from-python.md", ROOT / "secateur" / "README.md", ROOT / "docs" / "publishing.md"]
PROGRAMS = [found for page in PAGES for found in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)]
ADDRESS = "http://127.0.0.1:8000"


def run(program: str, url: str) -> None:
    assert ADDRESS in program
    exec(compile(program.replace(ADDRESS, url), "a page", "exec"), {"__name__": "__main__"})


def test_the_pages_have_a_program_for_each_client() -> None:
    used = [[kind.__name__ for kind in (Client, AsyncClient) if f"import {kind.__name__}\n" in p] for p in PROGRAMS]
    assert used == [["Client"], ["AsyncClient"], ["Client"], ["Client"]]


def test_the_sync_program(
    played_service: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    run(PROGRAMS[0], played_service)
    said = capsys.readouterr().out.splitlines()
    assert "state {'state': 'succeeded'}" in said
    assert said[-1] == "passed pruned"
    assert (tmp_path / "result/prune/checkpoint/model.safetensors").read_bytes() == WEIGHTS


def test_the_async_program(played_service: str, capsys: pytest.CaptureFixture[str]) -> None:
    run(PROGRAMS[1], played_service)
    said = capsys.readouterr().out.splitlines()
    assert said[-3:] == ["passed pruned"] * 3
    assert {f"{blocks} state {{'state': 'succeeded'}}" for blocks in (4, 6, 8)} <= set(said)


def test_the_program_of_the_clients_own_page(played_service: str, capsys: pytest.CaptureFixture[str]) -> None:
    run(PROGRAMS[2], played_service)
    assert capsys.readouterr().out == "passed\n"


def test_the_program_that_publishes(
    played_service: str,
    pushed_hub: PushedHub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with Client(played_service) as client:
        spec = {"model": {"source": "local", "path": MODEL}, "pruning": {"kind": "depth", "blocks": 6}}
        client.jobs.wait(client.jobs.create(spec).id)
    run(PROGRAMS[3].replace("ORG/NAME", "team/small"), played_service)
    pushed = pushed_hub.repositories["team/small"]
    assert capsys.readouterr().out.startswith(f"{pushed_hub.url}/team/small/tree/nightly at {pushed.heads['nightly']}")
    assert pushed.branches["nightly"]["model.safetensors"] == WEIGHTS
