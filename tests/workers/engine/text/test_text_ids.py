"""Texts are tokenised once for each content, tokenizer and way of joining; streams are read as far as is wanted."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from secateur.contract.errors import InvalidInput, StageFailed, Unavailable
from secateur.contract.options.recovery import ContinuedRecovery, LoraRecovery
from secateur.contract.options.texts import HubText, LocalText
from tests.fixtures.text_sources import reading_job, text_source
from workers.engine.recovery import instruction_data, training_text
from workers.engine.recovery.instruction_data import training_data
from workers.engine.recovery.job import RecoveryJob
from workers.engine.recovery.sequences import Sequences
from workers.engine.recovery.training_text import training_samples
from workers.engine.text import calibration, text_ids
from workers.engine.text import rows as data_rows
from workers.engine.text import sources as texts
from workers.engine.text.calibration import token_batch
from workers.engine.text.text_source import TextSource

WORDS = LocalText(source="local", path="words.txt")
STREAM = HubText(source="hub", id="some/set")


@pytest.fixture
def source(tiny_checkpoint: Callable[..., Path], text_file: Path, tmp_path: Path) -> TextSource:
    path = tiny_checkpoint(num_hidden_layers=1)
    return text_source(path, roots=[text_file.parent], cache=tmp_path / "cache", loads=False)


@pytest.fixture
def tokenised(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The pieces that were tokenised."""
    pieces: list[str] = []
    tokenize = text_ids.tokenize

    def counted(tokenizer: Any, given: Iterator[str], **more: Any) -> Any:
        def watched() -> Iterator[str]:
            for piece in given:
                pieces.append(piece)
                yield piece

        return tokenize(tokenizer, watched(), **more)

    monkeypatch.setattr(text_ids, "tokenize", counted)
    return pieces


class Hub:
    """A data set whose branch can move."""

    def __init__(self) -> None:
        self.commit = "a" * 40
        self.asked = 0
        self.read = 0

    def revision(self, text: HubText) -> str:
        if text.revision is not None:
            return text.revision
        self.asked += 1
        return self.commit

    def rows(self, text: HubText, *, revision: str) -> Iterator[str]:
        for number in range(1_000_000):
            self.read += 1
            yield f"row {number:06d} of {revision[:4]}"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    found = Hub()
    for module in (text_ids, training_text, data_rows):
        monkeypatch.setattr(module, "hub_revision", found.revision)
    monkeypatch.setattr(text_ids, "read_hub", found.rows)
    monkeypatch.setattr(text_ids, "CHUNK_BYTES", 16 * 1000)
    return found


def batch(source: TextSource, text: Any = WORDS, **more: Any) -> tuple[Any, Any]:
    values = {"purpose": "calibration", "samples": 6, "tokens": 32, **more}
    return token_batch(source, text, **values)


def test_a_second_run_does_not_tokenise_again(
    source: TextSource, tokenised: list[str], text_file: Path, tiny_checkpoint: Callable[..., Path]
) -> None:
    first, info = batch(source)
    assert len(tokenised) == 1
    again, info_again = batch(source)
    assert torch.equal(first, again)
    assert info == info_again
    batch(source, purpose="measuring", samples=3, tokens=64)  # other windows of the same ids
    copy = text_file.with_name("copy.txt")
    copy.write_bytes(text_file.read_bytes())
    batch(source, LocalText(source="local", path="copy.txt"))  # the same content under another name
    same = tiny_checkpoint("other-weights", num_hidden_layers=1, seed=1)
    batch(replace(source, checkpoint=same))
    assert len(tokenised) == 1
    batch(source, LocalText(source="local", path="words.txt", stop=0.5))
    assert len(tokenised) == 2
    batch(replace(source, checkpoint=tiny_checkpoint("bos", num_hidden_layers=1, bos=True)))
    assert len(tokenised) == 3
    text_file.write_text(text_file.read_text().replace("river", "brook"))
    changed, _ = batch(source)
    assert len(tokenised) == 4
    assert not torch.equal(changed, first)


