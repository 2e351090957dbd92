"""The engine names arguments and never fields of a spec: those are the stages' to know (`workers/stages/fields.py`)."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import workers.engine

ENGINE = Path(next(iter(workers.engine.__path__)))
SECTIONS = ("scoring", "pruning")
FIELD = re.compile(rf"/({'|'.join(SECTIONS)})(/|$)")


def fields_in(source: str) -> list[str]:
    """Strings, f-strings too, that begin as a JSON pointer into a spec does."""
    strings = (node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant))
    return [value for value in strings if isinstance(value, str) and FIELD.match(value)]


def test_no_string_of_the_engine_is_a_field_of_a_spec() -> None:
    files = sorted(ENGINE.rglob("*.py"))
    assert len(files) > 100
    found = {str(file.relative_to(ENGINE)): fields_in(file.read_text()) for file in files}
    assert {name: strings for name, strings in found.items() if strings} == {}


def test_a_field_would_be_found() -> None:
    written = 'InvalidInput.field("/pruning/blocks", f"/scoring/{name}", "/scoring", "/scorings", "in /pruning/drop")'
    assert fields_in(written) == ["/pruning/blocks", "/scoring", "/scoring/"]
