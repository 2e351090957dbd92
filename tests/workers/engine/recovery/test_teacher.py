"""The original's predictions on disk: as in memory, after a kill too, and never without room."""

from __future__ import annotations

import shutil
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from secateur.contract.errors import InvalidInput
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.model.block_model import BlockModel
from workers.engine.recovery import teacher
from workers.engine.recovery.packed_predictions import PackedForm
from workers.engine.recovery.sequences import Sequences
from workers.engine.recovery.teacher import PREDICTIONS, prediction_bytes, stored_predictions, top_predictions

VOCABULARY = 96  # of the tiny models


class Killed(Exception):
    pass


@pytest.fixture
def model(make_model: Callable[..., PreTrainedModel]) -> BlockModel:
    return BlockModel.from_model(make_model())


@pytest.fixture(autouse=True)
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three samples of eight tokens at a time."""
    monkeypatch.setattr(teacher, "TOKENS_AT_ONCE", 24)


def never() -> BlockModel:
    raise AssertionError("the model is not needed")


FORM = PackedForm(5, VOCABULARY)


def same(columns: dict[str, Tensor], expected: tuple[Tensor, Tensor], samples: int) -> bool:
    return torch.equal(columns[PREDICTIONS], FORM.pack(*expected)[:samples])


def test_they_are_on_disk_what_they_are_in_memory_and_are_computed_once(
    model: BlockModel, make_ids: Callable[..., Tensor], tmp_path: Path
) -> None:
    ids, said = make_ids(10, 8), list[str]()
    expected = top_predictions(model, ids, top_k=5, temperature=1.0)
    ways: dict[str, Any] = {"vocabulary": VOCABULARY, "top_k": 5, "temperature": 1.0, "log": said.append}
    found = stored_predictions(tmp_path / "p", lambda: model, ids, **ways)
    assert found.samples == 10
    assert same(found.columns, expected, 10)
    again = stored_predictions(tmp_path / "p", never, ids, **ways)
    assert same(again.columns, expected, 10)
    assert said == ["The original's predictions on 10 samples of 8 tokens are stored: 1.84 kB of disk."]
    assert (tmp_path / "p" / PREDICTIONS).stat().st_size == prediction_bytes(10, 8, FORM) == 10 * 8 * (8 + 5 * 3)


@pytest.mark.parametrize("killed_after", [1, 2, 3])
def test_a_killed_attempt_goes_on_where_it_was(
    model: BlockModel,
    make_ids: Callable[..., Tensor],
    tmp_path: Path,
    killed_after: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ids = make_ids(10, 8)
    expected = top_predictions(model, ids, top_k=5, temperature=2.0)
    calls = 0

    def enough() -> bool:
        nonlocal calls
        calls += 1
        if calls == killed_after:
            raise Killed
        return False

    with pytest.raises(Killed):
        stored_predictions(
            tmp_path / "p", lambda: model, ids, vocabulary=VOCABULARY, top_k=5, temperature=2.0, enough=enough
        )
    starts: list[int] = []
    top = teacher._top

    def watched(model: BlockModel, ids: Tensor, start: int, **more: Any) -> Iterator[Any]:
        starts.append(start)
        return top(model, ids, start, **more)

    monkeypatch.setattr(teacher, "_top", watched)
    found = stored_predictions(tmp_path / "p", lambda: model, ids, vocabulary=VOCABULARY, top_k=5, temperature=2.0)
    assert starts == [3 * (killed_after - 1)]  # what was not noted is done again
    assert same(found.columns, expected, 10)


def test_where_time_is_up_there_are_fewer_and_the_next_attempt_has_the_same(
    model: BlockModel, make_ids: Callable[..., Tensor], tmp_path: Path
) -> None:
    ids = make_ids(10, 8)
    found = stored_predictions(
        tmp_path / "p", lambda: model, ids, vocabulary=VOCABULARY, top_k=5, temperature=1.0, enough=lambda: True
    )
    assert found.samples == 3
    assert same(found.columns, top_predictions(model, ids, top_k=5, temperature=1.0), 3)
    assert stored_predictions(tmp_path / "p", never, ids, vocabulary=VOCABULARY, top_k=5, temperature=1.0).samples == 3


def test_what_was_cut_short_or_is_of_another_shape_is_made_anew(
    model: BlockModel, make_ids: Callable[..., Tensor], tmp_path: Path
) -> None:
    ids = make_ids(6, 8)
    ways: dict[str, Any] = {"vocabulary": VOCABULARY, "top_k": 5, "temperature": 1.0}
    expected = top_predictions(model, ids, top_k=5, temperature=1.0)
    stored_predictions(tmp_path / "p", lambda: model, make_ids(4, 8), **ways)
    assert same(stored_predictions(tmp_path / "p", lambda: model, ids, **ways).columns, expected, 6)
    file = tmp_path / "p" / PREDICTIONS
    file.write_bytes(file.read_bytes()[:50])
    assert same(stored_predictions(tmp_path / "p", lambda: model, ids, **ways).columns, expected, 6)


def test_without_room_it_is_refused_before_anything_is_computed(
    model: BlockModel, make_ids: Callable[..., Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**12, 0, prediction_bytes(7, 8, FORM) + 1))
    monkeypatch.setattr(teacher, "_top", None)
    with pytest.raises(InvalidInput, match="free") as refused:
        stored_predictions(
            tmp_path / "p", lambda: model, make_ids(8, 8), vocabulary=VOCABULARY, top_k=5, temperature=1.0
        )
    (error,) = refused.value.errors
    assert (error.pointer, error.value) == ("top_k", 5)
    assert error.expected is not None
    assert error.expected.endswith("7 would fit")
    assert not (tmp_path / "p").exists()


def test_they_stay_on_disk_when_samples_are_held_out(
    model: BlockModel, make_ids: Callable[..., Tensor], tmp_path: Path
) -> None:
    ids = make_ids(10, 8)
    found = stored_predictions(tmp_path / "p", lambda: model, ids, vocabulary=VOCABULARY, top_k=5, temperature=1.0)
    whole = Sequences(ids, found.columns)
    trained, held = whole.split(0.3, seed=1)
    assert held is not None
    assert (len(trained), len(held)) == (7, 3)
    for part in (trained, held):
        assert part.columns[PREDICTIONS].data_ptr() == whole.columns[PREDICTIONS].data_ptr()
    order = torch.randperm(10, generator=torch.Generator().manual_seed(1))
    assert torch.equal(held[1]["input_ids"], ids[order[:3].sort().values[1]])
    assert torch.equal(held[1][PREDICTIONS], found.columns[PREDICTIONS][order[:3].sort().values[1]])
    narrower = trained.take(torch.tensor([2, 4]))
    assert torch.equal(narrower[1]["input_ids"], trained[4]["input_ids"])


def test_a_model_streamed_from_disk_is_read_once_for_many_samples(
    make_model: Callable[..., PreTrainedModel],
    make_ids: Callable[..., Tensor],
    save_model: Callable[..., Path],
    tmp_path: Path,
) -> None:
    source, ids = make_model(), make_ids(10, 8)
    streamed = BlockModel.from_checkpoint(Checkpoint.open(save_model(source)), device="cpu", dtype=torch.float32)
    before = streamed.bytes_read
    found = stored_predictions(tmp_path / "p", lambda: streamed, ids, vocabulary=VOCABULARY, top_k=5, temperature=1.0)
    read = streamed.bytes_read - before
    list(streamed.blocks())
    assert read == streamed.bytes_read - before - read  # one walk
    expected = top_predictions(BlockModel.from_model(source), ids, top_k=5, temperature=1.0)
    assert torch.equal(FORM.unpack(found.columns[PREDICTIONS])[0].int(), expected[0])


def test_progress_counts_the_head_and_ends_with_the_work(
    model: BlockModel, make_ids: Callable[..., Tensor], tmp_path: Path
) -> None:
    told: list[tuple[int, int, str]] = []
    stored_predictions(
        tmp_path / "p",
        lambda: model,
        make_ids(10, 8),
        vocabulary=VOCABULARY,
        top_k=5,
        temperature=1.0,
        progress=lambda *at: told.append(at),
    )
    assert {at[1:] for at in told} == {(10, "samples")}
    assert [done for done, _, _ in told] == sorted(done for done, _, _ in told)
    assert told[-1][0] == 10
    assert told[-2][0] < 10 or model.head_worth < 0.5
