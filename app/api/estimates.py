"""What pruning would give, before anything is downloaded or run."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body

from app.api import example_errors, examples
from app.api.catalog import TAG
from app.api.responses import BODY_ERRORS, FOREIGN_PAGE, UNAUTHORIZED, example, problems
from app.deps import Caller, SettingsDep
from app.services.local_files import inspect_model
from secateur.contract.errors import InvalidInput
from secateur.contract.models.estimates import EstimateRequest, estimate
from secateur.schemas.estimates import Estimate

router = APIRouter(tags=[TAG.name])


@router.post(
    "/estimates",
    summary="Estimate sizes and speedup",
    responses={
        200: example(examples.ESTIMATE),
        **problems(UNAUTHORIZED, FOREIGN_PAGE, *BODY_ERRORS, example_errors.NO_FORMULA, instance="/estimates"),
    },
)
def estimate_pruning(
    request: Annotated[EstimateRequest, Body(openapi_examples=examples.ESTIMATE_REQUESTS)],
    settings: SettingsDep,
    _: Caller,
) -> Estimate:
    """Parameters, bytes, cache and the speedup to expect, from the model's config alone. Nothing is measured: every
    such figure is named an estimate, and a job's report has the real ones."""
    if request.config is not None:
        return Estimate.model_validate(estimate(request.config, request, pointer="/config"))
    assert request.path is not None
    found = inspect_model(request.path, settings.model_roots, pointer="/path")
    if found.config is None:
        detail = "a GGUF file has no config.json to estimate from"
        raise InvalidInput.field("/path", detail, value=request.path, expected="a checkpoint folder, or `config`")
    return Estimate.model_validate(estimate(found.config, request, pointer="/path"))
