"""Renumber blocks wherever a quantiser's settings name modules.

A quantised checkpoint says in its config which modules were left alone or treated differently
(`"ignore": ["lm_head", "re:.*layers\\.1\\d\\.mlp.*"]`, `modules_to_not_convert`, GPTQ's `dynamic` patterns). After
blocks were dropped these rules must pick out the same modules under their new numbers, or a full-precision layer is
read as a quantised one.

What a rule picks out is found by matching it against the names of the checkpoint's modules, before and after. Each way
in which loaders match a rule of that form is tried: by regular expression, by name, by part of a name. A rule is left
as it is, gets other numbers in its text, or is written anew as the list of what it picked out, whichever is first to
pick out the same modules in each of those ways; if none does, the checkpoint is refused.

Servers load several maps of a file as one of another name, and some hold the rules against that name. So those names
are matched as well.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from secateur.contract.errors import UnsupportedModel
from workers.engine.checkpoints.block_names import block_stacks

_GONE = object()  # the name of a module that was dropped
_WORDS = re.compile(r"[A-Za-z_]+(\.[A-Za-z_]+)*")  # a rule of words alone treats all blocks alike
_EXPRESSION = re.compile(r"^(re:|[-+]:)")
_META = re.compile(r"[\\*+?\[\](){}|^$]")
_BY_NUMBER = re.compile(r"layer|block")
_GROUPS = "config_groups"  # of compressed-tensors: entries of any name, which pick out modules by their targets
_CHOICE = re.compile(r"(?<![A-Za-z0-9_{,-])(?!\[0-9\])(?:\(\?:|\(|\[)?[0-9]")  # of numbers: 18, (3|5) or [12]
_GLOBBING = ("modelopt", "quark")  # their loaders match by `*`
# What vLLM and SGLang make one map of, by its name there.
_FUSED = {
    **dict.fromkeys(("q_proj", "k_proj", "v_proj"), "qkv_proj"),
    **dict.fromkeys(("gate_proj", "up_proj"), "gate_up_proj"),
    **dict.fromkeys(("q_a_proj", "kv_a_proj_with_mqa"), "fused_qkv_a_proj"),
}

Way = Callable[[str, str], bool]  # a rule and a module's name → whether the rule picks it out


@dataclass(frozen=True)
class Modules:
    """The modules of a checkpoint before blocks are dropped, by their full names, and what becomes of the blocks."""

    names: Collection[str]
    prefixes: tuple[str, ...]  # of the stack of blocks, such as "model.layers"; on disk and in memory
    numbers: Mapping[int, int]  # old number → new number of each kept block

    def new_name(self, name: str) -> str | None:
        """What a module is called once blocks were dropped; None where it goes."""
        parts = self.parts(name)
        if parts is None:
            return name
        prefix, number, rest = parts
        return f"{prefix}.{self.numbers[number]}{rest}" if number in self.numbers else None

    def parts(self, name: str) -> tuple[str, int, str] | None:
        """Prefix, block and rest of a name within the blocks; the rest begins with a dot, or is empty."""
        for prefix in self.prefixes:
            if name.startswith(f"{prefix}."):
                number, dot, rest = name[len(prefix) + 1 :].partition(".")
                if number.isdecimal():
                    return prefix, int(number), dot + rest
        return None

    @cached_property
    def count(self) -> int:
        """How many blocks there are before any goes."""
        found = (parts[1] for name in self.names if (parts := self.parts(name)))
        return 1 + max(found, default=-1)

    @cached_property
    def after(self) -> dict[str, str]:
        """Old name → new name of every module that stays."""
        return {name: new for name in self.names if (new := self.new_name(name)) is not None}


def module_names(tensors: Collection[str], prefixes: Sequence[str], numbers: Mapping[int, int]) -> Modules:
    """The modules whose tensors a checkpoint stores, all modules around them, and what servers fuse of them.

    Args:
        tensors: names on disk.
        prefixes: of the stack of blocks, as modules have it in memory; that on disk is found among the tensors.
        numbers: as in `Modules`.
    """
    on_file = next(iter(block_stacks(tensors)), "").removesuffix(".")
    prefixes = tuple(dict.fromkeys([*([on_file] if on_file else []), *prefixes]))
    on_disk = {name.rpartition(".")[0] for name in tensors}
    parents = ((name.rpartition(".")[0], name.rpartition(".")[2]) for name in on_disk)
    on_disk |= {f"{parent}.{_FUSED[last]}" for parent, last in parents if last in _FUSED}
    modules = set(on_disk)
    for name in on_disk:
        parts = name.split(".")
        modules.update(".".join(parts[:count]) for count in range(1, len(parts)))
    first = f"{prefixes[0]}."
    for prefix in prefixes[1:]:
        modules.update(f"{prefix}.{name.removeprefix(first)}" for name in on_disk if name.startswith(first))
    return Modules(sorted(modules - {""}), tuple(prefixes), numbers)


def renumber_module_names(settings: Any, modules: Modules) -> Any:
    """A copy of `settings` in which every rule picks out the modules that it did, under their new numbers.

    List elements, and dict entries, that pick out modules of dropped blocks alone are left out.

    Args:
        settings: JSON values, however nested.

    Raises:
        UnsupportedModel: a rule cannot be written for the new numbers.
    """
    method = settings.get("quant_method") if isinstance(settings, Mapping) else None
    return _renumber(settings, _Rules(modules, method), "")


def _renumber(value: Any, rules: _Rules, key: str) -> Any:
    if isinstance(value, list):
        if "size" not in key and rules.are_by_block(value, named=_BY_NUMBER.search(key) is not None):
            raise rules.refused(key)
        items: list[Any] = []
        for item in value:
            items += rules.new(item) if isinstance(item, str) else [_renumber(item, rules, key)]
        return items
    if isinstance(value, dict):
        if key != _GROUPS and value and all(name.isdecimal() for name in value):
            raise rules.refused(key)
        result = {}
        for name, item in value.items():
            inner = _renumber(item, rules, name)
            if inner is not _GONE:
                result.update(dict.fromkeys(rules.new(name), inner))
        return result
    if isinstance(value, str):
        found = rules.in_text(value)
        return _GONE if found is None else found
    return value


class _Rules:
    """Rules of one format of settings, held against the modules of one checkpoint."""

    def __init__(self, modules: Modules, method: Any) -> None:
        self._modules = modules
        self._method = method
        self._stack = "|".join(sorted({re.escape(prefix.rpartition(".")[2]) for prefix in modules.prefixes}))

    def new(self, rule: str) -> list[str]:
        """What stands in place of `rule`: itself, others, or nothing.

        Raises:
            UnsupportedModel: nothing picks out the same modules.
        """
        if _WORDS.fullmatch(rule) or rule.isdecimal():
            return [rule]
        ways = _ways(rule, self._method)
        names = self._modules.names
        before = [{name for name in names if way(rule, name)} for way in ways]
        if not any(before):  # modules that the files have under no such name: what is left is the text
            text = self.in_text(rule)
            return [] if text is None else [text]
        after = self._modules.after
        expected = [{after[name] for name in found if name in after} for found in before]
        if not any(expected):
            return []
        for candidate in self._candidates(rule, before):
            if all(
                any(way(one, name) for one in candidate) == (name in found)
                for way, found in zip(ways, expected, strict=True)
                for name in after.values()
            ):
                return candidate
        raise self.refused(rule)

    def in_text(self, rule: str) -> str | None:
        """The rule with the number behind the stack's name replaced, if it has one; None where that block is gone."""
        found = re.search(rf"(?:^|[^A-Za-z0-9_])(?:{self._stack})\\*\.(\d+)(?:(?=\\\.)|(?![0-9\\\[(*+?{{|]))", rule)
        if found is None:
            chosen = re.search(rf"(?:^|[^A-Za-z0-9_])(?:{self._stack})\\*\.([\[(\\].*)", rule)
            if chosen and re.search(r"\d", re.sub(r"\[0-9\]|\[\\d\]|\\d", "", chosen[1]).split(".")[0]):
                raise self.refused(rule)
            if not chosen and self._chooses_blocks(rule):
                raise self.refused(rule)
            return rule
        new = self._modules.numbers.get(int(found[1]))
        return None if new is None else rule[: found.start(1)] + str(new) + rule[found.end(1) :]

    def _chooses_blocks(self, rule: str) -> bool:
        """Whether an expression that picks out no module has numbers where a block's would stand."""
        if not _EXPRESSION.match(rule):
            return False
        text = _EXPRESSION.sub("", rule)
        return any(self._leads_to_numbers(text[: found.start()]) for found in _CHOICE.finditer(text))

    def _leads_to_numbers(self, head: str) -> bool:
        """Whether what stands behind this beginning of an expression can be a block's number."""
        return any(_matches_whole(head, f"{prefix}.") for prefix in self._modules.prefixes)

    def are_by_block(self, values: Sequence[Any], *, named: bool) -> bool:
        """Whether a list could have a value for each block, or where it is `named` after blocks, their numbers."""
        count = self._modules.count
        if not values or any(isinstance(value, Mapping | list) for value in values):
            return False
        if named and all(type(value) is int and 0 <= value < count for value in values):
            return True
        names = [value for value in values if isinstance(value, str)]
        return len(values) == count and not any("." in name or self._picks(name) for name in names)

    def _picks(self, rule: str) -> bool:
        return any(way(rule, name) for way in _ways(rule, self._method) for name in self._modules.names)

    def refused(self, rule: str) -> UnsupportedModel:
        return UnsupportedModel.field(
            "model",
            f"The quantisation settings pick out modules by {rule!r}, which cannot be written for the new numbers of "
            "the blocks.",
            value=rule,
            expected="settings that name the modules one by one",
        )

    def _candidates(self, rule: str, before: Sequence[Collection[str]]) -> Iterator[list[str]]:
        """Rules that may pick out the same, the plainest first."""
        yield [rule]
        blocks = {parts[1] for found in before for name in found if (parts := self._modules.parts(name))}
        kept = [str(self._modules.numbers[block]) for block in sorted(blocks) if block in self._modules.numbers]
        for literal in re.finditer(r"(?<![0-9])\d+(?![0-9])", rule):
            if {int(literal[0])} == blocks and kept:
                yield [rule[: literal.start()] + kept[0] + rule[literal.end() :]]
        marked = _EXPRESSION.match(rule)
        if kept and (marked or _META.search(rule)):
            yield from self._with_numbers(rule, marked.end() if marked else 0, _either(kept))
        for found in before:
            if marked or (_META.search(rule) and _globs not in _ways(rule, self._method)):
                yield self._as_expression(found, marked[0] if marked else "")
            else:
                yield self._as_names(found, globs=_globs in _ways(rule, self._method))

    def _with_numbers(self, rule: str, start: int, numbers: str) -> Iterator[list[str]]:
        """The expression with `numbers` in place of each part that may be what picks out the blocks."""
        for begin in range(len(rule) - 1, start - 1, -1):
            if self._leads_to_numbers(rule[start:begin]):
                for end in range(begin + 1, len(rule) + 1):
                    yield [rule[:begin] + numbers + rule[end:]]
                    yield [rule[:begin] + numbers + "(?![0-9])" + rule[end:]]

    def _as_names(self, found: Collection[str], *, globs: bool) -> list[str]:
        """The modules `found` under their new names, one by one."""
        outside, groups = self._grouped(found)
        names = outside
        for (prefix, rests), numbers in groups.items():
            for path in (f"{prefix}.{number}{rest}" for number in numbers for rest in rests):
                root = path.removesuffix(_BELOW)
                names += [root, path] if globs and path != root else [root]
        return names

    def _as_expression(self, found: Collection[str], mark: str) -> list[str]:
        """The same as one regular expression with `mark` before it."""
        outside, groups = self._grouped(found)
        texts = [re.escape(name) for name in outside]
        for (prefix, rests), numbers in groups.items():
            below = [re.escape(rest.removesuffix(_BELOW)) + (r"(?:\..*)?" * rest.endswith(_BELOW)) for rest in rests]
            texts.append(f"{re.escape(prefix)}\\.{_either(list(map(str, numbers)))}{_either(below)}")
        return [f"{mark}{_either(texts)}$"]

    def _grouped(self, found: Collection[str]) -> tuple[list[str], dict[tuple[str, tuple[str, ...]], list[int]]]:
        """New names outside the blocks; and prefix and roots within a block → the blocks of which these are picked."""
        by_block: dict[tuple[str, int], set[str]] = {}
        everything: dict[tuple[str, int], set[str]] = {}
        outside = []
        for old, new in self._modules.after.items():
            parts = self._modules.parts(new)
            if parts is None:
                outside += [new] * (old in found)
                continue
            everything.setdefault(parts[:2], set()).add(parts[2])
            if old in found:
                by_block.setdefault(parts[:2], set()).add(parts[2])
        groups: dict[tuple[str, tuple[str, ...]], list[int]] = {}
        for place, rests in sorted(by_block.items()):
            groups.setdefault((place[0], _trees(rests, everything[place])), []).append(place[1])
        return outside, groups


