"""Where the beginning-of-text token stands, for every use and every way of asking."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import processors
from transformers import AutoConfig, AutoTokenizer

from secateur.contract.errors import InvalidInput
from secateur.contract.options.texts import AnswersText, LocalText, SelfText
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.model.loading import load_model
from workers.engine.runtime import Machine
from workers.engine.text.beginning import count_windows, cut, cut_all
from workers.engine.text.calibration import token_batch
from workers.engine.text.text_source import TextSource

BOS = 1
CPU = Machine(torch.device("cpu"), torch.float32, 1, 0)
WORDS = LocalText(source="local", path="words.txt")


@pytest.fixture
def make_source(tiny_checkpoint: Callable[..., Path], text_file: Path, tmp_path: Path) -> Callable[..., TextSource]:
    def make(*, bos: bool = True, **settings: Any) -> TextSource:
        path = tiny_checkpoint(f"bos-{bos}", num_hidden_layers=1, bos=bos)
        config = AutoConfig.from_pretrained(path)
        for name, value in settings.items():
            setattr(config, name, value)
        return TextSource(
            checkpoint=path,
            config=config,
            fingerprint=str(bos) * 8,
            load=lambda: load_model(Checkpoint.open(path), device=CPU.device, dtype=CPU.dtype),
            machine=CPU,
            data_roots=[text_file.parent],
            cache=tmp_path / "cache",
            seed=0,
        )

    return make


def batch(source: TextSource, bos: Any, **more: Any) -> Any:
    values = {"purpose": "measuring", "samples": 6, "tokens": 32, **more}
    text = values.pop("text", WORDS)
    return token_batch(source, text, bos=bos, **values)


def text_ids_of(source: TextSource, text_file: Path) -> list[int]:
    tokenizer: Any = AutoTokenizer.from_pretrained(source.checkpoint)
    found: list[int] = tokenizer(text_file.read_text(), add_special_tokens=False, verbose=False)["input_ids"]
    return found


@pytest.mark.parametrize("asked", ["auto", "each"])
def test_each_window_begins_with_one_and_none_is_lost(
    make_source: Callable[..., TextSource], text_file: Path, asked: str
) -> None:
    source = make_source()
    ids, info = batch(source, asked)
    assert (ids[:, 0] == BOS).all()
    assert (ids[:, 1:] != BOS).all()
    assert (info.samples, info.tokens) == (6, 32)
    assert ids[:, 1:].flatten().tolist() == text_ids_of(source, text_file)[: 6 * 31]
    assert info.description == "words.txt, 0 to 1, each after a beginning-of-text token"


def test_a_tokenizer_that_adds_none_decides_what_auto_means(
    make_source: Callable[..., TextSource], text_file: Path
) -> None:
    source = make_source(bos=False)
    whole = text_ids_of(source, text_file)
    for asked in ("auto", "first", "none"):
        ids, info = batch(source, asked)
        assert ids.flatten().tolist() == whole[: 6 * 32]
        assert info.description == "words.txt, 0 to 1"
    ids, _ = batch(source, "each")
    assert (ids[:, 0] == BOS).all()


def test_at_the_start_of_the_text_alone_or_nowhere(make_source: Callable[..., TextSource], text_file: Path) -> None:
    source = make_source()
    whole = text_ids_of(source, text_file)
    assert batch(source, "first")[0].flatten().tolist() == [BOS, *whole][: 6 * 32]
    assert batch(source, "none")[0].flatten().tolist() == whole[: 6 * 32]


@pytest.mark.parametrize("purpose", ["calibration", "training"])
def test_drawn_samples_begin_as_measured_ones_do(make_source: Callable[..., TextSource], purpose: str) -> None:
    ids, _ = batch(make_source(), "auto", purpose=purpose)
    assert ids.shape == (6, 32)
    assert (ids[:, 0] == BOS).all()
    plain, _ = batch(make_source(), "none", purpose=purpose)
    assert (plain != BOS).all()


def test_all_samples_of_a_text_in_the_file_in_which_they_are_kept(make_source: Callable[..., TextSource]) -> None:
    source = make_source()
    plain, info = batch(source, "auto", purpose="training", samples=None)
    mapped, info_mapped = batch(source, "auto", purpose="training", samples=None, mapped=True)
    assert (plain.dtype, mapped.dtype) == (torch.int64, torch.int32)
    assert torch.equal(plain, mapped.long())
    assert (mapped[:, 0] == BOS).all()
    assert info == info_mapped


def test_windows_that_overlap_begin_with_it_too(make_source: Callable[..., TextSource], text_file: Path) -> None:
    source = make_source()
    whole = text_ids_of(source, text_file)
    ids, _ = batch(source, "each", stride=8)
    assert ids.tolist() == [[BOS, *whole[start : start + 31]] for start in range(0, 48, 8)]
    ids, _ = batch(source, "none", stride=8)
    assert ids.tolist() == [whole[start : start + 32] for start in range(0, 48, 8)]


def test_one_that_stands_in_the_text_is_not_doubled(make_source: Callable[..., TextSource], text_file: Path) -> None:
    text_file.write_text("<s>" + "a" * 60 + "<s>" + "b" * 90)
    ids, _ = batch(make_source(), "each", samples=3)
    assert (ids[:, 0] == BOS).all()
    assert (ids[:, 1] != BOS).all()
    first, _ = batch(make_source(), "first", samples=3)
    assert first[0, :2].tolist().count(BOS) == 1
    text = np.array([1, 5, 1, 6, 1, 7], dtype=np.int32)
    starts = torch.tensor([0, 2, 4])
    assert cut(text, starts, tokens=2, bos=1).tolist() == [[1, 5], [1, 6], [1, 7]]
    assert cut(text, starts[:2], tokens=3, bos=1).tolist() == [[1, 5, 1], [1, 6, 1]]
    assert np.concatenate(list(cut_all(text, starts, tokens=2, bos=1))).tolist() == [1, 5, 1, 6, 1, 7]


def test_a_last_sample_that_would_be_too_short_is_not_counted(
    make_source: Callable[..., TextSource], text_file: Path
) -> None:
    """It begins in the text with the very token that it is to begin with, so it needs one more behind."""
    text = np.array([1, 5, 1, 6, 1, 7], dtype=np.int32)
    assert [count_windows(text, width=2, step=2, bos=bos) for bos in (1, 7, None)] == [2, 3, 3]
    assert [count_windows(text[:length], width=1, step=2, bos=1) for length in range(6)] == [0, 0, 1, 1, 2, 2]
    text_file.write_text("a" * 75 + "<s>" + "b" * 14)  # five samples of 15, and one of 14
    for purpose in ("measuring", "calibration"):
        ids, info = batch(make_source(), "each", tokens=16, exact=False, purpose=purpose)
        assert ids.shape == (5, 16)
        assert info.samples == 5
        with pytest.raises(InvalidInput, match=r"has 90 tokens; 6 samples of 16 tokens need 91") as caught:
            batch(make_source(), "each", tokens=16, purpose=purpose)
        assert caught.value.errors[0].value == 90
        assert len(batch(make_source(), "each", tokens=16, samples=5, purpose=purpose)[0]) == 5
    text_file.write_text("<s>" + "b" * 14)
    with pytest.raises(InvalidInput, match="has 15 tokens; 1 samples of 16 tokens need 16"):
        batch(make_source(), "each", tokens=16, exact=False)


def test_text_that_the_model_writes_begins_as_it_was_sampled(make_source: Callable[..., TextSource]) -> None:
    source = make_source(bos=False)
    text = SelfText()
    with_it, _ = batch(source, "auto", text=text, tokens=12)
    assert (with_it[:, 0] == BOS).all()
    without, info = batch(source, "none", text=text, tokens=11)
    assert torch.equal(without, with_it[:, 1:])
    assert (info.samples, info.tokens) == (6, 11)


@pytest.mark.parametrize("called", [None, "</s>"])
def test_one_that_the_tokenizer_puts_first_whatever_its_settings_call_so(
    make_source: Callable[..., TextSource], text_file: Path, called: str | None
) -> None:
    source = make_source(bos_token_id=None)
    source.tokenizer.bos_token = called
    ids, info = batch(source, "auto")
    assert (ids[:, 0] == BOS).all()
    assert ids[:, 1:].flatten().tolist() == text_ids_of(source, text_file)[: 6 * 31]
    assert info.description == "words.txt, 0 to 1, each after a beginning-of-text token"
    written, _ = batch(source, "auto", text=SelfText(), tokens=12)
    assert (written[:, 0] == BOS).all()


def test_what_a_tokenizer_puts_behind_a_text_is_no_beginning(
    make_source: Callable[..., TextSource], text_file: Path
) -> None:
    source = make_source(bos=False)
    source.tokenizer.bos_token = None
    backend: Any = source.tokenizer
    backend.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 2)]
    )
    ids, _ = batch(source, "auto")
    assert ids.flatten().tolist() == text_ids_of(source, text_file)[: 6 * 32]


def test_several_tokens_that_a_tokenizer_puts_first_are_not_left_out_in_silence(
    make_source: Callable[..., TextSource], text_file: Path
) -> None:
    """As GLM-4's `[gMASK]<sop>`: a sample can begin with one token."""
    source = make_source(bos=False)
    backend: Any = source.tokenizer
    backend.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> </s> $A", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    source.tokenizer.bos_token = None
    for asked in ("auto", "first"):
        with pytest.raises(InvalidInput, match=r"begins a text with 2 tokens \(ids 1, 2\)") as caught:
            batch(source, asked)
        assert (caught.value.errors[0].pointer, caught.value.errors[0].value) == ("bos", asked)
    ids, _ = batch(source, "none")
    assert ids.flatten().tolist() == text_ids_of(source, text_file)[: 6 * 32]
    batch(source, "auto", text=SelfText())  # which begins with what the model was given


