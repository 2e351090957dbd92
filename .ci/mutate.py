"""Mutation tests: do the tests notice when the code is changed? `make mutate`; docs/testing.md has the last figures.

Each module of the table is changed in one place at a time (an operator, a comparison, a number, a `not`), and its own
tests are run. A change that no test notices has survived. It works on a copy of the tree, so the checkout is never
touched; it takes long, and is no part of CI.

    python .ci/mutate.py              all modules of the table
    python .ci/mutate.py gates plan   some of them
    python .ci/mutate.py --survivors gates
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WANTED = 0.85  # of the mutants of each module are killed
TIMEOUT_SECONDS = 120.0  # of one mutant's tests; a loop without end is a killed mutant

# Left out: `int | None` in annotations is never evaluated, so no test can notice a change of its operator; and of what
# an operator may become, the kinds that nobody writes by mistake.
NO_MUTANTS = [
    "core/ReplaceBinaryOperator_BitOr_.*",
    "core/ReplaceBinaryOperator_.*_(BitOr|BitAnd|BitXor|RShift|LShift|Pow|Mod)",
]


@dataclass(frozen=True)
class Target:
    """A module, and the tests that should notice every change of it."""

    module: str
    tests: tuple[str, ...]


TARGETS = {
    "gates": Target("secateur/contract/gates.py", ("tests/secateur/contract/test_gates.py",)),
    "depth": Target("secateur/contract/depth.py", ("tests/secateur/contract/test_depth.py",)),
    "positions": Target("secateur/contract/models/positions.py", ("tests/secateur/contract/models/test_positions.py",)),
    "steps": Target(
        "secateur/contract/options/recovery_steps.py", ("tests/secateur/contract/options/test_recovery_steps.py",)
    ),
    "stage_kinds": Target("secateur/contract/stage_kinds.py", ("tests/secateur/contract/test_stage_kinds.py",)),
    "jobs": Target("secateur/contract/jobs.py", ("tests/secateur/contract/test_jobs.py",)),
    "roots": Target("secateur/foreign_files/roots.py", ("tests/secateur/foreign_files/test_roots.py",)),
    "claims": Target("app/db/claims.py", ("tests/app/db",)),
    "plan": Target("workers/engine/pruning/plan.py", ("tests/workers/engine/pruning/test_plan.py",)),
    "statistics": Target(
        "workers/engine/benchmarks/statistics.py", ("tests/workers/engine/benchmarks/test_statistics.py",)
    ),
    "result_keys": Target("workers/supervision/result_keys.py", ("tests/workers/supervision/test_result_keys.py",)),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(TARGETS))
    parser.add_argument("--survivors", action="store_true", help="show the changes that no test noticed")
    asked = parser.parse_args()
    unknown = set(asked.names) - set(TARGETS)
    if unknown:
        parser.error(f"there is no {', '.join(sorted(unknown))}; expected some of {', '.join(TARGETS)}")
    with tempfile.TemporaryDirectory(prefix="secateur-mutants-") as name:
        copy = Path(name) / "tree"
        copy_tree(copy)
        shares = [run(TARGETS[target], copy, survivors=asked.survivors) for target in asked.names or TARGETS]
    return 0 if all(share >= WANTED for share in shares) else 1


def copy_tree(copy: Path) -> None:
    """The files of the checkout that git knows or does not ignore."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for path in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / path).is_file():
            (copy / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / path, copy / path)


def run(target: Target, copy: Path, *, survivors: bool) -> float:
    """Change one module in every way, print what came of it, and return the share of changes that were noticed."""
    config, session = copy.parent / "config.toml", copy.parent / "session.sqlite"
    session.unlink(missing_ok=True)
    pytest = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--no-header", *target.tests]
    config.write_text(
        "[cosmic-ray]\n"
        f"module-path = {json.dumps(target.module)}\n"
        f"timeout = {TIMEOUT_SECONDS}\n"
        "excluded-modules = []\n"
        f"test-command = {json.dumps(' '.join(pytest))}\n"
        '[cosmic-ray.distributor]\nname = "local"\n'
        f"[cosmic-ray.filters.operators-filter]\nexclude-operators = {json.dumps(NO_MUTANTS)}\n"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    for command in (
        [*tool("cosmic-ray"), "baseline", str(config)],
        [*tool("cosmic-ray"), "init", str(config), str(session)],
        [*tool("cr-filter-operators"), str(session), str(config)],
        [*tool("cosmic-ray"), "exec", str(config), str(session)],
    ):
        subprocess.run(command, cwd=copy, env=environment, check=True, stdout=subprocess.DEVNULL)
    dumped = subprocess.run([*tool("cosmic-ray"), "dump", str(session)], capture_output=True, text=True, check=True)
    killed = total = 0
    for line in dumped.stdout.splitlines():
        _item, result = json.loads(line)
        if result is None or result["worker_outcome"] != "normal":
            continue  # left out by the filter, or not a program any more
        total += 1
        if result["test_outcome"] != "survived":
            killed += 1
        elif survivors:
            print(result["diff"])
    share = killed / total if total else 1.0
    print(f"{target.module}: {killed} of {total} changes noticed ({share:.0%})", flush=True)
    return share


def tool(name: str) -> list[str]:
    return [str(Path(sys.executable).with_name(name))]


if __name__ == "__main__":
    sys.exit(main())
