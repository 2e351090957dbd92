"""The flags of `secateur submit`, made from the catalogue: a method that gets a row and options has its flags at once.

Every plain field of a job's spec becomes one option. Fields of scoring, pruning, benchmark and gates go by their own
names (`--blocks`, `--latency-runs`, `--min-speedup`), those of recovery by `--recovery-…`. A text is written in short:

    self                                  text that the model writes itself
    answers, answers:prompts.txt          what it answers to built-in prompts, or to those of another text
    news.txt, news.txt@0:0.7              a file under the data roots, or a part of it
    hub:Salesforce/wikitext,config=wikitext-2-raw-v1,split=test,column=text,revision=main
    upload:ID, upload:ID@0:0.7            an uploaded data set, or a part of it
    wikitext2, ptb, c4, ptb@test          a text set that papers measure on, or another split of it

A second model is written as the first one is, with `@REVISION` behind a hub id.
"""

from __future__ import annotations

import json
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin
from uuid import UUID

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from secateur.contract.catalog import CRITERIA, PRUNERS, QUANTISATIONS, RECOVERIES, Row
from secateur.contract.named_texts import NAMED_TEXTS
from secateur.contract.options.baseline import Baseline
from secateur.contract.options.benchmark import Benchmark
from secateur.contract.options.gates import Gates
from secateur.contract.options.sizes import Sizes
from secateur.contract.presets import PRESETS
from secateur.contract.spec import CompressionSpec, HubModel, LocalModel

Kind = Literal[
    "int",
    "float",
    "bool",
    "str",
    "list",
    "strings",
    "text",
    "texts",
    "quantisations",
    "pairs",
    "figures",
    "model",
    "off",
]

# section of the spec → the field that names the method, its rows, what stands before its flags
_METHODS: tuple[tuple[str, str, Mapping[str, Row], str], ...] = (
    ("scoring", "criterion", CRITERIA, ""),
    ("pruning", "kind", PRUNERS, ""),
    ("recovery", "kind", RECOVERIES, "recovery"),
)
_TOP_LEVEL = ("preset", "use", "target_model", "seed", "dtype", "priority")


@dataclass(frozen=True)
class Flag:
    """One option of the command line, and where its value goes in the spec."""

    name: str  # Python name of the parameter: "latency_runs"
    path: tuple[str, ...]  # ("benchmark", "latency", "runs")
    kind: Kind
    help: str
    panel: str  # the heading under which `--help` lists it
    default: str | None = None  # as `--help` shows it

    @property
    def option(self) -> str:
        """As it is typed: `--latency-runs`."""
        return ("--no-" if self.kind == "off" else "--") + self.name.removeprefix("no_").replace("_", "-")


def spec_flags() -> list[Flag]:
    """All flags; the first method that has a field of some name gives it its help, with every method's own default.

    A name that another section has already is written with its own: `--pruning-calibration-samples`.
    """
    found: dict[str, Flag] = {}
    defaults: dict[str, dict[str, str | None]] = {}  # flag → method that has it → its default
    for section, tag, rows, prefix in _METHODS:
        names = ", ".join(rows)
        first = next(iter(rows))
        flag = _named_method(section, tag, f"One of {names} (default: {_default_method(section, tag) or first}).")
        found.setdefault(flag.name, flag)
        for row in rows.values():
            for flag in _walk(row.options, (section,), prefix, section.capitalize(), skip=tag):
                known = found.get(flag.name)
                if known is not None and known.path[0] != section:  # `--plus` is scoring's, so `--pruning-plus`
                    flag = replace(flag, name=f"{section}_{flag.name}")
                found.setdefault(flag.name, flag)
                defaults.setdefault(flag.name, {})[row.name] = flag.default
        for name, of in defaults.items():
            if found[name].path[0] == section:
                found[name] = replace(found[name], help=_of_methods(found[name].help, of, len(rows)))
    ways = f"One of {', '.join(QUANTISATIONS)}, with a group size or a type behind a colon: int4:64, gguf:Q4_K_M."
    found.setdefault(
        "quantise", Flag("quantise", ("quantise",), "quantisations", f"{ways} Repeatable.", "Quantisation")
    )
    walked = (
        *_walk(Sizes, ("sizes",), "sizes", "Sizes"),
        *_walk(Benchmark, ("benchmark",), "", "Benchmark"),
        *_walk(Gates, ("gates",), "", "Gates"),
        *_walk(Baseline, ("baseline",), "baseline", "Baseline"),
    )
    for flag in walked:
        found.setdefault(flag.name, replace(flag, help=_with_note(flag.help, _default_note(flag.default))))
    for name in _TOP_LEVEL:
        field = CompressionSpec.model_fields[name]
        kind = _kind(field.annotation)
        assert kind is not None, f"{name} is a plain field"
        text = _with_note(field.description or "", _default_note(_default(field)))
        found.setdefault(name, Flag(name, (name,), kind, text, "Job"))
    return list(found.values())


