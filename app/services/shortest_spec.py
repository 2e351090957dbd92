"""A job's spec as a person would write it: without what would be filled in anyway.

What is left out depends on more than each field's own default: a preset fills in, a draft has its own usual settings,
and pruning of the vocabulary is followed by no recovery. So nothing is known here of any field: a part goes if the rest
still means the same. What names the method of a section stays with the section: its other settings are that method's.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from pydantic import ValidationError

from secateur.contract.presets import NAMES
from secateur.contract.spec import CompressionSpec


def shortest(spec: dict[str, Any]) -> dict[str, Any]:
    """The least of `spec` that stands for the same job. Raises ValidationError where `spec` is none (any more)."""
    meant = _filled(spec)
    left = deepcopy(spec)
    _shorten(left, left, meant)
    return left


def _shorten(part: Any, whole: dict[str, Any], meant: dict[str, Any]) -> None:
    """Take out of `part`, which lies in `whole`, what can be spared: whole sections first, then what is in them."""
    if isinstance(part, dict):
        for name in [name for name in part if name not in NAMES]:
            value = part.pop(name)
            if not _means(whole, meant):
                part[name] = value
    for inner in _inside(part):
        _shorten(inner, whole, meant)


def _inside(part: Any) -> Iterator[Any]:
    inner = part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
    return (one for one in inner if isinstance(one, dict | list))


def _means(spec: dict[str, Any], meant: dict[str, Any]) -> bool:
    try:
        return _filled(spec) == meant
    except ValidationError:
        return False


def _filled(spec: dict[str, Any]) -> dict[str, Any]:
    return CompressionSpec.model_validate(spec).model_dump(mode="json")
