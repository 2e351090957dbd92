"""The K types of GGUF, as bytes: Q2_K, Q3_K, Q4_K, Q5_K and Q6_K.

`k_scales.py` finds the integers; here they are packed as llama.cpp's kernels unpack them. Rows are cut into
super-blocks of 256 weights, and a fixed number of these is worked on at a time, so memory does not grow with a tensor.

Formats: https://github.com/ggml-org/llama.cpp/blob/master/ggml/src/ggml-common.h, `block_q2_K` to `block_q6_K`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workers.engine.quantise.k_scales import affine, symmetric

SUPER_BLOCK = 256
_AT_A_TIME = 1024  # super-blocks; their tensors stay in a processor's cache


def quantise_rows(values: Tensor, type_name: str) -> NDArray[np.uint8]:
    """The tensor's bytes in a K type.

    Args:
        values: (…, columns), where 256 divides the columns.
        type_name: of `K_TYPES`.

    Returns:
        (…, bytes of a row).
    """
    blocks = values.reshape(-1, SUPER_BLOCK)
    pack = K_TYPES[type_name]
    packed = [pack(blocks[start : start + _AT_A_TIME].float()) for start in range(0, len(blocks), _AT_A_TIME)]
    found: NDArray[np.uint8] = torch.cat(packed).reshape(*values.shape[:-1], -1).numpy()
    return found


# Each packs (super-blocks, 256) weights to (super-blocks, bytes); `n` is the number of super-blocks below.


def _q2_k(blocks: Tensor) -> Tensor:
    found = affine(blocks.view(-1, 16, 16), levels=3, scale_levels=15)
    scales = _bytes(found.scales) | _bytes(found.offsets) << 4
    return torch.cat([scales, _two_bits(_bytes(found.integers)), _halves(found.scale), _halves(found.offset)], dim=1)


def _q3_k(blocks: Tensor) -> Tensor:
    found = symmetric(blocks.view(-1, 16, 16), levels=4, scale_levels=32)
    integers = _bytes(found.integers + 4).reshape(-1, 256)
    # bit n of byte i is the third bit of weight 32 n + i
    high = _bits(integers.reshape(-1, 8, 32) >> 2)
    scales = _bytes(found.scales + 32)
    low_scales = scales[:, :8] & 15 | (scales[:, 8:] & 15) << 4
    high_scales = _side_by_side((scales >> 4).reshape(-1, 4, 4), 2)
    return torch.cat([high, _two_bits(integers & 3), low_scales, high_scales, _halves(found.scale)], dim=1)


def _q4_k(blocks: Tensor) -> Tensor:
    found = affine(blocks.view(-1, 8, 32), levels=15, scale_levels=63)
    return torch.cat(
        [
            _halves(found.scale),
            _halves(found.offset),
            _six_bits(_bytes(found.scales), _bytes(found.offsets)),
            _four_bits(_bytes(found.integers)),
        ],
        dim=1,
    )


def _q5_k(blocks: Tensor) -> Tensor:
    found = affine(blocks.view(-1, 8, 32), levels=31, scale_levels=63)
    integers = _bytes(found.integers)
    return torch.cat(
        [
            _halves(found.scale),
            _halves(found.offset),
            _six_bits(_bytes(found.scales), _bytes(found.offsets)),
            _bits(integers >> 4),
            _four_bits(integers & 15),
        ],
        dim=1,
    )


def _q6_k(blocks: Tensor) -> Tensor:
    found = symmetric(blocks.view(-1, 16, 16), levels=32, scale_levels=128)
    integers = _bytes(found.integers + 32).reshape(-1, 2, 4, 32)  # halves of the super-block, quarters of these
    low = (integers[:, :, :2] & 15) | (integers[:, :, 2:] & 15) << 4
    high = _side_by_side((integers >> 4).reshape(-1, 4, 32), 2)
    count = len(blocks)
    scales = found.scales.to(torch.int8).view(torch.uint8)
    return torch.cat([low.reshape(count, -1), high.reshape(count, -1), scales, _halves(found.scale)], dim=1)


K_TYPES: Mapping[str, Callable[[Tensor], Tensor]] = {
    "Q2_K": _q2_k,
    "Q3_K": _q3_k,
    "Q4_K": _q4_k,
    "Q5_K": _q5_k,
    "Q6_K": _q6_k,
}


def _bytes(numbers: Tensor) -> Tensor:
    return numbers.to(torch.uint8)


def _halves(numbers: Tensor) -> Tensor:
    """(n) → (n, 2)"""
    return numbers.half().unsqueeze(-1).view(torch.uint8)


def _side_by_side(parts: Tensor, bits: int) -> Tensor:
    """(n, parts, m), each of so many bits → (n, m), the first part lowest."""
    found = parts[:, 0].clone()
    for number in range(1, parts.shape[1]):
        found |= parts[:, number] << (bits * number)
    return found


def _bits(integers: Tensor) -> Tensor:
    """The lowest bit of (n, 8, 32) → (n, 32): bit by bit the eight."""
    return _side_by_side(integers & 1, 1)


def _two_bits(integers: Tensor) -> Tensor:
    """256 integers of a super-block → (n, 64): in each half, four runs of 32 side by side."""
    return _side_by_side(integers.reshape(-1, 4, 32), 2).reshape(-1, 64)


def _four_bits(integers: Tensor) -> Tensor:
    """256 integers of a super-block → (n, 128): in each quarter, two runs of 32 side by side."""
    return _side_by_side(integers.reshape(-1, 2, 32), 4).reshape(-1, 128)


def _six_bits(scales: Tensor, offsets: Tensor) -> Tensor:
    """Eight scales and eight offsets of 6 bits → (n, 12): the first four, with high bits of the others."""
    low = scales[:, :4] | (scales[:, 4:] >> 4) << 6
    middle = offsets[:, :4] | (offsets[:, 4:] >> 4) << 6
    high = scales[:, 4:] & 15 | (offsets[:, 4:] & 15) << 4
    return torch.cat([low, middle, high], dim=1)
