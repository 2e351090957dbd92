"""Every query that takes a list takes it as one array."""

from __future__ import annotations

import ast
from pathlib import Path

import app
import workers

NAMES = {"in_", "not_in", "notin_"}
SOURCES = [path for package in (app, workers) for path in Path(str(package.__file__)).parent.rglob("*.py")]


def test_no_query_binds_a_parameter_for_each_of_many_values() -> None:
    """`in_` is for the few values that stand beside it: a list as it is written, a constant, a query."""
    for path in SOURCES:
        source = path.read_text()
        for node in ast.walk(ast.parse(source)) if "in_(" in source else ():
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in NAMES:
                (values,) = node.args
                constant = isinstance(values, ast.Name) and values.id.isupper()
                written = isinstance(values, ast.List) and not any(isinstance(v, ast.Starred) for v in values.elts)
                query = isinstance(values, ast.Name) and values.id.endswith("_query")
                assert constant or written or query, f"{path.name}:{node.lineno}: use app.db.arrays.among"
