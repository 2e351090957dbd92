"""The GitHub action and the GitLab component: their steps, run by a shell as a runner would, against a live service."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import yaml

from tests.fixtures.forge import Forge
from tests.fixtures.played_service import MODEL, WEIGHTS
from tests.fixtures.pushed_hub import TOKEN, PushedHub

ROOT = Path(__file__).resolve().parents[2]
ACTION = yaml.safe_load((ROOT / "action.yml").read_text())
INPUTS, COMPONENT = yaml.safe_load_all((ROOT / "templates" / "gate.yml").read_text())
BASH = ("bash", "--noprofile", "--norc", "-eo", "pipefail", "-c")  # as a step with `shell: bash` is run
NEEDED = '${{ !cancelled() && contains(fromJSON(\'["passed", "failed", "none"]\'), steps.gate.outputs.verdict) }}'
ASKED_TO_PUBLISH = "${{ inputs.publish != '' }}"  # and, as of every step, that none has failed


@dataclass
class Runner:
    """As much of GitHub's runner as a composite action needs: inputs, outputs, and the files that steps append to."""

    folder: Path
    environment: dict[str, str]
    inputs: dict[str, str] = field(default_factory=dict)
    steps: dict[str, dict[str, str]] = field(default_factory=dict)  # outputs by the step's id
    said: str = ""

    def fill(self, text: Any) -> str:
        def value(found: re.Match[str]) -> str:
            match found[1].strip().split("."):
                case ["inputs", name]:
                    return self.inputs[name]
                case ["steps", step, "outputs", name]:
                    return self.steps.get(step, {}).get(name, "")
            raise AssertionError(found[0])

        return re.sub(r"\$\{\{(.*?)\}\}", value, str(text))

    def run(self, *, install: str = "no", **given: str) -> int:
        """Run the action; returns the exit code of the step that failed, or 0."""
        self.inputs = {
            name.replace("_", "-"): given.get(name.replace("-", "_"), str(declared.get("default", "")))
            for name, declared in ACTION["inputs"].items()
        }
        self.steps, self.said, code = {}, "", 0
        for step in ACTION["runs"]["steps"]:
            if step["name"] == "Install the client" and install != "yes":
                continue
            if step.get("if") == ASKED_TO_PUBLISH:
                if code or not self.inputs["publish"]:
                    continue
            elif "if" in step:
                assert step["if"] == NEEDED
                if self.steps.get("gate", {}).get("verdict") not in ("passed", "failed", "none"):
                    continue
            elif code:
                continue
            code = self._step(step) or code
        return code

    def _step(self, step: Mapping[str, Any]) -> int:
        output, path = self.folder / "output", self.folder / "path"
        for file in (output, path):
            file.write_text("")
        filled = {name: self.fill(value) for name, value in step.get("env", {}).items()}
        files = {"GITHUB_OUTPUT": str(output), "GITHUB_PATH": str(path)}
        done = subprocess.run(
            [*BASH, step["run"]],
            env={**self.environment, **filled, **files},
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        self.said += done.stdout + done.stderr
        for line in path.read_text().splitlines():
            self.environment["PATH"] = f"{line}{os.pathsep}{self.environment['PATH']}"
        if "id" in step:
            self.steps[step["id"]] = dict(line.split("=", 1) for line in output.read_text().splitlines())
        return done.returncode

    @property
    def outputs(self) -> dict[str, str]:
        return {name: self.fill(declared["value"]) for name, declared in ACTION["outputs"].items()}


def of_this_environment(**more: str) -> dict[str, str]:
    """The environment of a step, in which `secateur` is the one that is tested."""
    programs = Path(sys.executable).parent
    kept = {name: os.environ[name] for name in os.environ if name.startswith(("PIP_", "LANG"))}
    return {**kept, "HOME": os.environ["HOME"], "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", **more}


@pytest.fixture
def runner(tmp_path: Path, forge: Forge) -> Runner:
    folder = tmp_path / "runner"
    folder.mkdir()
    (folder / "event.json").write_text(json.dumps({"pull_request": {"number": 7}}))
    return Runner(
        folder,
        of_this_environment(
            GITHUB_ACTIONS="true",
            GITHUB_ACTION_PATH=str(ROOT),
            GITHUB_API_URL=forge.url,
            GITHUB_REPOSITORY="team/models",
            GITHUB_EVENT_PATH=str(folder / "event.json"),
            GITHUB_WORKFLOW="checks",
            GITHUB_JOB="compression",
            GITHUB_RUN_ID="77",
            GITHUB_SHA="0" * 40,
            GITHUB_STEP_SUMMARY=str(folder / "summary.md"),
            RUNNER_TEMP=str(folder),
        ),
    )


@pytest.mark.thorough
def test_the_action_submits_waits_gates_and_reports(played_service: str, runner: Runner, forge: Forge) -> None:
    asked = {
        "url": played_service,
        "model": MODEL,
        "arguments": "--blocks=6\n--max-kl=0.9\n\n--label=note=two words\r\n",
        "comment": "true",
        "token": forge.token,
    }
    assert runner.run(install="yes", **asked) == 0, runner.said
    assert runner.environment["PATH"].startswith(f"{runner.folder}/secateur-client/bin")
    first = runner.outputs
    assert first["verdict"] == "passed"
    assert "<h1" in (runner.folder / first["report"]).read_text()
    assert ET.parse(runner.folder / "secateur" / "gates.xml").getroot().tag == "testsuites"
    assert (runner.folder / "summary.md").read_text().startswith("## ✅")
    (comment,) = forge.comments["/repos/team/models/issues/7/comments"]
    assert "## ✅" in comment["body"]

    assert runner.run(**asked) == 0, runner.said  # a re-run joins the job that is there, and renews the comment
    assert runner.outputs == first
    assert len(forge.comments["/repos/team/models/issues/7/comments"]) == 1
    assert runner.run(**{**asked, "arguments": "--blocks=5"}) == 0, runner.said
    assert runner.outputs["job"] != first["job"]


@pytest.mark.thorough
def test_the_action_publishes_what_has_passed(played_service: str, runner: Runner, pushed_hub: PushedHub) -> None:
    runner.environment |= {
        "HF_ENDPOINT": pushed_hub.url,
        "HF_HUB_DISABLE_XET": "1",
        "XDG_CACHE_HOME": str(runner.folder / "cache"),
    }
    publish = "hub:team/small\r\n\nhub:small\n"
    code = runner.run(url=played_service, model=MODEL, arguments="--blocks=6", publish=publish, hub_token=TOKEN)
    assert code == 0, runner.said
    assert runner.outputs["published"] == f"{pushed_hub.url}/team/small {pushed_hub.url}/somebody/small"
    assert pushed_hub.repositories["team/small"].branches["main"]["model.safetensors"] == WEIGHTS
    assert TOKEN not in runner.said


@pytest.mark.parametrize(("publish", "extras"), [("", ""), ("hub:a/b\r\n\nhub:c\nmcp:x", "[hub,mcp]")])
def test_the_action_installs_what_it_publishes_by(runner: Runner, publish: str, extras: str) -> None:
    """With a `python3` whose environments have a pip that writes down what it is asked for."""
    programs = runner.folder / "bin"
    programs.mkdir()
    pip = 'printf \'#!/bin/sh\\nfor word; do :; done; echo "$word" > "%s/asked"\' "$3" > "$3/bin/pip"'
    (programs / "python3").write_text(f'#!/bin/sh\nmkdir -p "$3/bin"\n{pip}\nchmod +x "$3/bin/pip"\n')
    (programs / "secateur").write_text("#!/bin/sh\nexit 40\n")
    for program in programs.iterdir():
        program.chmod(0o755)
    runner.environment["PATH"] = f"{programs}{os.pathsep}{runner.environment['PATH']}"
    runner.run(install="yes", url="http://unused", publish=publish)
    asked = (runner.folder / "secateur-client" / "asked").read_text()
    assert asked == f"{ROOT}/secateur{extras}\n"


@pytest.mark.thorough
def test_a_spec_is_the_jobs_and_what_is_wrong_with_it_is_told(played_service: str, runner: Runner) -> None:
    model = {"source": "local", "path": MODEL}
    spec = {"model": model, "pruning": {"kind": "depth", "blocks": 6}, "labels": {"note": 'quotes " and $(words)'}}
    assert runner.run(url=played_service, spec=json.dumps(spec)) == 0, runner.said
    assert runner.outputs["verdict"] == "passed"
    assert runner.run(url=played_service, spec=json.dumps({**spec, "pruning": {"kind": "depth", "blocks": 0}})) == 2
    assert "/pruning/blocks" in runner.said
    assert set(runner.outputs.values()) == {""}


@pytest.mark.parametrize(
    ("code", "verdict"),
    [(10, "failed"), (11, "none"), (20, "job-failed"), (21, "cancelled"), (30, "unfinished"), (40, "unknown")],
)
def test_each_exit_code_of_the_gate_is_a_verdict(runner: Runner, code: int, verdict: str) -> None:
    """With a `secateur` that ends as it is told."""
    program = runner.folder / "bin" / "secateur"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\ncase $1 in submit) echo job-1 ;; gate) exit {code} ;; report) touch "$6" ;; esac\n')
    program.chmod(0o755)
    runner.environment["PATH"] = f"{program.parent}{os.pathsep}{runner.environment['PATH']}"
    (runner.folder / "secateur").mkdir()
    assert runner.run(url="http://unused", publish="hub:a/b") == code
    assert runner.outputs["verdict"] == verdict
    assert bool(runner.outputs["report"]) is (verdict in ("failed", "none"))
    assert runner.outputs["published"] == "", "what has not passed is not published"


