"""The fork server and the guardian: stages start, end, and never outlive those who answer for them."""

from __future__ import annotations

import ast
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from app.settings import Settings
from tests.fixtures.processes import alive
from workers.launch.fork_server import Exit, ForkServer, StageProcess
from workers.launch.guardian import lease_clock

PATIENCE = 60.0  # seconds until a test gives up; nothing is judged by its speed

Start = Callable[..., StageProcess]

PROGRAM = """
import os, subprocess, sys, signal, time
from pathlib import Path

def main(spec: Path, events: int) -> int:
    exec(spec.read_text(), {"events": events, **globals()})
    return 0
"""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ForkServer]:
    (tmp_path / "program_of_test.py").write_text(PROGRAM)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("SECATEUR_DATABASE_URL", "postgresql://user:secret@host/name")
    server = ForkServer("program_of_test:main", [])
    yield server
    server.stop()


@pytest.fixture
def start(server: ForkServer, tmp_path: Path) -> Iterator[Start]:
    started: list[StageProcess] = []

    def start(code: str, *, lease: float = 60.0, memory: int = 1 << 40) -> StageProcess:
        spec = tmp_path / f"spec{len(started)}.py"
        spec.write_text(code)
        process = server.start(spec, log=tmp_path / "log", until=lease_clock() + lease, memory=memory)
        started.append(process)
        return process

    yield start
    for process in started:
        process.close()


def wait(condition: Callable[[], object]) -> None:
    give_up = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < give_up, "waited in vain"
        time.sleep(0.01)


def wait_exit(process: StageProcess) -> Exit:
    wait(process.poll)
    assert process.exit is not None
    return process.exit


def read_line(process: StageProcess) -> str:
    """What the stage wrote; it writes one line."""
    ready, _, _ = select.select([process.events], [], [], PATIENCE)
    assert ready
    return os.read(process.events, 4096).decode().strip()


def test_a_stage_writes_events_and_its_exit_is_reported(start: Start, tmp_path: Path) -> None:
    process = start("os.write(events, b'hello'); print('to the log'); sys.exit(7)")
    assert wait_exit(process).code == 7
    assert process.exit is not None
    assert process.exit.reason == "ended"
    assert process.exit.max_rss > 1 << 20
    assert read_line(process) == "hello"
    assert os.read(process.events, 10) == b""  # nobody holds the other end any more
    assert (tmp_path / "log").read_text() == "to the log\n"


def test_the_worker_hears_what_a_stage_uses(start: Start) -> None:
    process = start("eaten = bytearray(64 << 20)\nos.write(events, b'.')\nwhile True: sum(range(1000))")
    assert read_line(process) == "."
    wait(lambda: process.poll() is None and process.use and process.use.cores and process.use.memory > 64 << 20)


def test_what_a_stage_prints_is_masked(start: Start, tmp_path: Path) -> None:
    code = "from secateur import masking; masking.learn(['correct horse'])\nraise ValueError('correct horse, redis://:pw@h')"
    assert wait_exit(start(code)).code == 70
    printed = (tmp_path / "log").read_text().splitlines()[-1]
    assert printed == "ValueError: ***, redis://:***@h"


def test_an_exception_goes_to_the_log(start: Start, tmp_path: Path) -> None:
    assert wait_exit(start("1 / 0")).code == 70
    assert "ZeroDivisionError" in (tmp_path / "log").read_text()


def test_the_stage_sees_no_secrets(start: Start) -> None:
    process = start("os.write(events, repr([n for n in os.environ if n.startswith('SECATEUR_')]).encode())")
    assert read_line(process) == "[]"


