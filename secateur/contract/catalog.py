"""What the service offers: one row per criterion, pruner, recovery, quantisation and benchmark.

The CLI's help, `GET /catalog`, the reports and the docs page read these rows. They are taken from the tables in the
files of the spec's sections (`options/`) and from what each method's class says of itself; nothing is written down here
a second time.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from secateur.contract.options.benchmark import Benchmark
from secateur.contract.options.method import Method
from secateur.contract.options.pruning import Pruning
from secateur.contract.options.quantise import Quantisation
from secateur.contract.options.recovery import Recovery
from secateur.contract.options.scoring import Scoring


@dataclass(frozen=True)
class Row:
    """One method that a job may name."""

    name: str  # the value in the spec
    title: str
    summary: str  # one or two sentences: what it does and when to choose it
    paper: str  # where the formula comes from
    options: type[Method]  # the spec's fields, the name among them

    def to_dict(self) -> dict[str, Any]:
        """The row as `GET /catalog` shows it: `options` is a JSON schema."""
        return {
            "name": self.name,
            "title": self.title,
            "summary": self.summary,
            "paper": self.paper,
            "options": self.options.model_json_schema(),
        }


def _rows(methods: Mapping[str, type[Method]]) -> Mapping[str, Row]:
    return {name: Row(name, method.title, method.summary, method.paper, method) for name, method in methods.items()}


def _methods_of(section: Any, tag: str) -> Mapping[str, type[Method]]:
    """The methods of one of the unions, by the name that stands in the field `tag` of a spec."""
    members: tuple[type[Method], ...] = get_args(get_args(section)[0])
    return {get_args(member.model_fields[tag].annotation)[0]: member for member in members}


def _parts_of(benchmark: type[Benchmark]) -> Mapping[str, type[Method]]:
    """The benchmarks, by the field that has their options."""
    found = {}
    for name, field in benchmark.model_fields.items():
        for part in (field.annotation, *get_args(field.annotation)):
            if isinstance(part, type) and issubclass(part, Method):
                found[name] = part
    return found


CRITERIA = _rows(_methods_of(Scoring, "criterion"))
PRUNERS = _rows(_methods_of(Pruning, "kind"))
RECOVERIES = _rows(_methods_of(Recovery, "kind"))
QUANTISATIONS = _rows(_methods_of(Quantisation, "kind"))
BENCHMARKS = _rows(_parts_of(Benchmark))

TABLES: Mapping[str, Mapping[str, Row]] = {
    "criteria": CRITERIA,
    "pruners": PRUNERS,
    "recoveries": RECOVERIES,
    "quantisations": QUANTISATIONS,
    "benchmarks": BENCHMARKS,
}


def near_name(name: str, names: Iterable[str]) -> str | None:
    """The offered name closest to a misspelt one, or None where nothing is close."""
    matches = difflib.get_close_matches(name.lower(), list(names), n=1, cutoff=0.5)
    return matches[0] if matches else None
