"""Linear maps with packed weights: what they give, what they leave alone, and that nothing of them stays."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from transformers import PreTrainedModel

from workers.engine.model import block_model as blocks
from workers.engine.model.block_model import BlockModel
from workers.engine.model.onednn_linear import packed_weights
from workers.engine.model.reduced_blocks import without_halves

_HAS_ONEDNN = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]  # no annotations upstream
pytestmark = pytest.mark.skipif(not _HAS_ONEDNN, reason="this torch has no oneDNN")


class Doubled(nn.Linear):
    """A linear map that is more than one, as an adapter's is."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(input)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(37,), (3, 37), (2, 5, 37), (0, 37)])
def test_it_computes_the_linear_map(bias: bool, shape: tuple[int, ...]) -> None:
    linear, state = nn.Linear(37, 53, bias=bias), torch.randn(shape)
    with torch.no_grad(), packed_weights(linear):
        assert "forward" in vars(linear)
        found = linear(state)
    expected = state.double() @ linear.weight.double().T + (linear.bias.double() if bias else 0)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)


def test_a_state_need_not_be_contiguous() -> None:
    linear, state = nn.Linear(8, 6), torch.randn(8, 4, 3).permute(2, 1, 0)
    with torch.no_grad(), packed_weights(linear):
        torch.testing.assert_close(linear(state), state @ linear.weight.T + linear.bias)


def test_nothing_stays_when_the_context_ends() -> None:
    linear, state = nn.Linear(8, 6), torch.randn(4, 8)
    with pytest.raises(KeyError), packed_weights(nn.Sequential(linear)):
        raise KeyError
    with torch.no_grad():
        linear.weight.zero_()  # a copy that stayed would not see it
        assert "forward" not in vars(linear)
        assert torch.equal(linear(state), linear.bias.expand(4, 6))


def test_contexts_may_be_nested_and_overlap() -> None:
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    with packed_weights(first):
        with packed_weights(first, second, second):
            assert "forward" in vars(second)
        assert "forward" in vars(first)
        assert "forward" not in vars(second)
    assert "forward" not in vars(first)


def test_a_half_taken_out_of_a_packed_block_comes_back_packed(
    make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., torch.Tensor]
) -> None:
    model = BlockModel.from_model(make_model())
    state = model.embed(make_ids())
    (block, *_) = model.blocks()
    with torch.no_grad():
        whole = block(state)
        with model.packed_whole():
            with without_halves(block, ["attention", "mlp"]):
                assert torch.equal(block(state), state)
            torch.testing.assert_close(block(state), whole)
            assert all("forward" in vars(part) for part in block.module.modules() if type(part) is nn.Linear)
    assert not any("forward" in vars(part) for part in block.module.modules())


def test_blocks_that_hardly_fit_are_not_kept_packed(
    make_model: Callable[..., PreTrainedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = BlockModel.from_model(make_model())
    linear = next(part for part in next(model.blocks()).module.modules() if type(part) is nn.Linear)
    monkeypatch.setattr(blocks, "available_memory", lambda device: 1000)
    with model.packed_whole():
        assert "forward" not in vars(linear)
    monkeypatch.setattr(blocks, "available_memory", lambda device: 2**30)
    with model.packed_whole():
        assert "forward" in vars(linear)


def test_gradients_flow_as_ever() -> None:
    linear, state = nn.Linear(8, 6), torch.randn(4, 8, requires_grad=True)
    with packed_weights(linear):
        linear(state).sum().backward()
    assert state.grad is not None
    torch.testing.assert_close(state.grad, linear.weight.sum(0).expand(4, 8))
    assert linear.weight.grad is not None


@pytest.mark.parametrize("module", [nn.Linear(4, 4, dtype=torch.bfloat16), Doubled(4, 4), nn.LayerNorm(4)])
def test_other_modules_are_left_alone(module: nn.Module) -> None:
    with packed_weights(module):
        assert "forward" not in vars(module)
