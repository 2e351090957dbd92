"""Blends of texts: samples of several, as many of each as its weight says, each kind spread evenly over the whole.

So whatever part of the samples is taken, those that are held out or the first that are trained on, has all kinds.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def counts_by_weight(weights: Sequence[float], samples: int) -> list[int]:
    """How many of so many samples each text has: by largest remainders, so that they add up.

    >>> counts_by_weight([3, 1], 10), counts_by_weight([1, 1, 1], 4)
    ([8, 2], [2, 1, 1])
    """
    exact = [samples * weight / sum(weights) for weight in weights]
    counts = [int(share) for share in exact]
    by_remainder = sorted(range(len(weights)), key=lambda text: counts[text] - exact[text])
    for text in by_remainder[: samples - sum(counts)]:
        counts[text] += 1
    return counts


def most_by_weight(weights: Sequence[float], there: Sequence[int]) -> list[int]:
    """The same for the most samples for which each text has enough: the one that ends first decides.

    >>> most_by_weight([1, 1], [7, 4]), most_by_weight([3, 1], [9, 100])
    ([4, 4], [9, 3])
    """
    most = min(int(have * sum(weights) / weight) for weight, have in zip(weights, there, strict=True))
    counts = counts_by_weight(weights, most)
    while any(count > have for count, have in zip(counts, there, strict=True)):
        most -= 1
        counts = counts_by_weight(weights, most)
    return counts


def spread(counts: Sequence[int]) -> Tensor:
    """The order in which samples of several texts, which lie one text after the other, are taken.

    >>> spread([4, 2]).tolist()
    [0, 4, 1, 2, 5, 3]
    """
    places = torch.cat([(torch.arange(count) + 0.5) / count for count in counts if count])
    return places.argsort(stable=True)