@pytest.mark.thorough
def test_the_component_submits_waits_and_gates(played_service: str, tmp_path: Path, forge: Forge) -> None:
    component(tmp_path, played_service, forge, arguments="--blocks 6 --max-kl 0.9")
    (note,) = forge.comments["/projects/3/merge_requests/5/notes"]
    assert "## ✅" in note["body"]


@pytest.mark.thorough
def test_a_sweep_is_gated_by_the_action_and_the_component(played_service: str, runner: Runner, forge: Forge) -> None:
    grid = "--grid pruning.blocks=5,6 --max-kl 0.9"
    arguments = grid.replace(" ", "\n").replace("grid\n", "grid=").replace("kl\n", "kl=")
    asked = {"url": played_service, "model": MODEL, "sweep": "true", "comment": "true", "token": forge.token}
    assert runner.run(arguments=arguments, **asked) == 0, runner.said
    first = runner.outputs
    assert (first["verdict"], first["job"]) == ("passed", "")
    assert runner.run(arguments=arguments, **asked) == 0, runner.said
    assert runner.outputs == first, "a re-run joins the sweep that is there"
    assert re.fullmatch("[0-9a-f-]{36}", first["recommended"])
    assert "2 points: 2 succeeded" in (runner.folder / first["report"]).read_text()
    assert len(ET.parse(runner.folder / "secateur" / "gates.xml").findall(".//testcase")) == 3, "the sweep, two points"
    (comment,) = forge.comments["/repos/team/models/issues/7/comments"]
    assert "## ✅" in comment["body"]
    component(runner.folder, played_service, forge, arguments=grid, sweep=True)
    (note,) = forge.comments["/projects/3/merge_requests/5/notes"]
    assert "2 points: 2 succeeded" in note["body"]


