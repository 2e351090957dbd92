"""The engine names arguments and never fields of a spec: those are the stages' to know (`workers/stages/fields.py`)."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import workers.engine
from secateur.contract.options.recovery import DistillRecovery
from workers.stages.fields import BENCHMARK, MODEL, PRUNING, of_recovery

ENGINE = Path(next(iter(workers.engine.__path__)))
SECTIONS = ("model", "scoring", "pruning", "recovery", "quantise", "benchmark")
FIELD = re.compile(rf"(?<!\w)/({'|'.join(SECTIONS)})(?!\w)|`({'|'.join(SECTIONS)})`")


def fields_in(source: str) -> list[str]:
    """Strings, f-strings too, that have a JSON pointer into a spec, or name one of its sections; no docstrings."""
    nodes = list(ast.walk(ast.parse(source)))
    documentation = {node.value for node in nodes if isinstance(node, ast.Expr)}
    strings = (node.value for node in nodes if isinstance(node, ast.Constant) and node not in documentation)
    return [value for value in strings if isinstance(value, str) and FIELD.search(value)]


def named_in(source: str) -> set[str]:
    """Arguments that errors are raised over, as far as their names are written where the error is."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        first = node.args[0].values[0] if isinstance(node.args[0], ast.JoinedStr) else node.args[0]
        if called in ("field", "FieldError", "blamed_on") and isinstance(first, ast.Constant):
            found.add(str(first.value).partition("/")[0])
    return found


def test_no_string_of_the_engine_is_a_field_of_a_spec() -> None:
    files = sorted(ENGINE.rglob("*.py"))
    assert len(files) > 100
    found = {str(file.relative_to(ENGINE)): fields_in(file.read_text()) for file in files}
    assert {name: strings for name, strings in found.items() if strings} == {}


def test_a_field_would_be_found() -> None:
    written = (
        '"""Of /pruning/blocks."""\n'
        'InvalidInput.field("/pruning/blocks", f"/scoring/{name}", "/scoring", "/scorings", "its/model/path")\n'
        'InvalidInput("numbers in /pruning/drop", "no `quantise`", "`ratio`, or a model/path")'
    )
    assert set(fields_in(written)) == {
        "/pruning/blocks",
        "/scoring",
        "/scoring/",
        "numbers in /pruning/drop",
        "no `quantise`",
    }


def test_every_argument_that_is_named_has_a_field_somewhere() -> None:
    named = set().union(*(named_in(file.read_text()) for file in ENGINE.rglob("*.py")))
    assert {"calibration", "text", "model", "kind", "batch"} <= named
    quantise = {"group_size"}
    assert named - {*MODEL, *PRUNING, *BENCHMARK, *of_recovery(DistillRecovery()), *quantise} == set()