def _named_method(section: str, tag: str, text: str) -> Flag:
    name = {"scoring": "criterion", "pruning": "pruner", "recovery": "recovery"}[section]
    return Flag(name, (section, tag), "str", text, section.capitalize())


def _default_method(section: str, tag: str) -> str | None:
    factory = CompressionSpec.model_fields[section].default_factory
    return str(getattr(factory(), tag)) if factory is not None else None  # type: ignore[call-arg]  # takes no data


def _walk(
    model: type[BaseModel], path: tuple[str, ...], prefix: str, panel: str, skip: str | None = None
) -> Iterator[Flag]:
    for name, field in model.model_fields.items():
        if name == skip:
            continue
        flag_name = "_".join(part for part in (prefix, name) if part)
        kind = _kind(field.annotation, field.metadata)
        if kind is not None:
            yield Flag(flag_name, (*path, name), kind, field.description or "", panel, _default(field))
            continue
        inner, optional = _model_of(field.annotation)
        if inner is None:
            continue  # a shape of its own: give it by --spec
        if optional:
            yield Flag(f"no_{flag_name}", (*path, name), "off", f"Leave out: {name}.", panel)
        yield from _walk(inner, (*path, name), flag_name, panel)


def _kind(annotation: Any, metadata: Any = ()) -> Kind | None:
    """What a field is on the command line; None for a nested object."""
    options = _flatten(annotation)
    if {HubModel, LocalModel} == set(options):
        return "model"
    if any(_is_text(option) for option in options):
        return "text"
    if len(options) == 1 and get_origin(options[0]) is tuple:
        element = get_args(options[0])[0]
        if any(_is_text(option) for option in _flatten(element)):
            return "texts"
        return "strings" if _flatten(element) == [str] else "list"
    if len(options) != 1:
        return None
    plain = options[0]
    if get_origin(plain) is dict:
        return "pairs" if _flatten(get_args(plain)[1]) == [str] else "figures"
    if get_origin(plain) is Literal:
        return "str"
    kinds: dict[Any, Kind] = {UUID: "str", bool: "bool", int: "int", float: "float", str: "str"}
    return kinds.get(plain)


def _is_text(annotation: Any) -> bool:
    """Whether this is one of the classes of `options.Text`: they say where a text comes from."""
    return isinstance(annotation, type) and issubclass(annotation, BaseModel) and "source" in annotation.model_fields


def _model_of(annotation: Any) -> tuple[type[BaseModel] | None, bool]:
    members = _members(annotation)
    models = [m for m in members if isinstance(m, type) and issubclass(m, BaseModel)]
    return (models[0] if len(models) == 1 else None), type(None) in members


def _flatten(annotation: Any) -> list[Any]:
    return [member for member in _members(annotation) if member is not type(None)]


