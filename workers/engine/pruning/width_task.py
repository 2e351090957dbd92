"""What a width method is given, what it answers, and how it is found: the plug point of the methods.

Their table is the contract's (`secateur/contract/options/width.py`). What one keeps is chosen by `choose` in the file
of its name here, which takes a task of its options; a test holds every row against that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Generic, TypeVar

from torch import Tensor

from secateur.contract.options.width import WidthPruning
from secateur.contract.width import Budget
from workers.engine.model.block_model import BlockModel
from workers.engine.progress import Progress
from workers.engine.pruning.channels import Kept, Layout

Options = TypeVar("Options", bound=WidthPruning)


@dataclass(frozen=True)
class WidthTask(Generic[Options]):
    """One model to be pruned in width."""

    model: BlockModel  # streamed from the checkpoint: a block's weights may be changed, and are forgotten
    layout: Layout
    budget: Budget
    group_counts: tuple[int, ...]  # numbers of groups that a block may keep, ascending; the last is all
    ids: Tensor  # (samples, tokens)
    options: Options  # the method's own
    progress: Progress


@dataclass(frozen=True)
class Choice:
    """What each block keeps, and the mean input of its two output projections where it is to be compensated for."""

    kept: list[Kept]
    head_means: list[Tensor] = field(default_factory=list)  # per block, (head channels,)
    neuron_means: list[Tensor] = field(default_factory=list)  # per block, (neurons,)


Method = Callable[[WidthTask[Options]], Choice]


def choose_units(task: WidthTask[Any]) -> Choice:
    """What each block keeps by the method whose options the task has.

    Raises:
        InvalidInput: options do not fit the model.
    """
    method: Method[Any] = import_module(f"workers.engine.pruning.{task.options.kind}").choose
    return method(task)
