"""llama-bench: what it is told, how its JSON is read, and what is said of it where there is none."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from tests.fixtures.engines import put_llama_bench
from workers.engine.serving import llama_bench, runner
from workers.engine.serving.llama_bench import LlamaBench
from workers.engine.serving.runner import Asked, EngineFailed, Load

ASKED = Asked([[5, 6, 7]], 5)


@pytest.fixture
def load(tmp_path: Path) -> Load:
    file = tmp_path / "model.gguf"
    file.write_bytes(bytes(1000))
    return Load(file, threads=3, gpu=False, dtype="float32", tokens=8, sequences=1, memory_share=1.0)


def bench(load: Load, folder: Path, monkeypatch: pytest.MonkeyPatch, *, more: str = "") -> LlamaBench:
    put_llama_bench(folder / "bin", monkeypatch, more=more)
    return LlamaBench(load, program=str(folder / "bin" / "llama-bench"))


def test_prompt_and_generation_are_read_off_its_json(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = bench(load, tmp_path, monkeypatch)
    took = started.time(ASKED)
    assert [took.prompt, took.total] == pytest.approx([3e-6, 7e-6])
    assert started.build == "llama-bench, build 5163 (8cf427ff)"
    (run,) = [json.loads(line) for line in (tmp_path / "bin" / "runs.jsonl").read_text().splitlines()]
    assert run == {
        **{"-m": str(load.model), "-p": "3", "-n": "4", "-r": "1"},  # the first of five tokens is the prompt's
        **{"-t": "3", "-ngl": "0", "-o": "json"},
    }


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("sys.exit('error: failed to load model')", "ended with exit status 1: error: failed to load model"),
        ("import os; os.abort()", "ended with exit status -6"),
        ("print('no model'); sys.exit(0)", "gave no times: no model"),
        ("print('[]'); sys.exit(0)", "gave no times: []"),
        ("given['-n'] = '7'", "gave no times"),
    ],
)
def test_what_goes_wrong_is_told(
    more: str, said: str, load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(EngineFailed) as caught:
        bench(load, tmp_path, monkeypatch, more=more).time(ASKED)
    assert str(caught.value).startswith(said)


def test_one_that_hangs_is_ended_with_what_it_started(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llama_bench, "STARTING", 4.0)
    monkeypatch.setattr(runner, "_MOST", 0.0)
    monkeypatch.setattr(runner, "_A_TOKEN", 0.0)
    pids = tmp_path / "pids"
    more = (
        "import os, subprocess, time\n"
        "child = subprocess.Popen(['sleep', '600'])\n"
        f"pathlib.Path({str(pids)!r}).write_text(f'{{os.getpid()}} {{child.pid}}')\n"
        "time.sleep(600)"
    )
    with pytest.raises(EngineFailed, match="took more than 4 s"):
        bench(load, tmp_path, monkeypatch, more=more).time(ASKED)
    for pid in map(int, pids.read_text().split() if pids.exists() else ()):  # on a slow machine it had not begun
        give_up = time.monotonic() + 60
        while _runs(pid):  # it has been killed; on a slow machine it takes a while to go
            assert time.monotonic() < give_up
            time.sleep(0.05)


def _runs(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_a_program_that_is_none(load: Load, tmp_path: Path) -> None:
    with pytest.raises(EngineFailed, match="cannot be started: Permission denied"):
        LlamaBench(load, program=os.fspath(tmp_path)).time(ASKED)