_BELOW = ".*"  # a module with all that is in it


def _trees(picked: Collection[str], everything: Collection[str]) -> tuple[str, ...]:
    """The fewest roots whose trees make up `picked`: a root ends in `_BELOW` where all below it was picked out."""
    roots: list[str] = []
    for rest in sorted(picked):
        if any(root.endswith(_BELOW) and rest.startswith(root.removesuffix(_BELOW) + ".") for root in roots):
            continue
        below = [name for name in everything if name.startswith(rest + ".")]
        roots.append(rest + _BELOW if all(name in picked for name in below) else rest)
    return tuple(roots)


def _either(texts: Sequence[str]) -> str:
    return texts[0] if len(texts) == 1 else "(?:" + "|".join(texts) + ")"


def _ways(rule: str, method: Any) -> list[Way]:
    """How loaders of the format match such a rule against a module's name."""
    if _EXPRESSION.match(rule):
        if rule.startswith("re:") and method != "compressed-tensors":
            return [_matches, _matches_whole]
        return [_matches]
    if method == "compressed-tensors":
        return [_is]
    if method in _GLOBBING or _compiled(rule) is None:
        return [_globs]
    if not _META.search(rule):
        return [_is, _converts, _contains]
    return [_searches] if method == "auto-round" else [_converts, _matches]


