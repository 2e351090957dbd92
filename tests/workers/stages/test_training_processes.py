"""How many processes train, by the worker's setting, its GPUs and the batch of the spec."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from secateur.contract.errors import InvalidInput
from secateur.contract.protocol import Runtime, StageSpec
from secateur.contract.spec import CompressionSpec
from workers.engine.recovery.ranks import Ranks
from workers.stages import training_processes
from workers.stages.context import StageContext
from workers.stages.training_processes import plan_processes

GPUS = ["4", "5", "6", "7"]


@pytest.fixture
def context_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., StageContext]:
    """context_of(2, device="cuda", gpus=[…], kind="lora", …): of a recover stage on a worker with these GPUs."""

    def make(wanted: int | str, *, device: str = "auto", gpus: list[str] = GPUS, **recovery: Any) -> StageContext:
        monkeypatch.setattr(training_processes, "visible_gpus", lambda device: gpus)
        spec = {
            "model": {"source": "local", "path": "tiny"},
            "pruning": {"kind": "depth", "blocks": 1},
            "recovery": {"kind": "lora", "batch_size": 12, "micro_batch_size": 2, **recovery},
        }
        runtime = {"device": device, "cache": tmp_path, "training_processes": wanted}
        stage = StageSpec(
            job_id=uuid.uuid4(),
            key="recover",
            kind="recover",
            created_at=datetime.now(UTC),
            spec=CompressionSpec.model_validate(spec),
            work=tmp_path,
            runtime=Runtime.model_validate(runtime),
        )
        return StageContext(stage, lambda event: None)

    return make


@pytest.mark.parametrize(
    ("wanted", "device", "gpus", "count"),
    [
        (1, "auto", GPUS, 1),
        (2, "auto", GPUS, 2),
        ("auto", "auto", GPUS, 3),  # six micro-batches are not divided by four
        ("auto", "cuda", GPUS[:2], 2),
        ("auto", "cuda:1", GPUS, 1),  # a worker that was given one
        (2, "cuda:1", GPUS, 2),
        ("auto", "auto", [], 1),
        (8, "cuda", GPUS[:2], 2),
        (3, "cpu", [], 3),
    ],
)
def test_as_many_train_as_there_are_and_as_divide_the_batch(
    context_of: Callable[..., StageContext], wanted: int | str, device: str, gpus: list[str], count: int
) -> None:
    found = plan_processes(context_of(wanted, device=device, gpus=gpus))
    assert found.count == count
    assert found.gpus == (tuple(gpus[:count]) if wanted != 1 else ())
    assert any("side by side" in note for note in found.notes) == (count > 1)


def test_fewer_than_the_setting_says_are_told_of(context_of: Callable[..., StageContext]) -> None:
    assert plan_processes(context_of(8, gpus=GPUS[:1])).notes == (
        "The worker's SECATEUR_TRAINING_PROCESSES is 8, but it has 1 GPU; no more processes trained.",
    )
    assert plan_processes(context_of("auto")).notes == (
        "The training ran in 3 of 4 possible processes: a batch of 12 samples, 2 at a time, cannot be divided evenly "
        "among more.",
        "The training ran in 3 processes side by side, each on a GPU of its own.",
    )


@pytest.mark.parametrize(("wanted", "gpus"), [(1, GPUS), ("auto", GPUS[:1]), ("auto", []), (4, GPUS[:1])])
def test_a_model_cannot_be_split_where_one_process_trains(
    context_of: Callable[..., StageContext], wanted: int | str, gpus: list[str]
) -> None:
    assert plan_processes(context_of(wanted, gpus=gpus)).count == 1
    with pytest.raises(InvalidInput, match="in one process") as refused:
        plan_processes(context_of(wanted, gpus=gpus, shard=True))
    assert refused.value.errors[0].pointer == "/recovery/shard"
    assert plan_processes(context_of(2, shard=True)).notes == (
        "The training ran in 2 processes side by side, each on a GPU of its own, each with a part of the model.",
    )


@pytest.mark.parametrize("kind", ["healing", "none"])
def test_what_does_not_train_has_one_process(context_of: Callable[..., StageContext], kind: str) -> None:
    context = context_of(4)
    recovery = CompressionSpec.model_validate(
        {**context.stage.spec.model_dump(mode="json"), "recovery": {"kind": kind}}
    )
    stage = context.stage.model_copy(update={"spec": recovery})
    assert plan_processes(StageContext(stage, lambda event: None)).count == 1


def test_each_process_sees_a_gpu_of_its_own(context_of: Callable[..., StageContext], tmp_path: Path) -> None:
    context = context_of(3, device="cuda:0")

    def recover(inner: StageContext, ranks: Ranks) -> None:
        inner.log("nobody reads this")
        seen = f"{os.environ['CUDA_VISIBLE_DEVICES']} as {inner.stage.runtime.device} of {ranks.count}"
        (tmp_path / f"rank-{ranks.index}").write_text(seen)
        ranks.ready()

    with plan_processes(context).started(context, recover) as others:
        assert others is not None
        with others.called():
            pass
    assert [(tmp_path / f"rank-{rank}").read_text() for rank in (1, 2)] == ["5 as cuda of 3", "6 as cuda of 3"]
