"""A worker takes no stage before its device has been tried out, nor after it has failed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.settings import Settings
from workers.launch import device
from workers.launch.device import ProbedDevice
from workers.launch.fork_server import ForkServer

PROGRAM = """
import json, os, signal, sys, time
from pathlib import Path

def main(spec, events):
    return 0

def probe(spec, answer):
    assert json.loads(spec.read_text()) == {"device": "auto", "threads": 3}
    told = Path(os.environ["FAKE_ANSWER"]).read_text()
    if told.startswith("{"):
        os.write(answer, told.encode())
        return 0
    exec(told)
    return 0
"""
WORKING = '{"working": {"setting": "cuda", "kind": "NVIDIA H200 9.0", "dtype": "bfloat16"}}'


@pytest.fixture
def answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "program_of_probe.py").write_text(PROGRAM)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("FAKE_ANSWER", str(tmp_path / "answer"))
    return tmp_path / "answer"


@pytest.fixture
def probed(answer: Path, tmp_path: Path) -> Iterator[tuple[ProbedDevice, list[bool]]]:
    told: list[bool] = []
    server = ForkServer("program_of_probe:main", [])
    yield ProbedDevice(Settings(data_dir=tmp_path, threads=3), server, on_change=told.append), told
    server.stop()


def test_what_the_probe_finds_is_what_stages_compute_on(answer: Path, probed: tuple[ProbedDevice, list[bool]]) -> None:
    device, told = probed
    assert device.working is None
    answer.write_text(WORKING)
    assert device.doubt()
    assert device.working is not None
    assert (device.working.setting, device.working.kind) == ("cuda", "NVIDIA H200 9.0")
    answer.write_text('{"problem": "the driver is too old"}')
    assert not device.doubt()
    assert (device.working, device.problem) == (None, "the driver is too old")
    assert told == [True, False]


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("program", "patience", "expected"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", 60.0, "ended by signal 11"),
        (
            "print('libcuda is odd', file=sys.stderr, flush=True); sys.exit(9)",
            60.0,
            "exit status 9 and no answer. libcuda",
        ),
        ("time.sleep(1000)", 1.0, "did not answer within"),
    ],
)
def test_a_probe_without_an_answer_is_a_failure(
    answer: Path,
    probed: tuple[ProbedDevice, list[bool]],
    monkeypatch: pytest.MonkeyPatch,
    program: str,
    patience: float,
    expected: str,
) -> None:
    monkeypatch.setattr(device, "PROBE_SECONDS", patience)
    answer.write_text(program)
    found, told = probed
    assert not found.doubt()
    assert expected in (found.problem or "")
    assert told == [False]


def test_a_device_that_is_mended_is_found_again(
    answer: Path, probed: tuple[ProbedDevice, list[bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "AGAIN_SECONDS", 0.1)
    answer.write_text('{"problem": "no"}')
    found, told = probed
    found.start()
    wait(lambda: False in told)
    temporary = answer.with_suffix(".tmp")
    temporary.write_text(WORKING)
    temporary.replace(answer)
    wait(lambda: True in told)
    assert found.working is not None
    found.stop()
    found.join(60)
    assert not found.is_alive()


def wait(condition: Callable[[], object]) -> None:
    give_up = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.02)
