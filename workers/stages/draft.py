"""The draft stage: how many blocks go so that the model is the best speculative draft of its target on this worker.

What a token of the draft costs is timed at a few depths beside the target, and a line fitted: blocks of one size cost
the same, whichever they are. What the target would accept is found depth by depth, from a quick healing, on text that
the target has written greedily. The depth with the highest expected speedup (Leviathan et al. 2023, arXiv 2211.17192)
is taken: a few depths over the whole range first, and then those around the best one.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from torch import Tensor
from transformers import PreTrainedModel

from secateur.contract import numbers as n
from secateur.contract.depth import most_that_may_go, plus_protected
from secateur.contract.drafts import draft_speedup
from secateur.contract.errors import StageFailed
from secateur.contract.models.positions import positions_of
from secateur.contract.options.texts import AnswersText
from secateur.contract.planning import DraftPlanned, TriedDraft
from secateur.contract.results import TextInfo
from secateur.contract.stage_kinds import SCORE
from workers.engine.architectures.config import as_config
from workers.engine.benchmarks.depth_fit import trial_depths
from workers.engine.benchmarks.healed_acceptance import HealedAcceptance
from workers.engine.benchmarks.in_turn import AGAIN
from workers.engine.benchmarks.latency import Cell, time_cell
from workers.engine.benchmarks.placement import place_weights
from workers.engine.benchmarks.size_fit import Line, fitted
from workers.engine.benchmarks.statistics import ratio_interval
from workers.engine.checkpoints.computable import refuse_uncomputable
from workers.engine.model.loading import free_memory, load_model
from workers.engine.runtime import Machine, available_memory, environment
from workers.engine.text.calibration import samples_of
from workers.engine.text.text_source import Wanted
from workers.stages.block_model import block_model
from workers.stages.choice import NO_SCORING, first_that_may_go
from workers.stages.context import StageContext, part
from workers.stages.fields import MODEL, PRUNING, told_at, told_in
from workers.stages.original import Original, open_original, open_target, prepare_machine, text_source
from workers.stages.smaller_models import shallower

SAMPLES, TOKENS = 64, 128  # of the target's text: four fifths are healed on, one fifth is judged on
GREEDY = AnswersText(source="answers", temperature=1e-3)
CELL = Cell(batch_size=1, input_tokens=12, output_tokens=24, warmup=1, runs=6)
MEMORY_SHARE = 0.7  # of the free memory: depths that need more beside the target are timed one by one
LEAST_BLOCKS = 2  # that stay: how blocks are called is told by a second one
LEAST_COST = 1e-3  # of a token: noise must not make nothing of it
FIRST = 5  # depths over the whole range
TARGET = "target"
_OF_TARGET = dict.fromkeys(("batch", "bos", "calibration", "samples", "text", "tokenizer", "tokens"), "/target_model")


@told_in("/pruning", {**MODEL, **PRUNING, "weights": "/pruning"})
def run(context: StageContext) -> DraftPlanned:
    """Find the number of blocks.

    Raises:
        InvalidInput: the models hold too few tokens.
        UnsupportedModel: a kept block would work differently under its new number, or there are no kernels.
    """
    began = time.monotonic()
    spec = context.stage.spec
    assert spec.benchmark.draft is not None, "a spec that asks for this measures drafts"
    machine, original, target = prepare_machine(context), open_original(context), open_target(context)
    refuse_uncomputable(original.checkpoint.config, expected=NO_SCORING)
    blocks, plus = original.info.blocks, spec.scoring.plus
    protected = frozenset(plus_protected(blocks) if plus else ())
    most = max(1, min(most_that_may_go(blocks, plus=plus), blocks - LEAST_BLOCKS))
    line = _costs(context, original, target, machine, most, [one for one in range(blocks) if one not in protected])
    ids, written, text = _text(context, original, target, machine)
    heals = spec.recovery.kind != "none"
    model = block_model(original.checkpoint, machine, original.info.parameters)
    proxy = HealedAcceptance(model, model.check_ids(ids), written, heals=heals, seed=spec.seed)
    tries = _Tries(context, proxy, line, spec.benchmark.draft.tokens, blocks, protected)
    whole = tries.of(0)
    best = tries.best(most)
    context.log(f"{best.removed} of {blocks} blocks go: {_shown(best)}")
    return DraftPlanned(
        tokens=spec.benchmark.draft.tokens,
        original=whole,
        tried=[tries.found[count] for count in sorted(tries.found) if count],
        removed=best.removed,
        healed=heals,
        fitted_tokens=proxy.tokens[0],
        judged_tokens=proxy.tokens[1],
        text=text,
        model=original.info,
        target_model=target.info,
        seconds=time.monotonic() - began,
        environment=environment(machine),
    )


@dataclass
class _Tries:
    """Depths that have been tried."""

    context: StageContext
    proxy: HealedAcceptance
    line: Line  # of the costs
    tokens: int
    blocks: int
    protected: frozenset[int]
    found: dict[int, TriedDraft] = field(default_factory=dict)

    def best(self, most: int) -> TriedDraft:
        """The depth with the highest expected speedup: of a few, then between the best one and its neighbours."""
        asked = spread(most)
        while asked:
            for number, count in enumerate(asked, start=1):
                self.of(count)
                self.context.progress(number, len(asked), "depths")
            best = self._best()
            asked = between(best.removed, sorted(count for count in self.found if count))
        return self._best()

    def of(self, removed: int) -> TriedDraft:
        if removed in self.found:
            return self.found[removed]
        drop = first_that_may_go(self.context.read(SCORE), removed, self.protected) if removed else []
        with self.context.part(f"without {removed} blocks"):
            value, low, high = self.proxy.of([block for block in range(self.blocks) if block not in drop])
        cost = max(LEAST_COST, self.line.at(removed))
        depth = TriedDraft(
            removed=removed,
            acceptance=value,
            acceptance_low=low,
            acceptance_high=high,
            cost=cost,
            expected=draft_speedup(value, self.tokens, cost),
        )
        self.context.log(f"without {removed} blocks: {_shown(depth)}")
        self.found[removed] = depth
        return depth

    def _best(self) -> TriedDraft:
        return max((depth for count, depth in self.found.items() if count), key=lambda depth: depth.expected)


def spread(most: int) -> list[int]:
    """A few depths over all that there are.

    >>> spread(24), spread(3)
    ([1, 7, 12, 18, 24], [1, 2, 3])
    """
    return sorted({1 + round(part * (most - 1) / (FIRST - 1)) for part in range(FIRST)})


def between(best: int, tried: list[int]) -> list[int]:
    """The depths half-way to the neighbours that were tried; none where all beside it were.

    >>> between(7, [1, 7, 12, 18, 24]), between(7, [1, 4, 6, 7, 8, 12])
    ([4, 9], [])
    """
    place = tried.index(best)
    neighbours = [tried[at] for at in (place - 1, place + 1) if 0 <= at < len(tried)]
    return [(best + other) // 2 for other in neighbours if abs(best - other) > 1]


@part("time a few depths")
def _costs(
    context: StageContext, original: Original, target: Original, machine: Machine, most: int, free: list[int]
) -> Line:
    """Seconds of a token over the target's, by blocks removed."""
    shares: dict[int, float] = {}
    for group in _groups([0, *trial_depths(most)], original, target, machine):
        models = {TARGET: load_model(target.checkpoint, device=machine.device, dtype=machine.dtype)}
        models |= {str(one): shallower(context, original, machine, removed=one, free=free) for one in group}
        for model in models.values():
            place_weights(model)
        timings = time_cell(models, _fitting(models), seed=machine.seed, progress=context.progress)
        bracket = [(one.total + other.total) / 2 for one, other in zip(timings[TARGET], timings[AGAIN], strict=True)]
        for one in group:
            shares[one] = ratio_interval([timing.total for timing in timings[str(one)]], bracket).median
        del models
        free_memory()
    return fitted(shares)


