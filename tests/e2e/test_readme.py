"""Every command of the README and of the examples, run."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
import yaml

from app.local.service_commands import up
from app.local.settings_list import page
from examples.demo_files import CACHE, MODEL, fetch
from secateur.cli.main import app as secateur
from secateur.client.http_client import Client
from tests.fixtures.processes import SECATEUR, free_port, running_api, running_worker, secateur_environment
from tests.fixtures.servers import TestServers, database_of
from tests.fixtures.tiny_gguf import write_tiny_gguf
from tests.fixtures.whole_job import tiny_llama

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = [block.strip() for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)]
COMMANDS = [
    line
    for block in BLOCKS
    for line in ([block] if block.startswith("curl") else block.replace("\\\n ", "").splitlines())
]

# what runs each command of the README
RUN_HERE = [command for command in COMMANDS if command.startswith(("curl ", ".venv/bin/secateur "))]
RUN_ELSEWHERE = {
    "make demo": "tests/e2e/test_smollm2.py, with --quick",
    "make check": "CI",
    "make test": "CI, and this is it",
    "make help": "test_make_help_names_every_target",
}


@pytest.fixture(scope="module")
def models() -> Path:
    return fetch(MODEL).parent


def settings_of(database_url: str, redis_url: str, folder: Path, roots: Path) -> dict[str, str]:
    """Of a service in a folder of its own."""
    return {
        "SECATEUR_DATABASE_URL": database_url,
        "SECATEUR_REDIS_URL": redis_url,
        "SECATEUR_DATA_DIR": str(folder),
        "SECATEUR_HOST": "127.0.0.1",
        "SECATEUR_PORT": str(free_port()),
        "SECATEUR_MODEL_ROOTS": str(roots),
    }


@pytest.fixture(scope="module")
def service(
    servers: TestServers, template_database: str, models: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """An API with the demo's folder as model root, and no worker: jobs stay queued."""
    for url in database_of(servers.postgres, template_database):
        folder = tmp_path_factory.mktemp("service")
        with running_api(settings_of(url, servers.valkey.url, folder, models)) as api:
            yield api


