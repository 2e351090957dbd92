"""The resources of the service: every file of this folder that has a `router`, in the order of its documentation.

A resource brings its router and, as `TAG`, what its operations stand under; several may share one.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType

from fastapi import APIRouter

from app import api
from app.api.responses import Tag


def routers() -> list[APIRouter]:
    """All routers, those of one tag together."""
    return [resource.router for resource in _resources()]


def tags() -> list[Tag]:
    """All tags, each once."""
    return list(dict.fromkeys(resource.TAG for resource in _resources()))


@cache
def _resources() -> list[ModuleType]:
    files = [import_module(file.name) for file in iter_modules(api.__path__, f"{api.__name__}.")]
    return sorted((file for file in files if hasattr(file, "router")), key=lambda file: file.TAG.place)
