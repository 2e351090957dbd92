"""What every object of a spec is: frozen and closed. A method says of itself what the catalogue shows."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict


class Options(BaseModel):
    """Frozen, and closed: a field that does not exist is an error, not a shrug. No number is infinite or NaN."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Method(Options):
    """One method that a job may name, by the fields of its object in the spec and their defaults.

    The class has all that is known of a method without computing: what `GET /catalog` shows of it stands here and
    nowhere else. `methods.py` has the table of all.
    """

    title: ClassVar[str]
    summary: ClassVar[str]  # one or two sentences: what it does and when to choose it
    paper: ClassVar[str]  # where the formula comes from
