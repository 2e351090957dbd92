"""For each method of the contract the engine has a function that takes its very options, and it has no other.

The contract's unions are the only tables; the function is found by the method's name, which no type checker follows.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from secateur.contract import catalog
from secateur.contract.options.method import Method
from secateur.contract.options.recovery import NoRecovery
from secateur.contract.options.width import WidthMethod
from workers.engine.pruning.width_task import Choice, WidthTask
from workers.engine.recovery.job import RecoveryJob, RecoveryOutcome
from workers.engine.scoring.result import BlockScores
from workers.engine.scoring.task import ScoringTask


@dataclass(frozen=True)
class PlugPoint:
    """Where the functions of one section of a spec are, and what they take beside the options."""

    room: str
    function: str
    methods: Mapping[str, type[Method]]

    def hints(self, options: type[Method]) -> dict[str, Any]:
        """The types of such a function, for the method of these options."""
        task: Any
        if self.function == "recover":
            return {"job": RecoveryJob, "options": options, "return": RecoveryOutcome}
        task, result = {"score": (ScoringTask, BlockScores), "choose": (WidthTask, Choice)}[self.function]
        return {"task": task[options], "return": result}


def _methods(rows: Mapping[str, catalog.Row]) -> dict[str, type[Method]]:
    return {name: row.options for name, row in rows.items()}


PLUG_POINTS = (
    PlugPoint("scoring", "score", _methods(catalog.CRITERIA)),
    PlugPoint(
        "recovery",
        "recover",
        {name: options for name, options in _methods(catalog.RECOVERIES).items() if options is not NoRecovery},
    ),
    PlugPoint(
        "pruning",
        "choose",
        {name: options for name, options in _methods(catalog.PRUNERS).items() if options in get_args(WidthMethod)},
    ),
)


@pytest.mark.parametrize(
    ("plug", "name"),
    [pytest.param(plug, name, id=f"{plug.room} {name}") for plug in PLUG_POINTS for name in plug.methods],
)
def test_a_method_has_a_function_that_takes_its_options(plug: PlugPoint, name: str) -> None:
    function = getattr(import_module(f"workers.engine.{plug.room}.{name}"), plug.function)
    assert get_type_hints(function) == plug.hints(plug.methods[name])


@pytest.mark.parametrize("plug", PLUG_POINTS, ids=lambda plug: plug.room)
def test_every_such_function_belongs_to_a_method(plug: PlugPoint) -> None:
    room = Path(str(import_module(f"workers.engine.{plug.room}").__file__)).parent
    having = {
        file.stem
        for file in room.glob("*.py")
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name == plug.function
    }
    assert having == set(plug.methods)
