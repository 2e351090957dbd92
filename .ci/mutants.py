"""Every small change of a module that `mutate.py` tries: those of cosmic-ray that tell something of the tests.

Of what a comparison may become, the changes are tried that are hardest to notice: whoever notices these notices the
others (Kaminski, Ammann and Offutt 2013, "Improving logic-based testing"). An operator of arithmetic becomes the one
that undoes it, `is` becomes `is not`, `and` becomes `or`. So no share is flattered by changes that fail at once, and
there is half as much to run. A change of annotations or of a parameter's kind leaves the same program, as does a second
operator that comes to the same text; these are passed over, and so is a word that is put in an order: where one of a
few words is asked for, `<=` the first of them is the same question.
"""

from __future__ import annotations

import ast
import difflib
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# Installed beside the environment, which holds what is locked and nothing else; what both have is the environment's.
sys.path.append(str(Path(__file__).resolve().parent.parent / ".cache" / "cosmic-ray"))

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

_REPLACEMENTS = {
    "Lt": ("LtE", "NotEq"),
    "Gt": ("GtE", "NotEq"),
    "LtE": ("Lt", "Eq"),
    "GtE": ("Gt", "Eq"),
    "Eq": ("LtE", "GtE", "NotEq"),
    "NotEq": ("Lt", "Gt", "Eq"),
    "Is": ("IsNot",),
    "IsNot": ("Is",),
    "Add": ("Sub",),
    "Sub": ("Add",),
    "Mul": ("Div",),
    "Div": ("Mul",),
    "FloorDiv": ("Div", "Mul"),
    "Mod": ("FloorDiv",),
    "Pow": ("Mul",),
    "BitOr": ("BitAnd",),
    "BitAnd": ("BitOr",),
}
_REPLACED = re.compile(r"core/Replace(?:Comparison|Binary)Operator_(\w+)_(\w+)")


@dataclass(frozen=True)
class Mutant:
    """The module's text after one change."""

    code: str
    diff: str


def mutants(code: str) -> Iterator[Mutant]:
    """Each change of this text that is a program and another one."""
    seen, nodes = {_program(code)}, list(ast_nodes(get_ast(code)))
    for name in operator_names():
        operator = get_operator(name)
        replaced = _REPLACED.fullmatch(name)
        if (replaced and replaced[2] not in _REPLACEMENTS.get(replaced[1], ())) or operator.arguments():
            continue
        places = sum(len(list(operator().mutation_positions(node))) for node in nodes)
        for place in range(places):
            changed = mutate_code(code, operator(), place)
            program = _program(changed)
            if program is not None and program not in seen:
                seen.add(program)
                yield Mutant(changed, _diff(code, changed))


def _program(code: str) -> str | None:
    """What is executed of a text, by which two are alike; None if it is no program, or orders words."""
    try:
        tree = ast.parse(code)
    except SyntaxError:
        return None
    for node in ast.walk(tree):
        if isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant(None)
        elif isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.returns = None
        elif isinstance(node, ast.arguments):
            node.args = [*node.posonlyargs, *node.args, *node.kwonlyargs]
            node.defaults = [*node.defaults, *filter(None, node.kw_defaults)]
            node.posonlyargs, node.kwonlyargs, node.kw_defaults = [], [], []
        elif isinstance(node, ast.Compare) and _orders_a_word(node):
            return None
    return ast.dump(tree)


def _orders_a_word(node: ast.Compare) -> bool:
    right = node.comparators[0]
    ordering = isinstance(node.ops[0], ast.Lt | ast.LtE | ast.Gt | ast.GtE)
    return ordering and isinstance(right, ast.Constant) and isinstance(right.value, str)


def _diff(before: str, after: str) -> str:
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=0)
    return "\n".join(line for line in lines if not line.startswith(("---", "+++")))
