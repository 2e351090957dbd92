"""Fixtures that every part of the suite may ask for, and the order of files; nothing starts before it is asked for."""

from __future__ import annotations

import gc
import sys

import pytest

# Until all is imported and collected: that makes next to no garbage, and looking for it takes a fifth of the time.
gc.disable()

pytest_plugins = [
    "tests.fixtures.servers",
    "tests.fixtures.crowd",
    "tests.fixtures.service",
    "tests.fixtures.forge",
    "tests.fixtures.played_service",
    "tests.fixtures.pushed_hub",
    "tests.fixtures.reports",
]

# Files run side by side, so the long ones go first: no process is left with one when the others are done.
_LONG_FIRST = (
    "tests/e2e/test_smollm2.py",
    "tests/e2e/test_readme.py",
    "tests/e2e/test_faults.py",
    "tests/workers/stages/test_recover.py",
    "tests/app/local/test_commands.py",
    "tests/workers/test_stage.py",
    "tests/e2e/test_stages.py",
    "tests/workers/engine/benchmarks/test_tasks.py",
    "tests/workers/engine/recovery/test_ranks.py",
    "tests/workers/engine/benchmarks/test_speed.py",
    "tests/workers/engine/checkpoints/gguf/test_families.py",
    "tests/workers/test_",
    "tests/e2e/",
    "tests/workers/supervision/",
    "tests/workers/stages/",
    "tests/workers/launch/test_fork_server.py",
    "tests/workers/engine/pruning/test_width.py",
    "tests/workers/engine/pruning/test_sub_block.py",
    "tests/workers/engine/checkpoints/test_written_back.py",
    "tests/workers/engine/recovery/test_healing.py",
    "tests/workers/engine/recovery/test_training.py",
    "tests/app/web/test_browser.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        return next((at for at, start in enumerate(_LONG_FIRST) if item.nodeid.startswith(start)), len(_LONG_FIRST))

    items.sort(key=place)


def pytest_collection_finish() -> None:
    _set_aside_imports()
    gc.enable()


def pytest_runtest_setup() -> None:
    """What tests have imported since is set aside too, once it is much."""
    if len(sys.modules) >= _imported + 50:
        _set_aside_imports()


_imported = 0  # modules, when what they have made was set aside


def _set_aside_imports() -> None:
    """It stays: code under test that collects garbage, with each model that goes, would look through it each time."""
    global _imported
    gc.collect()
    gc.freeze()
    _imported = len(sys.modules)
