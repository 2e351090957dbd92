"""From the model that a job names to a checkpoint folder on this machine.

A folder is used in place. A GGUF file is imported once, into a folder of the cache that bears the file's hash. A hub
model is fetched at one commit. Whatever it was, what comes back can be opened, and lies under the allowed folders
with its symlinks followed.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch

from secateur.contract.errors import BadCheckpoint, FieldError, InvalidInput, UnsupportedModel
from secateur.contract.spec import HubModel, LocalModel
from secateur.foreign_files.lfs_pointers import LFS_HEAD
from secateur.foreign_files.plain_files import special_detail, special_file
from secateur.foreign_files.roots import Fault, NotUnderRoots, find_under
from workers.engine.checkpoints.checkpoint import PICKLED_SUFFIXES, Checkpoint, check_inside
from workers.engine.checkpoints.fingerprint import file_digest, fingerprint
from workers.engine.checkpoints.gguf_import import import_gguf
from workers.engine.checkpoints.hub import fetch
from workers.engine.checkpoints.new_folder import new_folder
from workers.engine.checkpoints.safetensors_file import refuse_lfs_pointer
from workers.engine.checkpoints.side_files import side_files
from workers.engine.progress import Progress, no_progress

_IMPORT = "v2"  # of the import's result; a folder that an older import made is left alone
_IMPORT_DTYPE = torch.float32  # exact, see gguf_import


@dataclass(frozen=True)
class ResolvedModel:
    checkpoint: Checkpoint = field(compare=False)  # opened; its folder has config, safetensors and tokenizer
    id: str  # as the job named it: hub id, or path
    revision: str | None  # commit on the hub
    fingerprint: str  # sha256 over config and tensors
    origin: str  # "hub", "checkpoint" (a local folder) or "gguf" (a local file)

    @property
    def path(self) -> Path:
        """The checkpoint's folder."""
        return self.checkpoint.path


def resolve(
    model: HubModel | LocalModel, *, cache: Path, roots: Sequence[Path], progress: Progress = no_progress
) -> ResolvedModel:
    """Make the model that `model` names available as a checkpoint folder.

    Args:
        cache: folder for downloads, imports and fingerprints; shared by all jobs of this machine.
        roots: folders that a local path must lie under. A relative path is looked for in each.
        progress: counts bytes or steps.

    Raises:
        InvalidInput: the path is outside the roots or does not exist (/model/path); no such repository
            (/model/id) or revision (/model/revision).
        BadCheckpoint: the files are unsafe, broken, or not safetensors.
        UnsupportedModel: a GGUF file that transformers cannot read.
        Unavailable: the hub cannot be reached.
    """
    cache = cache.resolve()
    revision = None
    if isinstance(model, HubModel):
        snapshot = fetch(model.id, model.revision, cache=cache / "hub", progress=progress)
        name, revision, origin, path = model.id, snapshot.commit, "hub", snapshot.path
        allowed = [cache / "hub"]
    else:
        real = find_model(model.path, roots)
        name, path, origin = model.path, real, "checkpoint"
        allowed = [root.resolve() for root in roots]
        if not real.is_dir():
            path, origin = _imported(real, cache, progress), "gguf"
            allowed = [cache]
    checkpoint = open_folder(path, allowed)
    found = fingerprint(checkpoint, cache=cache, progress=progress)
    return ResolvedModel(checkpoint, name, revision, found, origin)


def open_folder(path: Path, allowed: Sequence[Path]) -> Checkpoint:
    """Open a checkpoint's folder, once all files that are read of it were found under `allowed`, links followed.

    Raises:
        BadCheckpoint: as of `resolve`.
    """
    special = special_file(path)
    if special is not None:
        raise BadCheckpoint(f"{special_detail(special)}.")
    checkpoint = Checkpoint.open(path, roots=allowed)
    for file in side_files(path):
        check_inside(path / file, allowed)
        with (path / file).open("rb") as opened:
            refuse_lfs_pointer(opened.read(len(LFS_HEAD)), file.name)
    return checkpoint


def find_model(path: str, roots: Sequence[Path]) -> Path:
    """The real path of a local model, which must lie under a root after symlinks are followed.

    Raises:
        InvalidInput: over the `path`.
    """
    try:
        return find_under(path, roots)
    except NotUnderRoots as error:
        details = {
            Fault.UNUSABLE: "The path cannot be used.",
            Fault.OUTSIDE: "The path lies outside the model roots.",
            Fault.MISSING: "There is no such model under the model roots.",
        }
        expected = "a path under one of the service's model roots"
        raise InvalidInput.field("path", details[error.fault], value=path, expected=expected) from error


def _imported(file: Path, cache: Path, progress: Progress) -> Path:
    """The checkpoint folder of a GGUF file: made by the first who asks, used by all."""
    if not file.is_file():
        raise BadCheckpoint(f"{special_detail(file.name)}.")
    if file.suffix.lower() in PICKLED_SUFFIXES:
        raise BadCheckpoint(f"{file.name} is pickled; weights must be safetensors or GGUF, so convert them first.")
    with file.open("rb") as opened:
        refuse_lfs_pointer(opened.read(len(LFS_HEAD)), file.name)
    if file.suffix.lower() != ".gguf":
        detail = f"{file.name} is neither a checkpoint folder nor a .gguf file."
        raise InvalidInput.field(
            "path", detail, value=file.name, expected="a folder with safetensors weights, or a .gguf file"
        )
    digest = file_digest(file, cache=cache, progress=progress)
    target = cache / "gguf" / f"{digest}-{str(_IMPORT_DTYPE).removeprefix('torch.')}-{_IMPORT}"
    if target.is_dir():
        return target
    with _locked(target.with_suffix(".lock")):
        if not target.is_dir():  # another process may have made it while this one waited
            with new_folder(target) as folder:
                try:
                    import_gguf(file, folder, dtype=_IMPORT_DTYPE, progress=progress)
                except (BadCheckpoint, UnsupportedModel) as error:
                    expected = (
                        "a GGUF file that says all of a model that transformers has, or its safetensors checkpoint"
                    )
                    error.errors = [FieldError("path", error.detail, file.name, expected)]
                    raise
    return target


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock that the system gives back even when this process is killed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
