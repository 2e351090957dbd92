"""The table of methods: all that there are stand in it, each says what it is, and the spec's sections are typed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from secateur.contract.catalog import TABLES, Row
from secateur.contract.options.method import Method
from secateur.contract.spec import CompressionSpec
from secateur.contract.validation_errors import field_errors

JOB: dict[str, Any] = {"model": {"source": "hub", "id": "some/model"}, "pruning": {"kind": "depth", "blocks": 2}}
ROWS = [pytest.param(name, row, id=f"{table} {name}") for table, rows in TABLES.items() for name, row in rows.items()]


def _classes(base: type[Method]) -> Iterator[type[Method]]:
    for cls in base.__subclasses__():
        yield cls
        yield from _classes(cls)


def test_every_method_that_is_written_stands_in_the_table() -> None:
    written = {cls for cls in _classes(Method) if "title" in vars(cls) and cls.__module__.startswith("secateur.")}
    assert written == {row.options for rows in TABLES.values() for row in rows.values()}


@pytest.mark.parametrize(("name", "row"), ROWS)
def test_a_method_says_what_it_is(name: str, row: Row) -> None:
    assert row.title
    assert row.summary.endswith(".")
    assert any(character.isdigit() for character in row.paper)  # a year at least
    assert row.to_dict()["options"]["properties"] or name == "fidelity"


@pytest.mark.parametrize("section", ["scoring", "pruning", "recovery", "quantise", "benchmark"])
def test_a_section_of_the_spec_has_a_type(section: str) -> None:
    assert CompressionSpec.model_fields[section].annotation is not Any


@pytest.mark.parametrize(
    ("scoring", "field"),
    [
        ({"criterion": "cosine", "batch_size": 0}, "batch_size"),
        ({"criterion": "evolutionary", "evaluations": 0}, "evaluations"),
        ({"criterion": "evolutionary", "initial": 0}, "initial"),
        ({"criterion": "evolutionary", "offspring": 0}, "offspring"),
    ],
)
def test_a_number_of_nothing_is_refused_before_anything_runs(scoring: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError) as refused:
        CompressionSpec.model_validate({**JOB, "scoring": scoring})
    assert [error.pointer for error in field_errors(CompressionSpec, refused.value.errors())] == [f"/scoring/{field}"]
