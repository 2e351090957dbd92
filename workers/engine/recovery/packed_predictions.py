"""The original's likeliest tokens at a position, packed into few bytes.

A token's number takes two bytes where the vocabulary has at most 65,536, and three up to 16 million. Its probability
takes one: how far its log-probability is from the likeliest token's, in 255 equal steps up to the farthest one. What
is left to all other tokens together is kept in fp32, and the probabilities are made to add up to the rest of 1 again.
With 64 tokens a position takes 200 or 264 bytes, for 512 with each number and log-probability in four.

Steps that grow with the distance lose more: of SmolLM2's predictions 1.5e-5 nats, in place of 1.1e-5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

HEAD_BYTES = 8  # of a position: the largest distance and the logarithm of what is left, in fp32
LEVELS = 255  # steps of a distance
FARTHEST = 100.0  # nats; what is less likely than e⁻¹⁰⁰ of the likeliest is nothing


@dataclass(frozen=True)
class PackedForm:
    """How the `top_k` likeliest tokens of a vocabulary are packed: head, levels (k), numbers (byte by byte, k each)."""

    top_k: int
    vocabulary: int

    @classmethod
    def of(cls, top_k: int, vocabulary: int) -> PackedForm:
        """No more tokens than there are."""
        return cls(min(top_k, vocabulary), vocabulary)

    @property
    def number_bytes(self) -> int:
        """Bytes of a token's number.

        >>> PackedForm(64, 49_152).number_bytes, PackedForm(64, 262_144).number_bytes
        (2, 3)
        """
        return max(2, math.ceil((self.vocabulary - 1).bit_length() / 8))

    @property
    def position_bytes(self) -> int:
        """Bytes of a position.

        >>> PackedForm(64, 49_152).position_bytes, PackedForm(64, 262_144).position_bytes
        (200, 264)
        """
        return HEAD_BYTES + self.top_k * (1 + self.number_bytes)

    def pack(self, ids: Tensor, logprobs: Tensor) -> Tensor:
        """(…, position_bytes), uint8.

        Args:
            ids: (…, k), the likeliest first.
            logprobs: (…, k), their log-probabilities.
        """
        distance = (logprobs[..., :1] - logprobs).clamp(max=FARTHEST)  # (…, k), 0 and up
        largest = distance[..., -1:]
        levels = (distance / largest.clamp(min=torch.finfo(distance.dtype).tiny) * LEVELS).round()
        left = (-torch.expm1(logprobs.double().logsumexp(-1, keepdim=True).clamp(max=0))).log()
        head = torch.cat([largest.float(), left.float()], -1)  # (…, 2)
        ids = ids.int()
        numbers = [(ids >> 8 * place & 0xFF).byte() for place in range(self.number_bytes)]
        return torch.cat([head.view(torch.uint8), levels.byte(), *numbers], -1)

    def unpack(self, packed: Tensor) -> tuple[Tensor, Tensor]:
        """The tokens' numbers, int64, and their log-probabilities, fp32: each (…, k)."""
        head, levels, *numbers = torch.split(packed, [HEAD_BYTES, *[self.top_k] * (1 + self.number_bytes)], dim=-1)
        largest, left = head.contiguous().view(torch.float32).unbind(-1)
        logprobs = -(levels.float() / LEVELS) * largest.unsqueeze(-1)
        mass = torch.log(-torch.expm1(left))  # of the top k together: log(1 - left)
        logprobs = logprobs + (mass - logprobs.logsumexp(-1)).unsqueeze(-1)
        ids = torch.zeros_like(levels, dtype=torch.long)
        for place, part in enumerate(numbers):
            ids += part.long() << 8 * place
        return ids, logprobs
