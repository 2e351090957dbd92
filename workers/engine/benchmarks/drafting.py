"""Assisted generation: what a draft makes of its target's speed, and how many of its tokens the target takes.

Generation is transformers' own, greedy, one sequence at a time, with a fixed number of tokens that the draft proposes:
what whoever passes `assistant_model` gets (Leviathan et al. 2023, arXiv 2211.17192). Each prompt is continued once
untimed, by the target alone and with each draft; the target's passes of that are counted, and the texts compared. Then
every round times the target alone, with each draft, each draft alone, and the target again, on one prompt; every other
round goes backwards. A prompt's speedup is the median over its rounds, and prompts are what intervals are over, since
rounds of one prompt propose and accept the same tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from secateur.contract.drafts import draft_speedup
from secateur.contract.measurements import DraftDifference, DraftFigures, Interval
from workers.engine.benchmarks.clock import clock_for
from workers.engine.benchmarks.latency import undisturbed
from workers.engine.benchmarks.statistics import half_width, mean_interval, median_interval, ratio_interval, widen
from workers.engine.model.generation import stop_tokens
from workers.engine.progress import Progress, no_progress
from workers.engine.text.prompts import Ids

VERIFIED = 8  # pairs of passes by which a verification is timed, at most
TARGET, AGAIN = "target", "target, again"
# How far rounding may take two logits apart, over the largest: several tokens are summed up in another order than one.
ROUNDING = {torch.float32: 1e-5, torch.bfloat16: 4 * 2**-7, torch.float16: 4 * 2**-10}


@dataclass(frozen=True)
class Settings:
    """How drafts are measured."""

    tokens: int  # that are proposed at a time
    most: int  # tokens of a continuation
    runs: int  # timed rounds of each prompt
    chat: bool  # in which form the prompts are


@dataclass(frozen=True)
class Draft:
    """A model as the draft of a target."""

    model: PreTrainedModel
    # of target and draft, where their embeddings have unlike numbers of rows: transformers then asks for them
    tokenizers: tuple[PreTrainedTokenizerBase, PreTrainedTokenizerBase] | None = None

    @property
    def arguments(self) -> dict[str, Any]:
        """What `generate` is given beside the prompt."""
        if self.tokenizers is None:
            return {"assistant_model": self.model}
        target, own = self.tokenizers
        return {"assistant_model": self.model, "tokenizer": target, "assistant_tokenizer": own}


@dataclass
class Taken:
    """What the target has taken of a draft's tokens on one prompt, pass by pass."""

    passes: int = 0
    tokens: int = 0  # that the passes have yielded
    judged: int = 0  # proposed tokens before which all were taken
    accepted: int = 0

    def add(self, proposed: Sequence[int], yielded: Sequence[int]) -> None:
        """One pass: what was proposed, and what came out. The end of the text may cut off what was taken."""
        same = 0
        for ours, theirs in zip(proposed, yielded, strict=False):
            if ours != theirs:
                break
            same += 1
        self.passes += 1
        self.tokens += len(yielded)
        self.accepted += same
        self.judged += min(same + 1, len(proposed), len(yielded))


class _Passes:
    """Listens to the target while it generates: a streamer of what passes yield, and a hook on what they are given."""

    def __init__(self, prompt: int) -> None:
        self.taken = Taken()
        self._before, self._begun = prompt, False
        self._proposed: list[int] = []

    def look(self, _module: object, _arguments: object, given: dict[str, Any]) -> None:
        ids = given["input_ids"][0].tolist()
        self._proposed = ids[self._before :]
        self._before = 1  # the last token that stands, from the second pass on

    def put(self, ids: Tensor) -> None:
        if self._begun:
            self.taken.add(self._proposed, ids.flatten().tolist())
        self._begun = True  # the first is the prompt

    def end(self) -> None:
        pass


@dataclass
class _Times:
    """Seconds for each token, by prompt and round."""

    of: dict[str, list[list[float]]] = field(default_factory=dict)

    def add(self, name: str, prompt: int, seconds: float) -> None:
        rows = self.of.setdefault(name, [])
        while len(rows) <= prompt:
            rows.append([])
        rows[prompt].append(seconds)

    def ratios(self, name: str) -> list[float]:
        """Of each prompt, the median over rounds of the target's mean time over this one's."""
        found = []
        for first, again, rows in zip(self.of[TARGET], self.of[AGAIN], self.of[name], strict=True):
            bracket = [(one + other) / 2 for one, other in zip(first, again, strict=True)]
            found.append(ratio_interval(bracket, rows).median)
        return found

    def same(self) -> Interval:
        """The target against itself."""
        pairs = zip(self.of[TARGET], self.of[AGAIN], strict=True)
        return median_interval([ratio_interval(first, again).median for first, again in pairs])

    def rates(self, name: str) -> Interval:
        """Tokens per second."""
        return median_interval([1 / median_interval(rows).median for rows in self.of[name]])


