"""The costs of halves on a machine whose times are played, since real ones are noise; and a job by them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedModel

from secateur.contract.errors import InvalidInput
from secateur.contract.jobs import Verdict
from secateur.contract.measurements import Memory
from secateur.contract.planning import UnitCosts
from secateur.contract.spec import CompressionSpec
from secateur.contract.stage_kinds import kinds_of
from tests.fixtures.whole_job import SHORT_SPEC, Job
from workers.engine.benchmarks.clock import Timing
from workers.engine.benchmarks.in_turn import AGAIN
from workers.engine.benchmarks.latency import Cell
from workers.reporting.notes import write_notes
from workers.stages import benchmark_speed, beside_original, cost_measures

BLOCKS = 8  # of the tiny model
REST, ATTENTION, MLP = 2.0, 0.25, 0.75  # seconds of a generation
WHOLE = REST + BLOCKS * (ATTENTION + MLP)


def _counted(model: PreTrainedModel) -> tuple[int, int]:
    names = [name for name, _ in model.named_parameters()]
    return sum("self_attn.o_proj" in name for name in names), sum("mlp.down_proj" in name for name in names)


class Played:
    """A machine on which attentions and MLPs take so many seconds each."""

    def __init__(self) -> None:
        self.timed: list[list[tuple[int, int]]] = []
        self.cells: list[Cell] = []

    def time_cell(self, models: Mapping[str, PreTrainedModel], cell: Cell, **_: Any) -> dict[str, list[Timing]]:
        self.cells.append(cell)
        counts = {name: _counted(model) for name, model in models.items()}
        self.timed.append(list(counts.values()))
        original = next(iter(counts))
        return {
            name: [Timing(0.1, REST + ATTENTION * attentions + MLP * mlps)] * cell.runs
            for name, (attentions, mlps) in {**counts, AGAIN: counts[original]}.items()
        }

    def measure_memory(self, model: PreTrainedModel, **_: Any) -> Memory:
        attentions, mlps = _counted(model)
        return Memory(weights=1, peak=1000 + 25 * attentions + 75 * mlps, kv_bytes_per_token=1, measured_as="played")


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Played:
    machine = Played()
    for module in (beside_original, benchmark_speed):
        monkeypatch.setattr(module, "time_cell", machine.time_cell)
    for module in (cost_measures, benchmark_speed):
        monkeypatch.setattr(module, "measure_memory", machine.measure_memory)
    return machine


@pytest.fixture
def root(tiny_checkpoint: Callable[..., Path]) -> Path:
    return tiny_checkpoint().parent


def job(root: Path, target: dict[str, Any], **pruning: Any) -> Job:
    latency = {"input_tokens": 4, "output_tokens": [4], "warmup": 0, "runs": 3}
    calibration = {"samples": 3, "tokens": 12}
    spec = {
        **SHORT_SPEC,
        "pruning": {
            "kind": "joint",
            "target": target,
            "evaluations": 20,
            "calibration": calibration,
            "healing": None,
            **pruning,
        },
        "recovery": {"kind": "none"},
        "benchmark": {
            **SHORT_SPEC["benchmark"],
            "latency": latency,
            "perplexity": None,
            "fidelity": {"enabled": False},
        },
    }
    return Job(root, CompressionSpec.model_validate(spec))


def costs(root: Path, target: dict[str, Any], **pruning: Any) -> UnitCosts:
    run = job(root, target, **pruning)
    run.run("check")
    found: UnitCosts = run.run("costs")
    return found


@pytest.mark.parametrize(
    ("target", "least"),
    [
        ({"speedup": 1.24}, 2.0),  # seconds of 10; 1.94 would do, and halves go by quarters
        ({"latency_ms": 7600}, 2.5),
        ({"tokens_per_second": 0.49}, 2.0),
    ],
    ids=str,
)
def test_what_an_attention_and_an_mlp_take(root: Path, played: Played, target: dict[str, Any], least: float) -> None:
    found = costs(root, target)
    assert (found.attention.value, found.mlp.value) == pytest.approx((ATTENTION / WHOLE, MLP / WHOLE))
    assert found.needed == pytest.approx(least / WHOLE)
    assert played.timed == [[(8, 8), (3, 8), (8, 3), (4, 4), (1, 1)]]
    assert [(one.attentions, one.mlps) for one in found.tried] == [(5, 0), (0, 5), (4, 4), (7, 7)]
    assert (found.runs, found.timed_tokens, played.cells[0].steps) == (3, 3, 16), "a short generation is timed whole"


def test_memory_likewise(root: Path, played: Played) -> None:
    found = costs(root, {"memory": 0.9})
    assert (found.attention.value, found.mlp.value) == pytest.approx((25 / 1800, 75 / 1800))
    assert found.needed == pytest.approx(200 / 1800), "that is the least multiple of 25 of at least 180"
    assert found.runs == 1


def test_attentions_alone(root: Path, played: Played) -> None:
    found = costs(root, {"speedup": 1.1}, choices=["attention"], protected=["0.attention"])
    assert [(one.attentions, one.mlps) for one in found.tried] == [(4, 0), (5, 0), (7, 0)]
    assert found.mlp.value == 0
    assert found.needed == pytest.approx(4 * ATTENTION / WHOLE)


@pytest.mark.parametrize(
    ("target", "pruning", "words"),
    [
        (
            {"speedup": 5},
            {},
            r"no choice reaches 5×: speedup 4\.44× at batch 1, .* 7 attentions and 8 MLPs of 8 blocks",
        ),
        ({"speedup": 1.3}, {"choices": ["attention"]}, r"without 8 attentions and 0 MLPs of 8 blocks, all that may go"),
        ({"latency_ms": 10_000}, {}, "the original has it as it is"),
    ],
)
def test_what_cannot_be_is_refused_with_the_best(
    root: Path, played: Played, target: dict[str, Any], pruning: dict[str, Any], words: str
) -> None:
    with pytest.raises(InvalidInput, match=words) as caught:
        costs(root, target, **pruning)
    assert caught.value.errors[0].pointer == f"/pruning/target/{next(iter(target))}"


def test_a_whole_job_reports_what_was_asked_foreseen_and_reached(root: Path, played: Played) -> None:
    run = job(root, {"speedup": 1.3})
    assert kinds_of(run.spec) == ("check", "costs", "prune", "benchmark", "report")
    for name in kinds_of(run.spec):
        run.run(name)
    report = run.results["report"]
    search = report.pruned.joint
    gone = [sum(unit.endswith(half) for unit in report.pruned.units) for half in ("attention", "mlp")]
    seconds = WHOLE - ATTENTION * gone[0] - MLP * gone[1]
    assert search.unit == "share"
    assert search.best.saved == pytest.approx(1 - seconds / WHOLE)
    assert search.best.saved >= search.needed
    assert search.foreseen == pytest.approx(WHOLE / seconds)
    assert report.target.value == pytest.approx(WHOLE / seconds)
    assert report.target.met
    assert report.verdict is Verdict.PASSED
    assert [gate.gate for gate in report.gates] == ["min_target_speedup"]
    page = unescape((run.folders["report"] / "report.html").read_text())
    assert report.target.message in page
    assert "By these an attention takes 2.50 %" in page
    assert "an MLP 7.50 %" in page
    assert not any("second round" in note for note in report.notes)
    missed = report.model_copy(update={"target": report.target.model_copy(update={"met": False})})
    assert any("Joint pruning has no second round" in note for note in write_notes(missed))
