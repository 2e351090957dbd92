"""The OpenAPI document: what the routes say, and the schemas that no route returns as a model of its own."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from app.api.resources import tags
from secateur.about import VERSION
from secateur.contract.report import Report
from secateur.contract.results import Scores
from secateur.schemas.problem import Problem

DESCRIPTION = (
    "Secateur makes large language models cheaper to run by structured pruning: `POST /jobs` names a model and how "
    "much of it to remove. Workers score its Transformer blocks, remove those that matter least, recover quality by "
    "light retraining, and measure the result against the original. The job's report says what was gained and what it "
    "cost, gates turn it into a verdict for a pipeline, and the pruned checkpoint loads in the usual tools as it is."
)


def install(app: FastAPI) -> None:
    """Make `app.openapi()` the finished document, built once."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _build(app)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # FastAPI documents this as the way to extend it


def _build(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(
        title="Secateur",
        version=VERSION,
        summary="Structured pruning of large language models as a job service",
        description=DESCRIPTION,
        routes=app.routes,
        tags=[{"name": tag.name, "description": tag.description} for tag in tags()],
        license_info=None,
    )
    _, extra = models_json_schema(
        [(Problem, "serialization"), (Report, "serialization"), (Scores, "serialization")],
        ref_template="#/components/schemas/{model}",
    )
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for name, schema in extra["$defs"].items():
        schemas.setdefault(name, schema)
    return document
