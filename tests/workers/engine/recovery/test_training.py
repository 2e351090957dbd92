"""Training that is interrupted and goes on, and training that breaks."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from secateur.contract.errors import InvalidInput, StageFailed
from secateur.contract.options.recovery import LoraRecovery
from secateur.contract.results import LossPoint
from workers.engine.recovery.job import check_optimizer
from workers.engine.recovery.lora import add_adapters
from workers.engine.recovery.objective import IGNORED, Objective
from workers.engine.recovery.sequences import Sequences
from workers.engine.recovery.snapshots import latest_snapshot, list_snapshots, load_optimizer, save_optimizer, step_of
from workers.engine.recovery.training import Training, TrainingOutcome, train
from workers.engine.recovery.training_settings import TrainingSettings
from workers.engine.recovery.weights import train_all
from workers.engine.runtime import Machine

CPU = Machine(torch.device("cpu"), torch.float32, 1, 3)
SETTINGS = TrainingSettings(
    learning_rate=1e-2, batch_size=4, micro_batch_size=2, epochs=2, warmup_steps=3, checkpoint_steps=3
)


class Killed(Exception):
    pass


@pytest.fixture
def run(
    make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor], tmp_path: Path
) -> Callable[..., tuple[dict[str, Tensor], TrainingOutcome]]:
    """run("folder", kill_at=5): a LoRA training with dropout, 22 samples, 12 steps; killed in the middle if asked."""

    def start(
        folder: str, *, kill_at: int | None = None, settings: TrainingSettings = SETTINGS, **arguments: Any
    ) -> tuple[dict[str, Tensor], TrainingOutcome]:
        model = add_adapters(make_model(), LoraRecovery(dropout=0.2), seed=1)

        def progress(done: int, total: int, unit: str) -> None:
            if done == kill_at:
                raise Killed

        outcome = train(
            Training(
                model,
                Sequences(make_ids(22, 12)),
                settings=settings,
                machine=CPU,
                scratch=tmp_path / folder,
                identity="the same",
                progress=progress,
                **arguments,
            )
        )
        return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}, outcome

    return start


def test_loss_falls_and_the_curve_tells_it(run: Callable[..., Any]) -> None:
    points: list[LossPoint] = []
    _, outcome = run("scratch", settings=replace(SETTINGS, epochs=6), on_point=points.append)
    assert outcome.steps == 36
    assert outcome.tokens == 6 * 22 * 12
    assert outcome.curve == points
    assert [point.step for point in points] == list(range(1, 37))
    assert points[-1].loss < points[0].loss - 0.2
    assert points[0].learning_rate < points[2].learning_rate
    assert points[-1].learning_rate < points[5].learning_rate


@pytest.mark.thorough
@pytest.mark.parametrize("kill_at", [1, 4, 5, 7, 11])
def test_a_training_that_was_killed_ends_with_the_same_bits(run: Callable[..., Any], kill_at: int) -> None:
    expected, whole = run("whole")
    with pytest.raises(Killed):
        run("killed", kill_at=kill_at)
    weights, resumed = run("killed")
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    assert resumed.resumed_from == ([] if kill_at <= 3 else [(kill_at - 1) // 3 * 3])
    assert (resumed.steps, resumed.tokens) == (whole.steps, whole.tokens)
    assert resumed.curve == whole.curve


def test_a_training_killed_twice_says_so_and_ends_with_the_same_bits(run: Callable[..., Any]) -> None:
    expected, _ = run("whole")
    for kill_at in (5, 9):
        with pytest.raises(Killed):
            run("killed", kill_at=kill_at)
    weights, outcome = run("killed")
    assert outcome.resumed_from == [3, 6]
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


@pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="an extra of its own: bitsandbytes")
def test_moments_in_8_bits_are_a_quarter_and_survive_a_kill_with_the_same_bits(
    make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor], tmp_path: Path
) -> None:
    def run(folder: str, kill_at: int | None = None, optimizer: Literal["adamw", "adamw_8bit"] = "adamw_8bit") -> Any:
        model = make_model(hidden_size=128, intermediate_size=256)
        train_all(model)

        def progress(done: int, total: int, unit: str) -> None:
            if done == kill_at:
                raise Killed

        train(
            Training(
                model,
                Sequences(make_ids(12, 12)),
                settings=replace(SETTINGS, optimizer=optimizer),
                machine=CPU,
                scratch=tmp_path / folder,
                identity="the same",
                progress=progress,
            )
        )
        return model.state_dict()

    expected = run("whole")
    with pytest.raises(Killed):
        run("killed", kill_at=5)
    weights = run("killed")
    assert all(torch.equal(weights[name], expected[name]) for name in expected)

    plain = run("plain", optimizer="adamw")
    assert any(not torch.equal(plain[name], expected[name]) for name in expected)
    sizes = {
        folder: next((tmp_path / folder).glob("snapshot-6/optimizer.safetensors")).stat().st_size
        for folder in ("whole", "plain")
    }
    assert sizes["whole"] < 0.4 * sizes["plain"]  # small parameters and the embedding keep theirs in 32 bits


def test_an_optimizers_nested_and_shared_tensors_come_back(tmp_path: Path) -> None:
    table = torch.arange(4.0)
    optimizers = [torch.optim.AdamW([torch.zeros(2, requires_grad=True) for _ in range(12)], lr=lr) for lr in (0.1, 1)]
    parameters = optimizers[0].param_groups[0]["params"]
    for number in (0, 11):
        optimizers[0].state[parameters[number]] = {"step": 3, "nested": {"moment": torch.ones(2), "table": table}}
    save_optimizer(tmp_path, optimizers[0])
    load_optimizer(tmp_path, optimizers[1])
    found = optimizers[1].state_dict()
    assert found["param_groups"] == json.loads(json.dumps(optimizers[0].state_dict()["param_groups"]))
    assert found["state"].keys() == {0, 11}
    for slots in found["state"].values():
        assert slots["step"] == 3
        assert torch.equal(slots["nested"]["moment"], torch.ones(2))
        assert torch.equal(slots["nested"]["table"], table)


def test_8_bits_without_their_library_are_refused_before_anything_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    check_optimizer(LoraRecovery())
    with pytest.raises(InvalidInput, match="bitsandbytes") as refused:
        check_optimizer(LoraRecovery(optimizer="adamw_8bit"))
    assert refused.value.errors[0].pointer == "optimizer"


def test_a_training_killed_after_its_last_step_is_not_trained_further(run: Callable[..., Any]) -> None:
    expected, whole = run("scratch")
    weights, again = run("scratch")
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    assert again.resumed_from == []
    assert (again.steps, again.tokens, again.curve) == (whole.steps, whole.tokens, whole.curve)
    assert again.seconds >= whole.seconds / 2


def test_only_the_last_snapshots_are_kept_and_a_torn_one_is_passed_over(
    run: Callable[..., Any], tmp_path: Path
) -> None:
    run("scratch")
    assert [step_of(path) for path in list_snapshots(tmp_path / "scratch")] == [9, 12]
    (tmp_path / "scratch" / "snapshot-12" / "weights.safetensors").write_bytes(b"torn")
    found = latest_snapshot(tmp_path / "scratch", identity="the same")
    assert found is not None
    assert found.name == "snapshot-9"
    assert latest_snapshot(tmp_path / "scratch", identity="another") is None


def test_nothing_in_a_snapshot_is_pickled(run: Callable[..., Any], tmp_path: Path) -> None:
    run("scratch")
    suffixes = {path.suffix for path in (tmp_path / "scratch").rglob("*") if path.is_file()}
    assert suffixes == {".json", ".safetensors"}


def test_a_loss_that_is_no_number_ends_the_training_and_the_last_good_snapshot_stays(
    run: Callable[..., Any], tmp_path: Path
) -> None:
    calls = []

    def loss(model: nn.Module, inputs: Any) -> Tensor:
        calls.append(1)
        value: Tensor = model(**inputs).loss
        return value * (math.nan if len(calls) > 10 else 1)

    with pytest.raises(StageFailed, match=r"The loss is nan at step 6 of 12\. The snapshot of step 3 is kept"):
        run("scratch", objective=Objective(loss))
    assert [step_of(path) for path in list_snapshots(tmp_path / "scratch")] == [3]


def test_a_loss_of_ones_own_is_averaged_over_the_micro_batches(run: Callable[..., Any]) -> None:
    def loss(model: nn.Module, inputs: Any) -> Tensor:
        value: Tensor = model(**inputs).loss
        return value

    built_in, _ = run("built-in", settings=replace(SETTINGS, max_steps=4))
    own, _ = run("own", settings=replace(SETTINGS, max_steps=4), objective=Objective(loss))
    assert all(torch.allclose(own[name], built_in[name], atol=1e-6) for name in own)


def test_minutes_bound_a_training_and_it_does_not_go_on_after_that(run: Callable[..., Any]) -> None:
    bounded = replace(SETTINGS, max_minutes=1e-9)
    _, outcome = run("scratch", settings=bounded)
    assert (outcome.steps, outcome.planned) == (1, 12)
    _, again = run("scratch", settings=bounded)
    assert (again.steps, again.resumed_from) == (1, [])


def test_validation_keeps_the_best_weights_and_stops_without_progress(
    run: Callable[..., Any], make_ids: Callable[..., Tensor], tmp_path: Path
) -> None:
    held = Sequences(make_ids(4, 12, seed=9))  # noise of another seed: its loss soon rises
    settings = replace(SETTINGS, epochs=20, learning_rate=0.05, patience=2)
    weights, outcome = run("scratch", settings=settings, validation=held)
    losses = {point.step: point.validation_loss for point in outcome.curve if point.validation_loss is not None}
    assert outcome.best_step == min(losses, key=lambda step: losses[step])
    assert outcome.steps == outcome.best_step + 2 * 3 < outcome.planned
    stored = load_file(tmp_path / "scratch" / f"snapshot-{outcome.best_step}" / "weights.safetensors")
    assert all(torch.equal(weights[name], stored[name]) for name in stored)
    again, resumed = run("scratch", settings=settings, validation=held)
    assert resumed.steps == outcome.steps
    assert all(torch.equal(again[name], weights[name]) for name in weights)


def test_a_training_with_validation_that_was_killed_ends_with_the_same_bits(
    run: Callable[..., Any], make_ids: Callable[..., Tensor]
) -> None:
    held = Sequences(make_ids(4, 12, seed=9))
    expected, whole = run("whole", validation=held)
    with pytest.raises(Killed):
        run("killed", kill_at=8, validation=held)
    weights, outcome = run("killed", validation=held)
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    assert (outcome.curve, outcome.best_step) == (whole.curve, whole.best_step)


def test_samples_are_held_out_at_random_and_disjoint(make_ids: Callable[..., Tensor]) -> None:
    data = Sequences(torch.arange(40).view(20, 2), {"labels": torch.arange(20)})
    trained, held = data.split(0.2, seed=1)
    assert held is not None
    assert (len(trained), len(held)) == (16, 4)
    labels = [[int(part[row]["labels"]) for row in range(len(part))] for part in (trained, held)]
    assert sorted([*labels[0], *labels[1]]) == list(range(20))
    assert data.split(0.0, seed=1) == (data, None)


def test_all_weights_train_and_resume_with_checkpointed_gradients(
    make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor], tmp_path: Path
) -> None:
    settings = replace(SETTINGS, gradient_checkpointing=True, weight_decay=0.1, schedule="cosine", max_steps=6)

    def start(folder: str, kill_at: int | None = None) -> dict[str, Tensor]:
        model = make_model()
        train_all(model)

        def progress(done: int, total: int, unit: str) -> None:
            if done == kill_at:
                raise Killed

        scratch = tmp_path / folder
        data = Sequences(make_ids(22, 12))
        train(Training(model, data, settings=settings, machine=CPU, scratch=scratch, identity="i", progress=progress))
        return dict(model.state_dict())

    expected = start("whole")
    with pytest.raises(Killed):
        start("killed", kill_at=5)
    resumed = start("killed")
    assert all(torch.equal(resumed[name], expected[name]) for name in expected)


def test_what_holds_no_answer_teaches_and_measures_nothing(
    make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor], tmp_path: Path
) -> None:
    ids = make_ids(4, 12)
    labels = ids.clone()
    labels[:3] = IGNORED  # one sample has labels, which one of four steps sees
    model = make_model()
    train_all(model)
    settings = replace(SETTINGS, batch_size=1, micro_batch_size=1, epochs=1, warmup_steps=0)
    data = Sequences(ids, {"labels": labels})
    held = Sequences(make_ids(4, 12, seed=9), {"labels": labels})
    training = Training(model, data, settings=settings, machine=CPU, scratch=tmp_path, identity="i", validation=held)
    outcome = train(training)
    assert sorted(point.loss > 1 for point in outcome.curve) == [False, False, False, True]
    assert [point.loss for point in outcome.curve].count(0.0) == 3
    validations = [point.validation_loss for point in outcome.curve if point.validation_loss is not None]
    assert len(validations) == 2
    assert all(loss > 1 for loss in validations)


def test_a_training_takes_the_steps_of_a_plain_loop(
    make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor], tmp_path: Path
) -> None:
    """Each label counts alike, in whichever micro-batch it stands; rate, decay and clipping are the textbook's."""
    ids = make_ids(4, 12)
    labels = ids.clone()
    labels[0, :9] = labels[3, 2:] = IGNORED  # 3, 11, 11 and 1 tokens are predicted
    settings = replace(SETTINGS, epochs=6, warmup_steps=2, weight_decay=0.1, max_grad_norm=0.5)
    model, plain = make_model(), make_model()
    train_all(model)
    training = Training(
        model, Sequences(ids, {"labels": labels}), settings=settings, machine=CPU, scratch=tmp_path, identity="i"
    )
    outcome = train(training)

    matrices = [each for each in plain.parameters() if each.dim() > 1]
    others = [each for each in plain.parameters() if each.dim() < 2]
    groups: list[dict[str, Any]] = [{"params": matrices}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.1)
    losses, rates = [], [0.0, 0.005, 0.01, 0.0075, 0.005, 0.0025]
    for rate in rates:
        predictions = plain(input_ids=ids).logits[:, :-1].flatten(0, 1)
        loss = nn.functional.cross_entropy(predictions, labels[:, 1:].flatten(), ignore_index=IGNORED)
        torch.autograd.backward(loss)
        assert nn.utils.clip_grad_norm_(plain.parameters(), 0.5) > 0.5, "it is clipped, or this shows nothing"
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert [point.loss for point in outcome.curve] == pytest.approx(losses, rel=1e-4)
    assert [point.learning_rate for point in outcome.curve] == pytest.approx(rates)
    trained = dict(model.named_parameters())
    for name, expected in plain.named_parameters():
        torch.testing.assert_close(trained[name], expected, rtol=1e-3, atol=1e-4)
