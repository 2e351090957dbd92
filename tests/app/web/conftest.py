"""The fixtures of the API's tests, for its pages."""

from __future__ import annotations

from tests.app.api.conftest import (
    application,
    client,
    data_root,
    make_settings,
    model_root,
    settings,
    spec,
    submit,
    worker,
)

__all__ = [
    "application",
    "client",
    "data_root",
    "make_settings",
    "model_root",
    "settings",
    "spec",
    "submit",
    "worker",
]