def _matches(rule: str, name: str) -> bool:
    """compressed-tensors' `re:`, GPTQ's `-:` and `+:`."""
    pattern = _compiled(_EXPRESSION.sub("", rule))
    return pattern is not None and pattern.match(name) is not None


def _matches_whole(rule: str, name: str) -> bool:
    pattern = _compiled(_EXPRESSION.sub("", rule))
    return pattern is not None and pattern.fullmatch(name) is not None


def _searches(rule: str, name: str) -> bool:
    """auto-round's `extra_config`, as vLLM reads it too."""
    pattern = _compiled(rule)
    return pattern is not None and pattern.search(name) is not None


def _converts(rule: str, name: str) -> bool:
    """`should_convert_module` of transformers: from the beginning to the end of a module's name, or an ending."""
    pattern = _compiled(rf"(?:{rule})(?:(?<=\.)|(?=\.|$))")
    return name.endswith(rule) or (pattern is not None and pattern.match(name) is not None)


def _is(rule: str, name: str) -> bool:
    return rule == name


def _contains(rule: str, name: str) -> bool:
    return rule in name


def _globs(rule: str, name: str) -> bool:
    return fnmatch.fnmatchcase(name, rule)


@lru_cache(maxsize=4096)
def _compiled(expression: str) -> re.Pattern[str] | None:
    """The expression by itself, since its flags stand at its beginning; None where it is none."""
    try:
        return re.compile(expression)
    except re.error:
        return None