SECRETS = {
    "SECATEUR_API_KEYS": "s3cret-1",
    "AWS_SECRET_ACCESS_KEY": "s3cret-2",
    "HF_TOKEN": "hf_s3cret3333",
    "HUGGING_FACE_HUB_TOKEN": "hf_s3cret4444",
    "PGPASSWORD": "s3cret-5",
    "DATABASE_URL": "postgresql://user:s3cret-6@host/name",
    "CELERY_BROKER_URL": "redis://:s3cret-7@host/0",
    "OPENAI_API_KEY": "s3cret-8",
}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("token", [None, "hf_given55555"], ids=["no token", "a token"])
def test_no_process_but_the_workers_has_a_secret_in_its_environment(
    server: ForkServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, token: str | None
) -> None:
    """The hub's token is there for as long as a stage fetches, if it is one that does."""
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    spec = tmp_path / "spec.py"
    spec.write_text(
        "from workers.machine.hub_token import fetching\nfrom huggingface_hub import get_token\n"
        "def seen():\n"
        "    begun_with = [Path(f'/proc/{pid}/environ').read_text() for pid in (os.getpid(), os.getppid())]\n"
        "    return repr(sorted(os.environ.items())) + repr(begun_with)\n"
        "told = [seen(), get_token()]\n"
        "with fetching():\n"
        "    with fetching(): pass\n"
        "    told.append(get_token())\n"
        "told += [get_token(), seen()]\n"
        "os.write(events, repr(told).encode())\n"
    )
    process = server.start(spec, log=tmp_path / "log", until=lease_clock() + PATIENCE, memory=1 << 40, hub_token=token)
    assert wait_exit(process).code == 0, (tmp_path / "log").read_text()
    before, outside, inside, after, at_the_end = ast.literal_eval(os.read(process.events, 1 << 20).decode())
    process.close()
    for text in (before, at_the_end, Path(f"/proc/{server.pid}/environ").read_text()):
        assert "s3cret" not in text
        assert "hf_given" not in text
        assert "TOKENIZERS_PARALLELISM" in text
    assert (outside, inside, after) == (None, token, None)


def test_a_signal_is_reported(start: Start) -> None:
    assert wait_exit(start("os.kill(os.getpid(), signal.SIGSEGV)")).code == -signal.SIGSEGV


def test_terminate_then_kill(start: Start) -> None:
    process = start(
        "signal.signal(signal.SIGTERM, lambda *_: os.write(events, b'term')); os.write(events, b'up')\n"
        "while True: time.sleep(1)"
    )
    assert read_line(process) == "up"
    process.terminate()
    assert read_line(process) == "term"
    assert process.poll() is None
    process.kill()
    assert wait_exit(process).reason == "killed"
    assert process.exit is not None
    assert process.exit.code == -signal.SIGKILL


DAEMON = (
    "child = subprocess.Popen(['sleep', '1000'], start_new_session=True)\n"
    "os.write(events, f'{os.getpid()} {child.pid}'.encode())\n"
)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux hands orphans to a subreaper")
def test_what_a_stage_leaves_behind_ends_with_it(start: Start) -> None:
    process = start(DAEMON)
    _, child = map(int, read_line(process).split())
    assert wait_exit(process).code == 0
    assert not alive(child)


def test_a_lease_that_is_not_extended_ends_everything(start: Start) -> None:
    process = start(DAEMON + "time.sleep(1000)")
    pids = list(map(int, read_line(process).split()))
    process.extend(lease_clock() + 0.3)  # and no more
    assert wait_exit(process).reason == "lease"
    assert not any(map(alive, pids))


EATER = "eaten = bytearray(96 << 20)\n"


def test_a_stage_that_uses_more_than_it_may_is_ended(start: Start) -> None:
    process = start(EATER + DAEMON + "time.sleep(1000)", memory=64 << 20)
    exit_ = wait_exit(process)
    assert (exit_.code, exit_.reason) == (-signal.SIGKILL, "memory")
    assert exit_.memory > 64 << 20
    assert not any(map(alive, map(int, (os.read(process.events, 4096) or b"").split())))


