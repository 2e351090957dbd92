"""The opaque cursor of a list of jobs: where the last page ended."""

from __future__ import annotations

import base64
import binascii
from uuid import UUID

from secateur.contract.errors import FieldError, InvalidInput


def encode(job_id: UUID) -> str:
    """The cursor for what comes after this job."""
    return base64.urlsafe_b64encode(job_id.bytes).decode().rstrip("=")


def decode(cursor: str) -> UUID:
    """The job that a cursor stands behind. Raises InvalidInput for a cursor that this service did not make."""
    try:
        return UUID(bytes=base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
    except (binascii.Error, ValueError) as error:
        detail = "the cursor is not one that this service has given"
        field = FieldError("", detail, cursor, "next_cursor of the page before", "query cursor")
        raise InvalidInput(detail, errors=[field]) from error
