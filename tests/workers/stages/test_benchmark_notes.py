"""Where the recovered model has seen what it is measured on."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter

from secateur.contract.options.texts import Text
from workers.stages.benchmark_notes import overlap

NEWS: dict[str, Any] = {"source": "local", "path": "news.txt", "stop": 0.5}
REST: dict[str, Any] = {"source": "local", "path": "news.txt", "start": 0.5}
SELF: dict[str, Any] = {"source": "self"}


def answers(prompts: Any) -> dict[str, Any]:
    return {"source": "answers", "prompts": prompts}


def blend(*texts: Any) -> dict[str, Any]:
    return {"source": "blend", "parts": [{"text": text} for text in texts]}


@pytest.mark.parametrize(
    ("training", "measuring", "expected"),
    [
        (NEWS, NEWS, True),
        (NEWS, REST, False),
        (answers(NEWS), answers(NEWS), True),
        (answers(NEWS), answers(REST), False),
        (answers(None), answers(None), False),  # some of the built-in ones are kept for measuring
        (answers(NEWS), NEWS, False),
        (blend(SELF, NEWS), NEWS, True),
        (blend(SELF, NEWS), blend(REST, SELF), False),
        (NEWS, blend(SELF, NEWS), True),
    ],
)
def test_texts_overlap_where_a_part_of_them_does(training: Any, measuring: Any, expected: bool) -> None:
    read = TypeAdapter(Text).validate_python
    assert overlap(read(training), read(measuring)) == expected