def _fitting(models: dict[str, PreTrainedModel]) -> Cell:
    """The cell, as far as all models hold so many tokens."""
    held = [bound for model in models.values() if (bound := positions_of(model.config.to_dict()))]
    room = min(held, default=CELL.input_tokens + CELL.output_tokens)
    if room >= CELL.input_tokens + CELL.output_tokens:
        return CELL
    return replace(CELL, input_tokens=max(1, room // 3), output_tokens=max(2, room // 2))


def _groups(depths: list[int], original: Original, target: Original, machine: Machine) -> Iterator[list[int]]:
    """Depths to hold in memory together, beside the target."""
    needed = (target.info.parameters + len(depths) * original.info.parameters) * machine.dtype.itemsize
    if needed <= MEMORY_SHARE * available_memory(machine.device):
        yield depths
    else:
        yield from ([one] for one in depths)


@part("the target's text")
def _text(
    context: StageContext, original: Original, target: Original, machine: Machine
) -> tuple[Tensor, Tensor, TextInfo]:
    """Samples of prompts that the target answers greedily, which of their tokens it wrote, and what they are."""
    source = text_source(context, target, machine)
    rows = int(as_config(original.checkpoint.config).vocab_size)
    bounds = [positions_of(one.checkpoint.config) for one in (original, target)]
    tokens = min([TOKENS, *(bound for bound in bounds if bound is not None)])
    with told_at(_OF_TARGET):
        ids, info, written = samples_of(source, GREEDY, Wanted("calibration", SAMPLES, tokens), context.progress)
    assert written is not None, "of answers it is known"
    known = (ids < rows).all(-1)  # a target may write a token of its padding, if hardly
    if not known.any():
        raise StageFailed("Every sample holds tokens that the target has for padding: is it broken?")
    return ids[known], written[known], info


def _shown(depth: TriedDraft) -> str:
    """ "1.34× expected, accepted 64.2 % (60.1 to 68.0 %), cost 8.00 %"."""
    span = n.PERCENT.span(depth.acceptance_low, depth.acceptance_high)
    return (
        f"{n.ratio(depth.expected)} expected, accepted {n.PERCENT.write(depth.acceptance)}"
        + (f" ({span})" if span else "")
        + f", cost {n.percent(depth.cost)}"
    )
