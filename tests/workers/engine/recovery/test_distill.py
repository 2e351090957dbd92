"""The stored teacher, and the divergence to it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from secateur.contract.errors import UnsupportedModel
from secateur.contract.options.recovery import DistillRecovery, NoRecovery
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.model.block_model import BlockModel
from workers.engine.recovery import distill
from workers.engine.recovery.distill import DistillationLoss, state_distance, trainee, with_predictions
from workers.engine.recovery.job import RecoveryJob, trainable_parameters
from workers.engine.recovery.objective import IGNORED, predicted_tokens
from workers.engine.recovery.ranks import ALONE, Ranks
from workers.engine.recovery.sequences import LABELS, Sequences
from workers.engine.recovery.teacher import kl_to_predictions, top_predictions
from workers.engine.runtime import Machine


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_with_the_whole_vocabulary_the_loss_is_the_plain_divergence(
    make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor], temperature: float
) -> None:
    teacher, student, ids = make_model(), make_model(seed=1, num_hidden_layers=3), make_ids(5, 9)
    stored = top_predictions(BlockModel.from_model(teacher), ids, top_k=500, temperature=temperature)
    with torch.no_grad():
        logits = student(ids).logits
        p = (teacher(ids).logits / temperature).log_softmax(-1).flatten(0, 1)
        q = (logits / temperature).log_softmax(-1).flatten(0, 1)
    expected = F.kl_div(q, p, log_target=True, reduction="batchmean") * temperature**2
    found = kl_to_predictions(logits, *stored, temperature=temperature)
    assert torch.allclose(found, expected, rtol=1e-5)


def test_with_the_top_few_it_is_the_divergence_over_them_and_one_bucket(
    make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor]
) -> None:
    teacher, student, ids = make_model(), make_model(seed=1), make_ids(5, 9)
    stored = top_predictions(BlockModel.from_model(teacher), ids, top_k=4, temperature=1.0)
    with torch.no_grad():
        p, q = teacher(ids).logits.double().softmax(-1), student(ids).logits.double().softmax(-1)
        top, index = p.topk(4)
        assert torch.equal(index.int(), stored[0])
        left = torch.cat([top, 1 - top.sum(-1, keepdim=True)], -1)
        chosen = q.gather(-1, index)
        right = torch.cat([chosen, 1 - chosen.sum(-1, keepdim=True)], -1)
        expected = (left * (left / right).log()).sum(-1).mean()
        whole = (p * (p / q).log()).sum(-1).mean()
        found = kl_to_predictions(student(ids).logits, *stored, temperature=1.0)
    assert found.item() == pytest.approx(expected.item(), rel=1e-4)
    assert found.item() < whole.item()


def test_a_student_that_predicts_as_the_teacher_has_no_loss_and_no_gradient(
    make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor]
) -> None:
    model, ids = make_model(), make_ids(3, 8)
    stored = top_predictions(BlockModel.from_model(model), ids, top_k=8, temperature=2.0)
    logits = model(ids).logits.detach().requires_grad_(True)
    loss = kl_to_predictions(logits, *stored, temperature=2.0)
    loss.backward()  # type: ignore[no-untyped-call]  # no annotations upstream
    assert abs(loss.item()) < 1e-5
    assert logits.grad is not None
    assert logits.grad.abs().max() < 1e-5


def test_a_teacher_that_is_sure_gives_finite_gradients() -> None:
    logits = torch.tensor([[30.0, 0.0, -30.0]], requires_grad=True)
    logprobs = torch.tensor([[0.0]])  # all of it on one token
    loss = kl_to_predictions(logits, torch.tensor([[0]], dtype=torch.int32), logprobs, temperature=1.0)
    loss.backward()  # type: ignore[no-untyped-call]  # no annotations upstream
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_states_are_compared_with_those_that_the_original_gives_the_same_blocks() -> None:
    teacher = tuple(torch.full((1, 2, 3), float(number)) for number in range(1, 6))  # before, and after 4 blocks
    student = (teacher[0], teacher[2], teacher[3] + 4.0, torch.zeros(1, 2, 3))  # blocks 0, 2, 3 were kept
    expected = (0.0 + 16.0 / teacher[3][0, 0, 0].item() ** 2) / 2
    assert state_distance(student, teacher, (0, 2, 3)).item() == pytest.approx(expected)


def job_on(path: Path, scratch: Path, ranks: Ranks = ALONE, kept: tuple[int, ...] = (0, 1)) -> RecoveryJob:
    return RecoveryJob(
        pruned=Checkpoint.open(path),
        original=Checkpoint.open(path),
        kept=kept,
        out=scratch / "out",
        scratch=scratch / "scratch",
        options=NoRecovery(kind="none"),
        machine=Machine(torch.device("cpu"), torch.float32, 1, 0),
        texts=None,  # type: ignore[arg-type]  # the model alone is asked for
        ranks=ranks,
    )


def test_all_weights_are_trained_where_there_is_room_and_the_next_attempt_decides_the_same(
    make_model: Callable[..., PreTrainedModel],
    save_model: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = save_model(make_model())
    pruned = Checkpoint.open(path)
    weights = sum(parameter.numel() for parameter in make_model().parameters())
    room = {"bytes": int(16 * weights / 0.6) + 16}
    monkeypatch.setattr(distill, "available_memory", lambda device: room["bytes"])

    model, whole, notes = trainee(job_on(path, tmp_path / "roomy"), DistillRecovery(), pruned)
    assert (whole, notes) == (True, [])
    assert trainable_parameters(model) == weights

    room["bytes"] -= 64
    model, whole, notes = trainee(job_on(path, tmp_path / "small"), DistillRecovery(), pruned)
    assert not whole
    assert "Adapters were trained" in notes[0]
    assert trainable_parameters(model) < weights
    assert trainee(job_on(path, tmp_path / "eight"), DistillRecovery(optimizer="adamw_8bit"), pruned)[1]

    room["bytes"] = int(2 * 20 * weights / 0.6) + 16  # two processes, each with a bucket for the gradients
    assert trainee(job_on(path, tmp_path / "two", Ranks(count=2)), DistillRecovery(), pruned)[1]
    room["bytes"] -= 64
    assert not trainee(job_on(path, tmp_path / "two small", Ranks(count=2)), DistillRecovery(), pruned)[1]

    room["bytes"] *= 1000
    assert trainee(job_on(path, tmp_path / "small"), DistillRecovery(), pruned)[1:] == (whole, notes)
    assert not trainee(job_on(path, tmp_path / "asked"), DistillRecovery(train="lora"), pruned)[1]


def test_a_form_that_takes_no_trained_weights_gets_adapters_unless_all_was_asked_for(
    make_model: Callable[..., PreTrainedModel], save_model: Callable[..., Path], tmp_path: Path
) -> None:
    path = save_model(make_model("mixtral"))  # experts are stored one by one
    _, whole, notes = trainee(job_on(path, tmp_path), DistillRecovery(), Checkpoint.open(path))
    assert not whole
    assert "could not be written back" in notes[0]
    with pytest.raises(UnsupportedModel, match="could not be written back"):
        trainee(job_on(path, tmp_path / "all"), DistillRecovery(train="all"), Checkpoint.open(path))


def test_where_prompts_are_masked_the_loss_is_the_mean_over_the_answers_predictions(
    make_model: Callable[..., PreTrainedModel],
    make_ids: Callable[..., Tensor],
    save_model: Callable[..., Path],
    tmp_path: Path,
) -> None:
    """However a step is divided into micro-batches; the state's distance counts as it does beside a mean."""
    teacher, student, ids = make_model(), make_model(seed=1), make_ids(4, 9)
    source = save_model(teacher)
    vocabulary = int(teacher.config.vocab_size)
    options = DistillRecovery(top_k=vocabulary, hidden_weight=0.5)
    job = RecoveryJob(
        pruned=Checkpoint.open(source),
        original=Checkpoint.open(source),
        kept=tuple(range(teacher.config.num_hidden_layers)),
        out=tmp_path / "out",
        scratch=tmp_path / "scratch",
        options=options,
        machine=Machine(torch.device("cpu"), torch.float32, 1, 0),
        texts=SimpleNamespace(fingerprint="0" * 64, config=teacher.config),  # type: ignore[arg-type]  # all that is read
    )
    answers = torch.zeros(4, 9, dtype=torch.bool)
    answers[0, 4:], answers[1, 2], answers[2, 0] = True, True, True  # of the last two nothing is predicted
    data = Sequences(ids, {LABELS: ids.where(answers, IGNORED)})
    data = with_predictions(job, options, data, identity="0" * 32)
    loss = DistillationLoss(job, options, masked=True)
    with torch.no_grad():
        batches = [data.batch([0]), data.batch([1, 2, 3])]
        counts = [predicted_tokens(batch) for batch in batches]
        parts = [loss(student, batch) for batch in batches]
        theirs, ours = teacher(ids, output_hidden_states=True), student(ids, output_hidden_states=True)
        p, q = theirs.logits.log_softmax(-1), ours.logits.log_softmax(-1)
        each = (p.exp() * (p - q)).sum(-1)[:, :-1]
        distances = []
        for rows in ([0], [1, 2, 3]):
            ours_of, theirs_of = (tuple(state[rows] for state in out.hidden_states) for out in (ours, theirs))
            distances.append(state_distance(ours_of, theirs_of, job.kept))
    assert counts == [5, 1]
    expected = each[answers[:, 1:]].sum() / 6 + 0.5 * (distances[0] * 5 + distances[1]) / 6
    assert (torch.stack(parts).sum() / 6).item() == pytest.approx(expected.item(), rel=2e-3)


def test_where_minutes_are_bounded_labels_stay_with_their_samples(
    make_model: Callable[..., PreTrainedModel],
    make_ids: Callable[..., Tensor],
    save_model: Callable[..., Path],
    tmp_path: Path,
) -> None:
    """The samples are taken in random order then."""
    model = make_model()
    source = Checkpoint.open(save_model(model))
    options = DistillRecovery(max_minutes=100)
    job = RecoveryJob(
        pruned=source,
        original=source,
        kept=(0,),
        out=tmp_path / "out",
        scratch=tmp_path / "scratch",
        options=options,
        machine=Machine(torch.device("cpu"), torch.float32, 1, 0),
        texts=SimpleNamespace(fingerprint="0" * 64, config=model.config),  # type: ignore[arg-type]  # all that is read
    )
    ids = make_ids(12, 8)
    data = with_predictions(job, options, Sequences(ids, {LABELS: ids + 1000}), identity="0" * 32)
    assert not torch.equal(data.ids, ids)
    assert torch.equal(data.columns[LABELS], data.ids + 1000)