def component(folder: Path, url: str, forge: Forge, **inputs: Any) -> None:
    """Run the component's job twice, as a retry does."""
    given = {"model": MODEL, "comment": True, **inputs}
    values = {name: given.get(name, declared.get("default")) for name, declared in INPUTS["spec"]["inputs"].items()}

    def filled(text: str) -> str:
        return re.sub(r"\$\[\[ inputs\.(\S+) \]\]", lambda found: as_yaml(values[found[1]]), text)

    ((name, job),) = COMPONENT.items()
    assert filled(name) == "compression-gate"
    environment = of_this_environment(
        SECATEUR_URL=url,
        GITLAB_CI="true",
        CI_API_V4_URL=forge.url,
        CI_PROJECT_ID="3",
        CI_MERGE_REQUEST_IID="5",
        CI_COMMIT_SHA="0" * 40,
        CI_PIPELINE_ID="12",
        CI_JOB_NAME=filled(name),
        GITLAB_TOKEN=forge.token,
        **{name: filled(value) for name, value in job["variables"].items()},
    )
    script = [line for line in job["script"] if not line.startswith("pip install")]
    assert len(script) == len(job["script"]) - 1
    for _ in range(2):  # a retried job joins the one that is there
        done = subprocess.run(
            [*BASH, "\n".join(script)], env=environment, cwd=folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        subprocess.run([*BASH, "\n".join(job["after_script"])], env=environment, cwd=folder, check=True)
    assert "<h1" in (folder / "report.html").read_text()
    assert ET.parse(folder / "gates.xml").getroot().tag == "testsuites"


def as_yaml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
