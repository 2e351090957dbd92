"""Running the same tests hundreds of times: this process imports everything else once, and each run is a fork of it.

What does not depend on the module that is changed is imported here: libraries, and the modules of the tree that import
it neither directly nor through others. The rest is imported afresh in each fork, so that the change is seen.
"""

from __future__ import annotations

import ast
import gc
import importlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest

_OPTIONS = ["-x", "-q", "-p", "no:cacheprovider", "--no-header", "--no-summary", "--assert=plain"]
_OPTIONS += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # of libraries with plugins, which are imported already
_NO_ANSWER = 124  # of a run that was ended since it took too long


class WarmTests:
    """The tests of one tree, from its root."""

    def __init__(self, tree: Path) -> None:
        self._tree = tree
        os.chdir(tree)
        sys.path.insert(0, str(tree))
        os.environ["PYTHONPATH"] = str(tree)  # of what the tests start

    def baseline(self, tests: Sequence[str], module: Path) -> float:
        """Run the tests on the tree as it is, and import what they did; how long a run takes from then on, in seconds.

        Raises:
            SystemExit: they fail, or never import the module.
        """
        for name, imported in list(sys.modules.items()):  # for the tests of another module
            if self._tree in Path(getattr(imported, "__file__", None) or "/").parents:
                del sys.modules[name]
        listing = self._tree.parent / "imported"
        listing.unlink(missing_ok=True)
        if self._run(tests, 600.0, module=module, listing=listing, quiet=False) != 0:
            sys.exit(f"the tests of {module} fail, or do not import it, before anything is changed")
        for name in listing.read_text().splitlines():
            with suppress(ImportError):
                importlib.import_module(name)
        gc.collect()
        gc.freeze()  # collecting in a fork would copy every page
        for cached in (self._tree / module).parent.glob(f"__pycache__/{module.stem}.*.pyc"):
            cached.unlink()  # its time might be that of one of the mutants
        began = time.monotonic()
        if self._run(tests, 600.0, quiet=False) != 0:
            sys.exit(f"the tests of {module} fail where the rest is imported beforehand")
        return time.monotonic() - began

    def notice(self, tests: Sequence[str], *, seconds: float) -> bool:
        """Whether one of the tests fails, or they do not come to an end within so many seconds."""
        return self._run(tests, seconds) != 0

    def _run(self, tests: Sequence[str], seconds: float, *, quiet: bool = True, **listed: Path) -> int:
        sys.stdout.flush()
        process = os.fork()
        if process == 0:
            self._in_fork(tests, quiet=quiet, **listed)
        signal.signal(signal.SIGALRM, _late)
        signal.setitimer(signal.ITIMER_REAL, seconds)  # not inherited by a fork
        try:
            return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        except TimeoutError:
            return _NO_ANSWER
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            with suppress(ProcessLookupError):  # what a test has started goes with it
                os.killpg(process, signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(process, 0)

    def _in_fork(
        self, tests: Sequence[str], *, quiet: bool, module: Path | None = None, listing: Path | None = None
    ) -> None:
        code = 1
        try:
            os.setsid()
            sys.dont_write_bytecode = listing is None
            if quiet:
                nothing = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nothing, 1)
                os.dup2(nothing, 2)
            code = int(pytest.main([*_OPTIONS, *tests]))
            if module is not None and listing is not None:
                listing.write_text("\n".join(apart_from(self._tree / module, self._tree)))
        except BaseException:
            code = 1
            traceback.print_exc()
        finally:
            os._exit(code)


def _late(*_signal: object) -> None:
    raise TimeoutError


def apart_from(module: Path, tree: Path) -> list[str]:
    """What is imported now and does not need this file of the tree, in the order of import.

    Raises:
        LookupError: nobody has imported the file.
    """
    names, files = [], dict[str, Path]()
    for name, imported in list(sys.modules.items()):
        file = getattr(imported, "__file__", None)
        if file is not None and Path(file).is_relative_to(tree):
            files[name] = Path(file)
        if type(getattr(imported, "__loader__", None)).__name__ != "AssertionRewritingHook":  # tests, and pytest's own
            names.append(name)
    needs = {name: _imports(file) & files.keys() for name, file in files.items()}
    changed = {name for name, file in files.items() if file == module}
    if not changed:
        raise LookupError(f"the tests do not import {module}")
    while more := {name for name, others in needs.items() if others & changed} - changed:
        changed |= more
    return [name for name in names if name not in changed]


def _imports(file: Path) -> set[str]:
    """What a file imports, anywhere in it: modules, and names that may be modules."""
    found = set()
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found
