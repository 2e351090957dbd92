"""One bar for each file that is downloaded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

from secateur.cli.session import err

if TYPE_CHECKING:
    from secateur.schemas.artifacts import Artifact


@contextmanager
def downloads() -> Iterator[Callable[[Artifact, int], None]]:
    """What is told of each file as its bytes come; nothing is drawn where the output is no terminal."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=err, disable=not err.is_terminal) as progress:
        tasks: dict[str, TaskID] = {}

        def advance(artifact: Artifact, done: int) -> None:
            if artifact.path not in tasks:
                if progress.finished:  # those are drawn for good
                    for task in progress.task_ids:
                        progress.remove_task(task)
                    progress.start()
                tasks[artifact.path] = progress.add_task(artifact.path, total=artifact.size)
            progress.update(tasks[artifact.path], completed=done)
            if progress.finished:
                progress.stop()  # others may draw now

        yield advance
