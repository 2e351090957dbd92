"""What is offered as a local model: checkpoints and GGUF files under the roots, and nothing from elsewhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from app.services import local_models as module
from app.services.local_models import local_models
from secateur.foreign_files.roots import find_under


def checkpoint(folder: Path, weights: str = "model.safetensors") -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / weights).write_bytes(b"")
    return folder


def gguf(file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"GGUF")
    return file


@pytest.fixture
def roots(tmp_path: Path) -> list[Path]:
    made = [tmp_path / "one", tmp_path / "two"]
    for root in made:
        root.mkdir()
    return made


def test_checkpoints_and_gguf_files_have_names_that_a_job_may_give(roots: list[Path]) -> None:
    one, two = roots
    there = [
        checkpoint(one / "org" / "name"),
        gguf(one / "a.gguf"),
        gguf(one / "files" / "B.GGUF"),
        gguf(two / "c.gguf"),
    ]
    gguf(two / "a.gguf")  # the first root's is meant by that name
    (one / "notes.txt").write_text("none")
    checkpoint(one / "pickled", weights="pytorch_model.bin")
    gguf(one / ".hidden" / "d.gguf")
    os.mkfifo(one / "pipe.gguf")
    names = local_models([*roots, one / "missing"])
    assert names == ["a.gguf", "files/B.GGUF", "org/name", "c.gguf"]
    assert sorted(find_under(name, roots) for name in names) == sorted(path.resolve() for path in there)


def test_links_lead_nowhere_else(roots: list[Path], tmp_path: Path) -> None:
    one, _ = roots
    outside = checkpoint(tmp_path / "outside")
    gguf(outside / "secret.gguf")
    (one / "out").symlink_to(outside)
    (one / "out.gguf").symlink_to(outside / "secret.gguf")
    (one / "loop").symlink_to(one)
    (one / "loop.gguf").symlink_to(one / "loop.gguf")
    stolen = checkpoint(one / "stolen")
    (stolen / "model.safetensors").unlink()
    (stolen / "model.safetensors").symlink_to(outside / "model.safetensors")
    snapshot, blob = one / "models--org--name" / "snapshots" / "abc", one / "models--org--name" / "blobs" / "1"
    blob.parent.mkdir(parents=True)
    blob.write_bytes(b"")
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").symlink_to(blob)
    (snapshot / "model.safetensors").symlink_to(blob)  # as in the hub's cache
    assert local_models(roots) == ["models--org--name/snapshots/abc"]


def test_it_is_bounded(roots: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = roots
    for number in range(6):
        gguf(one / f"{number}.gguf")
    gguf(two / "last.gguf")
    gguf(one / "/".join("12345") / "deep.gguf")
    assert len(local_models(roots)) == 7
    gguf(one / "/".join("1234") / "deep.gguf")
    assert len(local_models(roots)) == 8
    monkeypatch.setattr(module, "MOST_NAMES", 3)
    assert local_models(roots) == ["0.gguf", "1.gguf", "2.gguf"]
    monkeypatch.setattr(module, "MOST_ENTRIES", 2)
    assert len(local_models(roots)) == 2


def test_what_cannot_be_written_is_passed_over(roots: list[Path]) -> None:
    gguf(Path(os.fsdecode(os.fsencode(roots[0]) + b"/\xff.gguf")))
    assert local_models(roots) == []
    assert local_models([]) == []
