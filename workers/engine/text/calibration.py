"""From a text of the spec to a batch of token ids, for calibration, training and measuring alike.

A text is tokenised as one piece, as transformers would, and cut into windows that do not overlap, each of which begins
as the tokenizer begins a text (`beginning.py`). Calibration and training draw windows at random with the job's seed, as
the paper draws its samples (Shortened LLaMA, arXiv 2402.02834); measuring takes the first windows, in order, as
perplexity is measured everywhere.

Text that is given is tokenised once and kept (`text_ids.py`). Text that the model generates itself is sampled from a
stream of random numbers of its own for each purpose, so the three are disjoint draws, and kept likewise.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PretrainedConfig

from secateur.contract.errors import InvalidInput
from secateur.contract.models.positions import positions_of
from secateur.contract.options.texts import AnswersText, BlendPart, BlendText, Bos, SelfText
from secateur.contract.results import TextInfo
from workers.engine.model.generation import derive_seed
from workers.engine.progress import Progress, no_progress
from workers.engine.text.beginning import count_windows, cut, cut_all, with_first
from workers.engine.text.blend import counts_by_weight, most_by_weight, spread
from workers.engine.text.generated import written
from workers.engine.text.text_ids import GivenText, TextIds, text_ids
from workers.engine.text.text_source import AnyText, Purpose, TextSource, Wanted, within_text
from workers.engine.text.token_cache import TokenIds, kept_ids
from workers.engine.text.tokenizing import refuse_ids_without_row

READ_AHEAD = 8  # a text is read until there are so many times the windows to draw from,
READ_AHEAD_TOKENS = 4_000_000  # but no more than this for the choice's sake
DRAWS = 100  # texts of one purpose that have draws of their own, and as many parts of each that is a blend
HASHED_TOKENS = 1 << 22  # at a time


class Samples(NamedTuple):
    """Samples of a text."""

    ids: Tensor  # (samples, tokens)
    info: TextInfo
    answers: Tensor | None = None  # of prompts and answers: which tokens are an answer's, (samples, tokens)


def token_batch(
    source: TextSource,
    text: AnyText,
    *,
    purpose: Purpose,
    samples: int | None,
    tokens: int,
    bos: Bos = "auto",
    stride: int | None = None,
    exact: bool = True,
    mapped: bool = False,
    timed: bool = False,
    index: int = 0,
    progress: Progress = no_progress,
) -> tuple[Tensor, TextInfo]:
    """Token ids of `text`, with what is needed to make the same batch again.

    No more of a text is read and tokenised than `samples` can need: a caller that knows how much it will use bounds
    all that by it.

    Args:
        samples: how many windows; None takes all that the text has (for generated text a number is needed).
        tokens: per window, the beginning-of-text token among them.
        bos: where a beginning-of-text token stands (`beginning.py`).
        stride: from one window's start to the next one's; None: they do not overlap.
        exact: whether fewer windows than `samples` are an error; else one is enough.
        mapped: leave the ids of a text in the file in which they are kept, as far as all of them are taken.
        timed: a clock may end it at the progress: a text is read in short pieces, and nothing ahead of what is needed.
        index: tells several generated texts of one purpose apart.

    Returns:
        (samples, tokens) ids on the CPU, int64, or where they are `mapped` int32; and the text's description.

    Raises:
        InvalidInput: the text is too short, cannot be read, has a token that the model has no row for, or the model
            cannot hold so many tokens.
        Unavailable: the hub does not answer.
    """
    wanted = Wanted(purpose, samples, tokens, bos, stride, exact, mapped, timed, index)
    ids, info, _ = samples_of(source, text, wanted, progress)
    return ids, info


def samples_of(source: TextSource, text: AnyText, wanted: Wanted, progress: Progress = no_progress) -> Samples:
    """As `token_batch`, with which tokens are answers where the text is prompts and answers."""
    check_positions(source.config, wanted.tokens)
    if isinstance(text, BlendText):
        return _blended(source, text, wanted, progress)
    if isinstance(text, SelfText | AnswersText):
        if wanted.samples is None:
            raise InvalidInput.field("samples", "Generated text needs a number of samples.")
        made = written(source, text, wanted, wanted.samples, progress)
        info = describe_batch(
            made.ids,
            description=made.description,
            source=text.source,
            identity=made.identity,
            revision=made.revision,
        )
        return Samples(made.ids, info, made.answers)
    return Samples(*_given(source, text, wanted, progress))


def _blended(source: TextSource, text: BlendText, wanted: Wanted, progress: Progress) -> Samples:
    """Samples of all parts, spread evenly; where one has fewer than its share, there are fewer of all."""
    parts: list[tuple[BlendPart, Samples]] = []
    short = wanted.samples is None
    for number, part, asked in parts_of(text, wanted):
        before = sum(len(found.ids) for _, found in parts)
        with within_text(f"parts/{number}/text"):
            found = samples_of(source, part.text, asked, _of_whole(progress, before, asked, wanted))
        short |= len(found.ids) != asked.samples
        parts.append((part, found))
    counts = [len(found.ids) for _, found in parts]
    if short:
        counts = most_by_weight([part.weight for part, _ in parts], counts)
    chosen = [_some(source, found, count, wanted) for (_, found), count in zip(parts, counts, strict=True)]
    order = spread(counts)
    ids = torch.cat([part.ids for part in chosen])[order]
    answers = None
    if any(part.answers is not None for part in chosen):  # of the other texts, all is learnt
        known = [part.ids >= 0 if part.answers is None else part.answers for part in chosen]
        answers = torch.cat(known)[order]
    info = describe_batch(
        ids,
        description="; ".join(
            f"{count:,} of {part.info.description}" for part, count in zip(chosen, counts, strict=True)
        ),
        source=text.source,
        identity=", ".join(dict.fromkeys(part.info.identity for part in chosen)),
    )
    return Samples(ids, info, answers)


def parts_of(text: BlendText, wanted: Wanted) -> list[tuple[int, BlendPart, Wanted]]:
    """Of a blend the parts that any samples are taken of, with their numbers, and which samples are wanted of each."""
    counts: list[int | None] = [None] * len(text.parts)
    if wanted.samples is not None:
        counts = [*counts_by_weight([part.weight for part in text.parts], wanted.samples)]
    return [
        (number, part, replace(wanted, samples=count, index=DRAWS * (wanted.index + 1) + number))
        for number, (part, count) in enumerate(zip(text.parts, counts, strict=True))
        if count != 0
    ]


def _of_whole(progress: Progress, before: int, asked: Wanted, wanted: Wanted) -> Progress:
    """The progress of a part of a blend as that of the whole, whose samples before it are done."""
    if asked.samples is None or wanted.samples is None:
        return progress
    own, whole = asked.samples * wanted.tokens, wanted.samples * wanted.tokens
    return lambda done, total, unit: progress(before * wanted.tokens + own * done // max(total, 1), whole, "tokens")


def _some(source: TextSource, found: Samples, count: int, wanted: Wanted) -> Samples:
    """So many of the samples, drawn as windows of a text are."""
    if count == len(found.ids):
        return found
    draw = wanted.purpose != "measuring"
    seed = derive_seed(source.seed, wanted.purpose, "blend", wanted.index) if draw else None
    rows = choose_windows(len(found.ids), count, seed=seed)
    return Samples(found.ids[rows], found.info, None if found.answers is None else found.answers[rows])


def _given(source: TextSource, text: GivenText, asked: Wanted, progress: Progress) -> tuple[Tensor, TextInfo]:
    samples, tokens, exact, timed = asked.samples, asked.tokens, asked.exact, asked.timed
    start = source.beginning(text, asked.bos)
    width = tokens - 1 if start.where == "each" else tokens  # of the text
    step = min(asked.stride or width, width)
    draw = asked.purpose != "measuring"
    needed = None if samples is None else (samples - 1) * step + width + (start.where == "each")
    wanted = _read_ahead(needed) if draw and not timed and needed is not None else needed

    def read(wanted: int | None) -> TextIds:
        return text_ids(
            text,
            tokenizer=lambda: source.tokenizer,
            fingerprint=source.tokenizer_fingerprint,
            roots=source.data_roots,
            uploads=source.uploads,
            cache=source.cache,
            measuring=not draw,
            timed=timed,
            wanted=wanted,
            progress=progress,
        )

    found = read(wanted)
    if needed is not None and len(found.ids) < needed and not (found.whole or timed):  # longer tokens than most
        found = read(None)
    _refuse_ids(found, source)
    ids, key = found.ids, found.key
    if start.where == "first":
        key = {**key, "first": start.token}
        ids = kept_ids(source.cache, key, lambda: with_first(found.ids, start.token))
    windows = count_windows(ids, width=width, step=step, bos=start.each)
    if windows < 1 or (exact and samples is not None and windows < samples):
        count = samples if exact and samples is not None else 1
        enough = max((count - 1) * step + width, len(ids) + 1)  # the last one may begin with a token of its own
        raise InvalidInput.field(
            "batch",
            f"The text ({found.description}) has {len(ids):,} tokens; {count:,} samples of {tokens:,} tokens need "
            f"{enough:,}.",
            value=len(ids),
            expected=f"a text of at least {enough:,} tokens, or fewer or shorter samples",
        )
    chosen = choose_windows(
        windows, samples, seed=derive_seed(source.seed, asked.purpose, asked.index) if draw else None
    )
    description = found.description + start.said()
    if draw and len(chosen) < windows:
        description += f", windows drawn with seed {source.seed}"
    batch = _batch(source, ids, key, chosen * step, all_of_them=len(chosen) == windows, tokens=tokens, bos=start.each)
    if not asked.mapped:
        batch = batch.long()
    info = describe_batch(
        batch, description=description, source=text.source, identity=found.identity, revision=found.revision
    )
    return batch, info


def _batch(
    source: TextSource,
    ids: TokenIds,
    key: dict[str, Any],
    starts: Tensor,
    *,
    all_of_them: bool,
    tokens: int,
    bos: int | None,
) -> Tensor:
    """The samples that begin at `starts`; where they are all that the text has, as they lie in a kept file."""
    step = tokens if bos is None else tokens - 1
    if not all_of_them or (len(starts) > 1 and int(starts[1]) != step):
        return cut(ids, starts, tokens=tokens, bos=bos)
    if bos is not None:
        key = {**key, "before each": bos, "tokens": tokens}
        ids = kept_ids(source.cache, key, lambda: cut_all(ids, starts, tokens=tokens, bos=bos))
    return torch.from_numpy(ids[: len(ids) // tokens * tokens]).view(-1, tokens)


def _refuse_ids(found: TextIds, source: TextSource) -> None:
    rows = int(source.config.vocab_size)
    if len(found.ids) and int(found.ids.max()) >= rows:
        where = f"The text {found.description}"
        refuse_ids_without_row(found.ids, source.tokenizer, rows, where=where)


def _read_ahead(tokens: int) -> int:
    """How many tokens of a text to draw so many from: some times as many, where that is quick."""
    return max(tokens, min(tokens * READ_AHEAD, READ_AHEAD_TOKENS))


def choose_windows(windows: int, samples: int | None, *, seed: int | None) -> Tensor:
    """Numbers of the windows to use, ascending: drawn without repetition, or the first where `seed` is None."""
    if samples is None or samples >= windows:
        return torch.arange(windows)
    if seed is None:
        return torch.arange(samples)
    return torch.randperm(windows, generator=torch.Generator().manual_seed(seed))[:samples].sort().values


def describe_batch(
    batch: Tensor, *, description: str, source: str, identity: str, revision: str | None = None
) -> TextInfo:
    """What the results say of a batch, (samples, tokens) integers."""
    digest = hashlib.sha256()
    for part in torch.split(batch, max(1, HASHED_TOKENS // max(1, batch.shape[1]))):
        digest.update(part.numpy().astype("<i8").tobytes())
    return TextInfo(
        description=description,
        source=source,
        identity=identity,
        samples=batch.shape[0],
        tokens=batch.shape[1],
        sha256=digest.hexdigest(),
        revision=revision,
    )


def check_positions(config: PretrainedConfig, tokens: int) -> None:
    """Raise InvalidInput, over `tokens`, if the model cannot hold so many tokens."""
    limit = positions_of(config.to_dict())
    if limit is not None and tokens > limit:
        raise InvalidInput.field(
            "tokens",
            f"Samples of {tokens:,} tokens are longer than the model's context of {limit:,}.",
            value=tokens,
            expected=f"at most {limit:,} tokens",
        )
