"""YAML of strangers, read into plain data: nothing that calls code, repeats a part or is nested deeply is taken."""

from __future__ import annotations

import re
from typing import Any

import yaml

from secateur.contract.json_text import MAX_DIGITS

_DEEPEST = 20  # lists and mappings in each other
_NO_TEXT = re.compile(r"[\x00\ud800-\udfff]")  # what YAML can escape, and neither a database nor UTF-8 can hold


def load_plain(text: str) -> Any:
    """The one document of a text, which the caller has bounded in length.

    Raises:
        ValueError: it is no YAML, or has what is not taken.
    """
    try:
        return yaml.load(text, Loader=_PlainLoader)
    except (yaml.YAMLError, OverflowError, RecursionError) as error:
        raise ValueError(str(error)) from error
    except (LookupError, AttributeError, TypeError) as error:  # of its constructors, on `!!bool x` or `!!timestamp x`
        raise ValueError(f"a value is not of the kind that its tag names ({error})") from error


class _PlainLoader(yaml.SafeLoader):
    """YAML without what unfolds: no aliases, no deep nesting, and no key twice."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it repeats a part by an alias (*), which is not taken")
        if self.depth >= _DEEPEST:
            raise yaml.YAMLError(f"it is nested more than {_DEEPEST} deep")
        self.depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1

    def construct_scalar(self, node: Any) -> Any:
        value = super().construct_scalar(node)
        if isinstance(value, str) and _NO_TEXT.search(value):
            raise yaml.YAMLError(f"line {node.start_mark.line + 1} has a character that no text may have")
        return value

    def construct_yaml_int(self, node: Any) -> int:
        if len(str(node.value)) > MAX_DIGITS:
            line = node.start_mark.line + 1
            raise yaml.YAMLError(f"line {line} has a number of more than the {MAX_DIGITS:,} digits that are read")
        return super().construct_yaml_int(node)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.YAMLError(f"it has the key {key.value!r} twice")
                seen.add(key.value)
        return super().construct_mapping(node, deep)


_PlainLoader.add_constructor("tag:yaml.org,2002:int", _PlainLoader.construct_yaml_int)