def test_what_a_stage_starts_counts_with_it(start: Start) -> None:
    """Four processes of which none is over the limit by itself, one of them in a session of its own."""
    eat = f"import os, time\n{EATER}os.write(1, b'up')\ntime.sleep(1000)"
    process = start(
        f"children = [subprocess.Popen([sys.executable, '-c', {eat!r}], start_new_session=n == 0) for n in range(3)]\n"
        "time.sleep(1000)",
        memory=256 << 20,
    )
    exit_ = wait_exit(process)
    assert exit_.reason == "memory"
    assert exit_.memory > 256 << 20


def test_mapped_files_and_reserved_memory_are_free(start: Start, tmp_path: Path) -> None:
    """A checkpoint that is mapped and read, and an address space as large as CUDA's."""
    with (tmp_path / "weights").open("wb") as file:
        file.write(bytes(96 << 20))
    process = start(
        "import mmap\n"
        f"weights = mmap.mmap(os.open({str(tmp_path / 'weights')!r}, os.O_RDONLY), 0, prot=mmap.PROT_READ)\n"
        "assert not any(weights[place] for place in range(0, len(weights), 4096))\n"
        "reserved = mmap.mmap(-1, 1 << 36, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=mmap.PROT_READ)\n"
        "time.sleep(1.0)",
        memory=64 << 20,
    )
    exit_ = wait_exit(process)
    assert (exit_.code, exit_.reason) == (0, "ended")
    assert 0 < exit_.memory < 64 << 20


def test_what_forks_share_is_counted_once(start: Start) -> None:
    """As the processes of a training share what the server has imported."""
    process = start(
        EATER + "children = []\n"
        "for _ in range(4):\n"
        "    if (child := os.fork()) == 0:\n"
        "        time.sleep(1.5)\n"
        "        os._exit(0)\n"
        "    children.append(child)\n"
        "for child in children: os.waitpid(child, 0)",
        memory=256 << 20,
    )
    assert wait_exit(process).reason == "ended"


@pytest.mark.skipif(sys.platform != "linux", reason="Linux lets a process say how soon it is to be killed for memory")
def test_the_kernel_ends_a_stage_before_anything_else(start: Start) -> None:
    process = start("os.write(events, Path('/proc/self/oom_score_adj').read_bytes())")
    assert read_line(process) == "1000"


def test_a_lease_can_be_extended(start: Start) -> None:
    process = start("os.write(events, b'up'); time.sleep(2.5)", lease=2.0)
    process.extend(lease_clock() + 60)
    exit_ = wait_exit(process)
    assert (exit_.code, exit_.reason) == (0, "ended")


def test_closing_the_pipes_ends_everything(start: Start) -> None:
    process = start(DAEMON + "time.sleep(1000)")
    pids = list(map(int, read_line(process).split()))
    process.close()
    wait(lambda: not any(map(alive, pids)))


@pytest.mark.skipif(sys.platform != "linux", reason="needs PR_SET_PDEATHSIG")
def test_a_killed_guardian_takes_the_stage_with_it(start: Start) -> None:
    process = start("os.write(events, f'{os.getpid()} {os.getppid()}'.encode()); time.sleep(1000)")
    stage, guardian = map(int, read_line(process).split())
    os.kill(guardian, signal.SIGKILL)
    assert wait_exit(process).reason == "lost"
    wait(lambda: not alive(stage))


def test_a_dead_server_is_started_anew_and_stages_survive_it(server: ForkServer, start: Start) -> None:
    running = start("os.write(events, b'up'); time.sleep(0.5)")
    assert read_line(running) == "up"
    first = server.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    wait(lambda: not alive(first))
    assert wait_exit(start("os.write(events, b'again')")).code == 0
    assert server.pid not in {None, first}
    assert wait_exit(running).code == 0


