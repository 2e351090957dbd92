"""Bounds on the numbers of a `config.json`, held before anything is built, counted or looped over.

A config may come from anyone, and transformers' classes make a list entry or a module for each layer, head group or
expert that it claims. The bounds lie far above every model there is. What a checkpoint's tensors allow is less, and is
held against the config when the checkpoint is opened.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from secateur.contract.errors import BadCheckpoint
from secateur.contract.shown import printable, shortened

MAX_COUNT = 16_384  # layers, heads, experts, labels; real models stay under 1,000
MAX_NUMBER = 2**40  # any whole number: sizes, positions, ids

# "num_hidden_layers", "n_layer", "num_local_experts", "mtp_num_layers", "decoder_layers", but not "block_size"
_DROPOUT = re.compile(r"(dropout|pdrop|layerdrop)$")
_EPSILON = re.compile(r"(^|_)eps(ilon)?$")  # of a norm, which takes the root of it and a mean square
_COUNT = re.compile(
    r"(^|_)(n|num|number)(_of)?_(\w+_)?(layers?|blocks?|experts?|heads?|groups?|labels?)$|^((en|de)coder_)?layers$|^depth$"
)


def check_config_limits(config: Mapping[str, Any], *, pointer: str = "/model") -> None:
    """Refuse a config that claims more of something than any model has, or holds a NaN, or a dropout beyond 0 to 1.

    Raises:
        BadCheckpoint: names the entry, its value and the limit; `pointer` is where the config came from.
    """
    for path, key, value in _numbers(config, ""):
        if _DROPOUT.search(key) and (value < 0 or value > 1):  # the training alone would look at it
            detail = f"config.json: {_printable(path)} is no probability."
            raise BadCheckpoint.field(pointer, detail, value=value, expected="a number from 0 to 1")
        if _EPSILON.search(key) and value < 0:  # and this nothing but the scores
            detail = f"config.json: {_printable(path)} is negative."
            raise BadCheckpoint.field(pointer, detail, value=value, expected="a small number, 0 or more")
        if isinstance(value, float):
            if math.isnan(value):
                raise BadCheckpoint.field(
                    pointer, f"config.json: {_printable(path)} is no number.", value="NaN", expected="a number"
                )
            continue
        limit = MAX_COUNT if _COUNT.search(key) else MAX_NUMBER
        if abs(value) > limit:
            raise BadCheckpoint.field(
                pointer,
                f"config.json: {_printable(path)} is larger than any model has it.",
                value=value,
                expected=f"at most {limit:,}",
            )


def _numbers(value: Any, path: str) -> Iterator[tuple[str, str, int | float]]:
    """Path, innermost key and value of each number, however nested; of a list, its key's."""
    waiting: list[tuple[str, str, Any]] = [(path, "", value)]
    while waiting:
        path, key, value = waiting.pop()
        if type(value) in (int, float):
            yield path, key, value
        elif isinstance(value, Mapping):
            waiting += [(f"{path}.{name}".lstrip("."), str(name), item) for name, item in value.items()]
        elif isinstance(value, list):
            waiting += [(path, key, item) for item in value]


def _printable(path: str) -> str:
    """The name of an entry as part of a sentence."""
    return shortened(printable(path))
