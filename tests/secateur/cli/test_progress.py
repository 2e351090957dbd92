"""The bars of downloads, as a terminal shows them."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from app.api import examples
from secateur.cli import progress
from secateur.schemas.artifacts import Artifact


def test_a_name_is_shown_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Brackets are markup to the library, and a GGUF file may be called anything."""
    shown = io.StringIO()
    monkeypatch.setattr(progress, "err", Console(file=shown, force_terminal=True, width=80))
    file = Artifact.model_validate({**examples.ARTIFACT_LIST["data"][0], "path": "prune/model[/b].gguf", "size": 10})
    with progress.downloads() as advance:
        advance(file, 10)
    assert "prune/model[/b].gguf" in shown.getvalue()
