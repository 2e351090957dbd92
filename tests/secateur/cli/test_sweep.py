"""`secateur sweep`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import Result

from app.api import example_sweeps as sweeps
from tests.fixtures.answers import Service

Run = Callable[..., Result]


def dry(run: Run, *arguments: str, input: str | None = None) -> dict[str, Any]:
    result = run("sweep", *arguments, "--dry-run", input=input)
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_a_grid_on_the_command_line(run: Run) -> None:
    given = ("m.gguf", "--grid", "pruning.ratio=0.1,0.2", "--grid", "scoring.criterion=perplexity,taylor")
    assert dry(run, *given, "--recovery", "none", "--max-kl", "0.5", "--label", "commit=abc") == {
        "spec": {
            "model": {"source": "local", "path": "m.gguf"},
            "pruning": {"kind": "depth"},
            "scoring": {"criterion": "perplexity"},
            "recovery": {"kind": "none"},
            "gates": {"max_kl": 0.5},
        },
        "grid": {"pruning.ratio": [0.1, 0.2], "scoring.criterion": ["perplexity", "taylor"]},
        "labels": {"commit": "abc"},
    }


def test_a_preset_of_sweeps_and_one_of_jobs(run: Run) -> None:
    found = dry(run, "m.gguf", "--preset", "shortened_llama_figure_4", "--no-tasks", "--latency-batch-sizes", "1,4")
    assert "preset" not in found  # it is written out, so that points can be changed
    assert len(found["points"]) == 15
    assert found["spec"]["benchmark"] == {
        "latency": {"batch_sizes": [1, 4], "output_tokens": [128, 512]},
        "tasks": None,
    }
    assert "pruning" not in found["spec"]
    assert found["spec"]["preset"] == "shortened_llama"
    assert dry(run, "--file", "-", input=json.dumps(found)) == found
    assert dry(run, "m.gguf", "--preset", "quick", "--grid", "pruning.blocks=1,2")["spec"]["preset"] == "quick"


def test_values_are_json_where_they_can_be(run: Run) -> None:
    grid = dry(
        run,
        "m.gguf",
        *("--grid", "pruning.drop=[[1], [2, 3]]", "--grid", "scoring.plus=true,false", "--grid", "dtype=auto,float32"),
    )["grid"]
    assert grid == {"pruning.drop": [[1], [2, 3]], "scoring.plus": [True, False], "dtype": ["auto", "float32"]}


def test_a_file_and_flags_on_top(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "sweep.json"
    file.write_text(json.dumps(sweeps.POINTS))
    found = dry(run, "--file", str(file), "--seed", "3", "--label", "a=b")
    assert found["points"] == sweeps.POINTS["points"]
    assert found["spec"] == {**sweeps.POINTS["spec"], "seed": 3}
    assert found["labels"] == {"a": "b"}
    assert dry(run, "--file", "-", input=json.dumps(found)) == found


def test_it_submits_and_prints_the_id(service: Service, run: Run) -> None:
    service.answers["POST /sweeps"] = httpx.Response(202, json=sweeps.EXAMPLE)
    result = run("sweep", "m.gguf", "--grid", "pruning.blocks=3,6,9", "--idempotency-key", "k", "--cancel-after", "2h")
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{sweeps.SWEEP_ID}\n"
    assert "6 points" in result.stderr
    assert service.body["grid"] == {"pruning.blocks": [3, 6, 9]}
    assert service.requests[-1].headers["idempotency-key"] == "k"
    assert service.requests[-1].headers["cancel-after"] == "2h"
    whole = run("sweep", "m.gguf", "--grid", "pruning.blocks=3,6,9", "--json")
    assert json.loads(whole.stdout)["points"][1]["place"] == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("m.gguf",), "say what varies"),
        (("m.gguf", "--grid", "pruning.ratio"), "FIELD=V,V"),
        (("m.gguf", "--grid", "pruning.ratio=0.1,2", "--dry-run"), "/grid/pruning.ratio/1"),
        (("m.gguf", "--grid", "pruning.ratoi=0.1", "--dry-run"), "did you mean 'ratio'?"),
        (("--file", "none.json"), "none.json"),
        (("m.gguf", "--grid", "seed=1,2", "--label", "x"), "NAME=VALUE"),
    ],
)
def test_what_is_wrong_is_told(run: Run, arguments: tuple[str, ...], says: str) -> None:
    result = run("sweep", *arguments)
    assert result.exit_code == 2, result.output
    assert says in result.stderr.replace("\n", " ")
