"""Renumber blocks wherever a quantiser's settings name modules.

A quantised checkpoint says in its config which modules were left alone or treated differently
(`"ignore": ["lm_head", "model.layers.3.mlp.gate"]`, `modules_to_not_convert`, GPTQ's `dynamic` patterns). After
blocks were dropped these names must follow the blocks, or a full-precision layer is read as a quantised one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from app.errors import UnsupportedModel

_GONE = object()  # the name of a module that was dropped
_GENERIC = re.compile(r"\[0-9\][+*]?|\[\\d\][+*]?")  # stands for every number, so it need not change


def renumber_module_names(settings: Any, stack: str, numbers: Mapping[int, int]) -> Any:
    """A copy of `settings` in which every module name follows its block.

    List elements, and dict entries, that name a dropped block are left out. Names may be plain, or regular
    expressions with escaped dots and one block's number.

    Args:
        settings: JSON values, however nested.
        stack: the last part of the blocks' module path, such as "layers" of "model.layers".
        numbers: old number → new number of each kept block.

    Raises:
        UnsupportedModel: a regular expression picks out blocks by a set of numbers.
    """
    result = _renumber(settings, re.escape(stack), numbers)
    return None if result is _GONE else result


def _renumber(value: Any, stack: str, numbers: Mapping[int, int]) -> Any:
    if isinstance(value, str):
        return _name(value, stack, numbers)
    if isinstance(value, list):
        items = [_renumber(item, stack, numbers) for item in value]
        return [item for item in items if item is not _GONE]
    if isinstance(value, dict):
        result = {}
        for key, item in value.items():
            new_key, new_item = _name(key, stack, numbers), _renumber(item, stack, numbers)
            if new_key is not _GONE and new_item is not _GONE:
                result[new_key] = new_item
        return result
    return value


def _name(name: str, stack: str, numbers: Mapping[int, int]) -> Any:
    found = re.search(rf"(?:^|[^A-Za-z0-9_]){stack}\\*\.(\d+)(?![0-9])", name)
    if found:
        new = numbers.get(int(found[1]))
        return _GONE if new is None else name[: found.start(1)] + str(new) + name[found.end(1) :]
    chosen = re.search(rf"(?:^|[^A-Za-z0-9_]){stack}\\*\.([\[(].*)", name)
    if chosen and re.search(r"\d", _GENERIC.sub("", chosen[1]).split(".")[0]):
        raise UnsupportedModel(
            f"The quantisation settings pick blocks by the pattern {name!r}, which cannot be renumbered; "
            "write the modules out one by one."
        )
    return name
