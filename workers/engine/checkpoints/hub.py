"""Fetch a checkpoint from the Hugging Face hub: safetensors, configs, tokenizer and card, at one commit, and no more.

A revision is resolved to its commit first; from then on a job names the commit, so that a push to the branch in
the middle of a job changes nothing, and a commit that has been fetched whole is used without asking the hub again.
Which files hold the weights is what their index says, and not what they are called. Pickled weights are never
downloaded. The endpoint and token are those of the hub's own settings (`HF_ENDPOINT`, `HF_TOKEN`); neither the token
nor a signed address enters an error's text.
"""

from __future__ import annotations

import glob
import io
import os
import re
import shutil
from collections.abc import Callable, Collection
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import httpx2
from huggingface_hub import HfApi, ModelInfo, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import repo_folder_name
from tqdm import tqdm  # type: ignore[import-untyped]  # ships no annotations

from secateur.contract.errors import BadCheckpoint, InvalidInput, StageFailed, Unavailable
from secateur.foreign_files.json_objects import quoted
from workers.engine.blame import is_over_input, words_of
from workers.engine.checkpoints.checkpoint import INDEX_FILE, PICKLED_SUFFIXES, WEIGHTS_FILE, read_index
from workers.engine.hub_errors import CANNOT_CONNECT
from workers.engine.progress import Progress, no_progress
from workers.machine.hub_token import fetching

_COMMIT = re.compile(r"[0-9a-f]{40}")
_TIMEOUT_S = 15.0
_BESIDE = (  # what goes along with the weights, which are named by their index
    "*.jinja",
    "*.json",
    "*.model",
    "*.tiktoken",
    "LICENSE*",
    "LICENCE*",
    "NOTICE*",
    "README.md",  # which says under what licence the model is
    "USE_POLICY*",
    "additional_chat_templates/*.jinja",
    "merges.txt",
    "vocab.txt",
)


@dataclass(frozen=True)
class Snapshot:
    path: Path
    commit: str


def fetch(id: str, revision: str | None, *, cache: Path, progress: Progress = no_progress) -> Snapshot:
    """Download the checkpoint of `id` at `revision` (a branch, tag or commit; the default branch if None).

    Args:
        cache: folder of the downloads; files that are there already are not fetched again.
        progress: counts bytes.

    Raises:
        InvalidInput: no such repository (/model/id) or revision (/model/revision), or no access to it.
        BadCheckpoint: the repository has no safetensors weights.
        Unavailable: the hub cannot be reached, breaks off, or answers what no hub does.
        StageFailed: the disk has no room for it.
    """
    if revision is not None and _COMMIT.fullmatch(revision) and (cached := _cached(id, revision, cache)):
        return Snapshot(cached, revision)
    endpoint = os.environ.get("HF_ENDPOINT") or None
    try:
        with fetching():
            info = HfApi(endpoint=endpoint).model_info(id, revision=revision, timeout=_TIMEOUT_S, files_metadata=True)
        names = [sibling.rfilename for sibling in info.siblings or []]
        if not isinstance(info.sha, str) or not _COMMIT.fullmatch(info.sha):
            raise Unavailable(f"The hub at {_host(endpoint)} did not say which commit '{id}' is at.")
        with fetching():
            weights = _weights(
                names,
                id,
                lambda: hf_hub_download(id, INDEX_FILE, revision=info.sha, cache_dir=cache, endpoint=endpoint),
            )
            wanted = [name for name in names if name in weights or _is_beside(name)]
            _refuse_without_room(info, wanted, cache)
            path = snapshot_download(
                id,
                revision=info.sha,
                cache_dir=cache,
                allow_patterns=[glob.escape(name) for name in wanted],
                endpoint=endpoint,
                tqdm_class=_bar(progress),
            )
    except GatedRepoError as error:
        raise _bad_id(id, "is gated, and this service has no access to it") from error
    except RepositoryNotFoundError as error:
        raise _bad_id(id, "does not exist on the hub, or is private") from error
    except RevisionNotFoundError as error:
        detail = f"'{id}' has no revision '{revision}'."
        raise InvalidInput.field(
            "revision", detail, value=revision, expected="a branch, tag or commit of the repository"
        ) from error
    except HFValidationError as error:
        raise _bad_id(id, "is not a repository's name") from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        raise Unavailable(f"The hub at {_host(endpoint)} answered {status} for '{id}'; try again later.") from error
    except CANNOT_CONNECT as error:
        raise Unavailable(
            f"The hub at {_host(endpoint)} cannot be reached ({type(error).__name__}); "
            "name a local model, or try again later."
        ) from error
    except OSError as error:
        raise StageFailed(f"'{id}' could not be stored: {error.strerror or type(error).__name__}.") from error
    except Exception as error:  # a page of a proxy, say, or an answer that lacks what a hub's have
        if not is_over_input(error):
            raise
        raise Unavailable(
            f"What answers at {_host(endpoint)} for '{id}' cannot be read as a hub's answer ({words_of(error)}); see "
            "that HF_ENDPOINT is the address of a hub and that no proxy answers in its place, or try again later."
        ) from error
    return Snapshot(Path(path), info.sha)


