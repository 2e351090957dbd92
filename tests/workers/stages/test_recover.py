"""The recover stage in a process of its own: killed and gone on with, bounded, refused."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from secateur.contract.results import Recovered
from tests.fixtures.stage_runner import SPEC, TEXT, Runner


@pytest.mark.thorough
def test_a_recovery_killed_with_sigkill_ends_with_the_same_bytes(runner: Runner) -> None:
    runner.run("score")
    runner.run("prune")
    whole = runner.result("recover", work="whole")
    expected = (Path(runner.inputs["recover"]) / "checkpoint" / "model.safetensors").read_bytes()

    process = runner.start("recover", work="killed")
    process.until(lambda event: event.type == "metrics" and event.data["step"] >= 7)
    process.send(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (runner.folder / "killed" / "out" / "recovered.json").exists()

    resumed = runner.result("recover", work="killed")
    assert (Path(runner.inputs["recover"]) / "checkpoint" / "model.safetensors").read_bytes() == expected
    assert len(resumed["resumed_from"]) == 1
    assert resumed["resumed_from"][0] >= 6
    assert resumed["curve"] == whole["curve"]


TRAINING = {
    "batch_size": 4,
    "micro_batch_size": 2,
    "tokens": 32,
    "max_steps": 8,
    "warmup_steps": 2,
    "learning_rate": 0.002,
    "checkpoint_steps": 2,
    "text": TEXT,
}


METHODS: dict[str, dict[str, Any]] = {
    "distill all": {"kind": "distill", **TRAINING, "temperature": 2.0, "top_k": 8},
    "distill adapters and states": {"kind": "distill", "train": "lora", **TRAINING, "hidden_weight": 0.5, "heal": True},
    "distill after the cut": {"kind": "distill", "train": "after_cut", **TRAINING, "hidden_weight": 0.5},
    "distill on answers": {"kind": "distill", **TRAINING, "text": {"source": "answers"}, "tokens": 128},
    "continued": {"kind": "continued", **TRAINING, "validation": 0.1},
    "continued at the end": {"kind": "continued", **TRAINING, "train": "last_blocks", "last_blocks": 2},
    "examples": {
        "kind": "lora",
        **TRAINING,
        "text": {"source": "local", "path": "examples.jsonl"},
        "format": "alpaca",
        "mask_prompt": True,
        "tokens": 256,
        "dora": True,
        "rank_stabilised": True,
    },
}


@pytest.mark.thorough
@pytest.mark.parametrize("method", METHODS)
def test_every_recovery_that_trains_survives_a_kill_with_the_same_bytes(
    runner: Runner, text_file: Path, method: str
) -> None:
    rows = [{"instruction": f"Say {number}.", "output": str(number) * 20} for number in range(40)]
    (text_file.parent / "examples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    spec = {**SPEC, "recovery": METHODS[method], "pruning": {"kind": "depth", "drop": [4, 6]}}
    runner.run("prune", spec)
    whole = runner.result("recover", spec=spec, work="whole")
    weights = Path("checkpoint") / "model.safetensors"
    expected = (Path(runner.inputs["recover"]) / weights).read_bytes()
    assert whole["steps"] == 8
    assert expected != (Path(runner.inputs["prune"]) / weights).read_bytes()

    process = runner.start("recover", spec, work="killed")
    process.until(lambda event: event.type == "metrics" and event.data["step"] >= 5)
    process.send(signal.SIGKILL)
    process.wait()
    resumed = runner.result("recover", spec=spec, work="killed")
    assert (Path(runner.inputs["recover"]) / weights).read_bytes() == expected
    assert resumed["resumed_from"]
    assert (resumed["tokens"], resumed["curve"]) == (whole["tokens"], whole["curve"])


def test_minutes_bound_the_whole_recovery_and_not_the_training_alone(runner: Runner) -> None:
    """By so few that a part of the text is written, no map is fitted, a part has predictions, and a step is taken."""
    recovery = {"kind": "distill", "tokens": 64, "batch_size": 4, "micro_batch_size": 2, "train": "lora"}
    spec = {**SPEC, "recovery": {**recovery, "max_minutes": 0.001}, "pruning": {"kind": "depth", "drop": [4, 6]}}
    runner.run("prune", spec)
    events = runner.run("recover", spec=spec)
    found = Recovered.model_validate(events[-1].data)
    assert found.text is not None
    assert found.text.samples < 512
    assert found.steps == 1
    assert found.healed.cuts == []
    assert "more than 25% of `max_minutes`" in found.notes[0]
    said = [event.message for event in events if event.type == "log"]
    assert any("A part of `max_minutes` has passed with the text" in message for message in said)
    assert any("are stored: " in message and "B of disk" in message for message in said)


@pytest.mark.parametrize("length", ["whole", "cut"])
def test_a_warm_up_that_does_not_end_is_refused_before_anything_is_computed(
    runner: Runner, text_file: Path, length: str
) -> None:
    """Where the text's length decides, as soon as that is known."""
    recovery = {"batch_size": 4, "micro_batch_size": 2, "tokens": 32, "epochs": 1, "text": TEXT}
    spec = {**SPEC, "recovery": {**recovery, "warmup_steps": 10}, "pruning": {"kind": "depth", "drop": [4, 6]}}
    text_file.write_text(text_file.read_text()[: 3_000 if length == "whole" else 1_500])
    runner.run("prune", spec)
    events = runner.run("recover", spec=spec)
    if length == "whole":
        assert events[-1].data["schedule"]["warmup_steps"] == 10
        return
    (error,) = events[-1].problem["errors"]
    assert (error["pointer"], error["value"]) == ("/recovery/warmup_steps", 10)
    assert "does not end in a training of" in error["detail"]
    assert {event.unit for event in events if event.type == "progress"} <= {"bytes"}  # the text was read, no more


@pytest.mark.thorough
def test_healing_trains_nothing_and_comes_nearer_to_the_original(runner: Runner) -> None:
    spec = {
        **SPEC,
        "recovery": {"kind": "healing", "text": TEXT, "samples": 60, "tokens": 64},
        "pruning": {"kind": "depth", "drop": [4, 6]},
        "benchmark": {**SPEC["benchmark"], "latency": None, "samples": None},
    }
    runner.run("prune", spec)
    healed = runner.result("recover", spec=spec)
    assert (healed["steps"], healed["trainable_parameters"], healed["curve"]) == (0, 0, [])
    assert len(healed["notes"]) == 3
    (first, second), (after,) = healed["healed"]["cuts"], healed["healed"]["refitted"]
    assert [(cut["block"], cut["last"], cut["folded"]) for cut in (first, second)] == [(3, 4, True), (5, 6, True)]
    assert (after["blocks"], after["folded"]) == ([7, 8, 9], True)
    assert [second["kl_before"], after["kl_before"]] == [first["kl_after"], second["kl_after"]]
    _, pruned, recovered = runner.result("benchmark", spec=spec)["variants"]
    assert recovered["fidelity"][0]["kl"] < pruned["fidelity"][0]["kl"]
