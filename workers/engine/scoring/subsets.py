"""The states that leave a model with any of its blocks removed, for many such removals in one walk of the blocks.

A removal is a set of blocks. Two removals that agree on the blocks before depth d have the same state there, so one
state is carried per *prefix* (removal ∩ blocks before d) and not per removal: a tree that branches where removals
first differ. For the n removals of one block each that is the sweep of n²/2 block passes in place of n²; for any
other family of removals it is as few passes as sharing allows. Each block's weights are touched once per walk.

What is removed may also be the halves of blocks: with two units per block, unit 2b is the attention of block b and
2b + 1 its MLP (`Units`).

States may be kept from one walk for the next (`StateCache`): a greedy search then starts each round where the last
change took effect, not at the embedding.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from workers.engine.model.block_model import Block, BlockModel
from workers.engine.model.loading import trim_heap
from workers.engine.model.onednn_linear import packed_weights
from workers.engine.model.reduced_blocks import HALVES_OF_A_BLOCK, Half, without_halves
from workers.engine.scoring.intact_states import rows_at_once, through

Removal = frozenset[int]  # numbers of units

# States held at once by one walk; more samples than fit are walked in groups.
STATE_BYTES = 2**30


@dataclass(frozen=True)
class Units:
    """What a removal counts: whole blocks, or the halves of blocks."""

    per_block: int

    def at(self, depth: int) -> Removal:
        """The units of block `depth`."""
        return frozenset(range(depth * self.per_block, (depth + 1) * self.per_block))

    def bypassed(self, depth: int, removal: Removal) -> tuple[Half, ...]:
        """Halves of block `depth` that `removal` takes out of it while the block stays."""
        gone = removal & self.at(depth)
        return tuple(half for i, half in enumerate(HALVES_OF_A_BLOCK) if depth * self.per_block + i in gone)


BLOCKS = Units(per_block=1)
HALVES = Units(per_block=2)


@dataclass
class StateCache:
    """States of earlier walks by depth and prefix, within `limit` bytes.

    Where not all of a walk's states fit, `stride` thins them out evenly: only every stride-th depth is kept.
    """

    limit: int
    stride: int = 1
    held: int = 0  # bytes
    states: dict[int, dict[Removal, Tensor]] = field(default_factory=dict)

    def get(self, depth: int, prefix: Removal) -> Tensor | None:
        return self.states.get(depth, {}).get(prefix)

    def put(self, depth: int, prefix: Removal, state: Tensor) -> None:
        """Keep a state, if its depth is one to keep and there is room."""
        if depth % self.stride or prefix in self.states.get(depth, {}):
            return
        # a removed block leaves the state as it is, so the depth before may hold the very same
        shared = any(held is state for held in self.states.get(depth - 1, {}).values())
        size = 0 if shared else state.numel() * state.element_size()
        if self.held + size <= self.limit:
            self.held += size
            self.states.setdefault(depth, {})[prefix] = state

    def keep(self, useful: Callable[[int, Removal], bool]) -> None:
        """Drop every state for which `useful(depth, prefix)` is false."""
        kept = {
            depth: {prefix: state for prefix, state in states.items() if useful(depth, prefix)}
            for depth, states in self.states.items()
        }
        self.states = {depth: states for depth, states in kept.items() if states}
        distinct = {id(state): state for states in self.states.values() for state in states.values()}
        self.held = sum(state.numel() * state.element_size() for state in distinct.values())


@dataclass(frozen=True)
class _Plan:
    """What a walk computes: `needed[d]` are the prefixes to have at depth d, the state before block d."""

    needed: list[set[Removal]]  # depths 0 … n_blocks
    cached: list[dict[Removal, Tensor]]  # those of them that a cache holds
    passes: int  # applications of a block to a state


def sample_groups(model: BlockModel, ids: Tensor, states: int, *, limit: int = STATE_BYTES) -> Iterator[slice]:
    """Split the samples so that `states` states of one group stay within `limit` bytes, at least one sample each."""
    per_sample = states * ids.shape[1] * model.hidden_size * model.dtype.itemsize
    size = max(1, limit // per_sample)
    for at in range(0, ids.shape[0], size):
        yield slice(at, min(at + size, ids.shape[0]))


def passes_needed(n_blocks: int, removals: Iterable[Removal], *, units: Units = BLOCKS) -> int:
    """Block passes of one walk over `removals` without a cache."""
    return _plan(n_blocks, removals, None, units).passes


def states_at_once(n_blocks: int, removals: Iterable[Removal], *, units: Units = BLOCKS) -> int:
    """The greatest number of states that a walk over `removals` holds at the same time."""
    return 1 + max(len(prefixes) for prefixes in _plan(n_blocks, removals, None, units).needed)


@torch.no_grad()
def walk(
    model: BlockModel,
    ids: Tensor,
    removals: Sequence[Removal],
    *,
    units: Units = BLOCKS,
    cache: StateCache | None = None,
    on_pass: Callable[[], None] = lambda: None,
) -> Iterator[tuple[Removal, Tensor]]:
    """Yield each distinct removal with its state after the last block, (samples, tokens, hidden).

    Args:
        ids: (samples, tokens).
        units: what the numbers in a removal stand for.
        on_pass: called after each application of a block to the state of one prefix.
    """
    plan = _plan(model.n_blocks, removals, cache, units)
    start = next(depth for depth, prefixes in enumerate(plan.needed) if prefixes)
    computed = [plan.needed[depth] - plan.cached[depth].keys() for depth in range(model.n_blocks + 1)]
    order = [
        depth
        for depth in range(start, model.n_blocks)
        if any(not units.at(depth) <= prefix for prefix in computed[depth + 1])
    ]
    blocks = model.blocks(order)
    live: dict[Removal, Tensor] = {}
    for depth in range(start, model.n_blocks):
        live |= plan.cached[depth]
        if depth == 0 and not live:
            live = {frozenset(): model.embed(ids)}
        if cache is not None:
            for prefix in sorted(live, key=sorted):
                cache.put(depth, prefix, live[prefix])
        here = units.at(depth)
        following: dict[Removal, Tensor] = {}
        pushed: dict[tuple[Half, ...], list[Removal]] = {}
        for prefix in sorted(computed[depth + 1], key=sorted):
            if here <= prefix:
                following[prefix] = live[prefix - here]
            else:
                pushed.setdefault(units.bypassed(depth, prefix), []).append(prefix)
        if pushed:
            block = next(blocks)
            waiting = Counter(prefix - here for prefixes in pushed.values() for prefix in prefixes)
            for bypassed, prefixes in sorted(pushed.items()):
                with without_halves(block, bypassed), packed_weights(block.module):
                    for prefix, state in _push(block, prefixes, [live[prefix - here] for prefix in prefixes]):
                        following[prefix] = state
                        waiting[prefix - here] -= 1
                        if not waiting[prefix - here]:  # freed one by one, so no two whole sets of states exist
                            del live[prefix - here]
                        on_pass()
        live = following
        if cache is not None and model.device.type == "cpu":
            trim_heap()  # kept states lie between what blocks have made and freed, which the heap holds on to
    for _ in blocks:  # nothing is left of the walk; this ends it, and frees the last streamed block
        pass
    live |= plan.cached[model.n_blocks]
    for prefix in sorted(live, key=sorted):
        yield prefix, live[prefix]
        live[prefix] = torch.empty(0)  # the caller is done with it


def _push(block: Block, prefixes: Sequence[Removal], states: list[Tensor]) -> Iterator[tuple[Removal, Tensor]]:
    """Apply `block` to one state per prefix, several at a time, and empty `states` on the way."""
    rows = states[0].shape[0]
    together = max(1, rows_at_once(states[0]) // rows)
    for at in range(0, len(prefixes), together):
        some = states[:together]
        del states[:together]
        out = through(block, torch.cat(some) if len(some) > 1 else some[0])
        del some
        for i, prefix in enumerate(prefixes[at : at + together]):
            part = out[i * rows : (i + 1) * rows]
            yield prefix, part if together == 1 else part.clone()  # a view would keep the others' memory


def _plan(n_blocks: int, removals: Iterable[Removal], cache: StateCache | None, units: Units) -> _Plan:
    """Work back from the removals to the states that they come from, ending where a cache or the embedding has one."""
    needed: list[set[Removal]] = [set() for _ in range(n_blocks + 1)]
    cached: list[dict[Removal, Tensor]] = [{} for _ in range(n_blocks + 1)]
    needed[n_blocks] = set(removals)
    passes = 0
    for depth in range(n_blocks, -1, -1):
        for prefix in needed[depth]:
            state = cache.get(depth, prefix) if cache is not None else None
            if state is not None:
                cached[depth][prefix] = state
            elif depth > 0:
                needed[depth - 1].add(prefix - units.at(depth - 1))
                passes += not units.at(depth - 1) <= prefix
    return _Plan(needed, cached, passes)
