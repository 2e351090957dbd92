"""Blends of texts: how many samples of each, in which order, and what is told of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from secateur.contract.errors import InvalidInput
from secateur.contract.options.texts import BlendText, HubText, Text, is_written
from tests.fixtures.text_sources import reading_job, text_source
from workers.engine.recovery import training_text
from workers.engine.recovery.training_text import pinned
from workers.engine.text.blend import counts_by_weight, most_by_weight, spread
from workers.engine.text.calibration import samples_of, token_batch
from workers.engine.text.text_source import TextSource, Wanted

WORDS = {"source": "local", "path": "words.txt"}
OTHER = {"source": "local", "path": "other.txt"}


@pytest.fixture
def source(tiny_checkpoint: Callable[..., Path], text_file: Path, tmp_path: Path) -> TextSource:
    path = tiny_checkpoint(num_hidden_layers=1)
    (text_file.parent / "other.txt").write_text("0123456789" * 40)
    return text_source(path, roots=[text_file.parent], cache=tmp_path / "cache")


def blend(*parts: tuple[dict[str, Any], float]) -> BlendText:
    return BlendText.model_validate(
        {"source": "blend", "parts": [{"text": text, "weight": weight} for text, weight in parts]}
    )


def is_other(source: TextSource, ids: Tensor) -> list[bool]:
    return [str(source.tokenizer.decode(row)).isdigit() for row in ids]


@pytest.mark.parametrize(("weights", "samples"), [([1, 1, 1], 10), ([0.2, 0.7, 0.1], 3), ([5, 1e-9], 8), ([2, 3], 0)])
def test_the_counts_add_up_and_none_is_a_whole_sample_off(weights: list[float], samples: int) -> None:
    counts = counts_by_weight(weights, samples)
    assert sum(counts) == samples
    assert all(abs(count - samples * weight / sum(weights)) < 1 for count, weight in zip(counts, weights, strict=True))
    enough = most_by_weight(weights, [samples] * len(weights))
    assert all(count <= samples for count in enough)


def test_each_kind_is_spread_over_the_whole() -> None:
    order = spread([6, 0, 3]).tolist()
    assert sorted(order) == list(range(9))
    assert all(sum(row >= 6 for row in order[at : at + 3]) == 1 for at in (0, 3, 6))
    assert [row for row in order if row < 6] == list(range(6))


def test_samples_are_of_the_texts_as_their_weights_say(source: TextSource) -> None:
    text = blend((WORDS, 3), (OTHER, 1))
    for purpose in ("calibration", "training", "measuring"):
        ids, info = token_batch(source, text, purpose=purpose, samples=8, tokens=16)
        others = is_other(source, ids)
        assert (ids.shape, sum(others)) == ((8, 16), 2)
        assert sum(others[:4]) == 1
        assert (info.source, info.samples) == ("blend", 8)
        again, info_again = token_batch(source, text, purpose=purpose, samples=8, tokens=16)
        assert torch.equal(again, ids)
        assert info_again == info
    assert info.description == "6 of words.txt, 0 to 1; 2 of other.txt, 0 to 1"
    assert info.identity == "words.txt, other.txt"


@pytest.mark.parametrize("samples", [None, 1000])
def test_the_text_that_ends_first_decides_how_many_there_are(source: TextSource, samples: int | None) -> None:
    text = blend((WORDS, 1), (OTHER, 1))  # the other has 25 samples of 16 tokens
    ids, _ = token_batch(source, text, purpose="training", samples=samples, tokens=16, exact=False)
    others = is_other(source, ids)
    assert (len(ids), sum(others)) == (50, 25)
    with pytest.raises(InvalidInput, match="500 samples"):
        token_batch(source, text, purpose="training", samples=1000, tokens=16)


def test_two_parts_that_the_model_writes_are_different_draws(source: TextSource) -> None:
    ids, _ = token_batch(
        source, blend(({"source": "self"}, 1), ({"source": "self"}, 1)), purpose="training", samples=6, tokens=16
    )
    assert len({tuple(row) for row in ids.tolist()}) == 6


def test_beside_answers_all_of_another_text_is_learnt(source: TextSource) -> None:
    wanted = Wanted("training", 6, 200)
    found = samples_of(source, blend(({"source": "answers"}, 1), (WORDS, 1)), wanted)
    assert found.answers is not None
    whole = found.answers.all(1)
    assert whole.sum() == 3
    assert found.answers.any(1).all()
    assert samples_of(source, blend((WORDS, 1), (OTHER, 1)), Wanted("training", 6, 16)).answers is None


def test_progress_is_that_of_the_whole(source: TextSource) -> None:
    told: list[tuple[int, int, str]] = []
    token_batch(
        source,
        blend(({"source": "self"}, 1), ({"source": "self", "temperature": 0.5}, 2)),
        purpose="training",
        samples=6,
        tokens=16,
        progress=lambda *step: told.append(step),
    )
    assert {step[1:] for step in told} == {(96, "tokens")}
    assert [step[0] for step in told] == sorted(step[0] for step in told)
    assert told[-1][0] == 96


def test_what_is_wrong_is_told_at_its_part(source: TextSource) -> None:
    with pytest.raises(InvalidInput, match="no text file") as caught:
        token_batch(
            source, blend((WORDS, 1), ({**WORDS, "path": "none.txt"}, 1)), purpose="training", samples=4, tokens=16
        )
    assert caught.value.errors[0].pointer == "text/parts/1/text/path"


def test_each_part_of_the_hub_is_held_to_its_own_commit(
    source: TextSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_text, "hub_revision", lambda text: f"commit of {text.id}")
    job = reading_job(source, tmp_path)
    hub = [{"source": "hub", "id": name} for name in ("a/one", "a/two")]
    text = blend((hub[0], 1), ({"source": "answers", "prompts": hub[1]}, 1))
    for _ in range(2):
        first, second = pinned(job, text).parts
        assert isinstance(first.text, HubText)
        assert first.text.revision == "commit of a/one"
        assert second.text.prompts.revision == "commit of a/two"  # type: ignore[union-attr]
        monkeypatch.setattr(training_text, "hub_revision", lambda text: pytest.fail("it is known"))


@pytest.mark.parametrize(
    ("parts", "place"),
    [
        ([{"text": WORDS}], ("parts",)),
        ([{"text": WORDS}, {"text": OTHER, "weight": 0}], ("parts", 1, "weight")),
        ([{"text": WORDS}, {"text": OTHER, "weight": -1}], ("parts", 1, "weight")),
        ([{"text": WORDS}, {"text": {"source": "blend", "parts": [{"text": WORDS}] * 2}}], ("parts", 1, "text")),
    ],
    ids=["one part", "no weight", "a weight below", "a blend in it"],
)
def test_what_is_no_blend_is_refused(parts: list[Any], place: tuple[str | int, ...]) -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(Text).validate_python({"source": "blend", "parts": parts})
    assert caught.value.errors()[0]["loc"][1:] == place


def test_a_blend_is_written_where_a_part_of_it_is() -> None:
    assert is_written(blend((WORDS, 1), ({"source": "self"}, 1)))
    assert not is_written(blend((WORDS, 1), (OTHER, 1)))
