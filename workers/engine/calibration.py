"""From a text of the spec to a batch of token ids, for calibration, training and measuring alike.

A text is tokenised as one piece, as transformers would, and cut into windows that do not overlap. Calibration and
training draw windows at random with the job's seed, as the paper draws its samples (Shortened LLaMA, arXiv
2402.02834); measuring takes the first windows, in order, as perplexity is measured everywhere.

Text that the model generates itself is sampled from a stream of random numbers of its own for each purpose, so the
three are disjoint draws, and kept in the machine's cache.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal, cast
from uuid import UUID

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from app.domain.datasets import DatasetFormat
from app.domain.options import HubText, LocalText, NamedText, SelfText, UploadText
from app.domain.protocol import UploadedFile
from app.domain.results import TextInfo
from app.errors import InvalidInput
from workers.engine.generation import derive_seed, sample_text
from workers.engine.models import load_tokenizer
from workers.engine.named_texts import NamedSource
from workers.engine.progress import Progress, no_progress
from workers.engine.runtime import Machine
from workers.engine.texts import hub_revision, read_hub, read_local
from workers.engine.uploads import describe_upload, find_upload, upload_documents, upload_text

Purpose = Literal["calibration", "training", "measuring"]
AnyText = SelfText | NamedText | HubText | LocalText | UploadText

CHUNK_CHARS = 4_000_000  # text tokenised in one call; longer ones are cut at the end of a line
READ_AHEAD = 8  # rows of a stream are read until there are so many times the windows to draw from
MAX_STREAM_TOKENS = 100_000_000  # where nothing bounds what is read of a hub data set
GENERATION_VERSION = 1  # of the sampling; part of the cache's key


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

    @property
    def bos(self) -> int | None:
        """The beginning-of-text token, from the tokenizer or else the config."""
        try:
            found = self.tokenizer.bos_token_id
        except InvalidInput:  # no tokenizer: the config may still know
            found = None
        found = self.config.bos_token_id if found is None else found
        return found if isinstance(found, int) and 0 <= found < int(self.config.vocab_size) else None


def token_batch(
    source: TextSource,
    text: AnyText,
    *,
    purpose: Purpose,
    samples: int | None,
    tokens: int,
    pointer: str,
    text_pointer: str,
    exact: bool = True,
    index: int = 0,
    progress: Progress = no_progress,
) -> tuple[Tensor, TextInfo]:
    """Token ids of `text`, with what is needed to make the same batch again.

    Args:
        samples: how many windows; None takes all that the text has (for generated text a number is needed).
        tokens: per window.
        pointer: the object of the spec that asks for `samples` and `tokens`, for errors.
        text_pointer: the text's own place in the spec.
        exact: whether fewer windows than `samples` are an error; else one is enough.
        index: tells several generated texts of one purpose apart.

    Returns:
        (samples, tokens) int64 ids on the CPU, and the text's description.

    Raises:
        InvalidInput: the text is too short, cannot be read, or the model cannot hold so many tokens.
        Unavailable: the hub does not answer.
    """
    _check_positions(source.config, tokens, pointer)
    if isinstance(text, SelfText):
        if samples is None:
            raise InvalidInput.field(f"{pointer}/samples", "Generated text needs a number of samples.")
        return _generated(source, text, purpose, index, samples, tokens, progress)
    draw = purpose != "measuring"
    need = None if samples is None else samples * tokens
    if isinstance(text, LocalText):
        ids = tokenize(source.tokenizer, _pieces(read_local(text, source.data_roots, pointer=text_pointer)))
        description, identity = f"{text.path}, {text.start:g} to {text.stop:g}", text.path
    elif isinstance(text, UploadText):
        file = find_upload(text, source.uploads, pointer=text_pointer)
        if file.format is DatasetFormat.TEXT:
            pieces = _pieces(upload_text(text, file, pointer=text_pointer))
        else:
            pieces = _joined(upload_documents(text, file, pointer=text_pointer))
        ids = tokenize(source.tokenizer, pieces)
        description, identity = describe_upload(text, file), file.sha256
    elif isinstance(text, NamedText):
        named = NamedSource(text, measuring=not draw, cache=source.cache)
        ids = tokenize(source.tokenizer, _joined(named.documents(), between=named.set.between))
        description, identity = named.description, named.set.id
    else:
        revision = hub_revision(text, pointer=text_pointer)
        rows = read_hub(text, revision=revision, pointer=text_pointer)
        wanted = MAX_STREAM_TOKENS if need is None else need * (READ_AHEAD if draw else 1)
        ids = tokenize(source.tokenizer, _joined(rows), stop_after=min(wanted, MAX_STREAM_TOKENS))
        name = " ".join(part for part in (text.id, text.config, text.split) if part)
        description, identity = f"{name} at {revision[:12]}", text.id
    windows = len(ids) // tokens
    if windows < 1 or (exact and samples is not None and windows < samples):
        count = samples if exact and samples is not None else 1
        raise InvalidInput.field(
            pointer,
            f"The text ({description}) has {len(ids):,} tokens; {count:,} samples of {tokens:,} tokens need "
            f"{count * tokens:,}.",
            value=len(ids),
            expected=f"a text of at least {count * tokens:,} tokens, or fewer or shorter samples",
        )
    chosen = choose_windows(windows, samples, seed=derive_seed(source.seed, purpose, index) if draw else None)
    if draw and len(chosen) < windows:
        description += f", windows drawn with seed {source.seed}"
    batch = torch.from_numpy(ids[: windows * tokens].astype(np.int64)).view(windows, tokens)[chosen]
    return batch, describe_batch(batch, description=description, source=text.source, identity=identity)


def tokenize(
    tokenizer: PreTrainedTokenizerBase, pieces: Iterator[str], *, stop_after: int | None = None
) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    """Token ids of the pieces of one text, one after the other; a beginning-of-text token only at its start.

    Args:
        stop_after: read no further piece once there are so many tokens.

    Returns:
        (tokens,), int32: half the memory of torch's integers.
    """
    empty = cast(list[int], tokenizer("")["input_ids"])
    found = [np.array([token for token in empty[:1] if token == tokenizer.bos_token_id], dtype=np.int32)]
    total = len(found[0])
    for piece in pieces:
        encoded = tokenizer(piece, add_special_tokens=False, return_attention_mask=False, verbose=False)
        found.append(np.array(encoded["input_ids"], dtype=np.int32))
        total += len(found[-1])
        if stop_after is not None and total >= stop_after:
            break
    return np.concatenate(found)


def starts_with_bos(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether `tokenize` puts a beginning-of-text token at the start of a text."""
    return cast(list[int], tokenizer("")["input_ids"])[:1] == [tokenizer.bos_token_id]


