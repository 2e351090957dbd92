"""What `secateur gate` and `secateur sweeps gate` give to the pipeline that waits for them, the same of both.

A verdict of a job and one of a sweep differ in what is judged and not in how a pipeline hears of it: by annotations,
a step summary, a comment on the request, a JUnit file, JSON, and the exit code.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from secateur.cli.forges import CannotComment, Request, annotate, append_summary, as_code, request_of, summary_file
from secateur.cli.session import err, fail, usage, write_file
from secateur.report.forms import JUNIT, MARKDOWN

Summary = Annotated[
    bool, typer.Option("--summary", help="Append the report to the file that GITHUB_STEP_SUMMARY names.")
]
Comment = Annotated[
    bool, typer.Option("--comment", help="Comment on the pull or merge request; a later run renews the comment.")
]

Text = Callable[[str], str]  # the report in the form of this name


@dataclass(frozen=True)
class Pipeline:
    """Where the outcome goes, beside the exit code."""

    summary: Path | None
    request: Request | None
    junit: Path | None

    @classmethod
    def of(cls, *, summary: bool, comment: bool, junit: Path | None) -> Pipeline:
        """As the options say; ends the command where one of them cannot be."""
        return cls(summary_file(summary), _commented() if comment else None, junit)

    def ended(self, what: str, detail: str, *, about: str) -> None:
        """There is no report: `what` has come to this end.

        Args:
            about: the model, by which a comment is found again.
        """
        annotate("error", what, detail)
        self._renew(f"## ❌ {what[0].upper()}{what[1:]}\n\n{as_code(detail)}\n", about)

    def take(self, text: Text, *, about: str) -> None:
        """There is a report."""
        if self.summary or self.request:
            markdown = text(MARKDOWN.name)
            if self.summary:
                append_summary(self.summary, markdown)
            self._renew(markdown, about)
        if self.junit is not None:
            write_file(self.junit, text(JUNIT.name))

    def _renew(self, markdown: str, about: str) -> None:
        """Comment; one that cannot be written changes nothing about the verdict."""
        if self.request is None:
            return
        try:
            self.request.renew(markdown, about=about)
        except CannotComment as error:
            message = f"The comment on the pull request could not be written: {error}"
            annotate("warning", "no comment", message)
            fail(message)


def _commented() -> Request | None:
    """What is to be commented on; where the pipeline runs for no request, that is said."""
    try:
        request = request_of(dict(os.environ))
    except ValueError as error:
        raise usage(f"--comment: {error}") from None
    if request is None:
        err.print("[dim]This pipeline runs for no pull or merge request: there is none to comment on.[/]")
    return request
