"""The built-in checks of generation: what a model answers, how much of it is right, and how much is the original's.

Choosing among given answers is easier than writing one: a pruned model that keeps most of its accuracy on multiple
choice can lose generation wholly. So every variant writes short answers, greedily. *Exact match* is the share whose
first line is the right answer to the letter. *Agreement* is the share that are the original's own texts to the letter;
it tells what was lost of a small model that gets nothing right, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from scipy.stats import binomtest  # type: ignore[import-untyped]  # ships no annotations
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from secateur.contract.measurements import GenerationScore
from secateur.contract.options.benchmark import GenerationCheck
from workers.engine.benchmarks.continuations import continuations, unended
from workers.engine.benchmarks.generation_items import Item
from workers.engine.benchmarks.statistics import CONFIDENCE, drop_interval
from workers.engine.benchmarks.task_scores import mcnemar
from workers.engine.model.generation import CACHE_BYTES, kv_bytes_per_token
from workers.engine.progress import Progress, no_progress
from workers.engine.text.prompts import Prompts

Items = Mapping[GenerationCheck, Sequence[Item]]  # the prompts of each check

MAX_BATCH = 32  # prompts continued together
ALL = "all"  # the checks together


@dataclass(frozen=True)
class Answers:
    """What one variant wrote, check by check, prompt by prompt, without spaces around it."""

    texts: dict[GenerationCheck, list[str]]
    chat: bool


def answer_prompts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    items: Items,
    prompts: Prompts,
    *,
    most: Sequence[int],
    progress: Progress = no_progress,
) -> Answers:
    """Continue every prompt greedily, those of equally many tokens together.

    An answer to a chat ends where the model ends it. Plain text goes on with a next question, so there an answer ends
    with its line.

    Args:
        items: the prompts of each check.
        prompts: all of them, in the same order.
        most: the tokens of each one's answer, at most.
    """
    ended = unended if prompts.chat else _line_ended(tokenizer)
    texts = [""] * len(prompts.ids)
    done = 0
    for rows in _batches(prompts, at_once=_at_once(model, prompts.longest + max(most))):
        ids = torch.from_numpy(np.stack([prompts.ids[row] for row in rows]))
        longest = max(most[row] for row in rows)
        for row, new in zip(rows, continuations(model, ids, most=longest, ended=ended), strict=True):
            text = _decoded(tokenizer, new[: most[row]])
            texts[row] = text.strip() if prompts.chat else first_line(text)
        done += len(rows)
        progress(done, len(prompts.ids), "prompts")
    left = iter(texts)
    return Answers({check: [next(left) for _ in of_check] for check, of_check in items.items()}, prompts.chat)


def generation_scores(answers: Answers, items: Items, original: Answers | None) -> list[GenerationScore]:
    """The figures of all checks together, then those of each; `original` is None for the original itself."""
    checks: list[tuple[str, Iterable[GenerationCheck]]] = [(ALL, items), *((check, [check]) for check in items)]
    return [_score(name, list(of), answers, items, original) for name, of in checks]


def _score(
    name: str, checks: Sequence[GenerationCheck], answers: Answers, items: Items, original: Answers | None
) -> GenerationScore:
    right = _right(checks, answers, items)
    count = len(right)
    compared: dict[str, Any] = {}
    if original is not None:
        before = _right(checks, original, items)
        compared["drop"], compared["drop_low"], compared["drop_high"] = drop_interval(before, right)
        compared["p_value"] = mcnemar(before, right)
        pairs = [pair for check in checks for pair in zip(original.texts[check], answers.texts[check], strict=True)]
        same = sum(theirs == ours for theirs, ours in pairs)
        compared["agreement"] = same / count
        compared["agreement_low"], compared["agreement_high"] = share_interval(same, count)
    return GenerationScore(
        check=name,
        headline=name == ALL,
        prompts=count,
        chat=answers.chat,
        exact=float(right.mean()),
        standard_error=float(right.std(ddof=1) / np.sqrt(count)) if count > 1 else None,
        **compared,
    )


def first_line(text: str) -> str:
    """The first line that holds anything, without spaces around it: where an answer stands."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def share_interval(count: int, of: int) -> tuple[float, float]:
    """The exact 95 % interval of a share of yes and no (Clopper and Pearson 1934)."""
    found = binomtest(count, of).proportion_ci(CONFIDENCE, method="exact")
    return float(found.low), float(found.high)


def _right(checks: Sequence[GenerationCheck], answers: Answers, items: Items) -> np.ndarray[Any, Any]:
    """(prompts,) float64: 1 where the answer is right, else 0."""
    pairs = [pair for check in checks for pair in zip(items[check], answers.texts[check], strict=True)]
    return np.array([first_line(text) == item.answer for item, text in pairs], dtype=np.float64)


def _batches(prompts: Prompts, *, at_once: int) -> Iterable[list[int]]:
    """Numbers of prompts of one length, at most so many at a time."""
    by_length: dict[int, list[int]] = {}
    for number, ids in enumerate(prompts.ids):
        if not len(ids):  # no token to go on from
            continue
        by_length.setdefault(len(ids), []).append(number)
    for numbers in by_length.values():
        for start in range(0, len(numbers), at_once):
            yield numbers[start : start + at_once]


def _at_once(model: PreTrainedModel, tokens: int) -> int:
    """Prompts whose keys and values stay within their bytes."""
    return max(1, min(MAX_BATCH, CACHE_BYTES // (tokens * kv_bytes_per_token(model))))


def _line_ended(tokenizer: PreTrainedTokenizerBase) -> Callable[[list[int]], bool]:
    return lambda new: "\n" in _decoded(tokenizer, new).lstrip()


def _decoded(tokenizer: PreTrainedTokenizerBase, new: list[int]) -> str:
    return cast(str, tokenizer.decode(new, skip_special_tokens=True)) if new else ""
