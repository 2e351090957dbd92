"""Instruction data: what is trained on, what is masked, and that packed examples do not see each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, PreTrainedModel

from workers.engine.recovery.example import Example
from workers.engine.recovery.instruction_data import alpaca, pack, pad_each
from workers.engine.recovery.objective import IGNORED
from workers.engine.recovery.sequences import REAL_TOKENS, Sequences
from workers.engine.text.tokenizing import BoundedEncoder


@pytest.fixture
def tokenizer(tiny_checkpoint: Callable[..., Path]) -> Any:
    found: Any = AutoTokenizer.from_pretrained(tiny_checkpoint(num_hidden_layers=2))
    return found


@pytest.fixture
def encoder(tokenizer: Any) -> Iterator[BoundedEncoder]:
    with BoundedEncoder(tokenizer) as found:
        yield found


def text_of(tokenizer: Any, example: Example, *, answer: bool) -> str:
    chosen = [token for token, is_answer in zip(example.ids, example.answer, strict=True) if is_answer is answer]
    return str(tokenizer.decode(chosen))


def test_alpacas_fields_become_prompt_and_answer(tokenizer: Any, encoder: BoundedEncoder) -> None:
    example = alpaca(encoder, {"instruction": "Add.", "input": "1 and 2", "output": "3"})
    assert text_of(tokenizer, example, answer=False).endswith(
        "### Instruction:\nAdd.\n\n### Input:\n1 and 2\n\n### Response:\n"
    )
    assert text_of(tokenizer, example, answer=True) == "3</s>"
    without = alpaca(encoder, {"instruction": "Greet.", "output": "Hello"})
    assert "### Input" not in tokenizer.decode(without.ids)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"output": "x"}, "has no field that can be used"),
        ({"instruction": "", "output": "x"}, "an empty `instruction`"),
        ({"instruction": 3, "output": "x"}, "no string as `instruction`"),
        ({"instruction": "Add.", "output": None}, "no string as `output`"),
        ({"instruction": "Add.", "response": "x"}, "has no field that can be used"),  # no empty answer is made of it
        ("Add.", "is not a JSON object"),
    ],
)
def test_rows_of_another_shape_are_refused(encoder: BoundedEncoder, row: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        alpaca(encoder, row)


def examples() -> list[Example]:
    generator = torch.Generator().manual_seed(0)
    found = []
    for length in (5, 9, 4, 7, 12, 3):
        ids = torch.randint(3, 90, (length,), generator=generator).tolist()
        found.append(Example(ids, [False] * 2 + [True] * (length - 2)))
    return found


@pytest.mark.parametrize("model_type", ["llama", "mistral", "qwen3", "gemma2", "gpt2", "gpt_neox"])
def test_packed_examples_give_the_losses_that_they_have_alone(
    make_model: Callable[..., PreTrainedModel], model_type: str
) -> None:
    model = make_model(model_type)
    model.config.use_cache = False
    data = pack(examples(), tokens=16, pad=0, mask_prompt=True)
    assert len(data) == 3
    with torch.no_grad():
        packed = model(input_ids=data.ids, position_ids=data.columns["position_ids"]).logits
        total = torch.nn.functional.cross_entropy(
            packed[:, :-1].flatten(0, 1), data.columns["labels"][:, 1:].flatten(), reduction="sum"
        )
        alone = torch.tensor(0.0)
        for example in examples():
            ids = torch.tensor([example.ids])
            labels = torch.where(torch.tensor([example.answer]), ids, IGNORED)
            logits = model(input_ids=ids).logits[:, :-1]
            alone += torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), reduction="sum")
    assert total.item() == pytest.approx(alone.item(), rel=1e-4)


def test_packing_keeps_every_example_whole_and_counts_what_is_real() -> None:
    data = pack(examples(), tokens=16, pad=0, mask_prompt=False)
    assert int(data.columns[REAL_TOKENS].sum()) == 40
    labels = data.columns["labels"]
    assert int((labels != IGNORED).sum()) == 40 - 6  # the first token of each is not predicted
    starts = data.columns["position_ids"] == 0
    assert (labels[starts] == IGNORED).all()


def test_padded_examples_are_cut_to_the_longest_of_the_batch(make_model: Callable[..., PreTrainedModel]) -> None:
    data = pad_each(examples(), tokens=16, pad=0, mask_prompt=False)
    batch = data.batch([0, 2])
    assert batch["input_ids"].shape == batch["labels"].shape == batch["attention_mask"].shape == (2, 5)
    assert batch[REAL_TOKENS].tolist() == [5, 4]
    packed = Sequences(torch.ones((1, 8), dtype=torch.long)).batch([0])
    assert packed["input_ids"].shape == (1, 8)
