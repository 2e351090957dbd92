"""The original as a teacher: its likeliest tokens at every position, computed once and stored.

A vocabulary of 50,000 makes whole distributions too large to keep, and running the teacher at every step costs its
memory and a third of the time again. Nearly all probability is on a few tokens, so the log-probabilities of the
top k are kept, and what is left is one bucket of known size. The KL divergence over k + 1 outcomes is then that
of the partition, which is never above the whole one, but for how finely they are stored (`packed_predictions.py`).

They lie on disk, in a file that is mapped, so that memory holds only what a batch looks at; a long text has gigabytes
of them. Room for all is taken before the first is computed. They are written from the first sample on, and a killed
attempt goes on after the last that is whole.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from secateur.contract.errors import InvalidInput, StageFailed
from secateur.contract.numbers import size
from secateur.whole_files import write_whole
from workers.engine.model.batches import TOKENS_AT_ONCE, batches
from workers.engine.model.block_model import BlockModel
from workers.engine.progress import Meter, Progress, no_progress
from workers.engine.recovery.packed_predictions import PackedForm
from workers.engine.runtime import available_memory

PREDICTIONS = "teacher_predictions"  # the column, and the file
STATES_SHARE = 0.1  # of the free memory: states of a model that is streamed, which is read once for so many


@dataclass(frozen=True)
class Predictions:
    """The top k after each token of the first samples of a text."""

    columns: dict[str, Tensor]  # PREDICTIONS, (samples, tokens, bytes of a position), mapped from disk
    samples: int  # fewer than the text has where time was up


def prediction_bytes(samples: int, tokens: int, form: PackedForm) -> int:
    """What they take on disk."""
    return samples * tokens * form.position_bytes


def stored_predictions(
    folder: Path,
    load: Callable[[], BlockModel],
    ids: Tensor,
    *,
    vocabulary: int,
    top_k: int,
    temperature: float,
    enough: Callable[[], bool] = lambda: False,
    progress: Progress = no_progress,
    log: Callable[[str], None] = lambda message: None,
) -> Predictions:
    """The top k of softmax(logits / temperature) after every token, computed as far as `folder` lacks them.

    Args:
        folder: belongs to these ids, this model and these settings alone.
        load: brings the model; called where anything is to be computed.
        ids: (samples, tokens).
        vocabulary: tokens that are told apart; the model may have more rows, which are left out.
        enough: asked after each part; True ends it with what there is.
        log: told what they will take on disk.

    Raises:
        InvalidInput: the disk has no room for them.
    """
    form = PackedForm.of(top_k, vocabulary)
    state = _state(folder, ids, form)
    if state is None or not state["whole"]:
        model = load()
        if state is None:
            needed = prediction_bytes(len(ids), ids.shape[1], form)
            log(f"{_told(len(ids), ids.shape[1])} are stored: {size(needed)} of disk.")
            _make_room(folder, ids, form)
            state = {"done": 0, "whole": False}
        written = _mapped(folder, ids, form, "r+")
        meter = Meter(progress, len(ids), "samples")
        meter.add(state["done"])
        every = _top(
            model, ids, state["done"], vocabulary=vocabulary, k=form.top_k, temperature=temperature, meter=meter
        )
        for start, found in every:
            packed = form.pack(*found)
            written[start : start + len(packed)] = packed.numpy()
            written.flush()
            state["done"] = start + len(packed)
            state["whole"] = state["done"] == len(ids) or enough()
            write_whole(folder / "state.json", json.dumps(state).encode())
            if state["whole"]:
                break
    done = int(state["done"])
    return Predictions({PREDICTIONS: torch.from_numpy(_mapped(folder, ids, form, "c")[:done])}, done)


@torch.no_grad()
def top_predictions(model: BlockModel, ids: Tensor, *, top_k: int, temperature: float) -> tuple[Tensor, Tensor]:
    """The same in memory, as they are before they are packed: numbers (int32) and log-probabilities (fp32),
    (samples, tokens, k), on the CPU."""
    k = min(top_k, model.vocab_size)
    meter = Meter(no_progress, len(ids), "samples")
    every = _top(model, ids, 0, vocabulary=model.vocab_size, k=k, temperature=temperature, meter=meter)
    numbers, logs = zip(*(found for _, found in every), strict=True)
    return torch.cat(numbers), torch.cat(logs)


@torch.no_grad()
def _top(
    model: BlockModel, ids: Tensor, start: int, *, vocabulary: int, k: int, temperature: float, meter: Meter
) -> Iterator[tuple[int, tuple[Tensor, Tensor]]]:
    """From sample `start` on, a group at a time: the first one's number, and what `top_predictions` has of them."""
    tokens = ids.shape[1]
    at_once = TOKENS_AT_ONCE
    if model.streamed:
        state_bytes = model.hidden_size * model.dtype.itemsize
        at_once = max(at_once, int(STATES_SHARE * available_memory(model.device)) // state_bytes)
    group = max(1, at_once // tokens)
    share = 1 / (model.n_blocks + model.head_worth)  # of a sample's time that one block takes
    with model.packed_head():
        while start < len(ids):
            pieces = [piece for _, piece in batches(ids[start : start + group].long())]
            states = [model.embed(piece) for piece in pieces]
            for block in model.blocks():
                states = [block(state) for state in states]
                meter.add(share * sum(map(len, pieces)))
            for piece, state in zip(pieces, states, strict=True):
                rows = piece.numel()
                found_ids, found = torch.empty((rows, k), dtype=torch.int32), torch.empty((rows, k))
                for span, logits in model.head_chunks(state):
                    logs, top = (logits[:, :vocabulary].float() / temperature).log_softmax(-1).topk(k)
                    found_ids[span], found[span] = top.int().cpu(), logs.cpu()
                meter.add(share * model.head_worth * len(piece))
                yield start, (found_ids.view(*piece.shape, k), found.view(*piece.shape, k))
                start += len(piece)


def refuse_without_room(folder: Path, samples: int, tokens: int, form: PackedForm) -> None:
    """Check that the disk of `folder` has room for the predictions.

    Raises:
        InvalidInput: it has not.
    """
    needed, free = prediction_bytes(samples, tokens, form), shutil.disk_usage(folder).free
    if needed > free:
        raise InvalidInput.field(
            "top_k",
            f"{_told(samples, tokens)} take {size(needed)} of disk, {form.position_bytes} bytes for the {form.top_k} "
            f"likeliest after each token, and the worker has {size(free)} free.",
            value=form.top_k,
            expected=f"a smaller `top_k`, or by `samples` or `max_steps` fewer samples: "
            f"{free // prediction_bytes(1, tokens, form):,} would fit",
        )


def _told(samples: int, tokens: int) -> str:
    return f"The original's predictions on {samples:,} samples of {tokens:,} tokens"


def _make_room(folder: Path, ids: Tensor, form: PackedForm) -> None:
    """Make the file in its whole size; what fills the disk later cannot break it then."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    refuse_without_room(folder.parent, ids.shape[0], ids.shape[1], form)
    folder.mkdir()
    try:
        with (folder / PREDICTIONS).open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, prediction_bytes(ids.shape[0], ids.shape[1], form))
    except OSError as error:  # a quota, or others were quicker
        shutil.rmtree(folder)
        raise StageFailed(f"{_told(*ids.shape)} found no room on the worker's disk: {error.strerror}.") from error


def _state(folder: Path, ids: Tensor, form: PackedForm) -> dict[str, Any] | None:
    """How far an earlier attempt came; None where there is nothing of it, or not its whole file."""
    try:
        state: dict[str, Any] = json.loads((folder / "state.json").read_bytes())
        whole = (folder / PREDICTIONS).stat().st_size == prediction_bytes(ids.shape[0], ids.shape[1], form)
    except (OSError, ValueError):
        return None
    return state if whole else None


def _mapped(folder: Path, ids: Tensor, form: PackedForm, mode: Any) -> Any:
    return np.memmap(folder / PREDICTIONS, dtype=np.uint8, mode=mode, shape=(*ids.shape, form.position_bytes))


def divergences(logits: Tensor, ids: Tensor, logprobs: Tensor, *, temperature: float) -> Tensor:
    """KL(teacher ‖ student) at each position, times temperature² so that gradients keep their size.

    Args:
        logits: (..., vocabulary) of the student.
        ids: (..., k) the teacher's top tokens.
        logprobs: (..., k) their log-probabilities at `temperature`.

    Returns:
        (...), fp32.

    Formula: Σ_k p (log p - log q) + p_rest (log p_rest - log q_rest); Hinton et al. 2015, arXiv 1503.02531.
    """
    scaled = logits.float() / temperature
    student = scaled.gather(-1, ids.long()) - scaled.logsumexp(-1, keepdim=True)  # (..., k)
    divergence = (logprobs.exp() * (logprobs - student)).sum(-1)
    if ids.shape[-1] < logits.shape[-1]:
        rest, student_rest = _log_rest(logprobs), _log_rest(student)
        divergence = divergence + rest.exp() * (rest - student_rest)
    return divergence * temperature**2


def kl_to_predictions(logits: Tensor, ids: Tensor, logprobs: Tensor, *, temperature: float) -> Tensor:
    """Their mean over positions."""
    return divergences(logits, ids, logprobs, temperature=temperature).mean()


def _log_rest(logprobs: Tensor) -> Tensor:
    """log(1 - Σ exp): the bucket of all other tokens, kept off the log of nothing."""
    return torch.log1p(-logprobs.exp().sum(-1).clamp(max=1 - 1e-6))
