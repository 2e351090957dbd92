"""How alike the states before and after each block are: the cosine per token, from one forward sweep."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from workers.engine.model.block_model import BlockModel
from workers.engine.progress import Progress
from workers.engine.scoring.intact_states import stream
from workers.engine.scoring.subsets import sample_groups


@torch.no_grad()
def block_similarity(model: BlockModel, ids: Tensor, progress: Progress) -> Tensor:
    """Mean cosine of a block's input and output over the tokens of a sample.

    Args:
        ids: (samples, tokens).

    Returns:
        (n_blocks, samples), fp64 on the CPU; cosines themselves are taken in fp32.
    """
    groups = list(sample_groups(model, ids, 4))  # input, output, and both in fp32
    parts = []
    for number, group in enumerate(groups):
        rows = []
        before: Tensor | None = None
        for depth, hidden in stream(model, ids[group]):
            if before is not None:
                cosine = F.cosine_similarity(before.float(), hidden.float(), dim=-1)  # (samples, tokens)
                rows.append(cosine.double().mean(1).cpu())
                progress(number * model.n_blocks + depth, len(groups) * model.n_blocks, "block passes")
            before = hidden
        parts.append(torch.stack(rows))
    return torch.cat(parts, dim=1)
