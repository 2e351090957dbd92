"""Publishing to a repository of the Hugging Face hub: `hub:ORG/NAME`, or `hub:ORG/NAME@BRANCH`.

Everything goes up in one commit, so a reader sees the old model or the new one, and what is there already is not sent:
the same result twice makes one commit. Large files go from disk in pieces. The address and the token are those of the
hub's own settings (`HF_ENDPOINT`, `HF_TOKEN`, or what `hf auth login` has left); the token enters no error's text.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError
from huggingface_hub.utils import logging as hub_logging
from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

from secateur.client.errors import NotPublishable, TargetFailed
from secateur.client.publishing.card import of_files, with_base_model
from secateur.client.publishing.places import CARD
from secateur.client.publishing.target import Finished, Options, Published
from secateur.contract.shown import first_line
from secateur.masking import learn, redact

_PLACE = re.compile(r"((?:[\w.-]+/)?[\w.-]+)(?:@([^\s@:~^?*\[\\]+))?", re.ASCII)
_WEIGHTS = re.compile(r"[^/]+\.safetensors|[^/]+\.safetensors\.index\.json")  # of which those of another model go


def target(place: str, options: Options) -> HubTarget:
    """Raises NotPublishable: the place is none."""
    found = _PLACE.fullmatch(place)
    if found is None:
        raise NotPublishable(f"hub:{redact(place)} names no repository: write hub:ORG/NAME, or hub:ORG/NAME@BRANCH")
    return HubTarget(found[1], found[2], options)


class HubTarget:
    """One branch of one repository."""

    needs_files = True
    needs_report = False

    def __init__(self, repository: str, branch: str | None, options: Options) -> None:
        self._repository, self._branch, self._options = repository, branch, options
        self._api = HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None)  # as it is now, not as it was at the import

    def check(self) -> None:
        """The repository is made where there is none: what else would tell whether that is allowed?"""
        token = get_token()
        if token is None:
            raise TargetFailed("there is no token for the hub: set HF_TOKEN, or log in by `hf auth login`")
        learn([token])
        with self._told():
            made = self._api.create_repo(self._repository, private=not self._options.public, exist_ok=True)
            self._repository = made.repo_id  # with the name of whose token it is, where that was left out
            if self._branch:
                self._api.create_branch(self._repository, branch=self._branch, exist_ok=True)

    def send(self, result: Finished) -> Published:
        files = result.files()
        with self._told(), self._bars():
            before = self._api.model_info(self._repository, revision=self._branch).sha
            operations: list[CommitOperationAdd | CommitOperationDelete] = [
                CommitOperationAdd(name, path if name != CARD else self._card(path, result).encode())
                for name, path in files.items()
            ]
            if any(place.is_folder for place in result.places):
                there = self._api.list_repo_files(self._repository, revision=self._branch)
                stale = [name for name in there if _WEIGHTS.fullmatch(name) and name not in files]
                operations += [CommitOperationDelete(name) for name in stale]
            commit = self._api.create_commit(
                self._repository,
                operations,
                commit_message=f"Job {result.job.id} of Secateur",
                commit_description=f"{', '.join(result.variants)} of {result.report.model.id}",
                revision=self._branch,
                parent_commit=before,  # what is stale was told by that: another's weights would stay beside these
            )
        url = f"{self._api.endpoint}/{self._repository}" + (f"/tree/{self._branch}" if self._branch else "")
        where = self._repository + (f"@{self._branch}" if self._branch else "")
        return Published(f"hub:{where}", url, commit.oid, commit.oid != before)

    def _card(self, path: Path, result: Finished) -> str:
        card = path.read_text(encoding="utf-8")
        if self._options.base_model:
            card = with_base_model(card, self._options.base_model)
        if any(place.is_folder for place in result.places):
            return card
        return of_files(card, [name for name in result.files() if name.endswith(".gguf")])

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What the library raises, as errors of the client."""
        try:
            yield
        except HfHubHTTPError as error:
            raise TargetFailed(redact(self._refusal(error))) from None
        except (httpx2.TransportError, ConnectionError, TimeoutError) as error:  # the last two of its library for Xet
            words = f"the hub at {self._api.endpoint} does not answer: {first_line(error)}"
            if "xet" in words:
                words += "; where a hub does not speak Xet, set HF_HUB_DISABLE_XET=1"
            raise TargetFailed(redact(words)) from None
        except (ValueError, RuntimeError) as error:  # metadata that the hub does not take; an upload that broke off
            cause = error.__cause__
            because = self._refusal(cause) if isinstance(cause, HfHubHTTPError) else str(cause or "")
            words = " ".join(f"{error} {because}".split())
            raise TargetFailed(redact(f"the hub does not take it: {words}")) from None

    def _refusal(self, error: HfHubHTTPError) -> str:
        status, place = error.response.status_code, f"{self._repository} at {self._api.endpoint}"
        said = f" ({error.server_message})" if error.server_message else ""
        if isinstance(error, RepositoryNotFoundError) or status == 404:
            return f"there is no {place}, or the token does not reach it{said}"
        if status == 401:
            return (
                f"the hub refuses the token: HF_TOKEN, or what `hf auth login` has left, is wrong or out of date{said}"
            )
        if status == 412:
            return f"somebody else has committed to {place} meanwhile, so this was not: publish it again{said}"
        if status == 403:
            return (
                f"the token may not write to {place}: it needs that permission, and its owner has to belong there{said}"
            )
        return f"the hub answered {status} for {place}{said}"

    @contextmanager
    def _bars(self) -> Iterator[None]:
        """The library's own bars, unless none are wanted, and no word of what is there already."""
        off, verbosity = are_progress_bars_disabled(), hub_logging.get_verbosity()
        if self._options.quiet:
            disable_progress_bars()
        hub_logging.set_verbosity(logging.ERROR)
        try:
            yield
        finally:
            hub_logging.set_verbosity(verbosity)
            if not off:
                enable_progress_bars()
