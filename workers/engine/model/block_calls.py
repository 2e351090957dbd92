"""How a family calls its blocks: found out by letting its own forward run with the blocks taken out.

Every family prepares other arguments for its blocks (rotary embeddings, masks by layer type, positions), and code
that prepares them anew per family goes stale with each release of transformers. So the model's own forward is run
with each block's `forward` replaced by a catcher, which writes down its arguments and returns its input. The
same trick reaches the head: the last catcher returns the state at hand, and what follows is norm and head.

The catchers stand in for the `forward` attribute of the instances, so attributes that a model reads off its blocks
stay what they are. Under hooks and `__call__` the replacement is seen by nobody else once the context ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from workers.engine.architectures.config import unsupported


@dataclass(frozen=True)
class Call:
    """What a family's forward hands to one block beside the hidden state."""

    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)


class _Stop(Exception):
    """Ends a forward once the blocks have been passed: what follows is not wanted."""


@contextmanager
def _forwards(blocks: Sequence[nn.Module], forward: Callable[..., Any]) -> Iterator[None]:
    """Replace `block.forward` by `forward(index, state, *args, **kwargs)` for the length of the context."""
    for index, block in enumerate(blocks):
        instance: Any = block  # its own attribute shadows the class's method until it is deleted below
        instance.forward = _bound(index, forward)
    try:
        yield
    finally:
        for block in blocks:
            del block.forward


def _bound(index: int, forward: Callable[..., Any]) -> Callable[..., Any]:
    def catcher(*args: Any, **kwargs: Any) -> Any:
        if args:
            return forward(index, args[0], args[1:], kwargs)
        rest = {name: value for name, value in kwargs.items() if name != "hidden_states"}
        return forward(index, kwargs["hidden_states"], (), rest)

    return catcher


def returns_tuple(model: PreTrainedModel, blocks: Sequence[nn.Module], ids: Tensor) -> bool:
    """Whether the family expects a tuple from each block, whose first entry is the state (Falcon does)."""
    received: list[Any] = []

    def probe(index: int, state: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if index == 0:
            return (state,)
        received.append(state)
        raise _Stop

    with _forwards(blocks, probe), torch.no_grad(), suppress(_Stop, TypeError, AttributeError):
        # a family that wants tensors may trip over the tuple
        model(input_ids=ids, use_cache=False)
    return bool(received) and isinstance(received[0], Tensor)


def record(
    model: PreTrainedModel, blocks: Sequence[nn.Module], ids: Tensor, *, as_tuple: bool
) -> tuple[Tensor, list[Call]]:
    """Run embedding and argument preparation only.

    Args:
        ids: (samples, tokens) token ids.
        as_tuple: what `returns_tuple` said.

    Returns:
        The state before the first block, (samples, tokens, hidden), and one `Call` per block.

    Raises:
        UnsupportedModel: the forward changes the state between blocks, or skips or repeats blocks, so the model is
            no plain stack.
    """
    calls: list[Call] = []
    states: list[Tensor] = []

    def catch(index: int, state: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if index != len(calls) or not isinstance(state, Tensor) or state.dim() != 3:
            raise _not_a_stack(model)
        if states and state is not states[0] and not torch.equal(state, states[0]):
            raise _not_a_stack(model)
        states.append(state)
        calls.append(Call(args, kwargs))
        if index == len(blocks) - 1:
            raise _Stop
        return (state,) if as_tuple else state

    with _forwards(blocks, catch), torch.no_grad(), suppress(_Stop):
        model(input_ids=ids, use_cache=False)
    if len(calls) != len(blocks):
        raise _not_a_stack(model)
    return states[0], calls


def replay_head(model: PreTrainedModel, blocks: Sequence[nn.Module], state: Tensor, *, as_tuple: bool) -> Tensor:
    """Logits of `state`, the (samples, tokens, hidden) that leaves the last block: (samples, tokens, vocabulary).

    The embedding runs on zeros beside it, which costs next to nothing.
    """

    def substitute(index: int, caught: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        passed = state if index == len(blocks) - 1 else caught
        return (passed,) if as_tuple else passed

    ids = torch.zeros(state.shape[:2], dtype=torch.long, device=state.device)
    with _forwards(blocks, substitute):
        logits: Tensor = model(input_ids=ids, use_cache=False).logits
    return logits


def same_calls(left: Sequence[Call], right: Sequence[Call]) -> bool:
    """Whether two recordings of the same shape hand the same arguments to every block."""
    return all(_same(a.args, b.args) and _same(a.kwargs, b.kwargs) for a, b in zip(left, right, strict=True))


def _same(left: Any, right: Any) -> bool:
    if isinstance(left, Tensor) and isinstance(right, Tensor):
        return left.shape == right.shape and torch.equal(left, right)
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_same(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        return len(left) == len(right) and all(_same(a, b) for a, b in zip(left, right, strict=True))
    return left is right or bool(left == right)


def _not_a_stack(model: PreTrainedModel) -> Exception:
    model_type = model.config.model_type
    return unsupported(
        f'A model of type "{model_type}" does not pass one hidden state from block to block.', model_type=model_type
    )
