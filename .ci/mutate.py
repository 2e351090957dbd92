"""Mutation tests: do the tests notice when the code is changed? `make mutate`; docs/testing.md has the last figures.

Each module of the table is changed in one place at a time (an operator, a comparison, a number, a `not`), and its own
tests are run. A change that no test notices has survived. It works on a copy of the tree, so the checkout is never
touched; it takes minutes, and is no part of CI.

    python .ci/mutate.py              all modules of the table
    python .ci/mutate.py gates texts  some of them
    python .ci/mutate.py --survivors gates
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from mutants import mutants
from warm_tests import WarmTests

ROOT = Path(__file__).resolve().parent.parent
WANTED = 0.85  # of the mutants of each module are killed
SLOWER = 5.0  # times as long as on the code as it is, and ten seconds: by then a loop has been noticed


@dataclass(frozen=True)
class Target:
    """A module, and the tests that should notice every change of it."""

    module: str
    tests: tuple[str, ...]
    database: bool = False  # whether these need the fixtures of the suite, which bring torch and servers along

    @property
    def options(self) -> tuple[str, ...]:
        """What pytest is called with."""
        return self.tests if self.database else ("--noconftest", *self.tests)


def _contract(*names: str) -> dict[str, Target]:
    code, tests = "secateur/contract", "tests/secateur/contract"
    return {name: Target(f"{code}/{name}.py", (f"{tests}/test_{name}.py",)) for name in names}


TARGETS = {
    **_contract("gates", "metric_row", "metrics", "readings", "numbers", "depth", "jobs", "stage_kinds", "stage_graph"),
    **_contract("results", "presets", "texts", "shown"),
    "positions": Target("secateur/contract/models/positions.py", ("tests/secateur/contract/models/test_positions.py",)),
    "roots": Target("secateur/foreign_files/roots.py", ("tests/secateur/foreign_files/test_roots.py",)),
    "claims": Target(
        "app/db/claims.py",
        (
            "tests/app/db/test_claims.py",
            "tests/app/db/test_lost_claims.py",
            "tests/app/db/test_claim_order.py",
            "-k",
            "not many_workers and not looked_at",  # which wait for each other, each on a database of its own
        ),
        database=True,
    ),
    "choose_blocks": Target(
        "workers/engine/pruning/choose_blocks.py", ("tests/workers/engine/pruning/test_choose_blocks.py",)
    ),
    "statistics": Target(
        "workers/engine/benchmarks/statistics.py",
        (
            "tests/workers/engine/benchmarks/test_statistics.py",
            "-k",
            "not nineteen_times_in_twenty",  # hundreds of intervals, which a plain bootstrap stands in for
        ),
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
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that nothing is left behind
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # a fork has one thread
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # of libraries, which no test of the table needs
    with tempfile.TemporaryDirectory(prefix="secateur-mutants-") as name:
        copy = Path(name).resolve() / "tree"
        copy_tree(copy)
        targets = [TARGETS[name] for name in asked.names or TARGETS]
        with kept_postgres(copy.parent) if any(target.database for target in targets) else nullcontext():
            warm = WarmTests(copy)
            shares = [run(warm, copy, target, survivors=asked.survivors) for target in targets]
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


@contextmanager
def kept_postgres(folder: Path) -> Iterator[None]:
    """One PostgreSQL for the tests of all mutants (tests/fixtures/servers.py); it runs on the code as it is."""
    program = (
        "import sys; from pathlib import Path; from app.local.embedded import PostgresServer\n"
        "server = PostgresServer(Path(sys.argv[1]), durable=False)\n"
        "server.start(); print('ready', flush=True); sys.stdin.read(); server.stop()"
    )
    os.environ["SECATEUR_TESTS_POSTGRES"] = str(folder / "postgres")
    command = [sys.executable, "-c", program, str(folder / "postgres")]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        if server.stdout.readline() != b"ready\n":
            sys.exit("PostgreSQL does not start")
        yield  # and then its standard input is closed, at which it ends


def run(warm: WarmTests, copy: Path, target: Target, *, survivors: bool) -> float:
    """Change one module in every way, print what came of it, and return the share of changes that were noticed."""
    began = time.monotonic()
    module = copy / target.module
    seconds = 10 + SLOWER * warm.baseline(target.options, Path(target.module))
    code = module.read_text()
    noticed = total = 0
    for mutant in mutants(code):
        module.write_text(mutant.code)
        total += 1
        if warm.notice(target.options, seconds=seconds):
            noticed += 1
        elif survivors:
            print(mutant.diff, flush=True)
    module.write_text(code)
    share = noticed / total if total else 1.0
    took = time.monotonic() - began
    print(f"{target.module}: {noticed} of {total} changes noticed ({share:.1%}), {took:.0f} s", flush=True)
    return share


if __name__ == "__main__":
    sys.exit(main())
