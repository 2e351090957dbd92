"""The folder that a result is downloaded to: found again after a failure, and one publisher's at a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from secateur.client.publishing.workspace import workspace


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "secateur"


def test_two_publishers_at_a_time_have_a_folder_each(cache: Path) -> None:
    with workspace(None, "job-hub") as first:
        (first / "weights").write_text("of the first")
        with workspace(None, "job-hub") as second:
            assert second != first
            assert list(second.iterdir()) == []
        assert (first / "weights").read_text() == "of the first"
    assert list(cache.iterdir()) == []


def test_what_a_failure_has_left_is_found_again(cache: Path) -> None:
    def fail() -> None:
        with workspace(None, "job-hub") as first:
            (first / "weights").write_text("kept")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with workspace(None, "job-hub") as again:
        assert (again / "weights").read_text() == "kept"
    assert list(cache.iterdir()) == []


def test_a_folder_of_the_users_is_left_alone(cache: Path, tmp_path: Path) -> None:
    with workspace(tmp_path / "mine", "job-hub") as mine:
        assert mine == tmp_path / "mine"
    assert not cache.exists()
