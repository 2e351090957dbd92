"""Drafts beside their target: what is counted, what is compared, and in which order; no test looks at speed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from secateur.contract.drafts import draft_speedup
from workers.engine.benchmarks import drafting
from workers.engine.benchmarks.drafting import (
    Draft,
    Settings,
    Taken,
    acceptance_of,
    first_difference,
    measure_drafts,
)
from workers.engine.text.prompts import Ids

SETTINGS = Settings(tokens=3, most=16, runs=1, chat=False)


@pytest.fixture
def target(make_model: Callable[..., PreTrainedModel]) -> PreTrainedModel:
    return make_model(num_hidden_layers=6)


@pytest.fixture
def prompts() -> list[Ids]:
    generator = np.random.default_rng(0)
    return [generator.integers(3, 90, size=size) for size in (4, 7, 5)]


def without(target: PreTrainedModel, blocks: int) -> PreTrainedModel:
    """The first blocks of the target, as a draft that agrees with it now and then."""
    model: Any = copy.deepcopy(target)
    model.model.layers = model.model.layers[:blocks]
    model.config.num_hidden_layers = blocks
    return cast(PreTrainedModel, model)


def by_hand(target: PreTrainedModel, draft: PreTrainedModel, prompt: Ids, settings: Settings) -> list[Taken]:
    """The same from the definition: propose greedily, compare with what the target says after each, pass by pass."""
    text = list(prompt)
    end = len(prompt) + settings.most
    taken = Taken()
    while len(text) < end:
        proposed: list[int] = []
        for _ in range(min(settings.tokens, end - len(text) - 1)):
            proposed.append(likeliest(draft, [*text, *proposed]))
        right = [likeliest(target, [*text, *proposed[:count]]) for count in range(len(proposed) + 1)]
        same = 0
        while same < len(proposed) and proposed[same] == right[same]:
            same += 1
        taken.passes += 1
        taken.tokens += same + 1
        taken.accepted += same
        taken.judged += min(same + 1, len(proposed))
        text += [*proposed[:same], right[same]]
    return [taken]


@torch.no_grad()
def likeliest(model: PreTrainedModel, ids: Sequence[int]) -> int:
    logits: Any = model(input_ids=torch.tensor([list(ids)])).logits
    return int(logits[0, -1].argmax())


def unending(*models: PreTrainedModel) -> None:
    for model in models:
        loose: Any = model
        loose.generation_config.eos_token_id = None


def test_what_is_taken_is_what_the_definition_takes(target: PreTrainedModel, prompts: list[Ids]) -> None:
    draft = without(target, 5)
    unending(target)
    counted = [by_hand(target, draft, prompt, SETTINGS)[0] for prompt in prompts]
    found = measure_drafts(target, {"pruned": Draft(draft)}, prompts, SETTINGS)["pruned"]
    accepted, judged = sum(one.accepted for one in counted), sum(one.judged for one in counted)
    assert 0 < accepted < judged, "a test in which some are taken and some are not"
    assert found.acceptance == pytest.approx(accepted / judged)
    assert found.tokens_per_pass == pytest.approx(
        sum(one.tokens for one in counted) / sum(one.passes for one in counted)
    )
    assert (found.equal, found.differences) == (3, [])
    assert (found.tokens, found.prompts, found.runs, found.max_new_tokens, found.chat) == (3, 3, 1, 16, False)
    assert found.expected == pytest.approx(draft_speedup(found.acceptance, 3, found.cost.median))
    assert found.expected_verified == pytest.approx(
        draft_speedup(found.acceptance, 3, found.cost.median, verification=found.verification.median)
    )


def test_the_target_takes_all_of_its_own_copy(target: PreTrainedModel, prompts: list[Ids]) -> None:
    unending(target)
    drafts = {"same": Draft(without(target, 6)), "one": Draft(without(target, 1))}
    found = measure_drafts(target, drafts, prompts, SETTINGS)
    assert found["same"].acceptance == 1
    assert found["same"].tokens_per_pass == 4, "16 tokens in four passes"
    assert found["one"].acceptance < 1
    assert found["same"].target_tokens_per_second == found["one"].target_tokens_per_second


def test_an_end_of_text_cuts_off_what_was_taken(target: PreTrainedModel, prompts: list[Ids]) -> None:
    unending(target)
    loose: Any = target
    written = [drafting._written(target, torch.tensor(prompt)[None], 16) for prompt in prompts]
    loose.generation_config.eos_token_id = written[0][6]
    found = measure_drafts(target, {"same": Draft(without(target, 6))}, prompts, SETTINGS)["same"]
    assert (found.acceptance, found.equal) == (1, 3), "what comes after the end was never refused"


def test_settings_of_the_model_do_not_decide_how_it_generates(target: PreTrainedModel, prompts: list[Ids]) -> None:
    loose: Any = target
    loose.generation_config.update(do_sample=True, temperature=5.0, repetition_penalty=3.0, eos_token_id=None)
    found = measure_drafts(target, {"same": Draft(without(target, 6))}, prompts, SETTINGS)["same"]
    assert (found.acceptance, found.equal) == (1, 3)


@torch.no_grad()
def test_a_text_that_goes_on_otherwise_is_told_with_its_place(
    target: PreTrainedModel, prompts: list[Ids], monkeypatch: pytest.MonkeyPatch
) -> None:
    unending(target)
    real = drafting._counted

    def other(model: PreTrainedModel, draft: Draft, ids: torch.Tensor, most: int) -> Any:
        text, taken = real(model, draft, ids, most)
        if ids.shape[1] == 7:
            text[5] = (text[5] + 1) % 90
        return text, taken

    monkeypatch.setattr(drafting, "_counted", other)
    found = measure_drafts(target, {"same": Draft(without(target, 6))}, prompts, SETTINGS)["same"]
    (difference,) = found.differences
    assert found.equal == 2
    assert (difference.prompt, difference.token, difference.rounding) == (1, 5, False)
    written = drafting._written(target, torch.tensor(prompts[1])[None], 16)
    logits: Any = target(input_ids=torch.tensor([[*prompts[1].tolist(), *written[:5]]])).logits[0, -1]
    own, its = logits[written[5]], logits[(written[5] + 1) % 90]
    assert difference.gap == pytest.approx(float((own - its).abs() / logits.abs().max()), rel=1e-4)


@torch.no_grad()
def test_two_tokens_that_are_as_near_as_rounding_are_told_as_such(
    target: PreTrainedModel, prompts: list[Ids], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(drafting.ROUNDING, torch.float32, 1e9)
    found = drafting._difference(target, torch.tensor(prompts[0])[None], [5, 6, 7], [5, 6, 8], 2, 2)
    assert found.rounding
    assert not drafting._difference(target, torch.tensor(prompts[0])[None], [5, 6], [5, 6, 8], 2, 2).gap < 1e9


@pytest.mark.parametrize(
    ("ours", "theirs", "place"),
    [([1, 2, 3], [1, 2, 3], None), ([1, 2, 3], [1, 4, 3], 1), ([1, 2], [1, 2, 3], 2), ([1, 2, 3], [1, 2], 2)],
)
def test_where_two_texts_part(ours: list[int], theirs: list[int], place: int | None) -> None:
    assert first_difference(ours, theirs) == place


@pytest.mark.parametrize(
    ("proposed", "yielded", "accepted", "judged"),
    [
        ([5, 6, 7], [5, 6, 7, 8], 3, 3),
        ([5, 6, 7], [5, 6, 9], 2, 3),
        ([5, 6, 7], [9], 0, 1),
        ([5, 6, 7], [5, 6], 2, 2),  # the end of the text was taken, and cut off the rest
        ([], [9], 0, 0),
    ],
)
def test_one_pass(proposed: list[int], yielded: list[int], accepted: int, judged: int) -> None:
    taken = Taken()
    taken.add(proposed, yielded)
    assert (taken.passes, taken.tokens, taken.accepted, taken.judged) == (1, len(yielded), accepted, judged)


def test_acceptance_weighs_prompts_by_their_tokens() -> None:
    value, low, high = acceptance_of([Taken(judged=30, accepted=15), Taken(judged=10, accepted=10), Taken()])
    assert value == pytest.approx(25 / 40)
    assert low is not None
    assert high is not None
    assert low < value < high
    assert acceptance_of([Taken()]) == (0.0, None, None)


def test_every_round_has_all_in_turn_and_every_other_goes_backwards(
    target: PreTrainedModel, prompts: list[Ids], monkeypatch: pytest.MonkeyPatch
) -> None:
    unending(target)
    draft = without(target, 2)
    names = {id(target): "target", id(draft): "draft"}
    seen: list[str] = []
    real = drafting._written

    def one(model: Any, ids: torch.Tensor, most: int, **more: Any) -> list[int]:
        seen.append(names[id(model)] + ("+" if "assistant_model" in more else ""))
        return real(model, ids, most, **more)

    monkeypatch.setattr(drafting, "_written", one)
    told: list[tuple[int, int]] = []
    measure_drafts(
        target, {"d": Draft(draft)}, prompts[:2], SETTINGS, progress=lambda done, total, _: told.append((done, total))
    )
    forwards = ["target", "target+", "draft", "target"]
    assert seen[:4] == ["target", "target+"] * 2, "each prompt once, untimed"
    assert seen[4:] == [*forwards, *reversed(forwards)]
    assert told == [(done, 4) for done in range(1, 5)]


def test_seconds_are_of_tokens_and_in_pairs() -> None:
    times = drafting._Times()
    for prompt, slow in ((0, 1.0), (1, 3.0)):  # a prompt at which the machine was slower
        for drift in (1.0, 1.1, 1.2):
            times.add(drafting.TARGET, prompt, slow * drift)
            times.add("d", prompt, slow * (drift + 0.05) / 2)
            times.add(drafting.AGAIN, prompt, slow * (drift + 0.1))
    assert times.ratios("d") == pytest.approx([2.0, 2.0]), "a steady drift cancels between the target's two"
    assert times.rates("d").median == pytest.approx((1 / 0.575 + 1 / 1.725) / 2)
    assert times.same().median == pytest.approx(1.1 / 1.2)
