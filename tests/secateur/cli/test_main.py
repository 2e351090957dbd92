"""The command as installed: quick to start, and whole without the server and what it needs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap

import pytest
from typer.testing import CliRunner

from app.local.commands import COMMANDS as SERVICE_COMMANDS
from secateur.about import SERVER as DISTRIBUTION
from secateur.cli.main import COMMANDS, app
from secateur.cli.overview import Row, first_sentence, made
from secateur.client.http_client import Client

ROWS = [*SERVICE_COMMANDS, *COMMANDS]

# what the server brings and the client does not
SERVER = (
    *("app", "workers", "migrations"),
    *("fastapi", "starlette", "sqlalchemy", "psycopg", "celery", "kombu", "alembic", "uvicorn", "fsspec", "redis"),
    *("pydantic_settings", "psutil", "jinja2", "prometheus_client"),
    *("torch", "transformers", "peft", "datasets", "accelerate", "safetensors", "gguf", "numpy", "lm_eval"),
)

BLOCKED = textwrap.dedent(
    """
    import importlib.metadata
    import sys

    class Blocker:
        def find_spec(self, name, path=None, target=None):
            if name.split(".")[0] in {blocked}:
                raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

    sys.meta_path.insert(0, Blocker())
    importlib.metadata.entry_points = lambda **_: []
    from secateur.cli.main import main

    for arguments in {commands}:
        sys.argv = ["secateur", *arguments]
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
        if code:
            print(arguments, "ended with", code, file=sys.stderr)
            sys.exit(code)
    """
)


def client_alone(*commands: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    """`secateur` in a fresh interpreter in which nothing of the server can be imported or found.

    The commands run one after the other, up to the first that fails, whose exit code is that of all.
    """
    code = BLOCKED.format(blocked=set(SERVER), commands=commands)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_a_clients_installation_has_every_command() -> None:
    names = ("submit", "watch", "logs", "gate", "report", "download", "jobs", "catalog")
    helps = [(name, "--help") for name in names]
    done = client_alone(("--help",), ("--version",), ("submit", "m.gguf", "--blocks", "2", "--dry-run"), *helps)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Usage: secateur") == 1 + len(names)


@pytest.mark.thorough
def test_a_clients_installation_talks_to_a_service() -> None:
    done = client_alone(("--url", "http://127.0.0.1:1", "jobs"))
    assert done.returncode == 40
    assert "does not answer" in done.stderr


def test_a_clients_installation_says_what_running_a_service_needs() -> None:
    for arguments in (("up",), ("worker", "--concurrency", "2"), ("migrate", "x")):
        done = client_alone(arguments)
        assert done.returncode == 2
        assert f"`secateur {arguments[0]}` runs the service, which needs {DISTRIBUTION}" in " ".join(
            done.stderr.split()
        )


@pytest.mark.parametrize(
    "arguments",
    [
        ("jobs",),
        ("datasets", "list"),
        ("submit", "m.gguf", "--blocks", "2"),
        *(
            (command, "@last")
            for command in ("watch", "logs", "gate", "report", "download", "artifacts", "cancel", "retry")
        ),
    ],
)
def test_the_service_is_named_before_the_command_and_after_it(
    monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setattr(Client, "__init__", _tell_service)
    for typed in (("--url", "http://x:1", *arguments), (*arguments, "--url", "http://x:1")):
        monkeypatch.setenv("SECATEUR_URL", "http://y:1")
        result = CliRunner().invoke(app, typed)
        assert str(result.exception) == "asked http://x:1", result.output


def _tell_service(*_: object) -> None:
    raise LookupError(f"asked {os.environ['SECATEUR_URL']}")


IMPORTED_BY_HELP = textwrap.dedent(
    """
    import sys
    from typer.testing import CliRunner
    from secateur.cli.main import app

    def help_of(*names):
        result = CliRunner().invoke(app, [*names, "--help"])
        assert result.exit_code == 0 and result.stdout.startswith("Usage: "), (names, result.output)

    help_of()
    print([name for name in {never} + {late} if name in sys.modules])
    for names in {commands}:
        help_of(*names)
        print([*names, *(name for name in {late} if name in sys.modules)])
    """
)


def test_help_imports_no_server_no_client_no_contract_and_no_torch() -> None:
    """Nor what draws with colours, and typer not what it reads options by: all of these take longer than the rest."""
    drawn = ("asyncio", "typer.rich_utils", "rich.markdown", "rich.traceback", "markdown_it", "pygments")
    servers = [name for name in SERVER[3:] if name != "psutil"]  # by which `secateur up` watches what it starts
    late = ("httpx", "pydantic", "secateur.contract.spec", "secateur.contract.results", *drawn, *servers)
    heavy = ("submit", "sweep", "estimate")  # their flags are those of the contract
    commands = [*((row.name,) for row in ROWS if row.name not in heavy), ("sweeps", "show"), ("datasets", "add")]
    code = IMPORTED_BY_HELP.format(never=("rich", "secateur.client", "psutil"), late=late, commands=commands)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["[]", *(str(list(names)) for names in commands)], done.stderr


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_overview_says_of_each_command_its_first_sentence(row: Row) -> None:
    assert first_sentence(made(row)) == row.help


def test_the_flags_of_a_spec_stand_under_their_headings() -> None:
    text = CliRunner().invoke(app, ["submit", "--help"]).stdout
    headings = [line.rstrip(":") for line in text.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert headings[:2] == ["Arguments", "Options"]
    assert {"Scoring", "Pruning", "Recovery", "Quantisation", "Benchmark", "Gates"} <= set(headings)
    assert re.search(r"^  --blocks ", text.partition("\nPruning:\n")[2].partition("\nRecovery:\n")[0], re.MULTILINE)


def test_the_overview_has_every_command_under_its_heading() -> None:
    text = CliRunner().invoke(app, ["--help"]).stdout
    headings = [line.rstrip(":") for line in text.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert headings == ["Options", "Service", "Jobs", "Results"]
    jobs = text.partition("\nJobs:\n")[2].partition("\nResults:\n")[0]
    assert re.findall(r"^  (\S+)", jobs, re.MULTILINE) == [
        *(
            "submit",
            "sweep",
            "estimate",
            "watch",
            "logs",
            "status",
            "jobs",
            "cancel",
            "retry",
            "workers",
            "catalog",
            "mcp",
            "datasets",
            "sweeps",
        )
    ]
    assert "..." not in text.partition("Service:")[2]
    assert "Wait for a job and judge it by its gates, for a pipeline." in " ".join(text.split())


def test_every_command_and_option_has_help() -> None:
    runner = CliRunner()
    assert runner.invoke(app, []).exit_code in (0, 2)
    from typer import Context
    from typer.main import get_command

    command = get_command(app)
    for name, sub in command.commands.items():  # type: ignore[attr-defined]  # the app is a group
        assert sub.help, name
        for parameter in sub.get_params(Context(sub)):
            assert getattr(parameter, "help", None), f"{name} {parameter.name}"
