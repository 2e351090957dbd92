"""The harness's index of tasks, with no more in it than a benchmark asks for.

lm-evaluation-harness parses all of its 14,000 definitions to make its index: half a minute of each stage that runs
tasks. The name of a plain task stands on a line of its own in its file, so where a search of the text finds each
wanted name once, the folders of these files are enough. Groups and tags are left to the whole index; a name that is
in no definition at all is a mistake, and needs none.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

_NAME = re.compile(r"""^(?:task|group|tag):[ \t]*['"]?([\w.-]+)['"]?[ \t]*(?:#.*)?$""", re.MULTILINE)


def manager_of(names: Iterable[str]) -> Any:
    """A `TaskManager` that knows `names`, as far as the harness does."""
    from lm_eval.tasks import TaskManager  # type: ignore[import-untyped]  # takes seconds; ships no annotations

    wanted = set(names)
    files = [_definitions().get(name, ()) for name in wanted]
    if all(len(found) == 1 for found in files):
        folders = sorted({str(file.parent) for found in files for file in found})
        manager: Any = TaskManager(include_path=folders, include_defaults=False)
        if wanted <= set(manager.all_tasks):
            return manager
    return TaskManager()


def plain_names() -> Collection[str]:
    """The tasks, groups and tags whose names stand on lines of their own: nearly all."""
    return _definitions().keys()


def unheard_of(names: Iterable[str]) -> set[str]:
    """Those of `names` that are in no definition of the harness, in whatever place: no task is called so."""
    left = set(names) - set(plain_names())
    if left:
        word = re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, sorted(left, key=len, reverse=True)))})(?![\w-])")
        for file in _files():
            left -= set(word.findall(_text(file)))
    return left


@lru_cache(maxsize=1)
def _definitions() -> Mapping[str, list[Path]]:
    """Files of the harness in which each name is defined, by a search of their text."""
    found = defaultdict(list)
    for file in _files():
        for name in _NAME.findall(_text(file)):
            found[name].append(file)
    return found


def _files() -> list[Path]:
    import lm_eval.tasks  # type: ignore[import-untyped]

    return sorted(Path(lm_eval.tasks.__file__).parent.rglob("*.yaml"))


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="replace")
