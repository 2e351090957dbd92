"""From texts to token batches."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoTokenizer

from secateur.contract.errors import InvalidInput
from secateur.contract.options.texts import HubText, LocalText, SelfText
from tests.fixtures.text_sources import text_source
from workers.engine.text import text_ids
from workers.engine.text.calibration import check_positions, choose_windows, token_batch
from workers.engine.text.text_source import TextSource


@pytest.fixture
def source(tiny_checkpoint: Callable[..., Path], text_file: Path, tmp_path: Path) -> TextSource:
    path = tiny_checkpoint(num_hidden_layers=2)
    return text_source(path, roots=[text_file.parent], cache=tmp_path / "cache")


WORDS = LocalText(source="local", path="words.txt")


def test_measuring_takes_the_first_windows_as_plain_transformers_tokenises_them(
    source: TextSource, text_file: Path
) -> None:
    ids, info = token_batch(source, WORDS, purpose="measuring", samples=5, tokens=32)
    plain = AutoTokenizer.from_pretrained(source.checkpoint)(text_file.read_text(), verbose=False)["input_ids"]
    assert torch.equal(ids, torch.tensor(plain[: 5 * 32]).view(5, 32))
    assert (info.samples, info.tokens, info.source, info.identity) == (5, 32, "local", "words.txt")
    assert info.description == "words.txt, 0 to 1"


def test_calibration_draws_windows_without_repetition_by_the_jobs_seed(source: TextSource) -> None:
    first, info = token_batch(source, WORDS, purpose="calibration", samples=6, tokens=32)
    again, info_again = token_batch(source, WORDS, purpose="calibration", samples=6, tokens=32)
    other, _ = token_batch(source, WORDS, purpose="training", samples=6, tokens=32)
    assert torch.equal(first, again)
    assert info.sha256 == info_again.sha256
    assert not torch.equal(first, other)
    assert "drawn with seed 0" in info.description


def test_all_windows_are_taken_where_no_number_is_given(source: TextSource, text_file: Path) -> None:
    ids, _ = token_batch(source, WORDS, purpose="training", samples=None, tokens=64)
    assert len(ids) == len(text_file.read_bytes()) // 64


def test_a_text_too_short_is_refused_with_both_numbers(source: TextSource) -> None:
    short = LocalText(source="local", path="words.txt", stop=0.01)
    with pytest.raises(InvalidInput, match=r"10 samples of 64 tokens need 640") as caught:
        token_batch(source, short, purpose="calibration", samples=10, tokens=64)
    field = caught.value.errors[0]
    assert field.pointer == "batch"
    assert 0 < field.value < 640
    assert f"{field.value:,} tokens" in field.detail
    ids, _ = token_batch(source, short, purpose="measuring", samples=10, tokens=64, exact=False)
    assert 1 <= len(ids) < 10


def test_samples_longer_than_the_models_context_are_refused(source: TextSource) -> None:
    with pytest.raises(InvalidInput, match="context of 256") as caught:
        token_batch(source, WORDS, purpose="measuring", samples=1, tokens=257)
    assert caught.value.errors[0].pointer == "tokens"


def test_generated_texts_of_different_purposes_are_different_draws_and_are_kept(source: TextSource) -> None:
    calls: list[int] = []
    whole = source.load

    def load() -> object:
        calls.append(1)
        return whole()

    counted = TextSource(**{**vars(source), "load": load})
    drawn = {
        (purpose, index): token_batch(counted, SelfText(), purpose=purpose, index=index, samples=4, tokens=16)
        for purpose in ("calibration", "training", "measuring")
        for index in (0, 1)
    }
    assert len({info.sha256 for _, info in drawn.values()}) == 6
    assert {info.identity for _, info in drawn.values()} == {"self"}
    assert len(calls) == 6
    again, info = token_batch(counted, SelfText(), purpose="training", samples=4, tokens=16)
    assert len(calls) == 6
    assert torch.equal(again, drawn["training", 0][0])
    assert info == drawn["training", 0][1]


def test_a_damaged_cache_is_made_anew(source: TextSource) -> None:
    first, _ = token_batch(source, SelfText(), purpose="training", samples=2, tokens=16)
    (file,) = (source.cache / "texts").iterdir()
    file.write_bytes(b"broken")
    again, _ = token_batch(source, SelfText(), purpose="training", samples=2, tokens=16)
    assert torch.equal(first, again)


def test_rows_of_a_stream_are_joined_by_empty_lines_and_read_no_further_than_needed(
    source: TextSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []

    def rows(*_: object, **__: object) -> object:
        for number in range(10_000):
            read.append(number)
            yield f"row {number:04d}"

    monkeypatch.setattr(text_ids, "CHUNK_BYTES", 16 * 100)
    monkeypatch.setattr(text_ids, "read_hub", rows)
    monkeypatch.setattr(text_ids, "hub_revision", lambda *_, **__: "c" * 40)
    text = HubText(source="hub", id="some/set", config="plain", split="test")
    ids, info = token_batch(source, text, purpose="measuring", samples=2, tokens=64)
    assert str(source.tokenizer.decode(ids.flatten())).startswith("row 0000\n\nrow 0001\n\nrow 0002")
    assert len(read) < 40
    assert info.description == "some/set plain test at cccccccccccc"
    assert info.identity == "some/set"


def test_windows_are_chosen_ascending() -> None:
    chosen = choose_windows(100, 10, seed=3)
    assert chosen.tolist() == sorted(set(chosen.tolist()))
    assert choose_windows(100, 3, seed=None).tolist() == [0, 1, 2]
    assert choose_windows(4, 10, seed=3).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("family", "key"), [("llama", "max_position_embeddings"), ("gpt2", "n_positions"), ("mpt", "max_seq_len")]
)
def test_samples_that_a_family_cannot_hold_are_refused_under_whatever_name_it_counts(family: str, key: str) -> None:
    config = AutoConfig.for_model(family, **{key: 64})
    check_positions(config, 64)
    with pytest.raises(InvalidInput, match="longer than the model's context of 64") as caught:
        check_positions(config, 65)
    assert caught.value.errors[0].pointer == "tokens"
