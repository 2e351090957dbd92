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
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from secateur.contract.errors import InvalidInput
from secateur.contract.models.positions import positions_of
from secateur.contract.options.texts import Bos, SelfText
from secateur.contract.protocol import UploadedFile
from secateur.contract.results import TextInfo
from secateur.whole_files import whole_file
from workers.engine.model.generation import derive_seed, sample_text
from workers.engine.progress import Progress, no_progress
from workers.engine.runtime import Machine
from workers.engine.text.beginning import Beginning, beginning_of, count_windows, cut, cut_all, with_first
from workers.engine.text.encoding import refuse_ids_without_row, starts_with_bos
from workers.engine.text.text_ids import GivenText, TextIds, text_ids
from workers.engine.text.token_cache import TokenIds, kept_ids, tokenizer_fingerprint
from workers.engine.text.tokenizer_loading import load_tokenizer

Purpose = Literal["calibration", "training", "measuring"]
AnyText = SelfText | GivenText

READ_AHEAD = 8  # a text is read until there are so many times the windows to draw from,
READ_AHEAD_TOKENS = 4_000_000  # but no more than this for the choice's sake
HASHED_TOKENS = 1 << 22  # at a time
GENERATION_VERSION = 2  # of the sampling; part of the cache's key


@dataclass(frozen=True)
class TextSource:
    """What the token batches of one job have in common: the original model and where texts may lie."""

    checkpoint: Path  # of the original: its tokenizer reads, its model writes
    config: PretrainedConfig
    fingerprint: str  # of the original, for the cache of generated text
    load: Callable[[], PreTrainedModel]  # brings the original into memory; called for generated text alone
    machine: Machine
    data_roots: Sequence[Path]
    cache: Path
    seed: int
    uploads: Mapping[UUID, UploadedFile] = field(default_factory=dict)  # data sets on this machine

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return load_tokenizer(self.checkpoint)

    @cached_property
    def tokenizer_fingerprint(self) -> str:
        return tokenizer_fingerprint(self.checkpoint)

    @property
    def bos(self) -> int | None:
        """The beginning-of-text token, from the tokenizer or else the config."""
        try:
            found = self.tokenizer.bos_token_id
        except InvalidInput:  # no tokenizer: the config may still know
            found = None
        found = self.config.bos_token_id if found is None else found
        return found if isinstance(found, int) and 0 <= found < int(self.config.vocab_size) else None

    def beginning(self, text: AnyText, asked: Bos) -> Beginning:
        """Where a beginning-of-text token stands in samples of `text`; the model begins what it writes with its own.

        Args:

        Raises:
            InvalidInput: the token is asked for, and the model has none.
        """
        rows = int(self.config.vocab_size)
        if isinstance(text, SelfText):
            asked = asked if asked in ("each", "none") else "each" if self.bos is not None else "none"
            return beginning_of(asked, adds=False, token=self.bos, rows=rows)
        if asked == "none":
            return beginning_of(asked, adds=False, token=None, rows=rows)
        adds = starts_with_bos(self.tokenizer)
        token = self.tokenizer.bos_token_id if adds else self.bos
        return beginning_of(asked, adds=adds, token=token, rows=rows)


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
    check_positions(source.config, tokens)
    start = source.beginning(text, bos)
    if isinstance(text, SelfText):
        if samples is None:
            raise InvalidInput.field("samples", "Generated text needs a number of samples.")
        return _generated(source, text, purpose, index, samples, tokens, start, progress)
    width = tokens - 1 if start.where == "each" else tokens  # of the text
    step = min(stride or width, width)
    draw = purpose != "measuring"
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
    chosen = choose_windows(windows, samples, seed=derive_seed(source.seed, purpose, index) if draw else None)
    description = found.description + start.said()
    if draw and len(chosen) < windows:
        description += f", windows drawn with seed {source.seed}"
    batch = _batch(source, ids, key, chosen * step, all_of_them=len(chosen) == windows, tokens=tokens, bos=start.each)
    if not mapped:
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


def _generated(
    source: TextSource,
    text: SelfText,
    purpose: Purpose,
    index: int,
    samples: int,
    tokens: int,
    start: Beginning,
    progress: Progress,
) -> tuple[Tensor, TextInfo]:
    without = source.bos is not None and start.where == "none"  # it is sampled from that token on all the same
    tokens += without
    key = {
        "version": GENERATION_VERSION,
        "model": source.fingerprint,
        "stream": [source.seed, purpose, index],
        "shape": [samples, tokens],
        "temperature": text.temperature,
        "dtype": str(source.machine.dtype),
        "device": source.machine.device.type,
    }
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    file = source.cache / "texts" / f"{name}.safetensors"
    batch = _cached(file, (samples, tokens))
    if batch is None:
        bos = source.bos
        batch = sample_text(
            source.load(),
            samples=samples,
            tokens=tokens,
            temperature=text.temperature,
            seed=derive_seed(source.seed, purpose, index),
            bos=bos,
            avoid=() if bos is not None else _special_tokens(source),
            progress=progress,
        )
        with whole_file(file, shared=True) as part:
            save_file({"ids": batch}, part)
    if without:
        batch = batch[:, 1:].contiguous()
    description = f"generated by the model for {purpose}, temperature {text.temperature:g}, seed {source.seed}"
    return batch, describe_batch(batch, description=description, source="self", identity="self")


def _cached(file: Path, shape: tuple[int, int]) -> Tensor | None:
    try:
        batch = load_file(file)["ids"]
    except (OSError, SafetensorError, KeyError):  # absent or damaged: made anew
        return None
    return batch if batch.shape == shape and batch.dtype == torch.int64 else None


def _special_tokens(source: TextSource) -> Sequence[int]:
    try:
        return source.tokenizer.all_special_ids
    except InvalidInput:
        return ()


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
