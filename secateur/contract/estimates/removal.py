"""What a job's pruning takes from a model: parameters, bytes and cache, by the config and the arithmetic of its kind.

Exact, unless blocks that differ are chosen by a score, halves of either kind are, or widths are told apart by one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from secateur.contract.depth import blocks_to_remove, check_depth, plus_protected
from secateur.contract.errors import InvalidInput
from secateur.contract.estimates.model import KnownModel
from secateur.contract.experts import check_experts, experts_to_remove
from secateur.contract.joint import check_joint, needed_of, parts_of
from secateur.contract.models.formulas import BlockCount
from secateur.contract.models.parameters import parameter_count
from secateur.contract.models.widths import widths_of
from secateur.contract.options.joint import JointPruning
from secateur.contract.options.pruning import DepthPruning, ExpertPruning, Pruning, SubBlockPruning
from secateur.contract.options.vocabulary import VocabularyPruning
from secateur.contract.options.width import LlmPrunerPruning, WidthPruning
from secateur.contract.spec import CompressionSpec
from secateur.contract.sub_blocks import check_units, protected_units, unit_names, units_to_remove
from secateur.contract.targets import Sizes, blocks_for_size
from secateur.contract.vocabulary import check_tokens, smaller
from secateur.contract.width import CLOSE, uniform_counts


@dataclass(frozen=True)
class Removal:
    """What goes. Of what is not exact, the middle of what can be chosen."""

    blocks: int  # whole ones
    parameters: int
    read: int  # of these, what generation reads for each token
    bytes: int | None
    cache: float  # of the blocks' caches, how many
    exact: bool = True
    spread: int = 0  # parameters, by which it may be more or less where it is not exact


def removal_of(spec: CompressionSpec, model: KnownModel) -> Removal | None:
    """What the spec's pruning takes; None where the config does not tell.

    Raises:
        InvalidInput: the model cannot lose so much.
    """
    pruning: Pruning = spec.pruning
    if isinstance(pruning, DepthPruning):
        return _depth(pruning, model, plus=spec.scoring.plus)
    if isinstance(pruning, SubBlockPruning):
        return _halves(pruning, model)
    if isinstance(pruning, JointPruning):
        return _joint(pruning, model)
    if isinstance(pruning, ExpertPruning):
        return _experts(pruning, model)
    if isinstance(pruning, VocabularyPruning):
        return _vocabulary(pruning, model)
    return _width(pruning, model)


def read_for_a_token(model: KnownModel) -> int:
    """Parameters that generation reads for a token: the blocks' and the head's, of mixtures the experts it goes to."""
    count = model.count
    return sum(_read_of(block, model) for block in count.blocks) + (count.head or count.embedding) + count.other


def _read_of(block: BlockCount, model: KnownModel) -> int:
    idle = max(0, block.experts - _per_token(model))
    return block.total - idle * block.expert


def _per_token(model: KnownModel) -> int:
    """Experts that a token goes to."""
    named = (model.config.get(key) for key in ("num_experts_per_tok", "experts_per_token"))
    return next((count for count in named if type(count) is int), 2)


def _depth(pruning: DepthPruning, model: KnownModel, *, plus: bool) -> Removal | None:
    blocks = model.count.blocks
    check_depth(pruning, len(blocks), plus=plus)
    if pruning.constraints is not None or pruning.best_draft:
        return None
    if pruning.target is None:
        count = blocks_to_remove(pruning, len(blocks))
    elif pruning.target.figure == "parameters":
        count = blocks_for_size(pruning.target, Sizes.of(model.count), plus=plus)
    elif pruning.target.figure == "bytes" and model.stored is not None:
        stored = Sizes(model.stored.blocks, model.stored.outside, model.stored.total)
        count = blocks_for_size(pruning.target, stored, plus=plus)
    else:
        return None
    kept = plus_protected(len(blocks)) if plus else ()
    free = [number for number in range(len(blocks)) if number not in kept]
    return _some(model, pruning.drop or free, count)


def _some(model: KnownModel, free: tuple[int, ...] | list[int], count: int) -> Removal:
    """`count` of the blocks in `free`."""
    sizes = sorted(model.count.blocks[number].total for number in free)
    least, most = sum(sizes[:count]), sum(sizes[-count:])
    share = count / len(free)
    stored = None if model.stored is None else sum(model.stored.blocks[number] for number in free)
    return Removal(
        blocks=count,
        parameters=(most + least) // 2,
        read=round(share * sum(_read_of(model.count.blocks[number], model) for number in free)),
        bytes=None if stored is None else round(share * stored),
        cache=count,
        exact=count == len(free) or sizes[0] == sizes[-1],
        spread=(most - least + 1) // 2,
    )


def _halves(pruning: SubBlockPruning, model: KnownModel) -> Removal:
    blocks = model.count.blocks
    check_units(pruning, len(blocks))
    kept = set(protected_units(pruning, len(blocks)))
    free = list(pruning.drop or (unit for unit in unit_names(len(blocks)) if unit not in kept))
    count = units_to_remove(pruning, len(blocks))
    of_each = [_half(unit, model) for unit in free]
    share = count / len(free)
    sizes = sorted(half.parameters for half in of_each)
    least, most = sum(sizes[:count]), sum(sizes[-count:])
    stored = None if model.stored is None else round(share * sum(half.bytes or 0 for half in of_each))
    return Removal(
        blocks=0,
        parameters=(most + least) // 2,
        read=round(share * sum(half.read for half in of_each)),
        bytes=stored,
        cache=share * sum(half.cache for half in of_each),
        exact=count == len(free) or sizes[0] == sizes[-1],
        spread=(most - least + 1) // 2,
    )


def _half(unit: str, model: KnownModel) -> Removal:
    """What goes with one half of a block: "3.attention"."""
    number, _, half = unit.partition(".")
    block = model.count.blocks[int(number)]
    size = block.attention if half == "attention" else block.mlp
    idle = 0 if half == "attention" else block.total - _read_of(block, model)
    stored = None if model.stored is None else round(model.stored.blocks[int(number)] * size / block.total)
    return Removal(0, size, size - idle, stored, 1 if half == "attention" else 0)


def _joint(pruning: JointPruning, model: KnownModel) -> Removal | None:
    """As much as the target takes; a search may take up to one part more, and which is not known."""
    blocks, stored = model.count.blocks, model.stored
    check_joint(pruning, len(blocks))
    if pruning.target.measured or (pruning.target.figure == "bytes" and stored is None):
        return None
    if pruning.target.figure == "bytes" and stored is not None:
        sizes = Sizes(stored.blocks, stored.outside, stored.total)
    else:
        sizes = Sizes.of(model.count)

    def saved(block: int, goes: str) -> int:
        half = {"attention": blocks[block].attention, "mlp": blocks[block].mlp}.get(goes, blocks[block].total)
        return round(sizes.per_block[block] * half / blocks[block].total)

    parts = parts_of(pruning, len(blocks), saved)
    share = needed_of(pruning.target, sizes, parts) / sum(sizes.per_block)
    return Removal(
        blocks=0,
        parameters=round(share * sum(block.total for block in blocks)),
        read=round(share * sum(_read_of(block, model) for block in blocks)),
        bytes=None if stored is None else round(share * sum(stored.blocks)),
        cache=share * len(blocks),
        exact=False,
        spread=min(block.attention for block in blocks),
    )


def _experts(pruning: ExpertPruning, model: KnownModel) -> Removal | None:
    mixtures = [(number, block) for number, block in enumerate(model.count.blocks) if block.experts]
    if not mixtures:
        return None
    count = experts_to_remove(pruning, mixtures[0][1].experts)
    check_experts(pruning, mixtures[0][1].experts)
    removed = {number: count * block.expert for number, block in mixtures}
    stored = None
    if model.stored is not None:
        of_blocks = model.count.blocks
        stored = sum(round(model.stored.blocks[n] * gone / of_blocks[n].total) for n, gone in removed.items())
    left = mixtures[0][1].experts - count
    read = sum(max(0, _per_token(model) - left) * block.expert for _, block in mixtures)  # a token goes to fewer
    return Removal(0, sum(removed.values()), read, stored, 0)


def _vocabulary(pruning: VocabularyPruning, model: KnownModel) -> Removal | None:
    """What goes with the tokens: by the formula of the same model with fewer."""
    check_tokens(pruning.tokens, model.vocabulary)
    before, after = model.count, parameter_count(smaller(model.config, pruning.tokens))
    if after is None:
        return None
    removed, stored = before.total - after.total, None
    if model.stored is not None:
        stored = round(model.stored.outside * removed / (before.total - _of_blocks(model)))
    read = (before.head or before.embedding) - (after.head or after.embedding)
    return Removal(0, removed, read, stored, 0)


def _width(pruning: WidthPruning, model: KnownModel) -> Removal | None:
    found = widths_of(model.config, pruning)
    if found is None:
        return None
    budget, blocks = found.budget, len(model.count.blocks)
    pruned = blocks - sum(pruning.whole_ends) if isinstance(pruning, LlmPrunerPruning) else blocks
    if pruned < 1:
        return None  # which the check says
    if pruning.uneven and not isinstance(pruning, LlmPrunerPruning):  # one threshold decides over each block
        parameters = round(budget.before * pruning.ratio)
        removal = Removal(0, parameters, parameters, None, blocks * pruning.ratio, False, round(CLOSE * budget.before))
    else:
        try:
            groups, neurons = uniform_counts(
                budget, group_counts=found.group_counts, multiple=pruning.multiple, blocks=pruned
            )
        except InvalidInput as error:
            error.errors = [replace(item, pointer=f"/pruning/{item.pointer}") for item in error.errors]
            raise
        whole = blocks - pruned
        kept = pruned * groups + whole * budget.groups, pruned * neurons + whole * budget.neurons
        left = budget.fixed + kept[0] * budget.group + kept[1] * budget.neuron
        gone = budget.before - left
        removal = Removal(0, gone, gone, None, pruned * (1 - groups / budget.groups))
    if model.stored is None:
        return removal
    return replace(removal, bytes=round(removal.parameters * sum(model.stored.blocks) / _of_blocks(model)))


def _of_blocks(model: KnownModel) -> int:
    return sum(block.total for block in model.count.blocks)
