"""Parameters of a query that several lists take."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query

PartOfId = Annotated[
    str | None,
    Query(
        min_length=4,
        max_length=36,
        pattern=r"^(-?[0-9a-fA-F]){4,32}$",
        description="Only those whose id begins or ends so. Ids begin with the time; the ends tell them apart.",
    ),
]
