"""Headers of a submission, the same for whatever is submitted."""

from __future__ import annotations

from typing import Annotated

from fastapi import Header

from app.http.deadline import EXPECTED

IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="Of your making, such as a CI run's id. The same key with the same body gives what was made first, "
        "however often it is sent; with another body, 422. Keys are kept as long as what they made.",
    ),
]
CancelAfter = Annotated[
    str | None, Header(description=f"A job is cancelled if it is not over after this time: {EXPECTED}.")
]
