"""Recoveries that several processes train together, as whole stages: what they learn, and how they end."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from safetensors.torch import load_file
from torch import Tensor

from tests.fixtures.stage_runner import PATIENCE, SPEC, TEXT, Runner, Stage
from workers.launch.fork_server import ForkServer

WEIGHTS = Path("checkpoint") / "model.safetensors"
TRAINING = {
    "batch_size": 6,
    "micro_batch_size": 1,
    "tokens": 64,
    "epochs": 2,
    "warmup_steps": 2,
    "learning_rate": 0.002,
    "checkpoint_steps": 2,
    "validation": 0.12,
    "text": TEXT,
}
METHODS: dict[str, dict[str, Any]] = {
    # Examples of unequal length, padded; 22 of 25 are trained on, so the last batch of an epoch has 4.
    "lora": {
        "kind": "lora",
        **TRAINING,
        "rank": 2,
        "dropout": 0.0,
        "text": {"source": "local", "path": "examples.jsonl"},
        "format": "alpaca",
        "tokens": 256,
        "mask_prompt": True,
        "packing": False,
    },
    # 13 of 15 samples: the last batch has a single one.
    "distill": {"kind": "distill", **TRAINING, "samples": 15, "train": "all", "top_k": 8, "hidden_weight": 0.5},
    "continued": {"kind": "continued", **TRAINING, "samples": 15, "epochs": 1},
}
METHODS["lora in parts"] = {**METHODS["lora"], "shard": True}
METHODS["continued in parts"] = {**METHODS["continued"], "shard": True}
DROPOUT = {"kind": "lora", **TRAINING, "rank": 2, "dropout": 0.2, "samples": 22}


@pytest.fixture
def runner(
    stage_server: ForkServer, tmp_path: Path, tiny_checkpoint: Callable[..., Path], text_file: Path
) -> Iterator[Runner]:
    path = tiny_checkpoint("tiny", num_hidden_layers=4)
    rows = [{"instruction": f"Say {number}.", "output": str(number) * (1 + number % 7)} for number in range(25)]
    (text_file.parent / "examples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    runner = Runner(stage_server, tmp_path / "job", path.parent, text_file.parent)
    runner.run("prune", spec_of(DROPOUT))
    yield runner
    for process in runner.started:
        process.close()


def spec_of(recovery: dict[str, Any]) -> dict[str, Any]:
    return {**SPEC, "pruning": {"kind": "depth", "drop": [2]}, "recovery": recovery}


def recover(runner: Runner, recovery: dict[str, Any], *, processes: int) -> tuple[dict[str, Any], dict[str, Tensor]]:
    runner.runtime["training_processes"] = processes
    recovered = runner.result("recover", spec=spec_of(recovery), work=f"by-{processes}")
    return recovered, load_file(Path(runner.inputs["recover"]) / WEIGHTS)


def start(runner: Runner, recovery: dict[str, Any], *, processes: int) -> Stage:
    """A recovery that has taken some steps."""
    runner.runtime["training_processes"] = processes
    stage = runner.start("recover", spec_of(recovery), work="killed")
    stage.until(lambda event: event.type == "metrics" and event.data["step"] >= 3)
    return stage


def others_of(stage: Stage) -> list[psutil.Process]:
    stage.process.poll()
    assert stage.process.pid is not None
    return psutil.Process(stage.process.pid).children()


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("method", "processes"),
    [("lora", 2), ("distill", 2), ("continued", 3), ("lora in parts", 2), ("continued in parts", 2)],
)
def test_several_processes_learn_what_one_learns(runner: Runner, method: str, processes: int) -> None:
    whole = {name: value for name, value in METHODS[method].items() if name != "shard"}
    alone, expected = recover(runner, whole, processes=1)
    together, weights = recover(runner, METHODS[method], processes=processes)
    before = load_file(Path(runner.inputs["prune"]) / WEIGHTS)
    moved = max(float((expected[name] - before[name]).abs().max()) for name in expected)
    apart = max(float((expected[name] - weights[name]).abs().max()) for name in expected)
    assert moved > 1e-3
    assert apart < 1e-3 * moved
    for name in ("steps", "tokens", "trainable_parameters", "text"):
        assert together[name] == alone[name]
    for ours, theirs in zip(together["curve"], alone["curve"], strict=True):
        assert ours.keys() == theirs.keys()
        assert all(ours[name] == (value and pytest.approx(value, rel=1e-4)) for name, value in theirs.items())
    assert any(point["validation_loss"] for point in together["curve"])
    how = ", each with a part of the model" if METHODS[method].get("shard") else ""
    assert f"The training ran in {processes} processes side by side, on the CPU{how}." in together["notes"]
    assert not any("processes" in note for note in alone["notes"])


@pytest.mark.thorough
def test_a_training_by_three_killed_with_sigkill_ends_with_the_same_bytes(runner: Runner) -> None:
    whole, _ = recover(runner, DROPOUT, processes=3)
    expected = (Path(runner.inputs["recover"]) / WEIGHTS).read_bytes()
    stage = start(runner, DROPOUT, processes=3)
    others = others_of(stage)
    assert len(others) == 2
    stage.send(signal.SIGKILL)
    assert stage.wait() == -signal.SIGKILL
    assert not psutil.wait_procs(others, timeout=PATIENCE)[1]

    resumed = runner.result("recover", spec=spec_of(DROPOUT), work="killed")
    assert (Path(runner.inputs["recover"]) / WEIGHTS).read_bytes() == expected
    assert resumed["resumed_from"]
    assert (resumed["tokens"], resumed["curve"]) == (whole["tokens"], whole["curve"])

    runner.runtime["training_processes"] = 2  # whose snapshots these are not
    again = runner.result("recover", spec=spec_of({**DROPOUT, "max_steps": 1, "warmup_steps": 0}), work="killed")
    assert again["resumed_from"] == []


@pytest.mark.thorough
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_process_that_is_killed_ends_the_stage_with_its_reason(runner: Runner, number: signal.Signals) -> None:
    stage = start(runner, {**DROPOUT, "epochs": 500}, processes=3)
    others = others_of(stage)
    others[1].send_signal(number)
    events = list(stage.events())
    assert events[-1].type == "error"
    assert f"of the 3 that trained together was killed by {number.name}" in events[-1].problem["detail"]
    assert stage.wait() == 1
    assert not psutil.wait_procs(others, timeout=PATIENCE)[1]


def test_a_stage_that_is_cancelled_leaves_no_process(runner: Runner) -> None:
    stage = start(runner, {**DROPOUT, "epochs": 500}, processes=2)
    others = others_of(stage)
    stage.process.terminate()
    assert stage.wait() == -signal.SIGTERM
    assert not psutil.wait_procs(others, timeout=PATIENCE)[1]


def test_a_batch_that_cannot_be_divided_is_trained_by_fewer(runner: Runner) -> None:
    recovered, _ = recover(runner, {**DROPOUT, "micro_batch_size": 2, "max_steps": 1, "warmup_steps": 0}, processes=4)
    assert recovered["notes"][-2:] == [
        "The training ran in 3 of 4 possible processes: a batch of 6 samples, 2 at a time, cannot be divided evenly "
        "among more.",
        "The training ran in 3 processes side by side, on the CPU.",
    ]
    runner.runtime["training_processes"] = "auto"  # as many as there are GPUs: there is none
    recovered = runner.result("recover", spec=spec_of({**DROPOUT, "max_steps": 1, "warmup_steps": 0}), work="auto")
    assert not any("processes" in note for note in recovered["notes"])
