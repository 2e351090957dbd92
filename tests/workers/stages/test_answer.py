"""A question to a job's models: each answers as it would alone, and tells its words as they come."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from secateur.contract.errors import InvalidInput, StageFailed
from secateur.contract.protocol import MetricsEvent, TextEvent
from secateur.contract.questions import Answered, Question
from secateur.contract.spec import CompressionSpec
from tests.fixtures.whole_job import Job
from workers.stages import answer
from workers.stages.context import StageContext

SPEC: dict[str, Any] = {
    "model": {"source": "local", "path": "tiny"},
    "pruning": {"kind": "depth", "drop": [2, 4, 5]},
    "recovery": {"kind": "healing", "samples": 8, "tokens": 16},
}


@pytest.fixture
def job(tiny_checkpoint: Callable[..., Path]) -> Job:
    """One that has pruned, and recovered nothing."""
    root = tiny_checkpoint().parent
    found = Job(root, CompressionSpec.model_validate({**SPEC, "recovery": {"kind": "none"}}))
    for stage in ("check", "prune"):
        found.run(stage)
    found.events.clear()
    return found


def asked(job: Job, **question: Any) -> StageContext:
    context = job.context("answer")
    given = Question.model_validate({"prompt": "The river", **question})
    return replace(context, stage=context.stage.model_copy(update={"question": given}))


def told(job: Job, variant: str) -> list[TextEvent]:
    return [event for event in job.events if isinstance(event, TextEvent) and event.variant == variant]


def by_hand(checkpoint: Path, prompt: str, tokens: int) -> str:
    """What transformers generates, greedily."""
    tokenizer: Any = AutoTokenizer.from_pretrained(checkpoint)
    model: Any = AutoModelForCausalLM.from_pretrained(checkpoint)
    ids = torch.tensor([tokenizer(prompt)["input_ids"]])
    new = model.generate(ids, max_new_tokens=tokens, do_sample=False)[0, ids.shape[1] :]
    return str(tokenizer.decode(new, skip_special_tokens=True))


def test_every_model_answers_as_it_would_alone(job: Job) -> None:
    found: Answered = answer.run(asked(job, max_tokens=12))
    assert [one.variant for one in found.answers] == ["original", "pruned"]
    folders = {"original": job.root / "tiny", "pruned": job.folders["prune"] / "checkpoint"}
    for one in found.answers:
        assert one.text == by_hand(folders[one.variant], "The river", 12)
        pieces = told(job, one.variant)
        assert (pieces[0].text, pieces[0].tokens) == ("", 0)  # its turn has come
        assert "".join(piece.text for piece in pieces) == one.text
        assert one.tokens <= 12
        assert one.prompt_tokens == 9
        assert not one.chat
        assert one.ended == ("length" if one.tokens == 12 else "end")
    figures = [event.data for event in job.events if isinstance(event, MetricsEvent)]
    assert figures == [one.model_dump(mode="json", exclude={"text"}) for one in found.answers]


def test_quantised_models_answer_where_they_are_named(tiny_checkpoint: Callable[..., Path]) -> None:
    quantise = [{"kind": "int8"}, {"kind": "gguf", "type": "Q8_0"}]
    spec = {**SPEC, "recovery": {"kind": "none"}, "quantise": quantise}
    job = Job(tiny_checkpoint().parent, CompressionSpec.model_validate(spec))
    for stage in ("check", "prune", "quantise"):
        job.run(stage)
    names = ["pruned", "pruned-int8", "pruned-gguf-q8_0"]
    whole, int8, file = answer.run(asked(job, max_tokens=8, variants=names)).answers
    assert [whole.variant, int8.variant, file.variant] == names
    assert int8.text == by_hand(job.folders["quantise"] / "int8" / "checkpoint", "The river", 8)
    assert int8.first_token_seconds is not None
    assert file.text
    assert (file.first_token_seconds, file.tokens_per_second) == (None, None)  # it is llama.cpp's to tell
    with pytest.raises(StageFailed, match="no pruned-int4 model"):
        answer.run(asked(job, variants=["pruned-int4"]))


def test_only_who_is_asked_answers(job: Job) -> None:
    found = answer.run(asked(job, max_tokens=2, variants=["pruned"]))
    assert [one.variant for one in found.answers] == ["pruned"]


def test_the_same_words_are_drawn_each_time(job: Job) -> None:
    first, again = (answer.run(asked(job, max_tokens=8, temperature=1.5)) for _ in range(2))
    assert [one.text for one in first.answers] == [one.text for one in again.answers]


def test_a_chat_goes_through_the_template(job: Job) -> None:
    for folder in (job.root / "tiny", job.folders["prune"] / "checkpoint"):
        (folder / "chat_template.jinja").write_text("{% for m in messages %}[{{ m.content }}]{% endfor %}")
    found = answer.run(asked(job, max_tokens=4, variants=["pruned"]))
    (one,) = found.answers
    assert one.chat
    assert one.text == by_hand(job.folders["prune"] / "checkpoint", "[The river]", 4)
    assert not answer.run(asked(job, max_tokens=4, variants=["pruned"], chat=False)).answers[0].chat


def test_a_prompt_that_leaves_no_room_is_refused(job: Job) -> None:
    with pytest.raises(InvalidInput, match="must hold them all: it holds 256") as caught:
        answer.run(asked(job, prompt="a" * 250, max_tokens=10))
    assert caught.value.errors[0].pointer == "/prompt"


def test_an_answer_ends_when_its_time_is_up(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer, "MOST_SECONDS", 0.0)
    for one in answer.run(asked(job, max_tokens=50)).answers:
        assert (one.tokens, one.ended, one.tokens_per_second) == (1, "time", None)