def _cached(id: str, commit: str, cache: Path) -> Path | None:
    """The folder of a commit that was fetched whole before."""
    try:
        folder = snapshot_download(
            id,
            revision=commit,
            cache_dir=cache,
            allow_patterns=list(_BESIDE),
            ignore_patterns=["*/*"],  # to the library, `*` crosses folders
            local_files_only=True,
        )
        held = [entry.name for entry in Path(folder).iterdir() if entry.is_file()]  # a link to a file that is there
        whole = _weights(held, id, lambda: str(Path(folder) / INDEX_FILE)) <= set(held)
    except (LocalEntryNotFoundError, HFValidationError, BadCheckpoint):
        return None
    return Path(folder) if whole else None


def _weights(names: list[str], id: str, index: Callable[[], str]) -> set[str]:
    """The weight files among the `names` of a repository: the one file, or those that the index lists.

    Args:
        index: fetches the index, and says where it lies.

    Raises:
        BadCheckpoint: there are none that are safe, or one that the index lists is not there.
    """
    if WEIGHTS_FILE in names:
        return {WEIGHTS_FILE}
    if INDEX_FILE in names:
        shards = set(read_index(Path(index())).values())
        if absent := sorted(shards - set(names)):
            raise BadCheckpoint(f"'{id}': {INDEX_FILE} lists the shard {quoted(absent[0])}, which is missing.")
        return shards
    if any(Path(name).suffix in PICKLED_SUFFIXES for name in names):
        raise BadCheckpoint(f"'{id}' has only pickled weights; weights must be safetensors or GGUF.")
    if any(name.endswith(".gguf") for name in names):
        raise BadCheckpoint(
            f"'{id}' has only GGUF files; download the one that you want, and name it as a local model."
        )
    raise BadCheckpoint(f"'{id}' has no weights: model.safetensors or its shards are expected.")


def _refuse_without_room(info: ModelInfo, wanted: Collection[str], cache: Path) -> None:
    """Check, before hours of downloading, that the disk takes what is not here yet, be it by another commit.

    Raises:
        StageFailed: it does not.
    """
    blobs = cache / repo_folder_name(repo_id=info.id, repo_type="model") / "blobs"
    needed = 0
    for sibling in info.siblings or []:
        blob = sibling.lfs.sha256 if sibling.lfs else sibling.blob_id
        if sibling.rfilename in wanted and sibling.size and blob and not (blobs / blob).exists():
            needed += sibling.size
    cache.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(cache).free
    if needed > free:
        raise StageFailed(
            f"'{info.id}' takes {needed / 1e9:,.1f} GB to download, and the worker's disk has {free / 1e9:,.1f} GB "
            "free. Free space in its data folder and retry the job."
        )


def _is_beside(name: str) -> bool:
    return any(_matches(name, pattern) for pattern in _BESIDE)


def _matches(name: str, pattern: str) -> bool:
    """As a shell matches: `*` does not cross folders."""
    return name.count("/") == pattern.count("/") and fnmatchcase(name, pattern)


def _bad_id(id: str, what: str) -> InvalidInput:
    detail, expected = f"The repository '{id}' {what}.", "a model repository that this service can read"
    return InvalidInput.field("id", detail, value=id, expected=expected)


def _host(endpoint: str | None) -> str:
    return httpx2.URL(endpoint or HfApi().endpoint).host


def _bar(progress: Progress) -> type[Any]:
    """A progress bar for the library that draws nothing and reports bytes.

    Not the library's own class of bars: a stage switches those off, and then they count nothing.
    """

    class Bar(tqdm):  # type: ignore[misc]  # as above
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{**kwargs, "file": io.StringIO(), "disable": False})

        def update(self, n: float | None = 1) -> Any:
            result = super().update(n)
            if self.unit == "B" and self.total:
                progress(min(int(self.n), int(self.total)), int(self.total), "bytes")
            return result

    return Bar
