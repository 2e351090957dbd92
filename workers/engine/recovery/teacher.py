"""The original as a teacher: its likeliest tokens at every position, computed once and stored.

A vocabulary of 50,000 makes whole distributions too large to keep, and running the teacher at every step costs its
memory and a third of the time again. Nearly all probability is on a few tokens, so the log-probabilities of the
top k are kept, and what is left is one bucket of known size. The KL divergence over k + 1 outcomes is then exact for
that partition, and never above the whole one.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from workers.engine.benchmarks.windows import batches, last_states
from workers.engine.blocks import BlockModel
from workers.engine.progress import Progress, no_progress

IDS, LOGPROBS = "teacher_ids", "teacher_logprobs"


@torch.no_grad()
def top_predictions(
    model: BlockModel, ids: Tensor, *, top_k: int, temperature: float, progress: Progress = no_progress
) -> dict[str, Tensor]:
    """The top k of softmax(logits / temperature) after every token.

    Args:
        ids: (samples, tokens).

    Returns:
        IDS: (samples, tokens, k) int32, LOGPROBS: the same shape, fp32; on the CPU.
    """
    k = min(top_k, model.vocab_size)
    found_ids = torch.empty((*ids.shape, k), dtype=torch.int32)
    found = torch.empty((*ids.shape, k), dtype=torch.float32)
    with model.packed_head():
        for start, piece in batches(ids):
            rows = piece.numel()
            piece_ids, piece_logs = torch.empty((rows, k), dtype=torch.int32), torch.empty((rows, k))
            for span, logits in model.head_chunks(last_states(model, piece)):
                logs, tokens = (logits.float() / temperature).log_softmax(-1).topk(k)
                piece_ids[span], piece_logs[span] = tokens.int().cpu(), logs.cpu()
            found_ids[start : start + len(piece)] = piece_ids.view(*piece.shape, k)
            found[start : start + len(piece)] = piece_logs.view(*piece.shape, k)
            progress(start + len(piece), len(ids), "samples")
    return {IDS: found_ids, LOGPROBS: found}


def load_predictions(file: Path, samples: int) -> dict[str, Tensor] | None:
    """What an earlier attempt stored, mapped from disk; None where there is nothing whole."""
    try:
        found = load_file(file)
    except (OSError, SafetensorError):
        return None
    return found if set(found) == {IDS, LOGPROBS} and len(found[IDS]) == samples else None


def save_predictions(predictions: dict[str, Tensor], file: Path) -> None:
    """Store them for this attempt's epochs and the next attempt."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    save_file(predictions, part)
    part.replace(file)


def kl_to_predictions(logits: Tensor, ids: Tensor, logprobs: Tensor, *, temperature: float) -> Tensor:
    """Mean KL(teacher ‖ student) over positions, times temperature² so that gradients keep their size.

    Args:
        logits: (..., vocabulary) of the student.
        ids: (..., k) the teacher's top tokens.
        logprobs: (..., k) their log-probabilities at `temperature`.

    Formula: Σ_k p (log p - log q) + p_rest (log p_rest - log q_rest); Hinton et al. 2015, arXiv 1503.02531.
    """
    scaled = logits.float() / temperature
    student = scaled.gather(-1, ids.long()) - scaled.logsumexp(-1, keepdim=True)  # (..., k)
    divergence = (logprobs.exp() * (logprobs - student)).sum(-1)
    if ids.shape[-1] < logits.shape[-1]:
        rest, student_rest = _log_rest(logprobs), _log_rest(student)
        divergence = divergence + rest.exp() * (rest - student_rest)
    return divergence.mean() * temperature**2


def _log_rest(logprobs: Tensor) -> Tensor:
    """log(1 - Σ exp): the bucket of all other tokens, kept off the log of nothing."""
    return torch.log1p(-logprobs.exp().sum(-1).clamp(max=1 - 1e-6))