def test_a_killed_worker_leaves_nothing_running(tmp_path: Path) -> None:
    (tmp_path / "program_of_test.py").write_text(PROGRAM)
    (tmp_path / "spec").write_text(DAEMON + "time.sleep(1000)")
    worker = (
        "import os, sys, time; from pathlib import Path\n"
        "from workers.launch.fork_server import ForkServer; from workers.launch.guardian import lease_clock\n"
        "server = ForkServer('program_of_test:main', [])\n"
        f"process = server.start(Path({str(tmp_path / 'spec')!r}), log=Path(os.devnull), until=lease_clock() + 60,"
        " memory=1 << 40)\n"
        "os.set_blocking(process.events, True)\n"
        "print(server.pid, os.read(process.events, 100).decode(), flush=True)\n"
        "time.sleep(1000)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", worker], stdout=subprocess.PIPE, env=environment) as running:
        assert running.stdout is not None
        pids = list(map(int, running.stdout.readline().split()))
        assert len(pids) == 3
        running.kill()
        wait(lambda: not any(map(alive, pids)))


BITSANDBYTES = """
import os
from pathlib import Path
with Path(os.environ["TOUCHED"]).open("a") as file:
    file.write(f"{os.getpid()} ")

class optim: AdamW = dict
class nn: Linear8bitLt = Linear4bit = Params4bit = Int8Params = type("Linear", (), {})
"""
USES_IT = """
import importlib, os, sys
from pathlib import Path

def main(spec, events):
    import torch
    initialised, there = torch.cuda.is_initialized(), set(sys.modules)
    from secateur.contract.stage_kinds import STAGE_KINDS
    for kind in STAGE_KINDS.values():
        importlib.import_module(kind.module)
    left = len(set(sys.modules) - there)
    from transformers.utils import is_bitsandbytes_available
    before = Path(os.environ["TOUCHED"]).exists()
    import bitsandbytes
    nvml = os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"]
    found = [before, is_bitsandbytes_available(), bitsandbytes.optim.AdamW is dict, nvml]
    os.write(events, repr((initialised, left, found)).encode())
    return 0
"""


@pytest.mark.thorough
def test_the_real_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread and no device, which makes forking safe; and hardly anything is left for a stage to import.

    peft imports bitsandbytes where it is installed, which starts CUDA: after that no fork can.
    """
    (tmp_path / "bitsandbytes").mkdir()
    (tmp_path / "bitsandbytes" / "__init__.py").write_text(BITSANDBYTES)
    (tmp_path / "bitsandbytes-0.50.2.dist-info").mkdir()
    (tmp_path / "bitsandbytes-0.50.2.dist-info" / "METADATA").write_text("Name: bitsandbytes\nVersion: 0.50.2\n")
    (tmp_path / "uses_it.py").write_text(USES_IT)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("TOUCHED", str(tmp_path / "touched"))
    server = ForkServer("uses_it:main", Settings().stage_preload)
    try:
        process = server.start(tmp_path / "spec", log=tmp_path / "log", until=lease_clock() + PATIENCE, memory=1 << 40)
        told = read_line(process)
        assert told, (tmp_path / "log").read_text()
        initialised, left, bitsandbytes = ast.literal_eval(told)
        assert not initialised
        assert left < 10
        assert bitsandbytes == [False, True, True, "1"]
        assert psutil.Process(server.pid).num_threads() == 1
        process.close()
        assert (tmp_path / "touched").read_text() != f"{server.pid} "
    finally:
        server.stop()


def test_a_driver_that_was_loaded_is_noticed(tmp_path: Path) -> None:
    library = tmp_path / "libcuda.so.1"
    mapped = [line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines()]
    shutil.copy(next(path for path in mapped if "/libm.so" in path), library)
    program = (
        "import ctypes, sys\nfrom workers.launch.fork_server import _loaded\n"
        "assert not _loaded('libcuda.so')\nctypes.CDLL(sys.argv[1])\nassert _loaded('libcuda.so')\n"
    )
    subprocess.run([sys.executable, "-c", program, str(library)], check=True)


def test_a_celery_worker_never_imports_torch() -> None:
    program = (
        "import sys, workers.celery_app\n"
        "heavy = {'torch', 'transformers', 'peft', 'datasets', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    variables = {"SECATEUR_DATABASE_URL": "postgresql://host/name", "SECATEUR_REDIS_URL": "redis://host/0"}
    subprocess.run([sys.executable, "-c", program], env={**os.environ, **variables}, check=True)
