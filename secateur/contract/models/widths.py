"""What a model's heads and neurons weigh, from its config alone: the budget of width pruning before it runs.

The stage finds the same by asking the family's classes (`workers/engine/pruning/width.py`), against which this is held.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from secateur.contract.models.config_reader import ConfigReader
from secateur.contract.models.families import family_of
from secateur.contract.models.formulas import LlamaLike, Written, is_on
from secateur.contract.options.width import WidthPruning
from secateur.contract.width import Budget


@dataclass(frozen=True)
class Widths:
    """What a width method may choose from."""

    budget: Budget
    group_counts: tuple[int, ...]  # of key-value heads with their queries that every block may keep


def widths_of(config: Mapping[str, Any], pruning: WidthPruning) -> Widths | None:
    """The budget of this pruning for the model of this config; None where the config does not tell.

    Raises:
        BadCheckpoint: it lacks a size.
    """
    family = family_of(config.get("model_type"))
    formula = family.sizes if family is not None else None
    reader = ConfigReader(config)
    if not isinstance(formula, LlamaLike | Written):
        return None
    count = formula.count(reader)
    if not count.blocks or any(block.experts for block in count.blocks):
        return None
    blocks = _LlamaBlocks(config, formula) if isinstance(formula, LlamaLike) else _OtherBlocks(config, formula)
    group_counts = blocks.group_counts(uniform=not pruning.uneven)
    switches, homeless = blocks.biases(many=len(group_counts) > 1, uniform=not pruning.uneven)
    if not pruning.compensated:
        switches, homeless = {}, 0
    groups, neurons = blocks.groups, blocks.neurons
    added = homeless * reader.number("hidden_size", "n_embd", "n_embed")
    single = blocks.size(1, 0, switches)
    group = blocks.size(2, 0, switches) - single
    budget = Budget(
        before=count.total,
        fixed=count.total + len(count.blocks) * (single - group + added - blocks.size(groups, neurons, {})),
        group=group,
        neuron=blocks.size(1, 1, switches) - single,
        blocks=len(count.blocks),
        groups=groups,
        neurons=neurons,
        ratio=pruning.ratio,
    )
    return Widths(budget, group_counts)


class _LlamaBlocks:
    """Blocks whose heads and neurons are entries of the config."""

    def __init__(self, config: Mapping[str, Any], formula: LlamaLike) -> None:
        reader = ConfigReader(config)
        heads, self.groups, self._head_dim = formula.heads(reader)
        self.neurons = reader.number("intermediate_size")
        self._queries = heads // self.groups
        self._hidden = reader.number("hidden_size")
        self._config, self._formula = config, formula

    def group_counts(self, *, uniform: bool) -> tuple[int, ...]:
        """With the loader any number will do, and else those that the family's config class takes."""
        divided = uniform and self._formula.heads_divide
        fewer = range(1, self.groups)
        return (*(g for g in fewer if not divided or self._hidden % (g * self._queries) == 0), self.groups)

    def biases(self, *, many: bool, uniform: bool) -> tuple[dict[str, bool], int]:
        """The switches that give what compensates a place, and of how many projections the loader has to."""
        reader = ConfigReader(self._config)
        switches = [self._formula.mlp_bias, *([self._formula.output_bias] if many else [])]
        lacking = [switch for switch in switches if not is_on(switch, reader)]
        if uniform and all(isinstance(switch, str) for switch in lacking):
            return {str(switch): True for switch in lacking}, 0
        return {}, len(lacking)

    def size(self, groups: int, neurons: int, switches: Mapping[str, bool]) -> int:
        """Parameters of a block of such widths."""
        narrow = {
            **self._config,
            "num_hidden_layers": 1,
            "num_attention_heads": groups * self._queries,
            "num_key_value_heads": groups,
            "head_dim": self._head_dim,
            "intermediate_size": neurons,
            **switches,
        }
        return self._formula.count(ConfigReader(narrow)).blocks[0].total


class _OtherBlocks:
    """Blocks whose classes take the size of a head from the hidden size: the neurons carry the whole ratio."""

    groups = 1

    def __init__(self, config: Mapping[str, Any], formula: Written) -> None:
        reader = ConfigReader(config)
        self.neurons = reader.number(formula.neurons, default=4 * reader.number("hidden_size", "n_embd", "n_embed"))
        self._config, self._formula = config, formula

    def group_counts(self, *, uniform: bool) -> tuple[int, ...]:
        return (self.groups,)

    def biases(self, *, many: bool, uniform: bool) -> tuple[dict[str, bool], int]:
        return {}, 0 if is_on(self._formula.down_bias, ConfigReader(self._config)) else 1

    def size(self, groups: int, neurons: int, switches: Mapping[str, bool]) -> int:
        """All attention counts as fixed, whatever the groups."""
        return self._formula.count(ConfigReader({**self._config, self._formula.neurons: neurons})).blocks[0].total
