"""From files of rows to samples: what users' chats, templates and tokenizers hold, trained on or told with its row."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from secateur.contract.errors import InvalidInput
from secateur.contract.options.recovery import ContinuedRecovery, DistillRecovery, LoraRecovery
from secateur.contract.options.texts import LocalText
from secateur.contract.options.training import TrainedRecovery
from tests.fixtures.text_sources import CPU, reading_job, text_source
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.model.loading import load_model
from workers.engine.recovery.instruction_data import training_data
from workers.engine.recovery.objective import IGNORED
from workers.engine.text.calibration import token_batch
from workers.engine.text.text_source import TextSource

ROWS = 259  # of the tiny model's embedding
TEMPLATE = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('no system messages here') }}{% endif %}"
    "{% for m in messages %}({{ m.role }}) {% if loop.last and m.role == 'assistant' %}[thought]\n{% endif %}"
    "{{ m.content }}\n{% endfor %}{% if add_generation_prompt %}(assistant) {% endif %}"
)

Training = Callable[..., tuple[Any, Any]]


@pytest.fixture
def checkpoint(tiny_checkpoint: Callable[..., Path]) -> Path:
    path = tiny_checkpoint(num_hidden_layers=1)
    (path / "chat_template.jinja").write_text(TEMPLATE)
    return path


@pytest.fixture
def source(checkpoint: Path, text_file: Path, tmp_path: Path) -> TextSource:
    return text_source(checkpoint, roots=[text_file.parent], cache=tmp_path / "cache", loads=False)


@pytest.fixture
def train(source: TextSource, text_file: Path, tmp_path: Path) -> Training:
    """train(rows, format="chat"): what LoRA would train on, of a local file with these rows."""

    def data(
        rows: list[Any] | str,
        *,
        name: str = "rows.jsonl",
        start: float = 0.0,
        recovery: type[TrainedRecovery] = LoraRecovery,
        **options: Any,
    ) -> tuple[Any, Any]:
        content = rows if isinstance(rows, str) else "".join(json.dumps(row) + "\n" for row in rows)
        (text_file.parent / name).write_text(content)
        job = reading_job(source, tmp_path)
        text = LocalText(source="local", path=name, start=start)
        return training_data(job, recovery(text=text, **{"tokens": 256, "mask_prompt": True, **options}))

    return data


def chat_row(*roles: str) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": f"what {role} says, {at}"} for at, role in enumerate(roles)]}


def alpaca_rows(count: int, words: int = 3) -> list[dict[str, str]]:
    return [{"instruction": f"Go on, number {n}.", "output": "so it goes " * words} for n in range(count)]


def refused(train: Training, rows: Any, **options: Any) -> Any:
    with pytest.raises(InvalidInput) as caught:
        train(rows, **options)
    assert caught.value.detail == caught.value.errors[0].detail
    return caught.value.errors[0]


def learnt(source: TextSource, data: Any, row: int) -> str:
    labels = data.columns["labels"][row]
    return str(source.tokenizer.decode(labels[labels != IGNORED]))


def test_a_chat_that_the_template_refuses_is_named_by_its_row(train: Training) -> None:
    rows = [chat_row("user", "assistant")] * 2 + [chat_row("system", "user", "assistant")] + [chat_row("user")] * 3
    field = refused(train, rows, format="chat")
    assert (field.pointer, field.value) == ("text", 3)
    assert field.detail.startswith("Row 3 of the training data cannot be used")
    assert "no system messages here" in field.detail


def test_chats_whose_earlier_turns_change_are_trained_on(train: Training, source: TextSource) -> None:
    data, info = train([chat_row("user", "assistant", "user", "assistant")] * 5, format="chat", packing=False)
    assert len(data) == 5
    assert "5 examples" in info.description
    assert learnt(source, data, 0) == "what assistant says, 1\n[thought]\nwhat assistant says, 3\n"


def test_rows_without_an_answer_are_told_with_their_roles(train: Training) -> None:
    field = refused(train, [chat_row("human", "gpt")] * 3, format="chat")
    assert (field.pointer, field.value) == ("text", ["gpt", "human"])
    assert field.expected == "messages whose role is assistant"
    assert "No answer begins within" in refused(train, [chat_row("user", "assistant")], format="chat", tokens=8).detail


@pytest.mark.parametrize("packing", [True, False])
def test_any_id_serves_as_padding(train: Training, source: TextSource, packing: bool) -> None:
    source.tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    assert source.tokenizer.pad_token_id == ROWS  # the embedding has no such row
    data, _ = train(alpaca_rows(5), format="alpaca", packing=packing)
    assert int(data.ids.max()) < ROWS
    assert learnt(source, data, 0).startswith("so it goes")


def test_a_token_that_the_embedding_has_no_row_for_is_named(
    train: Training, source: TextSource, text_file: Path
) -> None:
    source.tokenizer.add_tokens(["<tool>"])
    rows = alpaca_rows(3)
    rows[1]["output"] = "use <tool> now"
    field = refused(train, rows, format="alpaca")
    assert (field.pointer, field.value) == ("text", ROWS)
    assert field.detail.startswith('Row 2 of the training data has the token "<tool>" with the id 259')
    assert "259 rows" in field.detail
    text_file.write_text("plain " * 100 + "<tool>" + "plain " * 100)
    with pytest.raises(
        InvalidInput, match=r'The text words.txt, 0 to 1 has the token "<tool>" with the id 259'
    ) as caught:
        token_batch(
            source,
            LocalText(source="local", path="words.txt"),
            purpose="calibration",
            samples=2,
            tokens=16,
        )
    assert caught.value.errors[0].pointer == "text"


def test_rows_that_are_longer_than_a_look_are_trained_on_from_a_rows_start(train: Training, source: TextSource) -> None:
    rows = alpaca_rows(6, words=15_500)
    data, info = train(rows, format="alpaca", start=0.55, mask_prompt=False)
    assert "2 examples" in info.description
    texts = [str(source.tokenizer.decode(ids)) for ids in data.ids]
    assert [n for n in range(6) if any(f"number {n}." in text for text in texts)] == [4, 5]


@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl", "rows.txt"])
def test_rows_of_one_array_are_those_of_lines(train: Training, name: str) -> None:
    rows = alpaca_rows(20)
    lines, _ = train(rows, format="alpaca")
    array, info = train(json.dumps(rows, indent=2), name=name, format="alpaca")
    assert torch.equal(array.ids, lines.ids)
    assert torch.equal(array.columns["labels"], lines.columns["labels"])
    assert "20 examples" in info.description


@pytest.mark.parametrize(("rows", "format", "says"), [
    ('{"instruction": "a", "output": "b"}\n{"instruction": "a", "output": "b"', "alpaca", "Row 2 of .* is not JSON"),
    ('{"instruction": "a", "output": "b"}\n\n{"instruction": "a", "response": "b"}', "alpaca", "Row 3 .* no field"),
    ('{"instruction": "a", "output": "b"}\n7', "alpaca", "Row 2 .* is not a JSON object"),
    ('{"instruction": "a\\u0000", "output": "b"}', "alpaca", "Row 1 .* NUL"),
    ('{"instruction": "a\\ud800", "output": "b"}', "alpaca", "Row 1 .* half of a surrogate pair"),
    ('{"messages": "a"}', "chat", "Row 1 .* `messages` that are no list"),
    ('{"conversations": []}', "chat", "Row 1 .* has no field that can be used"),
    ("[1]", "chat", "Row 1 .* is not a JSON object"),
    ("", "chat", "hold no examples"),
    ("[]", "chat", "hold no examples"),
    ('{"a": ' * 100_000, "chat", "nested too deeply"),
])  # fmt: skip
def test_a_row_that_cannot_be_used_is_named(train: Training, rows: str, format: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=says) as caught:
        train(rows, format=format)
    assert caught.value.errors[0].pointer == "text"


def test_a_beginning_of_text_token_where_the_tokenizer_adds_one(
    tiny_checkpoint: Callable[..., Path], source: TextSource, train: Training
) -> None:
    vars(source)["tokenizer"] = AutoTokenizer.from_pretrained(tiny_checkpoint("bos", num_hidden_layers=1, bos=True))
    rows = alpaca_rows(3)
    for bos, has in (("auto", True), ("each", True), ("first", True), ("none", False)):
        data, _ = train(rows, format="alpaca", bos=bos, packing=False)
        assert (data.ids[:, 0] == 1).all() == has
        assert (data.ids[:, 1] != 1).all()


def test_distillation_takes_examples_one_after_the_other(train: Training, source: TextSource) -> None:
    """As they stand in a text, so that the original is shown what the student sees; answers alone are learnt."""
    rows = [
        {"messages": [{"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": f"so {n}"}]}
        for n in range(40)
    ]
    masked, info = train(rows, recovery=DistillRecovery, format="chat", tokens=64)
    text = "".join(f"(user) {n}?\n(assistant) [thought]\nso {n}\n" for n in range(40))
    assert str(source.tokenizer.decode(masked.ids.flatten())) == text[: masked.ids.numel()]
    assert len(masked) == len(text) // 64
    assert info.description == "rows.jsonl, 0 to 1, 40 examples"
    learned = "".join(learnt(source, masked, row) for row in range(len(masked)))
    assert learned.startswith("[thought]\nso 0\n[thought]\nso 1\n")
    whole, _ = train(rows, recovery=DistillRecovery, format="chat", tokens=64, mask_prompt=False)
    assert torch.equal(whole.ids, masked.ids)
    assert whole.columns == {}
    assert (
        train(rows, recovery=DistillRecovery, format="chat", tokens=64, max_steps=1, batch_size=4)[0].ids.shape[0] < 9
    )
    field = refused(train, rows[:1], recovery=DistillRecovery, format="chat", tokens=64)
    assert (field.pointer, field.expected) == ("batch", "more rows, or shorter samples")


@pytest.mark.thorough
@pytest.mark.parametrize("kind", [DistillRecovery, ContinuedRecovery, LoraRecovery])
def test_of_prompts_and_answers_the_answers_are_learnt_unless_all_is_to_be(
    source: TextSource, tmp_path: Path, kind: Any
) -> None:
    job = reading_job(
        replace(
            source, load=lambda: load_model(Checkpoint.open(source.checkpoint), device=CPU.device, dtype=CPU.dtype)
        ),
        tmp_path,
    )
    text = {"source": "answers"}
    common = {"kind": kind.model_fields["kind"].annotation.__args__[0], "tokens": 200, "samples": 4, "text": text}
    data, info = training_data(job, kind(**common))
    for row in range(4):
        whole, said = str(source.tokenizer.decode(data.ids[row])), learnt(source, data, row)
        assert whole.startswith("(user) ")
        assert whole.endswith(said) or "(user)" not in said
        assert 0 < len(said) < len(whole)
    assert info.samples == 4
    everything, _ = training_data(job, kind(**common, mask_prompt=False))
    assert everything.columns == {}
    assert torch.equal(everything.ids, data.ids)
