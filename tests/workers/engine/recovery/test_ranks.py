"""Trainings by two processes: what one of them finds out ends both, in the same step."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from secateur.contract.errors import StageFailed
from secateur.contract.options.recovery import LoraRecovery
from workers.engine.recovery import ranks as ranks_module
from workers.engine.recovery.lora import add_adapters
from workers.engine.recovery.objective import Objective
from workers.engine.recovery.rank_processes import RankProcesses
from workers.engine.recovery.ranks import RankDone, Ranks
from workers.engine.recovery.sequences import Sequences
from workers.engine.recovery.snapshots import list_snapshots, step_of
from workers.engine.recovery.training import Loop, Training, train
from workers.engine.recovery.training_settings import TrainingSettings
from workers.engine.runtime import Machine

CPU = Machine(torch.device("cpu"), torch.float32, 1, 3)
SETTINGS = TrainingSettings(
    learning_rate=1e-2, batch_size=4, micro_batch_size=1, epochs=2, warmup_steps=3, checkpoint_steps=2
)


@dataclass(frozen=True)
class Result:
    """What the first process came to."""

    weights: dict[str, Tensor]
    steps: int = 0
    planned: int = 0
    tokens: int = 0
    best_step: int | None = None
    resumed_from: Sequence[int] = ()
    losses: Sequence[float] = ()
    error: str = ""
    left: Sequence[str] = ()  # what should have been undone and was not


Together = Callable[..., Result]


@pytest.fixture
def together(make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor], tmp_path: Path) -> Together:
    """together(count=2, before=…): LoRA on 21 samples, 12 steps; `before` is called in each process.

    The first is a fork of this process too: one that has been in a process group should not be forked again.
    """

    def run(
        *,
        count: int = 2,
        before: Callable[[Ranks], dict[str, Any]] = lambda ranks: {},
        settings: TrainingSettings = SETTINGS,
        **arguments: Any,
    ) -> Result:
        folder = tmp_path / str(count)
        folder.mkdir(exist_ok=True)

        def work(ranks: Ranks) -> Result:
            model = add_adapters(make_model(), LoraRecovery(dropout=0.0), seed=1)
            given: dict[str, Any] = {"identity": "the same", **arguments, **before(ranks)}
            data = Sequences(make_ids(21, 12))
            found = train(Training(model, data, settings=settings, machine=CPU, scratch=folder, ranks=ranks, **given))
            weights = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
            losses = [point.loss for point in found.curve]
            return Result(
                weights, found.steps, found.planned, found.tokens, found.best_step, found.resumed_from, losses
            )

        def assist(rank: int, ready: Callable[[], None]) -> None:
            with suppress(RankDone):
                work(Ranks(rank, count, ready=ready))

        def first() -> Result:
            if count == 1:
                return work(Ranks())
            variables, threads = dict(os.environ), torch.get_num_threads()
            with closing(RankProcesses(count, assist, describe=describe, on_stuck=print)) as others:
                result = work(Ranks(count=count, others=others))
            left = [name for name in {**variables, **os.environ} if os.environ.get(name) != variables.get(name)]
            left += ["a process group"] if torch.distributed.is_initialized() else []
            return replace(result, left=left + (["threads"] if torch.get_num_threads() != threads else []))

        return in_fork(first, folder)

    return run


def describe(error: BaseException) -> StageFailed:
    return StageFailed(f"{type(error).__name__}: {error}")


def in_fork(first: Callable[[], Result], folder: Path) -> Result:
    """What `first` gives, or the error that it raises, in a process of its own."""
    pid = os.fork()
    if pid == 0:
        try:
            try:
                result = first()
            except StageFailed as error:
                result = Result({}, error=error.detail)
            except Exception as error:
                result = Result({}, error=repr(error))
            save_file(result.weights, folder / "result.safetensors")
            (folder / "result.json").write_text(json.dumps({**vars(result), "weights": {}}))
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    plain = json.loads((folder / "result.json").read_text())
    return Result(**{**plain, "weights": load_file(folder / "result.safetensors")})


def near(ours: Result, theirs: Result, *, atol: float) -> bool:
    return all(torch.allclose(ours.weights[name], value, atol=atol) for name, value in theirs.weights.items())


def test_a_loss_that_is_no_number_in_one_ends_both_with_the_same_words(together: Together, tmp_path: Path) -> None:
    def before(ranks: Ranks) -> dict[str, Any]:
        calls = []

        def loss(model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
            calls.append(1)  # two micro-batches a step for each process
            value: Tensor = model(**inputs).loss
            return value * (math.nan if ranks.index == 1 and len(calls) == 5 else 1)

        return {"objective": Objective(loss)}

    failed = together(before=before)
    assert failed.error.startswith("The loss is nan at step 3 of 12. The snapshot of step 2 is kept.")
    assert [step_of(path) for path in list_snapshots(tmp_path / "2")] == [2]


def test_what_breaks_in_the_other_is_what_the_first_says(together: Together) -> None:
    def before(ranks: Ranks) -> dict[str, Any]:
        def loss(model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
            if ranks.index == 1:
                raise MemoryError("no room")
            value: Tensor = model(**inputs).loss
            return value

        return {"objective": Objective(loss)}

    failed = together(before=before)
    assert failed.error == "Process 2 of the 2 that trained together failed. MemoryError: no room"


def test_what_breaks_in_the_first_is_not_laid_to_the_other(together: Together, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks_module, "PATIENCE", 0.5)

    def before(ranks: Ranks) -> dict[str, Any]:
        def progress(done: int, total: int, unit: str) -> None:
            if done == 3 and ranks.first:
                raise RuntimeError("the first")

        return {"progress": progress}

    assert together(before=before).error == "RuntimeError('the first')"


def test_one_that_trains_on_something_else_is_refused(together: Together) -> None:
    failed = together(before=lambda ranks: {"identity": f"another in {ranks.index}"})
    assert "failed. It found another text or model than the first process" in failed.error


def test_the_first_decides_when_time_is_up(together: Together, monkeypatch: pytest.MonkeyPatch) -> None:
    def before(ranks: Ranks) -> dict[str, Any]:
        if not ranks.first:  # whose clock has stopped
            monkeypatch.setattr(Loop, "seconds", lambda self: 0.0)
        return {}

    settings = replace(SETTINGS, max_minutes=1e-9)
    found = together(before=before, settings=settings)
    assert (found.steps, found.planned, found.tokens, found.error) == (1, 12, 4 * 12, "")
    monkeypatch.setattr(RankProcesses, "called", lambda self: pytest.fail("there is nothing left to train"))
    again = together(before=before, settings=settings)
    assert (again.steps, again.resumed_from, again.tokens, again.error) == (1, [], 4 * 12, "")
    assert near(again, found, atol=0.0)


def test_both_stop_where_one_process_would_without_progress_and_keep_the_best(
    together: Together, make_ids: Callable[..., Tensor]
) -> None:
    held = Sequences(make_ids(5, 12, seed=9))  # noise of another seed: its loss soon rises
    settings = replace(SETTINGS, epochs=20, learning_rate=0.05, patience=2)
    alone = together(count=1, settings=settings, validation=held)
    found = together(settings=settings, validation=held)
    assert (found.steps, found.best_step, found.tokens) == (alone.steps, alone.best_step, alone.tokens)
    assert found.steps < found.planned
    assert near(found, alone, atol=1e-4)


def test_a_loss_that_is_a_mean_weighs_each_micro_batch_alike(together: Together) -> None:
    def before(ranks: Ranks) -> dict[str, Any]:
        def loss(model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
            value: Tensor = model(**inputs).loss
            return value

        return {"objective": Objective(loss)}

    alone, found = together(count=1, before=before), together(before=before)
    assert near(found, alone, atol=1e-5)
    assert found.losses == pytest.approx(alone.losses, rel=1e-5)


def test_a_training_leaves_no_group_and_no_variables_behind(together: Together) -> None:
    found = together(settings=replace(SETTINGS, max_steps=1))
    assert (found.steps, found.left, found.error) == (1, [], "")


PARTS = replace(SETTINGS, shard=True)


@pytest.mark.thorough
def test_parts_of_a_model_learn_what_the_whole_learns(together: Together, tmp_path: Path) -> None:
    alone, found = together(count=1), together(settings=PARTS)
    assert (found.steps, found.tokens, found.error) == (alone.steps, alone.tokens, "")
    assert found.losses == pytest.approx(alone.losses, rel=1e-5)
    assert near(found, alone, atol=1e-5)
    newest = list_snapshots(tmp_path / "2")[-1]
    held = [load_file(newest / name) for name in ("weights.safetensors", "weights-1.safetensors")]
    for name, whole in found.weights.items():
        parts = [part[name] for part in held]
        assert torch.equal(torch.cat(parts), whole)
        assert max(len(part) for part in parts) <= -(-len(whole) // 2)  # no more than its half in each


@pytest.mark.thorough
def test_parts_with_validation_give_the_best_and_a_finished_training_needs_no_others(
    together: Together, make_ids: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Sequences(make_ids(5, 12, seed=9))
    settings = replace(PARTS, epochs=20, learning_rate=0.05, patience=2)
    alone = together(count=1, settings=settings, validation=held)
    found = together(settings=settings, validation=held)
    assert (found.steps, found.best_step) == (alone.steps, alone.best_step)
    assert found.steps < found.planned
    assert near(found, alone, atol=1e-4)
    monkeypatch.setattr(RankProcesses, "called", lambda self: pytest.fail("there is nothing left to train"))
    again = together(settings=settings, validation=held)
    assert (again.steps, again.resumed_from, again.error) == (found.steps, [], "")
    assert near(again, found, atol=0.0)


@pytest.mark.thorough
def test_parts_that_were_interrupted_end_with_the_same_bits(together: Together, tmp_path: Path) -> None:
    whole = together(settings=PARTS)
    for snapshot in list_snapshots(tmp_path / "2"):
        if step_of(snapshot) > 10:
            shutil.rmtree(snapshot)  # as if it had been killed before it was taken
    resumed = together(settings=PARTS)
    assert (resumed.resumed_from, resumed.losses) == ([10], whole.losses)
    assert near(resumed, whole, atol=0.0)
    assert together().resumed_from == []  # whole models are another training
