"""Statistics of what enters the two output projections of each block, in one sweep over the blocks.

The channels that enter a block's attention output are its heads, those that enter the down-projection its neurons, so
their activations on calibration text tell how much each is used. Sums are kept in fp64: a variance is a small
difference of large numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from workers.engine.model.block_model import Block, BlockModel
from workers.engine.progress import Progress
from workers.engine.pruning.channels import Layout

_TOKENS_AT_ONCE = 4096  # through a block: what bounds its activations


@dataclass
class Moments:
    """Sums over tokens of each channel, fp64."""

    tokens: int
    total: Tensor  # (channels,)
    squares: Tensor  # (channels,)

    @property
    def mean(self) -> Tensor:
        return self.total / self.tokens

    @property
    def variance(self) -> Tensor:
        return (self.squares / self.tokens - self.mean**2).clamp(min=0)

    @property
    def norm(self) -> Tensor:
        """The L2 norm over all tokens."""
        return self.squares.sqrt()


@dataclass(frozen=True)
class BlockMoments:
    heads: Moments  # of the input of the attention's output projection
    neurons: Moments  # of the input of the down-projection


def sweep(
    model: BlockModel, layout: Layout, ids: Tensor, *, progress: Progress, rerun: bool = False
) -> Iterator[tuple[Block, BlockMoments]]:
    """Walk the blocks with calibration tokens; yields each block, with its weights, and its moments.

    Args:
        ids: (samples, tokens).
        rerun: run each block again before going on, so that what the caller changed in it reaches those after it.
    """
    with torch.no_grad():
        hidden = model.embed(model.check_ids(ids))
        for block in model.blocks():
            moments: dict[str, Moments] = {}
            with _watch(block.module, layout, moments):
                after = through(block, hidden)
            yield block, BlockMoments(moments[layout.attention_output], moments[layout.down])
            hidden = through(block, hidden) if rerun else after
            progress(block.index + 1, model.n_blocks, "blocks")


def through(block: Block, hidden: Tensor) -> Tensor:
    """(samples, tokens, hidden) → the same shape, some thousand tokens at once."""
    out = torch.empty_like(hidden)
    rows = max(1, _TOKENS_AT_ONCE // hidden.shape[1])
    for at in range(0, hidden.shape[0], rows):
        out[at : at + rows] = block(hidden[at : at + rows])
    return out


@contextmanager
def _watch(block: nn.Module, layout: Layout, moments: dict[str, Moments]) -> Iterator[None]:
    """Gather the moments of both output projections' inputs while the context is open."""

    def hook(path: str) -> Any:
        def gather(_: nn.Module, args: tuple[Any, ...]) -> None:
            states = args[0].reshape(-1, args[0].shape[-1]).double()  # (tokens, channels)
            found = moments.setdefault(path, Moments(0, torch.zeros_like(states[0]), torch.zeros_like(states[0])))
            found.tokens += states.shape[0]
            found.total += states.sum(0)
            found.squares += states.square().sum(0)

        return gather

    handles = [
        block.get_submodule(path).register_forward_pre_hook(hook(path))
        for path in (layout.attention_output, layout.down)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
