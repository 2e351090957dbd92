"""Labels: what a caller writes on a job, and finds it by."""

from __future__ import annotations

from typing import Annotated

from pydantic import StringConstraints

Label = Annotated[str, StringConstraints(max_length=200)]
LabelName = Annotated[str, StringConstraints(min_length=1, max_length=63, pattern=r"^[A-Za-z0-9._/-]+$")]
