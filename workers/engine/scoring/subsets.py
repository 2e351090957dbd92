"""The states that leave a model with any of its blocks removed, for many such removals in one walk of the blocks.

A removal is a set of blocks. Two removals that agree on the blocks before depth d have the same state there, so one
state is carried per *prefix* (removal ∩ blocks before d) and not per removal: a tree that branches where removals
first differ. For the n removals of one block each that is the sweep of n²/2 block passes in place of n²; for any
other family of removals it is as few passes as sharing allows. Each block's weights are touched once per walk.

States may be kept from one walk for the next (`StateCache`): a greedy search then starts each round where the last
change took effect, not at the embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from workers.engine.blocks import Block, BlockModel
from workers.engine.scoring.stream import rows_at_once, through

Removal = frozenset[int]  # block numbers

# States held at once by one walk; more samples than fit are walked in groups.
STATE_BYTES = 2**30


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
        shared = self.get(depth - 1, prefix - {depth - 1}) is state
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


def passes_needed(n_blocks: int, removals: Iterable[Removal]) -> int:
    """Block passes of one walk over `removals` without a cache."""
    return _plan(n_blocks, removals, None).passes


def states_at_once(n_blocks: int, removals: Iterable[Removal]) -> int:
    """The greatest number of states that a walk over `removals` holds at the same time."""
    return 1 + max(len(prefixes) for prefixes in _plan(n_blocks, removals, None).needed)


@torch.no_grad()
def walk(
    model: BlockModel,
    ids: Tensor,
    removals: Sequence[Removal],
    *,
    cache: StateCache | None = None,
    on_pass: Callable[[], None] = lambda: None,
) -> Iterator[tuple[Removal, Tensor]]:
    """Yield each distinct removal with its state after the last block, (samples, tokens, hidden).

    Args:
        ids: (samples, tokens).
        on_pass: called after each application of a block to the state of one prefix.
    """
    plan = _plan(model.n_blocks, removals, cache)
    start = next(depth for depth, prefixes in enumerate(plan.needed) if prefixes)
    order = [
        depth
        for depth in range(start, model.n_blocks)
        if any(depth not in prefix and prefix not in plan.cached[depth + 1] for prefix in plan.needed[depth + 1])
    ]
    blocks = model.blocks(order)
    live: dict[Removal, Tensor] = {}
    for depth in range(start, model.n_blocks):
        arrived = plan.cached[depth]
        live = {prefix: live[prefix] if prefix in live else arrived[prefix] for prefix in live.keys() | arrived}
        if depth == 0 and not arrived:
            live = {frozenset(): model.embed(ids)}
        if cache is not None:
            for prefix in sorted(live, key=sorted):
                cache.put(depth, prefix, live[prefix])
        following: dict[Removal, Tensor] = {}
        pushed: list[Removal] = []
        for prefix in sorted(plan.needed[depth + 1], key=sorted):
            if prefix in plan.cached[depth + 1]:
                continue
            if depth in prefix:
                following[prefix] = live[prefix - {depth}]
            else:
                pushed.append(prefix)
        if pushed:
            block = next(blocks)
            for prefix, state in _push(block, pushed, live):
                following[prefix] = state
                del live[prefix]  # a removal that shares it has its reference by now
                on_pass()
        live = following
    for _ in blocks:  # nothing is left of the walk; this ends it, and frees the last streamed block
        pass
    live |= plan.cached[model.n_blocks]
    for prefix in sorted(live, key=sorted):
        yield prefix, live[prefix]
        live[prefix] = torch.empty(0)  # the caller is done with it


def _push(block: Block, prefixes: Sequence[Removal], live: dict[Removal, Tensor]) -> Iterator[tuple[Removal, Tensor]]:
    """Apply `block` to the states of `prefixes`, several states or parts of one at a time."""
    rows = live[prefixes[0]].shape[0]
    limit = rows_at_once(live[prefixes[0]])
    if rows >= limit:
        for prefix in prefixes:
            yield prefix, through(block, live[prefix])
        return
    together = limit // rows
    for at in range(0, len(prefixes), together):
        some = prefixes[at : at + together]
        state = block(torch.cat([live[prefix] for prefix in some]) if len(some) > 1 else live[some[0]])
        for i, prefix in enumerate(some):
            part = state[i * rows : (i + 1) * rows]
            yield prefix, part if len(some) == 1 else part.clone()  # a view would keep the others' memory


def _plan(n_blocks: int, removals: Iterable[Removal], cache: StateCache | None) -> _Plan:
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
                needed[depth - 1].add(prefix - {depth - 1})
                passes += depth - 1 not in prefix
    return _Plan(needed, cached, passes)