def test_a_model_without_such_a_token(make_source: Callable[..., TextSource]) -> None:
    source = make_source(bos=False, bos_token_id=None)
    source.tokenizer.bos_token = None
    for text in (WORDS, SelfText(), AnswersText(source="answers")):
        with pytest.raises(InvalidInput, match="no beginning-of-text token") as caught:
            batch(source, "each", text=text, tokens=64)
        assert (caught.value.errors[0].pointer, caught.value.errors[0].value) == ("bos", "each")
        batch(source, "auto", text=text, tokens=64)


def test_one_that_the_embedding_has_no_row_for(make_source: Callable[..., TextSource]) -> None:
    source = make_source(vocab_size=259)
    source.tokenizer.add_special_tokens({"bos_token": "<new>"})
    moved = replace(source, config=source.config)
    vars(moved)["tokenizer"] = Adding(source.tokenizer)
    with pytest.raises(InvalidInput, match=r"has the id 259, and the model's embedding has 259 rows") as caught:
        batch(moved, "auto")
    assert caught.value.errors[0].pointer == "bos"


class Adding:
    """A tokenizer that begins every text with its own token."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.bos_token_id = tokenizer.bos_token_id

    def __call__(self, text: str, **_: Any) -> Any:
        return {"input_ids": [self.bos_token_id]}
