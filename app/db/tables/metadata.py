"""All tables, for migrations to be held against: those of every file of this folder."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from app.db import tables
from app.db.base import Base

for _file in iter_modules(tables.__path__, f"{tables.__name__}."):
    import_module(_file.name)

METADATA = Base.metadata
