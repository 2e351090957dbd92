"""What the tests of tasks share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fixtures.task_files import task_folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two tasks; what is read of their data is kept in the test's own cache."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    return task_folder(tmp_path / "data" / "tasks")
