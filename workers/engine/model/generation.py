"""Text that a model writes itself: sampled continuations of its beginning-of-text token, or answers to prompts.

It needs no data set, and follows what the model has learnt (Liu et al. 2023, LLM-QAT, arXiv 2305.17888, which
starts from random tokens; so does this where a model has no beginning-of-text token). Sampling runs on past the end
of a document, as documents follow each other in a packed text. So do prompts and answers: where an answer ends, the
next prompt follows in the same row, and all rows stay of one length.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Asked:
    """What the model is asked in each row, and how it is seen that it has answered."""

    prompts: Sequence[Sequence[int]]  # tokens of each, in the order in which they are asked; in turn, if they run out
    ends: Collection[int] = ()  # tokens that end an answer
    after: Sequence[int] = ()  # what stands between such a token and the next prompt


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
    pieces = []
    for part in _parts(model, samples, tokens, seed, progress):
        first = _first_tokens(model, len(part.rows), bos, avoid, part.generator)
        pieces.append(_continue(model, first, tokens, temperature, part).cpu())
    return torch.cat(pieces)


@torch.no_grad()
def sample_answers(
    model: PreTrainedModel,
    asked: Asked,
    *,
    samples: int,
    tokens: int,
    temperature: float = 1.0,
    seed: int = 0,
    progress: Progress = no_progress,
) -> tuple[Tensor, Tensor]:
    """Sample token sequences that begin with a prompt and go on with the answer, the next prompt and its answer.

    The first prompts of all rows are asked before any row's second one.

    Returns:
        (samples, tokens) int64, and of the same shape which of them the model has written; both on the CPU.

    Raises:
        StageFailed: the model's logits are not finite.
    """
    pieces, written = [], []
    for part in _parts(model, samples, tokens, seed, progress):
        talk = _Talk(asked, part.rows, samples)
        first = talk(torch.zeros((len(part.rows), 1), dtype=torch.long, device=part.generator.device))
        pieces.append(_continue(model, first, tokens, temperature, part, talk).cpu())
        written.append(torch.tensor(talk.written).T)
    return torch.cat(pieces), torch.cat(written)


class _Talk:
    """Which tokens of each row are given to the model, and which of those that were drawn stand."""

    def __init__(self, asked: Asked, rows: range, samples: int) -> None:
        self._asked, self._samples = asked, samples
        self._next = list(rows)  # of each row, the number of the prompt that comes next
        self._given: list[deque[int]] = [deque() for _ in rows]  # tokens that are still to be given
        self.written: list[list[bool]] = []  # of each token so far, of each row: whether the model wrote it
        for row in range(len(rows)):
            self._ask(row)

    def __call__(self, drawn: Tensor) -> Tensor:
        """(rows, 1) tokens as the model drew them → those that stand there."""
        tokens: list[int] = drawn[:, 0].tolist()
        written = []
        for row, given in enumerate(self._given):
            written.append(not given)
            if given:
                tokens[row] = given.popleft()
            elif tokens[row] in self._asked.ends:
                given.extend(self._asked.after)
                self._ask(row)
        self.written.append(written)
        return torch.tensor(tokens, device=drawn.device).unsqueeze(1)

    def _ask(self, row: int) -> None:
        prompts = self._asked.prompts
        self._given[row].extend(prompts[self._next[row] % len(prompts)])
        self._next[row] += self._samples


@dataclass(frozen=True)
class _Part:
    """Rows that are sampled together."""

    rows: range  # their numbers among all samples
    generator: torch.Generator
    tell: Callable[[int], None]  # of each row, so many tokens are there


def _parts(model: PreTrainedModel, samples: int, tokens: int, seed: int, progress: Progress) -> Iterator[_Part]:
    device = next(model.parameters()).device
    batch = min(samples, MAX_BATCH, max(1, CACHE_BYTES // (tokens * kv_bytes_per_token(model))))
    for start in range(0, samples, batch):
        generator = torch.Generator(device=device).manual_seed(derive_seed(seed, start))
        rows = range(start, min(start + batch, samples))

        def tell(done: int, rows: range = rows) -> None:
            progress(rows.start * tokens + done * len(rows), samples * tokens, "tokens")

        yield _Part(rows, generator, tell)


def stop_tokens(model: PreTrainedModel) -> set[int]:
    """Those with which the model ends a text."""
    settings = model.generation_config
    stops = settings.eos_token_id if settings is not None else model.config.eos_token_id
    given = stops if isinstance(stops, list | tuple) else [stops]
    return {token for token in given if type(token) is int}  # a stranger's file may hold anything


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
    part: _Part,
    amend: Callable[[Tensor], Tensor] = lambda drawn: drawn,
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
        ids.append(amend(_drawn(probabilities, part.generator)))
        part.tell(done + 1)
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
