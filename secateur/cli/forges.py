"""What a pipeline's forge gets to see: annotations, a step summary, and a comment on the pull or merge request.

A comment is found again by a mark in its first line, so every run of a pipeline renews the one that is there.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from secateur.cli.session import usage

if TYPE_CHECKING:
    import httpx

SUMMARY_LIMIT = 1024 * 1024  # bytes of a GitHub step summary
COMMENT_LIMIT = 65_000  # characters; GitHub takes 65,536, GitLab more
PAGE = 100  # comments that are read at once
PAGES = 30  # that are read at most


class CannotComment(Exception):
    """There is a pull request, and the comment could not be written."""


def annotate(level: str, title: str, message: str) -> None:
    """A line that GitHub Actions shows at the step; nothing elsewhere."""
    if os.environ.get("GITHUB_ACTIONS") == "true":
        print(f"::{level} title={_command_value(title, more=':,')}::{_command_value(message)}")


def _command_value(text: str, more: str = "") -> str:
    """Escape what has a meaning in a workflow command; `more` are the characters of a property."""
    for character in "%\r\n" + more:
        text = text.replace(character, f"%{ord(character):02X}")
    return text


def summary_file(asked: bool) -> Path | None:
    """Of the option --summary: the file of the step's summary; None where it is not asked for."""
    if not asked:
        return None
    named = os.environ.get("GITHUB_STEP_SUMMARY")
    if not named:
        raise usage("--summary needs GITHUB_STEP_SUMMARY to name a file, as GitHub Actions does")
    return Path(named)


def append_summary(path: Path, markdown: str) -> None:
    """Append to a step summary, cut at its limit of 1,048,576 bytes."""
    used = path.stat().st_size if path.exists() else 0
    content = (markdown.rstrip() + "\n").encode()
    if used + len(content) > SUMMARY_LIMIT:
        note = b"\n\n(cut: a step summary holds 1.05 MB)\n"
        room = max(0, SUMMARY_LIMIT - used - len(note))
        content = content[:room].decode(errors="ignore").encode() + note
    with path.open("ab") as file:
        file.write(content)


def as_code(text: str) -> str:
    """Foreign text in a block of code that it cannot leave."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{fence}text\n{text}\n{fence}"


@dataclass(frozen=True)
class Request:
    """The pull request (GitHub) or merge request (GitLab) that a pipeline runs for."""

    comments: str  # address at which they are listed and made
    comment: str  # address of one, before its number
    headers: dict[str, str]
    method: str  # by which one is changed
    place: str  # what of the pipeline writes: two jobs of one pipeline have a comment each

    def renew(self, markdown: str, *, about: str) -> None:
        """Write the comment about the model `about`, or change the one that an earlier run wrote.

        Raises:
            CannotComment: the forge did not take it.
        """
        import httpx

        known = hashlib.sha256("\n".join((self.place, about)).encode()).hexdigest()
        mark = f"<!-- secateur {known[:16]} -->"
        body = f"{mark}\n{markdown}"
        if len(body) > COMMENT_LIMIT:
            body = f"{body[:COMMENT_LIMIT]}\n\n(cut: a comment holds {COMMENT_LIMIT:,} characters)\n"
        try:
            with httpx.Client(headers=self.headers, timeout=30) as forge:
                earlier = next((found["id"] for found in self._listed(forge) if _begins(found, mark)), None)
                if earlier is None:
                    answer = forge.post(self.comments, json={"body": body})
                else:
                    answer = forge.request(self.method, f"{self.comment}/{earlier}", json={"body": body})
                answer.raise_for_status()
        except httpx.HTTPStatusError as error:
            answer = error.response
            raise CannotComment(f"{answer.request.url.host} answered {answer.status_code}: {_said(answer)}") from None
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            raise CannotComment(f"{type(error).__name__}: {error}") from None

    def _listed(self, forge: httpx.Client) -> Iterator[dict[str, Any]]:
        for page in range(1, PAGES + 1):
            answer = forge.get(self.comments, params={"per_page": PAGE, "page": page})
            answer.raise_for_status()
            found = answer.json()
            yield from found
            if len(found) < PAGE:
                return


def _begins(comment: dict[str, Any], mark: str) -> bool:
    return str(comment.get("body") or "").startswith(mark)


def _said(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["message"])
    except (ValueError, KeyError, TypeError):
        return answer.reason_phrase


def request_of(environment: dict[str, str]) -> Request | None:
    """The request that this pipeline runs for, by what GitHub Actions and GitLab CI set; None where it is for none.

    Raises:
        ValueError: this is no pipeline of either, or it has no token.
    """
    if environment.get("GITHUB_ACTIONS") == "true":
        return _on_github(environment)
    if environment.get("GITLAB_CI") == "true":
        return _on_gitlab(environment)
    raise ValueError("only a pipeline of GitHub Actions or GitLab CI has a request to comment on")


def _on_github(environment: dict[str, str]) -> Request | None:
    token = environment.get("GITHUB_TOKEN")
    if not token:
        raise ValueError("GITHUB_TOKEN must hold a token that may write to pull requests, such as ${{ github.token }}")
    number = _number_of(environment.get("GITHUB_EVENT_PATH"))
    if number is None:
        return None
    issues = f"{environment['GITHUB_API_URL']}/repos/{environment['GITHUB_REPOSITORY']}/issues"
    return Request(
        comments=f"{issues}/{number}/comments",
        comment=f"{issues}/comments",
        headers={
            "Authorization": f"Bearer {token}",
            "Accept": "application/vnd.github+json",
            "X-GitHub-Api-Version": "2022-11-28",
        },
        method="PATCH",
        place=f"{environment.get('GITHUB_WORKFLOW')}\n{environment.get('GITHUB_JOB')}",
    )


def _number_of(event: str | None) -> int | None:
    """The number of the pull request in the event that started the workflow."""
    if not event or not Path(event).is_file():
        return None
    found = json.loads(Path(event).read_bytes()).get("pull_request")
    return int(found["number"]) if found else None


def _on_gitlab(environment: dict[str, str]) -> Request | None:
    token = environment.get("GITLAB_TOKEN")
    if not token:
        raise ValueError(
            "GITLAB_TOKEN must hold a project's access token with the scope api; a job's own may not comment"
        )
    number = environment.get("CI_MERGE_REQUEST_IID")
    if not number:
        return None
    project = environment.get("CI_MERGE_REQUEST_PROJECT_ID") or environment["CI_PROJECT_ID"]
    notes = f"{environment['CI_API_V4_URL']}/projects/{project}/merge_requests/{number}/notes"
    return Request(
        comments=notes,
        comment=notes,
        headers={"PRIVATE-TOKEN": token},
        method="PUT",
        place=environment.get("CI_JOB_NAME", ""),
    )
