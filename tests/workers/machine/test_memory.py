"""What counts as a stage's memory, and what a machine or a container has."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from workers.machine import memory

GIB = 1 << 30


def test_a_stage_has_its_part_of_the_machine() -> None:
    whole = memory.machine_memory()
    assert memory.stage_limit(0, slots=1) == int(whole * memory.SHARE)
    assert memory.stage_limit(0, slots=4) == int(whole * memory.SHARE / 4)
    assert memory.stage_limit(3 * GIB, slots=4) == 3 * GIB


@pytest.mark.parametrize(
    ("groups", "file", "limits", "expected"),
    [
        ("0::/\n", "memory.max", {"": "max"}, None),
        ("0::/\n", "memory.max", {"": str(GIB)}, GIB),
        ("0::/a/b\n", "memory.max", {"a": str(2 * GIB), "a/b": str(3 * GIB)}, 2 * GIB),  # the one above binds
        ("4:memory:/x\n0::/\n", "memory.limit_in_bytes", {"memory": str(GIB)}, GIB),
        ("4:memory:/x\n", "memory.limit_in_bytes", {"memory": "9223372036854771712"}, None),
        ("2:cpu,cpuacct:/\n", "memory.max", {"cpu,cpuacct": str(GIB)}, None),
    ],
)
def test_a_container_may_have_less_than_its_machine(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    groups: str,
    file: str,
    limits: dict[str, str],
    expected: int | None,
) -> None:
    for folder, limit in limits.items():
        (tmp_path / "cgroup" / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / "cgroup" / folder / file).write_text(limit + "\n")
    (tmp_path / "self").write_text(groups)
    monkeypatch.setattr(memory, "_CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(memory, "_OWN_GROUPS", tmp_path / "self")
    assert memory.machine_memory() == (expected or psutil.virtual_memory().total)


def test_the_kernels_kills_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "self").write_text("0::/\n")
    monkeypatch.setattr(memory, "_CGROUPS", tmp_path)
    monkeypatch.setattr(memory, "_OWN_GROUPS", tmp_path / "self")
    before = memory.oom_kills()  # of the machine, which may have had some
    (tmp_path / "memory.events").write_text("low 0\noom 7\noom_kill 3\noom_group_kill 0\n")
    assert memory.oom_kills() == before + 3


def test_memory_that_is_written_to_counts_and_memory_that_is_not_does_not() -> None:
    before = memory.used([os.getpid()])
    eaten = bytearray(64 << 20)
    assert memory.used([os.getpid()]) - before >= 60 << 20
    del eaten
    assert memory.used([2**22 + 1]) == 0  # no such process


@pytest.mark.parametrize("written", [0, 64])
def test_a_fork_adds_what_it_has_written_to_the_peak(monkeypatch: pytest.MonkeyPatch, written: int) -> None:
    """And not what it shares with the process that it comes from, which has 128 MiB."""
    program = (
        "import os, signal, sys, time\n"
        "eaten = bytearray(b'x') * (128 << 20)\n"
        "done, told = os.pipe()\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    own = bytearray(b'x') * (int(sys.argv[1]) << 20)\n"
        "    os.write(told, b'.')\n"
        "    time.sleep(600)\n"
        "os.read(done, 1)\n"
        "print(child, flush=True)\n"
        "sys.stdin.read()\n"
        "os.kill(child, signal.SIGKILL)\n"
    )
    command = [sys.executable, "-c", program, str(written)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pids = [parent.pid, int(parent.stdout.readline())]
        monkeypatch.setattr(memory, "descendants", lambda pid: pids)
        meter = memory.TreeMeter()
        assert not meter.exceeds(GIB)
    assert 128 + written <= meter.peak >> 20 < 128 + written + 40


def test_descendants_are_found_whichever_thread_has_started_them() -> None:
    program = (
        "import subprocess, sys, threading, time\n"
        "def start(): children.append(subprocess.Popen(['sleep', '60'], start_new_session=True))\n"
        "children = []\n"
        "start()\n"
        "thread = threading.Thread(target=lambda: (start(), time.sleep(60)), daemon=True)\n"
        "thread.start()\n"
        "while len(children) < 2: time.sleep(0.01)\n"
        "print(*(child.pid for child in children), flush=True)\n"
        "sys.stdin.read()\n"
        "for child in children: child.kill()\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        children = set(map(int, parent.stdout.readline().split()))
        assert len(children) == 2
        assert set(memory.descendants(parent.pid)) == children
        assert {parent.pid, *children} <= set(memory.descendants(os.getpid()))
    assert memory.descendants(2**22 + 1) == []


def test_what_is_left_is_no_more_than_the_own_limit_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    free = memory.left()
    assert free > GIB
    family = [os.getpid(), *memory.descendants(os.getpid())]  # servers of other tests among them
    monkeypatch.setattr(memory, "_own_limit", memory.used(family) + (64 << 20))
    assert 0 < memory.left() <= 80 << 20
    monkeypatch.setattr(memory, "_own_limit", 1)
    assert memory.left() == 0
