"""What was tokenised is kept by content: made once, made anew when damaged, and bounded."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from workers.engine.text import token_cache
from workers.engine.text.token_cache import TokenIds, kept_ids, kept_tensors, tokenizer_fingerprint

KEY = {"text": "abc"}


class Maker:
    """Counts how often it is asked."""

    def __init__(self, *pieces: list[int]) -> None:
        self.pieces = pieces
        self.calls = 0

    def __call__(self) -> Iterator[TokenIds]:
        self.calls += 1
        for piece in self.pieces:
            yield np.array(piece, dtype=np.int32)


def files(cache: Path) -> list[Path]:
    return sorted((cache / "tokens").iterdir())


def test_ids_are_made_once(tmp_path: Path) -> None:
    make = Maker([1, 2], [], [3, 2**31 - 1])
    first = kept_ids(tmp_path, KEY, make)
    again = kept_ids(tmp_path, KEY, make)
    assert first.tolist() == again.tolist() == [1, 2, 3, 2**31 - 1]
    assert make.calls == 1
    assert isinstance(again, np.memmap)
    kept_ids(tmp_path, {"text": "abd"}, make)
    assert make.calls == 2
    assert len(files(tmp_path)) == 2


def test_no_ids_are_ids_too(tmp_path: Path) -> None:
    make = Maker()
    assert kept_ids(tmp_path, KEY, make).shape == kept_ids(tmp_path, KEY, make).shape == (0,)
    assert make.calls == 1


@pytest.mark.parametrize("damage", [
    lambda raw: raw[:-1],
    lambda raw: raw[:10],
    lambda raw: b"",
    lambda raw: raw + b"\0\0\0\0",
    lambda raw: bytes([raw[0] ^ 1]) + raw[1:],
    lambda raw: raw[:-1] + bytes([raw[-1] ^ 1]),
])  # fmt: skip
def test_damaged_ids_are_made_anew(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    make = Maker([1, 2, 3])
    kept_ids(tmp_path, KEY, make)
    (file,) = files(tmp_path)
    file.write_bytes(damage(file.read_bytes()))
    assert kept_ids(tmp_path, KEY, make).tolist() == [1, 2, 3]
    assert make.calls == 2
    assert kept_ids(tmp_path, KEY, make).tolist() == [1, 2, 3]
    assert make.calls == 2


def test_what_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    def breaking() -> Iterator[TokenIds]:
        yield np.array([1], dtype=np.int32)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kept_ids(tmp_path, KEY, breaking)
    assert files(tmp_path) == []


def test_what_is_written_to_ids_stays_in_this_process(tmp_path: Path) -> None:
    make = Maker([1, 2, 3])
    kept_ids(tmp_path, KEY, make)[0] = 9
    assert kept_ids(tmp_path, KEY, make).tolist() == [1, 2, 3]
    assert make.calls == 1


def test_tensors(tmp_path: Path) -> None:
    calls = []

    def make() -> dict[str, Any]:
        calls.append(1)
        return {"ids": torch.arange(6).view(2, 3).t(), "flags": torch.tensor([True]), "count": torch.tensor(5)}

    first = kept_tensors(tmp_path, KEY, make)
    again = kept_tensors(tmp_path, KEY, make)
    assert len(calls) == 1
    assert all(torch.equal(first[name], again[name]) for name in ("ids", "flags", "count"))
    (file,) = files(tmp_path)
    raw = bytearray(file.read_bytes())
    for content in (bytes(raw[:-1]), b"", bytes(raw[:-1]) + bytes([raw[-1] ^ 1])):
        before = len(calls)
        file.write_bytes(content)
        assert torch.equal(kept_tensors(tmp_path, KEY, make)["ids"], first["ids"])
        assert len(calls) == before + 1


def test_what_was_not_used_for_longest_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_cache, "MOST_BYTES", 3 * (400 + 32))
    made = [kept_ids(tmp_path, {"number": number}, Maker([number] * 100)) for number in range(3)]
    for age, number in ((30, 1), (20, 0), (10, 2)):
        make = Maker()
        kept_ids(tmp_path, {"number": number}, make)
        assert make.calls == 0
        os.utime(token_cache._place(tmp_path, {"number": number}, ".ids"), (1e9 - age, 1e9 - age))
    stale = tmp_path / "tokens" / "x.ids.abc.part"
    stale.write_bytes(b"")
    os.utime(stale, (1e9, 1e9))
    kept_ids(tmp_path, {"number": 3}, Maker([3] * 100))
    assert not stale.exists()
    there = [token_cache._place(tmp_path, {"number": number}, ".ids").exists() for number in range(4)]
    assert there == [True, False, True, True]
    assert made[1].tolist() == [1] * 100  # mapped, it can still be read


def test_one_file_may_be_larger_than_all_should_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_cache, "MOST_BYTES", 10)
    make = Maker([1] * 100)
    assert len(kept_ids(tmp_path, KEY, make)) == 100
    kept_ids(tmp_path, {"text": "b"}, make)
    assert len(files(tmp_path)) == 1


def test_the_tokenizers_fingerprint_is_that_of_its_files(tiny_checkpoint: Callable[..., Path]) -> None:
    one, same, other = (tiny_checkpoint(name, num_hidden_layers=1, seed=seed, bos=bos) for name, seed, bos in (
        ("one", 0, False), ("same", 1, False), ("other", 0, True)))  # fmt: skip
    assert tokenizer_fingerprint(one) == tokenizer_fingerprint(same)  # whatever the weights are
    assert tokenizer_fingerprint(one) != tokenizer_fingerprint(other)
    (same / "chat_template.jinja").write_text("{{ messages }}")
    assert tokenizer_fingerprint(one) != tokenizer_fingerprint(same)
