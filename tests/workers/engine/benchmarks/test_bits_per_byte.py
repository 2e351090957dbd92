"""Bits per byte against a plain loop over the texts, and the same bytes for every tokenizer."""

from __future__ import annotations

from math import log
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from secateur.contract.errors import StageFailed
from secateur.contract.results import TextInfo
from tests.fixtures.tokenizers import TOKENIZERS, WORDS, byte_level, write_model
from workers.engine.benchmarks.bits_per_byte import Passages, bits_per_byte, encoded, passages, window_bits
from workers.engine.benchmarks.windows import Windows
from workers.engine.model.block_model import BlockModel

TEXT = TextInfo(description="words", source="local", identity="words", samples=3, tokens=12, sha256="0")


def _windows(ids: list[list[int]], overlap: int = 0) -> Windows:
    return Windows(torch.tensor(ids), TEXT, "windows", overlap)


@pytest.mark.parametrize("kind", ["byte level", "byte fallback"])
@pytest.mark.parametrize("begins", [True, False])
def test_the_figure_is_that_of_a_plain_loop(kind: str, begins: bool, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", TOKENIZERS[kind]())
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    stream = tokenizer(WORDS, add_special_tokens=False)["input_ids"]
    width = 11 if begins else 12
    rows = [[*([1] if begins else []), *stream[at : at + width]] for at in (0, width, 2 * width)]
    found = passages(_windows(rows), tokenizer, bos=1, positions=None)
    assert found.begins is begins
    for row, given, predicted in zip(rows, found.given, found.predicted, strict=True):
        assert given + predicted == str(tokenizer.decode(row[1:] if begins else row)).strip("\ufffd")
        assert len(given.split()) == 1
    read = encoded(found, tokenizer, bos=1)
    bits = window_bits(BlockModel.from_model(model), read).tolist()
    for given, predicted, ours in zip(found.given, found.predicted, bits, strict=True):
        first = [*([1] if begins else []), *tokenizer(given, add_special_tokens=False)["input_ids"]]
        rest = tokenizer(predicted, add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            losses = model(torch.tensor([[*first, *rest]])).logits[0].double().log_softmax(-1)
        plain = -sum(losses[len(first) - 1 + at, token].item() for at, token in enumerate(rest)) / log(2)
        assert ours == pytest.approx(plain, rel=1e-4)
    figure = bits_per_byte(bits, read.tokens, found)
    assert figure.value == pytest.approx(sum(bits) / sum(len(part.encode()) for part in found.predicted))
    assert figure.bytes == sum(found.sizes)
    assert figure.rise is None


def test_what_an_overlap_has_predicted_is_given(tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(write_model(tmp_path / "model", byte_level()))
    ids = tokenizer("the river runs under the old bridge while the miller")["input_ids"]
    found = passages(_windows([ids[:7], ids[3:10]], overlap=4), tokenizer, bos=None, positions=None)
    assert found.given[1] + found.predicted[1] == tokenizer.decode(ids[3:10])
    assert found.given[1] == tokenizer.decode(ids[3:7])


def test_half_characters_and_text_without_spaces(tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(write_model(tmp_path / "model", byte_level()))
    ids = tokenizer("你好世界你好")["input_ids"]
    found = passages(_windows([ids[1:17]]), tokenizer, bos=None, positions=None)
    assert (found.given, found.predicted) == (("好世",), ("界你好"[:2],))
    with pytest.raises(StageFailed, match="no text behind"):
        passages(_windows([[ids[0]] * 2]), tokenizer, bos=None, positions=None)


def test_no_more_is_read_than_a_longer_spelling_leaves_room_for(tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(write_model(tmp_path / "model", byte_level()))
    ids = tokenizer(WORDS)["input_ids"][:60]
    found = passages(_windows([ids]), tokenizer, bos=None, positions=60)
    assert found.given[0] + found.predicted[0] == tokenizer.decode(ids[:40])


def test_the_rise_is_taken_in_pairs() -> None:
    made = Passages(("a", "b", "c"), (" xx", " yyyyy", " z"), False, TEXT)
    before, after = [6.0, 6.0, 2.0], [9.0, 12.0, 4.0]
    figure = bits_per_byte(after, 7, made, original=before)
    assert figure.rise == pytest.approx((25 - 14) / 11)
    assert figure.tokens_per_byte == pytest.approx(7 / 11)
    assert figure.value == pytest.approx(25 / 11)
    low, middle, high = figure.rise_low, figure.rise, figure.rise_high
    assert low is not None
    assert middle is not None
    assert high is not None
    assert low <= middle <= high
    with pytest.raises(StageFailed, match="not finite"):
        bits_per_byte([float("nan"), 1, 1], 7, made)
