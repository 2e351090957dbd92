"""What a GGUF file's weights can be rounded to: how each type of tensor is written.

Which tensor of a file gets which type is the contract's (`secateur/contract/gguf_kinds.py`): sizes follow from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import gguf
import numpy as np
from gguf.quants import quantize
from torch import Tensor

from secateur.contract.gguf_kinds import fills
from workers.engine.checkpoints.gguf_file import BLOCK_SIZES
from workers.engine.quantise.k_types import K_TYPES, quantise_rows

Kind: Any = gguf.GGMLQuantizationType  # an enum whose members are numbers
Encode = Callable[[Tensor], "np.ndarray[Any, Any]"]  # (rows, columns) → (rows, bytes) or numbers of the plain types


def _plain(kind: int, values: Tensor) -> np.ndarray[Any, Any]:
    return np.ascontiguousarray(quantize(values.contiguous().numpy(), Kind(kind)))


# Type of a tensor → its bytes, the finest first.
TENSOR_TYPES: Mapping[str, Encode] = {
    **{name: partial(_plain, int(Kind[name])) for name in ("F32", "F16", "BF16", "Q8_0")},
    **{name: partial(_plain, int(Kind[name])) for name in ("Q5_1", "Q5_0", "Q4_1", "Q4_0")},
    **{name: partial(quantise_rows, type_name=name) for name in K_TYPES},
}


def bits(type_name: str) -> float:
    """Bits of a weight, scales included."""
    elements, size = BLOCK_SIZES[int(Kind[type_name])]
    return 8 * size / elements


def substitute(type_name: str, columns: int) -> str:
    """For a type that is not written: the smallest one that is, of no fewer bits; a K type before one of its size."""
    enough = [name for name in TENSOR_TYPES if bits(name) >= bits(type_name) and fills(name, columns)]
    return min(enough, key=lambda name: (bits(name), name not in K_TYPES))
