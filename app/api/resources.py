"""The resources of the service, in the order of its documentation. A new one is a line here."""

from __future__ import annotations

from typing import Final

from app.api import artifacts, catalog, datasets, estimates, events, health, jobs, logs, metrics, reports, scores

_RESOURCES: Final = (jobs, events, logs, scores, reports, artifacts, datasets, catalog, estimates, health, metrics)

ROUTERS = [resource.router for resource in _RESOURCES]
TAGS = list(dict.fromkeys(resource.TAG for resource in _RESOURCES))
