"""Perplexity of a model without each block: one walk over the blocks against the plain method, in one run.

The plain method is that of the paper's script: for each block build the reduced model anew from its config, copy the
weights over, and run the samples one by one. Prints times, ratios and whether the rankings agree.

    python benchmarks/scoring.py MODEL TEXT [--bf16]
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from _inputs import load, parser, show
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from secateur.contract.depth import plus_protected
from secateur.contract.options.scoring import PerplexityScoring
from workers.engine.model.block_model import BlockModel
from workers.engine.pruning.choose_blocks import choose_blocks
from workers.engine.scoring import perplexity
from workers.engine.scoring.result import BlockScores
from workers.engine.scoring.task import ScoringTask


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--bf16", action="store_true", help="also with the blocks in bf16 (slow on old CPUs)")
    arguments.add_argument("--skip-plain", action="store_true", help="only the walk, for tuning")
    settings = arguments.parse_args()
    model, ids = load(settings)
    view = BlockModel.from_model(model)
    protected = frozenset(plus_protected(view.n_blocks))
    whole = ScoringTask(view, ids, PerplexityScoring())
    race = ScoringTask(view, ids, PerplexityScoring(racing=True), count=settings.count, protected=protected)
    view.head_nll(view.embed(ids[:1]), ids[:1])  # first calls allocate; both methods are timed warm

    runs: list[tuple[str, float, BlockScores]] = []
    for name, task in (("one walk, fp32", whole), ("racing, fp32", race)):
        runs.append((name, *_timed(task)))
        print(f"{name}: {runs[-1][1]:.1f} s", flush=True)
    if settings.bf16:
        half = BlockModel.from_model(copy.deepcopy(model).to(torch.bfloat16))
        half.head_nll(half.embed(ids[:1]), ids[:1])
        for name, task in (("one walk, bf16", whole), ("racing, bf16", race)):
            runs.append((name, *_timed(replace(task, model=half))))
    walk = runs[0][2]
    rows: list[dict[str, Any]] = []
    result: dict[str, Any] = {
        "blocks": view.n_blocks,
        "samples": ids.shape[0],
        "tokens": ids.shape[1],
        "threads": torch.get_num_threads(),
    }
    reference, seconds = walk, math.nan
    if not settings.skip_plain:
        values, seconds, building = _plain(model, ids)
        reference = BlockScores.lowest_first(values)
        rows.append(_row("plain", seconds, seconds, reference, reference, settings.count, protected))
        result |= {"plain_seconds": seconds, "plain_building_seconds": building}
        result["greatest_relative_difference"] = max(
            abs(ours / theirs - 1) for ours, theirs in zip(walk.values, values, strict=True) if ours
        )
        result["same_ranking"] = walk.order == reference.order
    for name, spent, scores in runs:
        rows.append(_row(name, spent, seconds, scores, reference, settings.count, protected))
    result["runs"] = rows
    show("Perplexity without each block", rows, result)


def _timed(task: ScoringTask[PerplexityScoring]) -> tuple[float, BlockScores]:
    start = time.perf_counter()
    scores = perplexity.score(task)
    return time.perf_counter() - start, scores


def _row(
    name: str,
    seconds: float,
    plain: float,
    scores: BlockScores,
    reference: BlockScores,
    count: int,
    protected: frozenset[int],
) -> dict[str, Any]:
    first, expected = (choose_blocks(found, count=count, protected=protected) for found in (scores, reference))
    return {
        "method": name,
        "seconds": seconds,
        "times faster": plain / seconds,
        f"first {count}": " ".join(map(str, first)),
        "same blocks": set(first) == set(expected),
        "same order": first == expected,
    }


@torch.no_grad()
def _plain(model: PreTrainedModel, ids: Tensor) -> tuple[list[float], float, float]:
    """Perplexities, seconds in all, and seconds spent on building models."""
    prefix = BlockModel.from_model(model).architecture.blocks_prefix + "."
    n_blocks = model.config.num_hidden_layers
    values, building = [], 0.0
    start = time.perf_counter()
    for block in range(n_blocks):
        began = time.perf_counter()
        config = copy.deepcopy(model.config)
        config.num_hidden_layers = n_blocks - 1
        reduced = AutoModelForCausalLM.from_config(config).eval()  # type: ignore[no-untyped-call]  # published without types
        reduced.load_state_dict(_without(model.state_dict(), prefix, block))
        building += time.perf_counter() - began
        losses = []
        for sample in ids:
            logits = reduced(input_ids=sample[None]).logits[0, :-1]
            losses.append(F.cross_entropy(logits.float(), sample[1:], reduction="none"))
        values.append(math.exp(float(torch.cat(losses).double().mean())))
        print(f"plain, block {block}: {time.perf_counter() - start:.0f} s", flush=True)
    return values, time.perf_counter() - start, building


def _without(state: Mapping[str, Tensor], prefix: str, block: int) -> dict[str, Tensor]:
    """The state dict with one block left out and those behind it renumbered."""
    kept = {}
    for name, tensor in state.items():
        if name.startswith(prefix):
            number, _, rest = name.removeprefix(prefix).partition(".")
            if int(number) == block:
                continue
            name = f"{prefix}{int(number) - (int(number) > block)}.{rest}"
        kept[name] = tensor
    return kept


if __name__ == "__main__":
    main()