def _members(annotation: Any) -> list[Any]:
    """The alternatives of a union, through `Annotated`."""
    if get_origin(annotation) is Annotated:
        return _members(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return [inner for member in get_args(annotation) for inner in _members(member)]
    return [annotation]


def _default(field: FieldInfo) -> str | None:
    """A default that is worth a word; None where the field has none, or one that the help has no room for."""
    value = field.default
    if value is PydanticUndefined or value is None or value == ():
        return None
    shown = ",".join(str(item) for item in value) if isinstance(value, tuple) else str(value)
    return shown if len(shown) < 40 else None


def _of_methods(text: str, defaults: Mapping[str, str | None], methods: int) -> str:
    """A help with the default of each method, and with the methods that have the option where not all of them do."""
    owners: dict[str | None, list[str]] = {}
    for method, default in defaults.items():
        owners.setdefault(default, []).append(method)
    if len(owners) > 1:
        each = [f"{default or 'not set'} for {', '.join(names)}" for default, names in owners.items()]
        return _with_note(text, f"default: {'; '.join(each)}")
    scope = f"of {', '.join(defaults)}" if len(defaults) < methods else ""
    return _with_note(text, "; ".join(part for part in (scope, _default_note(next(iter(owners)))) if part))


def _default_note(default: str | None) -> str:
    return f"default: {default}" if default is not None else ""


def _with_note(text: str, note: str) -> str:
    return f"{text.rstrip('.')} ({note})." if note else text


# --- values → spec -------------------------------------------------------------------------------------------


def merge(spec: dict[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """`spec` with the flags that were given put in; the method's name is filled in where only its options are.

    Raises ValueError where a text or a list cannot be read.
    """
    merged: dict[str, Any] = json.loads(json.dumps(spec))
    for flag in spec_flags():
        value = values.get(flag.name)
        if value is None or value == [] or (value is False and flag.kind == "off"):
            continue
        target = merged
        for part in flag.path[:-1]:
            if not isinstance(target.get(part), dict):
                target[part] = {}
            target = target[part]
        target[flag.path[-1]] = _value(flag, value)
    preset = PRESETS.get(str(merged.get("preset")))
    for section, tag, rows, _ in _METHODS:
        if isinstance(merged.get(section), dict):
            named = preset.spec.get(section, {}).get(tag) if preset else None
            merged[section].setdefault(tag, named or _default_method(section, tag) or next(iter(rows)))
    return merged


def _value(flag: Flag, value: Any) -> Any:
    if flag.kind == "off":
        return None
    if flag.kind == "model":
        name, _, revision = value.partition("@")
        return parse_model(name, source=None, revision=revision or None)
    if flag.kind == "text":
        return parse_text(value)
    if flag.kind == "texts":
        return [parse_text(item) for item in value]
    if flag.kind == "quantisations":
        return [parse_quantisation(item) for item in value]
    if flag.kind in ("pairs", "figures"):
        pairs = dict(_pair(flag, item) for item in value)
        return pairs if flag.kind == "pairs" else {name: _scalar(given) for name, given in pairs.items()}
    if flag.kind == "strings":
        return list(value)
    if flag.kind == "list":
        return [_scalar(item) for item in value.split(",")]
    return value


def _pair(flag: Flag, text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"{flag.option} {text}: write it as NAME=VALUE")
    return name, value


def _scalar(text: str) -> int | float | str:
    for convert in (int, float):
        try:
            return convert(text)
        except ValueError:
            continue
    return text.strip()


def parse_text(text: str) -> dict[str, Any]:
    """The short form of a text (see the module's head) as the spec's object. Raises ValueError."""
    if text in ("self", "answers"):
        return {"source": text}
    if text.startswith("answers:"):
        return {"source": "answers", "prompts": parse_text(text.removeprefix("answers:"))}
    if text.startswith("hub:"):
        identity, *pairs = text.removeprefix("hub:").split(",")
        options = {name: value for name, _, value in (pair.partition("=") for pair in pairs)}
        unknown = set(options) - {"config", "split", "column", "revision"}
        if unknown:
            raise ValueError(f"{text!r}: {', '.join(sorted(unknown))} is none of config, split, column, revision")
        return {"source": "hub", "id": identity, **options}
    name, at, split = text.partition("@")
    if name in NAMED_TEXTS:
        return {"source": "named", "name": name, **({"split": split} if at else {})}
    if text.startswith("upload:"):
        return _sliced(text.removeprefix("upload:"), {"source": "upload"}, "id")
    return _sliced(text, {"source": "local"}, "path")


def _sliced(text: str, source: dict[str, Any], name: str) -> dict[str, Any]:
    """`NAME` or `NAME@START:STOP`, the name under the field `name`."""
    named, at, part = text.rpartition("@")
    if not at:
        return {**source, name: text}
    start, colon, stop = part.partition(":")
    try:
        if not colon:
            raise ValueError
        return {**source, name: named, "start": float(start or 0), "stop": float(stop or 1)}
    except ValueError:
        raise ValueError(f"{text!r}: a part of a file is written FILE@START:STOP, such as news.txt@0:0.7") from None


def parse_quantisation(text: str) -> dict[str, Any]:
    """The short form of a way to quantise, such as `int8`, `int4:64` or `gguf:Q4_K_M`, as the spec's object."""
    kind, _, option = text.partition(":")
    if not option:
        return {"kind": kind}  # of a quantisation with its defaults
    return {"kind": kind, "group_size": int(option)} if option.isdigit() else {"kind": kind, "type": option}


def parse_model(model: str, *, source: str | None, revision: str | None) -> dict[str, Any]:
    """A hub id, or a path, as the spec's object: what is told by `source`, what looks like a path, or exists here."""
    if source not in (None, "hub", "local"):
        raise ValueError(f"--source {source}: choose hub or local")
    looks_local = model.endswith(".gguf") or model.startswith(("/", ".", "~"))
    if source == "local" or (source is None and (looks_local or Path(model).exists())):
        if revision is not None:
            raise ValueError("--revision is for models of the hub")
        return {"source": "local", "path": str(Path(model).expanduser()) if model.startswith("~") else model}
    return {"source": "hub", "id": model, **({"revision": revision} if revision else {})}