@torch.inference_mode()
def measure_drafts(
    target: PreTrainedModel,
    drafts: Mapping[str, Draft],
    prompts: Sequence[Ids],
    settings: Settings,
    *,
    progress: Progress = no_progress,
) -> dict[str, DraftFigures]:
    """The figures of each draft; the models' settings of generation are changed for good.

    Args:
        prompts: token ids of the target's tokenizer, at least two.

    Raises:
        ValueError: transformers cannot generate with a draft for such a target.
    """
    _settle(target, drafts, settings)
    rounds = len(prompts) * (1 + settings.runs)
    alone: list[list[int]] = []
    taken: dict[str, list[Taken]] = {name: [] for name in drafts}
    differences: dict[str, list[DraftDifference]] = {name: [] for name in drafts}
    for number, prompt in enumerate(prompts):
        ids = _on(target, prompt)
        alone.append(_written(target, ids, settings.most))
        for name, draft in drafts.items():
            text, counted = _counted(target, draft, ids, settings.most)
            taken[name].append(counted)
            if (place := first_difference(alone[-1], text)) is not None:
                differences[name].append(_difference(target, ids, alone[-1], text, number, place))
        progress(number + 1, rounds, "rounds")
    times, verification = _Times(), []
    with undisturbed():
        for run in range(settings.runs):
            for number, prompt in enumerate(prompts):
                turn = run * len(prompts) + number
                _round(target, drafts, _on(target, prompt), number, settings, times, backwards=turn % 2 == 1)
                progress(len(prompts) + turn + 1, rounds, "rounds")
        for prompt, text in zip(prompts, alone, strict=True):
            verification.append(_verification(target, _on(target, prompt), text, settings))
    same = times.same()
    verified = median_interval(verification)
    return {
        name: _figures(name, settings, times, same, verified, taken[name], differences[name], len(prompts))
        for name in drafts
    }


def first_difference(ours: Sequence[int], theirs: Sequence[int]) -> int | None:
    """Where two texts go on otherwise; None where they are the same."""
    place = next((at for at, (one, other) in enumerate(zip(ours, theirs, strict=False)) if one != other), None)
    if place is None and len(ours) != len(theirs):
        return min(len(ours), len(theirs))
    return place


def acceptance_of(taken: Sequence[Taken]) -> tuple[float, float | None, float | None]:
    """The share of judged tokens that were accepted, with its interval over prompts; 0 where none was proposed."""
    judged = [counted for counted in taken if counted.judged]
    if not judged:
        return 0.0, None, None
    shares = [counted.accepted / counted.judged for counted in judged]
    return mean_interval(shares, weights=[float(counted.judged) for counted in judged])


def _figures(
    name: str,
    settings: Settings,
    times: _Times,
    same: Interval,
    verification: Interval,
    taken: Sequence[Taken],
    differences: list[DraftDifference],
    prompts: int,
) -> DraftFigures:
    acceptance, low, high = acceptance_of(taken)
    cost = median_interval([1 / ratio for ratio in times.ratios(_alone(name))])
    return DraftFigures(
        tokens=settings.tokens,
        prompts=prompts,
        chat=settings.chat,
        max_new_tokens=settings.most,
        runs=settings.runs,
        speedup=widen(median_interval(times.ratios(name)), same),
        noise=half_width(same),
        tokens_per_second=times.rates(name),
        target_tokens_per_second=times.rates(TARGET),
        acceptance=acceptance,
        acceptance_low=low,
        acceptance_high=high,
        tokens_per_pass=sum(counted.tokens for counted in taken) / sum(counted.passes for counted in taken),
        cost=cost,
        verification=verification,
        expected=draft_speedup(acceptance, settings.tokens, cost.median),
        expected_verified=draft_speedup(acceptance, settings.tokens, cost.median, verification=verification.median),
        equal=prompts - len(differences),
        differences=differences,
    )