def shell(command: str, url: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the README against the service at `url`."""
    words = command.replace(".venv/bin/", f"{SECATEUR.parent}/").replace("http://127.0.0.1:8000", url)
    environment = secateur_environment(SECATEUR_URL=url)
    return subprocess.run(["sh", "-c", words], env=environment, cwd=ROOT, capture_output=True, text=True, check=False)


def test_every_command_is_run_somewhere() -> None:
    assert set(COMMANDS) == {*RUN_HERE, *RUN_ELSEWHERE}


@pytest.mark.thorough
def test_jobs_by_curl_and_by_command(service: str) -> None:
    for command in RUN_HERE:
        if " up " in command:
            continue
        if command.startswith("curl") and shutil.which("curl") is None:
            pytest.skip("curl is not installed")
        done = shell(command, service)
        assert done.returncode == 0, done.stderr
        if command.startswith("curl"):
            job = json.loads(done.stdout)
            assert job["state"] == "queued"
            assert job["spec"]["recovery"]["max_steps"] == 20
        if " submit " in command:
            assert UUID(done.stdout.strip())


@pytest.mark.thorough
def test_its_jobs_are_done_by_a_worker(database_url: str, redis_url: str, tmp_path: Path) -> None:
    """To their end, as they stand there, with a tiny model under the name of the demo's.

    Both commands ask for the same job, so one is done.
    """
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    roots = tmp_path / "models"
    roots.mkdir()
    sizes = {"num_hidden_layers": 12, "hidden_size": 16, "intermediate_size": 16, "vocab_size": 262}
    write_tiny_gguf(roots / MODEL.name, tiny_llama(spread=0.05, max_position_embeddings=256, **sizes))
    settings = settings_of(database_url, redis_url, tmp_path / "service", roots)
    settings |= {"SECATEUR_DEVICE": "cpu", "SECATEUR_THREADS": "1"}
    jobs = [command for command in RUN_HERE if command.startswith("curl") or " submit " in command]
    assert len(jobs) == 2
    with running_api(settings) as url, Client(url) as client:
        ids = []
        for command in jobs:
            done = shell(command, url)
            assert done.returncode == 0, done.stderr
            ids.append(json.loads(done.stdout)["id"] if command.startswith("curl") else done.stdout.strip())
        by_curl, by_command = (client.jobs.retrieve(job_id) for job_id in ids)
        assert by_command.spec == by_curl.spec  # "the same from a shell"
        assert client.jobs.cancel(by_curl.id).state == "cancelled"
        with running_worker(settings):
            job = client.jobs.wait(by_command.id, timeout=1800)
        assert job.state == "succeeded", job
        report = client.jobs.report(job.id)
        assert len(report.pruned.dropped) == 6
        recovered = report.recovered
        assert recovered is not None
        schedule = recovered.schedule
        assert schedule is not None
        assert recovered.steps == schedule.steps == report.spec["recovery"]["max_steps"]
        assert recovered.text is not None
        taken = recovered.steps * report.spec["recovery"]["batch_size"] / report.spec["recovery"]["epochs"]
        assert recovered.text.samples == taken  # the model writes no more than is trained on
        assert schedule.warmup_steps <= schedule.steps / 10
        assert schedule.reached == schedule.learning_rate == report.spec["recovery"]["learning_rate"]
        assert max(point.learning_rate for point in recovered.curve) == pytest.approx(schedule.reached)


def test_up_takes_the_options_that_the_readme_gives() -> None:
    command = next(command for command in RUN_HERE if " up " in command)
    options = [word for word in shlex.split(command) if word.startswith("--")]
    shown = subprocess.run([SECATEUR, "up", "--help"], capture_output=True, text=True, check=True).stdout
    assert up.__doc__
    assert options
    assert all(option in shown for option in options)
    assert Path(shlex.split(command)[3]) == CACHE.relative_to(ROOT)


def test_make_help_names_every_target() -> None:
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    used = {word for word in re.findall(r"\bmake ([a-z]+)", README) if word != "and"}
    assert used
    assert {target for target in used if f"make {target} " not in shown} == set()


def test_the_tree_is_the_tree() -> None:
    tree = re.search(r"## Tree\n\n```\n(.*?)```", README, re.DOTALL)
    assert tree is not None
    above = [ROOT]  # the folders that the line's indentation lies in
    for line in tree[1].splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        del above[depth + 1 :]
        names = line[:24].strip().split(", ")
        for name in names:
            assert (above[depth] / name).is_dir() if name.endswith("/") else (above[depth] / name).exists(), line
        above.append(above[depth] / names[0])


def test_the_settings_page_is_what_the_command_prints() -> None:
    assert (ROOT / "docs" / "settings.md").read_text(encoding="utf-8") == page()
    assert [line for line in page().splitlines() if line.endswith("|  |")] == []  # each says what it is


# --- examples --------------------------------------------------------------------------------------------------------


def test_the_pipelines_use_commands_and_options_that_exist() -> None:
    from typer import Context
    from typer.main import get_command

    commands = get_command(secateur).commands  # type: ignore[attr-defined]  # the app is a group
    for path in (
        ROOT / "action.yml",
        ROOT / "templates" / "gate.yml",
        ROOT / "docs" / "gate-in-ci.md",
        ROOT / "docs" / "run-on-a-laptop.md",
    ):
        text = path.read_text(encoding="utf-8").replace("\\\n", " ").replace("\n      --", " --")
        calls = re.findall(r"secateur ([a-z]+)((?: +(?:\"[^\"]*\"|[^\s|)`]+))*)", text)
        assert calls, path
        for name, arguments in calls:
            if name in commands:
                parameters = commands[name].get_params(Context(commands[name]))
                known = {option for parameter in parameters for option in parameter.opts}
                assert set(re.findall(r"(?<!\S)--[a-z-]+", arguments)) <= known, (path.name, name)


def test_the_examples_hand_on_options_that_exist() -> None:
    from typer import Context
    from typer.main import get_command

    submit = get_command(secateur).commands["submit"]  # type: ignore[attr-defined]  # the app is a group
    known = {option for parameter in submit.get_params(Context(submit)) for option in parameter.opts}
    for name in ("github-actions.yml", "gitlab-ci.yml"):
        found = re.findall(r"(?<![\w-])--[a-z-]+", (ROOT / "examples" / name).read_text(encoding="utf-8"))
        assert found
        assert set(found) <= known


def test_the_pipelines_are_yaml() -> None:
    for path in (ROOT / "examples").glob("*.yml"):
        assert isinstance(yaml.safe_load(path.read_text(encoding="utf-8")), dict)


@pytest.mark.thorough
def test_the_examples_submit_real_jobs(service: str) -> None:
    """Both programs get as far as a service without a worker lets them: the job is there, and they wait."""
    programs = [[sys.executable, "examples/submit.py"]]
    if shutil.which("curl"):
        programs.append(["sh", "examples/submit.sh"])
    for program in programs:
        before = len(listed_jobs(service))
        running = subprocess.Popen(
            [*program, MODEL.name, "2"],
            env={**secateur_environment(SECATEUR_URL=service), "PYTHONUNBUFFERED": "1"},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert running.stdout is not None
        lines = []
        for line in running.stdout:
            lines.append(line)
            if '"state":"queued"' in line or "'state': 'queued'" in line:
                break
        os.killpg(running.pid, signal.SIGKILL)  # the shell and its curl
        running.communicate()
        assert lines, program
        assert len(listed_jobs(service)) == before + 1


def test_the_examples_show_why_a_job_is_refused(service: str) -> None:
    programs = [[sys.executable, "examples/submit.py"]]
    if shutil.which("curl"):
        programs.append(["sh", "examples/submit.sh"])
    environment = secateur_environment(SECATEUR_URL=service)
    for program in programs:
        for arguments in (("missing.gguf", "2"), (MODEL.name, "0")):
            done = subprocess.run(
                [*program, *arguments], env=environment, cwd=ROOT, capture_output=True, text=True, check=False
            )
            assert done.returncode == 1
            assert ("/model/path" if arguments[1] == "2" else "/pruning/blocks") in done.stderr
            assert "Traceback" not in done.stderr
    no_number = [*programs[0], MODEL.name, "six"]
    done = subprocess.run(no_number, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "invalid int value: 'six'" in done.stderr


def listed_jobs(url: str) -> list[str]:
    """What `secateur jobs` prints, a line for each."""
    listed = subprocess.run(
        [SECATEUR, "--url", url, "jobs", "--json"], env=dict(os.environ), capture_output=True, text=True, check=True
    )
    return listed.stdout.splitlines()
