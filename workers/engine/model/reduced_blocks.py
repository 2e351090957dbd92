"""A block without one of its halves: the attention or the MLP adds nothing to the residual stream.

A half is taken out by making its last step return zeros, so the residual connection passes the state on as it is.
That holds wherever a block adds its halves to the stream, one after the other or both at once, with norms before
them or after (an RMS norm of zeros is zeros). It costs what the half computes before its last step, which is little
beside the sweep in which it happens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

from torch import Tensor, nn

from secateur.contract.errors import UnsupportedModel
from secateur.contract.models.architecture import Architecture
from workers.engine.model.block_model import Block

Half = Literal["attention", "mlp"]
HALVES_OF_A_BLOCK: tuple[Half, ...] = ("attention", "mlp")


@contextmanager
def without_halves(block: Block, halves: Iterable[Half]) -> Iterator[None]:
    """For the length of the context, `block` runs without `halves`.

    Raises:
        UnsupportedModel: the last step of a half was not found by structure.
    """
    width = block.model.hidden_size

    silenced: list[tuple[Any, Any]] = []  # and the forward of their own that they had, such as that of packed weights
    for half in halves:
        module: Any = _last_step(block.module, block.model.architecture, half)
        silenced.append((module, vars(module).get("forward")))
        module.forward = _zeros(module, width)
    try:
        yield
    finally:
        for module, before in reversed(silenced):
            del module.forward
            if before is not None:
                module.forward = before


def _zeros(module: Any, width: int) -> Callable[..., Any]:
    """A forward that returns zeros in the form of the module's own: some mixtures give their routing beside the state.

    What stands beside it is that of a single token, which costs nothing; blocks do not look at it.
    """
    own = module.forward

    def zeros(state: Tensor, *args: Any, **kwargs: Any) -> Any:
        silent = state.new_zeros(*state.shape[:-1], width)
        if isinstance(module, nn.Linear):
            return silent
        returned = own(state[:1, :1], *args, **kwargs)
        return (silent, *returned[1:]) if isinstance(returned, tuple) else silent

    return zeros


def _last_step(module: nn.Module, architecture: Architecture, half: Half) -> nn.Module:
    if half == "mlp" and architecture.mlp:
        return module.get_submodule(architecture.mlp)
    name = architecture.attention_output if half == "attention" else architecture.down
    owner = module.get_submodule(architecture.attention) if half == "attention" else module
    if not name:
        raise UnsupportedModel.field(
            "kind",
            f"The output of the {half} in a block of {architecture.family} was not found.",
            value=architecture.family,
            expected="a family whose attention and MLP end in a projection of a usual name, or whole blocks",
        )
    return owner.get_submodule(name)