def _settle(target: PreTrainedModel, drafts: Mapping[str, Draft], settings: Settings) -> None:
    """Greedy generation, whatever the models' own settings are; the draft proposes so many tokens each time."""
    stops = sorted(stop_tokens(target))
    models: list[Any] = [target, *(draft.model for draft in drafts.values())]
    config: Any = GenerationConfig  # no annotations upstream
    models[0].generation_config = config(
        do_sample=False, eos_token_id=stops or None, pad_token_id=stops[0] if stops else 0
    )
    for draft in models[1:]:
        draft.generation_config = config(
            do_sample=False,
            pad_token_id=stops[0] if stops else 0,
            num_assistant_tokens=settings.tokens,
            num_assistant_tokens_schedule="constant",
            assistant_confidence_threshold=0.0,
        )


def _on(model: PreTrainedModel, prompt: Ids) -> Tensor:
    return torch.tensor(prompt, dtype=torch.long, device=model.device).unsqueeze(0)  # a copy: it may be read-only


def _written(model: Any, ids: Tensor, most: int, **more: Any) -> list[int]:
    """The new tokens, with the one that ends the text where one does."""
    found = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=most, **more)
    return list(found[0, ids.shape[1] :].tolist())


def _counted(target: PreTrainedModel, draft: Draft, ids: Tensor, most: int) -> tuple[list[int], Taken]:
    passes = _Passes(ids.shape[1])
    hook = target.register_forward_pre_hook(passes.look, with_kwargs=True)
    try:
        text = _written(target, ids, most, streamer=passes, **draft.arguments)
    finally:
        hook.remove()
    return text, passes.taken


def _difference(
    target: PreTrainedModel, ids: Tensor, ours: Sequence[int], theirs: Sequence[int], prompt: int, place: int
) -> DraftDifference:
    """How near to each other the target holds the two tokens there."""
    before = torch.tensor([ours[:place]], dtype=torch.long, device=ids.device)
    out: Any = target(input_ids=torch.cat([ids, before], dim=1), logits_to_keep=1)
    logits = out.logits[0, -1].float()
    pair = [text[place] for text in (ours, theirs) if place < len(text)]
    apart = float((logits[pair[0]] - logits[pair[-1]]).abs()) if len(pair) == 2 else float("inf")
    gap = apart / max(float(logits.abs().max()), torch.finfo(torch.float32).tiny)
    gap = min(gap, 1e9)  # a text that ends without its last token: finite, as JSON has it
    return DraftDifference(prompt=prompt, token=place, gap=gap, rounding=gap <= ROUNDING[target.dtype])


def _round(
    target: PreTrainedModel,
    drafts: Mapping[str, Draft],
    ids: Tensor,
    number: int,
    settings: Settings,
    times: _Times,
    *,
    backwards: bool,
) -> None:
    work: list[tuple[str, Any, dict[str, Any]]] = [(TARGET, target, {})]
    work += [(name, target, draft.arguments) for name, draft in drafts.items()]
    work += [(_alone(name), draft.model, {}) for name, draft in drafts.items()]
    work.append((AGAIN, target, {}))
    for name, model, more in reversed(work) if backwards else work:
        clock = clock_for(ids.device)
        clock.start()
        clock.first()
        made = len(_written(model, ids, settings.most, **more))
        clock.stop()
        times.add(name, number, clock.read().total / max(1, made))


def _alone(name: str) -> str:
    return f"{name}, alone"


def _verification(target: Any, ids: Tensor, text: Sequence[int], settings: Settings) -> float:
    """Seconds of a pass over all proposed tokens and one more, over those of a pass over one; each after the other."""
    sizes = (settings.tokens + 1, 1)
    pairs = max(1, min(VERIFIED, settings.most // sum(sizes)))
    needed = pairs * sum(sizes)
    stock = torch.tensor([[*text] * (needed // len(text) + 1)], device=ids.device)
    cache = target(input_ids=ids, use_cache=True, logits_to_keep=1).cache
    seconds: dict[int, list[float]] = {size: [] for size in sizes}
    place = 0
    for _ in range(pairs):
        for size in sizes:
            piece = stock[:, place : place + size]
            clock = clock_for(ids.device)
            clock.start()
            clock.first()
            cache = target(input_ids=piece, cache=cache, use_cache=True, logits_to_keep=size).cache
            clock.stop()
            seconds[size].append(clock.read().total)
            place += size
    return ratio_interval(*(seconds[size] for size in sizes)).median