def choose_windows(windows: int, samples: int | None, *, seed: int | None) -> Tensor:
    """Numbers of the windows to use, ascending: drawn without repetition, or the first where `seed` is None."""
    if samples is None or samples >= windows:
        return torch.arange(windows)
    if seed is None:
        return torch.arange(samples)
    return torch.randperm(windows, generator=torch.Generator().manual_seed(seed))[:samples].sort().values


def _generated(
    source: TextSource, text: SelfText, purpose: Purpose, index: int, samples: int, tokens: int, progress: Progress
) -> tuple[Tensor, TextInfo]:
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
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_suffix(f".{os.getpid()}.part")
        save_file({"ids": batch}, temporary)
        temporary.replace(file)
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


def describe_batch(batch: Tensor, *, description: str, source: str, identity: str) -> TextInfo:
    """What the results say of a batch, (samples, tokens) int64."""
    digest = hashlib.sha256(batch.numpy().astype("<i8").tobytes()).hexdigest()
    return TextInfo(
        description=description,
        source=source,
        identity=identity,
        samples=batch.shape[0],
        tokens=batch.shape[1],
        sha256=digest,
    )


def _check_positions(config: PretrainedConfig, tokens: int, pointer: str) -> None:
    limit = getattr(config, "max_position_embeddings", None)
    if isinstance(limit, int) and tokens > limit:
        raise InvalidInput.field(
            f"{pointer}/tokens",
            f"Samples of {tokens:,} tokens are longer than the model's context of {limit:,}.",
            value=tokens,
            expected=f"at most {limit:,} tokens",
        )


def _pieces(text: str) -> Iterator[str]:
    """`text` in pieces of at most CHUNK_CHARS or a little more, cut after a line's end."""
    start = 0
    while start < len(text):
        end = start + CHUNK_CHARS
        if end < len(text):
            end = text.find("\n", end) + 1 or end
        yield text[start:end]
        start = end


def _joined(rows: Iterator[str], *, between: str = "\n\n") -> Iterator[str]:
    """Rows joined, by empty lines as WikiText is measured, in pieces that are worth a call of the tokenizer."""
    held: list[str] = []
    size = 0
    first = True
    for row in rows:
        held.append(row)
        size += len(row)
        if size >= CHUNK_CHARS // 16:
            yield ("" if first else between) + between.join(held)
            held, size, first = [], 0, False
    if held:
        yield ("" if first else between) + between.join(held)
