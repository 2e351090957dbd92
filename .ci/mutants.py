"""Every small change of a module that `mutate.py` tries: what cosmic-ray can change, less what no test could notice.

Left out are changes that leave the same program behind: of annotations, which are never evaluated as sums, and of a
parameter's kind in a signature, and a second operator that comes to the same text. And left out is what nobody writes
by mistake: `is` in the place of a comparison of values and the other way about (but `is not` in the place of `is` is
tried), and the operators on bits in the place of arithmetic.
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

_LEFT_OUT = re.compile(
    r"core/(ReplaceComparisonOperator_(Is|IsNot)_(Eq|NotEq|Lt|LtE|Gt|GtE)"
    r"|ReplaceComparisonOperator_(Eq|NotEq|Lt|LtE|Gt|GtE)_(Is|IsNot)"
    r"|ReplaceBinaryOperator_(.*_(BitXor|RShift|LShift|Pow|Mod)|.*(?<!BitAnd)_BitOr|.*(?<!BitOr)_BitAnd"
    r"|Bit(Or|And)_(Add|Sub|Mul|Div|FloorDiv)))"
)


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
        if _LEFT_OUT.fullmatch(name) or operator.arguments():
            continue
        places = sum(len(list(operator().mutation_positions(node))) for node in nodes)
        for place in range(places):
            changed = mutate_code(code, operator(), place)
            program = _program(changed)
            if program is not None and program not in seen:
                seen.add(program)
                yield Mutant(changed, _diff(code, changed))


def _program(code: str) -> str | None:
    """What is executed of a text, by which two are alike; None if it is no program."""
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
    return ast.dump(tree)


def _diff(before: str, after: str) -> str:
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=0)
    return "\n".join(line for line in lines if not line.startswith(("---", "+++")))
