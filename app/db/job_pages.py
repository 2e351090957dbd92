"""Pages of jobs, as the list and the dashboard show them: each job as the text of `app.db.job_json`.

Jobs that answer a question about another one are not among them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from uuid import UUID

from sqlalchemy import TextClause, bindparam, text

from app.db.job_json import job_json
from app.db.session import Database
from app.db.tables.jobs import ID_FROM_ITS_END, Job
from secateur.contract.jobs import State, Verdict


@dataclass(frozen=True)
class JobFilters:
    """What a list of jobs is narrowed to; all given ones must hold."""

    state: State | None = None
    verdict: Verdict | None = None
    model: str | None = None  # hub id or path, exactly
    labels: Mapping[str, str] = field(default_factory=dict)
    part: str | None = None  # how the id begins or ends, as hexadecimal digits; dashes do not count
    words: str | None = None  # in this order in the model's name or path, whatever is between; or a part of the id


@dataclass(frozen=True)
class JobPage:
    """Jobs, newest first."""

    jobs: list[str]  # each a JSON text of a JobSummary, or of a Job where specs were asked for
    last: UUID | None  # the id of the last one, behind which the next page begins
    has_more: bool


# Two ranges, each of an index: from the digits with 0 after them to those with f, and the same from the end.
_BY_PART = (
    "id = ANY(ARRAY(SELECT id FROM jobs WHERE id BETWEEN CAST(rpad(:part, 32, '0') AS uuid) AND "
    "CAST(rpad(:part, 32, 'f') AS uuid) UNION SELECT id FROM jobs WHERE "
    f"{ID_FROM_ITS_END} BETWEEN reverse(:part) AND rpad(reverse(:part), 32, 'f')))"
)
_CONDITIONS = {
    "after": "id < :after",
    "state": "state = :state",
    "verdict": "verdict = :verdict",
    "model": "model_id = :model",
    "labels": "labels @> :labels",
    "part": _BY_PART,
}
# The names of all models, from one to the next by the index: there are few, and jobs are many.
_MODELS = (
    "WITH RECURSIVE models(name) AS ((SELECT model_id FROM jobs ORDER BY model_id LIMIT 1) UNION ALL "
    "SELECT (SELECT model_id FROM jobs WHERE model_id > models.name ORDER BY model_id LIMIT 1) FROM models "
    "WHERE models.name IS NOT NULL) SELECT name FROM models WHERE name ILIKE :words"
)


@lru_cache(maxsize=1024)  # of 3 · 2⁶ for each limit
def _statement(conditions: tuple[str, ...], words: str, specs: bool, limit: int) -> TextClause:
    """The limit stands in it: PostgreSQL plans a statement whose limit it is not told anew each time, which takes as
    long as the page itself. `words` are those of a "model", or of a "model or id"; "" where there are none."""
    last = f"ORDER BY id DESC LIMIT {limit:d}"

    def narrowed(*more: str) -> str:
        where = ["asked_of IS NULL", *more, *(_CONDITIONS[name] for name in conditions)]
        return f"SELECT * FROM jobs WHERE {' AND '.join(where)}"

    page = f"{narrowed()} {last}"
    if words:
        of_each = (
            f"SELECT found.* FROM ({_MODELS}) AS named CROSS JOIN LATERAL ({narrowed('model_id = named.name')} {last})"
        )
        page = f"{of_each} AS found {last}"
    if words == "model or id":
        by_id = narrowed("NOT model_id ILIKE :words", _BY_PART.replace(":part", ":id_part"))
        page = f"SELECT * FROM (({page}) UNION ALL ({by_id})) AS either {last}"
    found = text(f"SELECT id, {job_json(spec=specs)} FROM ({page}) AS job ORDER BY id DESC")
    types = {"after": Job.id.type, "labels": Job.labels.type}
    return found.bindparams(*(bindparam(name, type_=types[name]) for name in conditions if name in types))


_ID_PART = re.compile("[0-9a-f]{4,32}")


def _pattern(words: str) -> str:
    """Of ILIKE: the words one after the other, their own % and _ as they are; "" where there are none."""
    plain = [re.sub(r"([\\%_])", r"\\\1", word) for word in words.split()]
    return f"%{'%'.join(plain)}%" if plain else ""


def list_page(
    database: Database,
    *,
    after: UUID | None = None,
    limit: int = 20,
    filters: JobFilters | None = None,
    specs: bool = False,
) -> JobPage:
    """Jobs, newest first, from behind the job `after` on: a keyset page, which stays right while jobs arrive."""
    filters = filters or JobFilters()
    asked: dict[str, Any] = {
        "after": after,
        "state": filters.state and filters.state.value,
        "verdict": filters.verdict and filters.verdict.value,
        "model": filters.model,
        "labels": dict(filters.labels) or None,
        "part": filters.part and filters.part.replace("-", "").lower(),
    }
    given = {name: value for name, value in asked.items() if value is not None}
    conditions, words = tuple(given), ""
    if filters.words and (pattern := _pattern(filters.words)):
        given["words"], words = pattern, "model"
        part = filters.words.replace("-", "").strip().lower()
        if _ID_PART.fullmatch(part):
            given["id_part"], words = part, "model or id"
    rows = database.execute(_statement(conditions, words, specs, limit + 1), given).all()
    shown = rows[:limit]
    return JobPage([job for _, job in shown], shown[-1][0] if shown else None, len(rows) > limit)