def test_a_file_that_changes_while_it_is_read_is_not_kept(
    source: TextSource, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = texts.local_pieces

    def changing(*arguments: Any, **more: Any) -> Iterator[str]:
        yield from read(*arguments, **more)
        text_file.write_text("other " * 5000)

    monkeypatch.setattr("workers.engine.text.text_ids.local_pieces", changing)
    with pytest.raises(StageFailed, match="was changed while it was read"):
        batch(source)
    assert list((source.cache / "tokens").iterdir()) == []


def test_mapped_ids_are_those_of_a_batch_in_memory(source: TextSource) -> None:
    plain, info = batch(source, samples=None)
    mapped, info_mapped = batch(source, samples=None, mapped=True)
    assert (plain.dtype, mapped.dtype) == (torch.int64, torch.int32)
    assert torch.equal(plain, mapped.long())
    assert info == info_mapped
    row = Sequences(mapped)[3]
    assert row["input_ids"].dtype == row["labels"].dtype == torch.int64
    assert torch.equal(row["input_ids"], plain[3])


# --- instruction data --------------------------------------------------------------------------------------------


def recovery_job(source: TextSource, tmp_path: Path, scratch: str = "scratch") -> RecoveryJob:
    return reading_job(source, tmp_path, scratch=scratch)


def test_examples_are_tokenised_and_packed_once(
    source: TextSource, tmp_path: Path, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[Any] = []
    alpaca = instruction_data.alpaca

    def counted(encoder: Any, row: Any, **more: Any) -> Any:
        encoded.append(row)
        return alpaca(encoder, row, **more)

    monkeypatch.setattr(instruction_data, "alpaca", counted)
    rows = [{"instruction": f"Say {number}.", "output": "ok"} for number in range(7)]
    (text_file.parent / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = LocalText(source="local", path="a.jsonl")

    def data(**options: Any) -> tuple[Any, Any]:
        return training_data(
            recovery_job(source, tmp_path), LoraRecovery(text=text, format="alpaca", tokens=256, **options)
        )

    first, info = data()
    again, info_again = data()
    assert len(encoded) == 7
    assert info == info_again
    assert info.description == "a.jsonl, 0 to 1, 7 examples"
    assert torch.equal(first.ids, again.ids)
    assert set(first.columns) == set(again.columns)
    assert all(torch.equal(first.columns[name], again.columns[name]) for name in first.columns)
    data(learning_rate=1e-3)  # nothing that the samples depend on
    assert len(encoded) == 7
    changes: list[dict[str, Any]] = [{"mask_prompt": True}, {"packing": False}, {"samples": 7}]
    for number, options in enumerate(changes, start=2):
        data(**options)
        assert len(encoded) == 7 * number


# --- streams -----------------------------------------------------------------------------------------------------


def test_a_stream_is_read_as_far_as_the_training_can_go(source: TextSource, tmp_path: Path, hub: Hub) -> None:
    options = ContinuedRecovery(kind="continued", text=STREAM, tokens=64, batch_size=4, max_tokens=64 * 4 * 50)
    ids, info, _ = training_samples(recovery_job(source, tmp_path), options)
    assert len(ids) == 50 * 4
    needed = len(ids) * 64 * calibration.READ_AHEAD / len("row 000000 of aaaa\n\n")
    assert hub.read < needed * 1.1 + 200
    assert (info.revision, info.identity) == ("a" * 40, "some/set")


def test_many_tokens_are_not_read_several_times_over(
    source: TextSource, tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And they are left in their file."""
    monkeypatch.setattr(calibration, "READ_AHEAD_TOKENS", 10_000)
    options = ContinuedRecovery(
        kind="continued", text=STREAM, tokens=64, batch_size=8, micro_batch_size=4, max_steps=200, validation=0.2
    )
    ids, _, _ = training_samples(recovery_job(source, tmp_path), options)
    assert len(ids) == 200 * 8 / 0.8 + 1
    assert hub.read < len(ids) * 64 / len("row 000000 of aaaa\n\n") * 1.1 + 200
    assert ids.dtype is torch.int32


def test_an_attempt_that_goes_on_reads_the_same_tokens(source: TextSource, tmp_path: Path, hub: Hub) -> None:
    options = ContinuedRecovery(kind="continued", text=STREAM, tokens=64, batch_size=4, max_steps=5)
    first, info, _ = training_samples(recovery_job(source, tmp_path), options)
    hub.commit, hub.read = "b" * 40, 0
    again, info_again, _ = training_samples(recovery_job(source, tmp_path), options)
    assert torch.equal(first, again)
    assert info == info_again
    assert (hub.asked, hub.read) == (1, 0)
    elsewhere = replace(source, cache=tmp_path / "another-host")
    moved, info_moved, _ = training_samples(recovery_job(elsewhere, tmp_path), options)
    assert torch.equal(moved, first)
    assert info_moved == info
    other, info_other, _ = training_samples(recovery_job(source, tmp_path, "another-job"), options)
    assert info_other.revision == "b" * 40
    assert not torch.equal(other, first)


def test_a_stream_that_breaks_off_is_not_kept(source: TextSource, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaking(*arguments: Any, **more: Any) -> Iterator[str]:
        for number in range(1000):
            yield f"row {number}"
        raise Unavailable("the hub is gone")

    monkeypatch.setattr(text_ids, "read_hub", breaking)
    with pytest.raises(Unavailable):
        batch(source, STREAM, samples=1000)
    assert list((source.cache / "tokens").iterdir()) == []


# --- long texts --------------------------------------------------------------------------------------------------


@pytest.fixture
def long_text(text_file: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Numbered lines, so that what was read of them is seen; 1.6 MB, which are long here."""
    monkeypatch.setattr(text_ids, "WHOLE_BYTES", 10_000)
    monkeypatch.setattr(text_ids, "DRAWN_TOKENS", 3_000)
    monkeypatch.setattr(text_ids, "CHUNK_BYTES", 16_000)
    content = "".join(f"line {number:06d} of one\n" for number in range(80_000))
    text_file.write_text(content)
    return content


def test_a_long_text_is_not_tokenised_whole_for_a_short_training(
    source: TextSource, tmp_path: Path, tokenised: list[str], long_text: str
) -> None:
    options = ContinuedRecovery(
        kind="continued", text=WORDS, tokens=64, batch_size=4, micro_batch_size=4, max_steps=6, epochs=1
    )
    ids, info, _ = training_samples(recovery_job(source, tmp_path), options)
    assert len(ids) == 6 * 4
    read = sum(map(len, tokenised))
    assert read <= len(ids) * 64 * calibration.READ_AHEAD * text_ids.TOKEN_BYTES + 64 * 30
    numbers = [int(piece[5:11]) for piece in tokenised]
    assert min(numbers) == 0
    assert max(numbers) > 78_000  # from all over the text
    assert all(piece.startswith("line ") and piece.endswith("\n") for piece in tokenised)
    assert info.samples == 24
    capped = options.model_copy(update={"max_steps": None, "max_tokens": 64 * 4 * 6})
    assert len(training_samples(recovery_job(source, tmp_path), capped)[0]) == 24
    generous = options.model_copy(update={"samples": 1000})
    assert len(training_samples(recovery_job(source, tmp_path), generous)[0]) == 24


@pytest.mark.parametrize("samples", [None, 20], ids=["whole", "a part"])
def test_how_far_a_long_text_is_tokenised_is_told(source: TextSource, long_text: str, samples: int | None) -> None:
    told: list[tuple[int, int, str]] = []
    text = WORDS if samples else LocalText(source="local", path="words.txt", stop=0.05)
    batch(source, text, samples=samples, tokens=64, progress=lambda *at: told.append(at))
    assert len(told) >= (4 if samples else 1)
    assert {unit for _, _, unit in told} == {"bytes"}
    (total,) = {total for _, total, _ in told}
    assert total < len(long_text) if samples else total == len(long_text) // 20
    assert [done for done, _, _ in told] == sorted({done for done, _, _ in told})
    assert told[-1][0] == total


def test_a_long_text_is_measured_from_its_start(source: TextSource, tokenised: list[str], long_text: str) -> None:
    ids, _ = batch(source, purpose="measuring", samples=40, tokens=64)
    assert str(source.tokenizer.decode(ids.flatten())) == long_text[: 40 * 64]
    assert sum(map(len, tokenised)) < 40 * 64 * text_ids.TOKEN_BYTES + 100


@pytest.mark.thorough
def test_a_text_of_long_tokens_is_read_whole_where_a_part_has_too_few(
    source: TextSource, tokenised: list[str], long_text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading = text_ids._Reading
    monkeypatch.setattr(text_ids, "_reading", lambda _, wanted, **__: reading(enough=None if wanted is None else 500))
    ids, _ = batch(source, samples=200, tokens=64)
    assert len(ids) == 200
    assert sum(map(len, tokenised)) > len(long_text)


def test_rows_of_a_file_are_read_as_far_as_is_wanted(
    source: TextSource, text_file: Path, tokenised: list[str], long_text: str
) -> None:
    rows = "".join(json.dumps({"text": f"row {number:06d}"}) + "\n" for number in range(20_000))
    (text_file.parent / "rows.jsonl").write_text(rows)
    ids, _ = batch(source, LocalText(source="local", path="rows.jsonl"), purpose="measuring")
    assert str(source.tokenizer.decode(ids.flatten())).startswith("row 000000\n\nrow 000001\n\nrow")
    assert sum(map(len, tokenised)) < 3_000


def test_examples_are_read_as_far_as_the_training_can_go(
    source: TextSource, tmp_path: Path, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    local_rows = texts.local_rows

    def counted(*arguments: Any, **more: Any) -> Iterator[Any]:
        for number, row in local_rows(*arguments, **more):
            read.append(number)
            yield number, row

    monkeypatch.setattr("workers.engine.text.rows.local_rows", counted)
    rows = "".join(json.dumps({"instruction": f"Say {n}.", "output": "ok"}) + "\n" for n in range(5000))
    (text_file.parent / "a.jsonl").write_text(rows)
    text = LocalText(source="local", path="a.jsonl")
    for packing, most in ((True, 60), (False, 15)):
        read.clear()
        options = LoraRecovery(
            text=text, format="alpaca", tokens=256, batch_size=2, micro_batch_size=2, max_steps=6, packing=packing
        )
        data, _ = training_data(recovery_job(source, tmp_path), options)
        assert len(data) >= 6 * 2
        assert len(read) <= most


@pytest.mark.parametrize("name", ["blank.txt", "blank.jsonl"])
def test_a_text_of_nothing_but_white_space_is_refused(source: TextSource, text_file: Path, name: str) -> None:
    rows = '{"text": ""}\n' * 200
    (text_file.parent / name).write_text(rows if name.endswith("jsonl") else " \n\t\r" * 400)
    asked: dict[str, Any] = {"samples": 2, "tokens": 16}
    for purpose in ("calibration", "measuring"):
        with pytest.raises(InvalidInput, match="white space") as caught:
            token_batch(source, LocalText(source="local", path=name), purpose=purpose, **asked)
        assert caught.value.errors[0].pointer == "text"
    (text_file.parent / name).write_text(
        rows + '{"text": "one word"}' if name.endswith("jsonl") else " " * 400 + "word"
    )
    token_batch(source, LocalText(source="local", path=name), purpose="calibration", **asked)
