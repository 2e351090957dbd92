"""Text that a model writes itself: sampled continuations of its beginning-of-text token.

It needs no data set, and follows what the model has learnt (Liu et al. 2023, LLM-QAT, arXiv 2305.17888, which
starts from random tokens; so does this where a model has no beginning-of-text token). Sampling runs on past the end
of a document, as documents follow each other in a packed text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from secateur.contract.errors import StageFailed
from workers.engine.model.loading import next_logits
from workers.engine.progress import Progress, no_progress

MAX_BATCH = 128
CACHE_BYTES = 2**30  # keys and values of a batch stay under this


def derive_seed(seed: int, *names: str | int) -> int:
    """A seed for one stream of random numbers: other names, other draws.

    Calibration, training and measuring each sample from a stream of their own, so none sees another's text.
    """
    text = "/".join(str(name) for name in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1  # torch takes 63 bits


@torch.no_grad()
def sample_text(
    model: PreTrainedModel,
    *,
    samples: int,
    tokens: int,
    temperature: float = 1.0,
    seed: int = 0,
    bos: int | None = None,
    avoid: Sequence[int] = (),
    progress: Progress = no_progress,
) -> Tensor:
    """Sample token sequences from `model`.

    Args:
        bos: the token that begins each sequence; None: a random one, other than those in `avoid`.
        avoid: special tokens, which no sequence starts with.

    Returns:
        (samples, tokens), int64, on the CPU. The same model, arguments and machine give the same tokens.

    Raises:
        StageFailed: the model's logits are not finite.
    """
    device = next(model.parameters()).device
    batch = min(samples, MAX_BATCH, max(1, CACHE_BYTES // (tokens * kv_bytes_per_token(model))))
    pieces = []
    for start in range(0, samples, batch):
        generator = torch.Generator(device=device).manual_seed(derive_seed(seed, start))
        rows = min(batch, samples - start)
        first = _first_tokens(model, rows, bos, avoid, generator)

        def tell(done: int, start: int = start, rows: int = rows) -> None:
            progress(start * tokens + done * rows, samples * tokens, "tokens")

        pieces.append(_continue(model, first, tokens, temperature, generator, tell).cpu())
    return torch.cat(pieces)


def kv_bytes_per_token(model: PreTrainedModel) -> int:
    """Bytes of keys and values that one more token of one sequence costs, from the config.

    2 · blocks · key-value heads · head size · bytes of the dtype.
    """
    config = model.config
    heads = int(config.num_attention_heads)
    kv_heads = int(getattr(config, "num_key_value_heads", None) or heads)
    head_size = int(getattr(config, "head_dim", None) or config.hidden_size // heads)
    return 2 * int(config.num_hidden_layers) * kv_heads * head_size * model.dtype.itemsize


def _first_tokens(
    model: PreTrainedModel, rows: int, bos: int | None, avoid: Sequence[int], generator: torch.Generator
) -> Tensor:
    device = generator.device
    if bos is not None:
        return torch.full((rows, 1), bos, dtype=torch.long, device=device)
    allowed = torch.ones(int(model.config.vocab_size), device=device)
    allowed[[token for token in avoid if token < len(allowed)]] = 0
    return torch.multinomial(allowed, rows, replacement=True, generator=generator).unsqueeze(1)


def _continue(
    model: PreTrainedModel,
    first: Tensor,  # (rows, 1)
    tokens: int,
    temperature: float,
    generator: torch.Generator,
    tell: Callable[[int], None],
) -> Tensor:
    ids = [first]
    cache = None
    for done in range(1, tokens):
        logits, cache = next_logits(model, ids[-1], cache)
        probabilities = (logits.float() / temperature).softmax(-1)  # (rows, vocabulary)
        if not torch.isfinite(probabilities.sum(-1)).all():
            raise StageFailed(
                f"The original model's logits are not finite at token {done} of the text that it generates; "
                'its weights may be broken, or its arithmetic overflows: try "dtype": "float32".'
            )
        ids.append(_drawn(probabilities, generator))
        tell(done + 1)
    return torch.cat(ids, dim=1)


def _drawn(probabilities: Tensor, generator: torch.Generator) -> Tensor:
    """One token for each row of (rows, vocabulary): (rows, 1).

    On a CPU by inverting the distribution function, with one random number a row: `torch.multinomial` draws one for
    each token of the vocabulary, which took a quarter of the time. On a GPU that is cheap, and a running sum is not
    deterministic.
    """
    if probabilities.device.type != "cpu":
        return torch.multinomial(probabilities, 1, generator=generator)
    below = probabilities.double().cumsum(-1)
    drawn = torch.rand((len(below), 1), dtype=torch.float64, generator=generator) * below[:, -1:]
    return torch.searchsorted(below, drawn, right=True).clamp(max=below.shape[1] - 1)
