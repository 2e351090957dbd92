"""Lists in queries, as one array parameter each.

`column IN (…)` binds a parameter for every value, and PostgreSQL's protocol counts parameters in 16 bits: the query
breaks at 65,536 values, and before that it is planned anew for every length. An array is one parameter of any length.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import ColumnElement, any_, literal
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import InstrumentedAttribute


def among(column: InstrumentedAttribute[Any], values: Collection[Any]) -> ColumnElement[bool]:
    """Whether the column is one of `values`, of which there may be any number: `column = ANY(array)`."""
    return column == any_(literal(list(values), ARRAY(column.type)))
