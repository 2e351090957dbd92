"""The dashboard's pages of data sets: the list with a form to upload one, and one data set with its first rows."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse

from app.db import datasets as dataset_rows
from app.db.session import unit_of_work
from app.deps import FactoryDep, SettingsDep, StoreDep, WorkDep, transaction
from app.http import cursor as cursors
from app.services import datasets as service
from app.services.dataset_rows import Asked, preview
from app.services.local_models import local_models
from app.web.pages import PageCaller, render
from secateur.contract.errors import InvalidInput, NotFound, ServiceError

ROWS = 10  # that a page shows
CHARACTERS = 2_000  # of each of them

router = APIRouter(prefix="/ui/datasets", include_in_schema=False)


@router.get("")
@transaction
def datasets_page(
    work: WorkDep,
    settings: SettingsDep,
    _: PageCaller,
    cursor: Annotated[str | None, Query(max_length=64)] = None,
) -> HTMLResponse:
    """Data sets, newest first, and a form to upload one."""
    page = service.list_datasets(work, cursor=cursor, limit=25)
    return render(
        "datasets.html",
        datasets=page.datasets,
        older=cursors.encode(page.datasets[-1].id) if page.has_more else None,
        longest_name=service.MAX_NAME,
        locked=bool(settings.api_keys),
    )


@router.get("/{dataset_id}")
def dataset_page(
    dataset_id: str,
    factory: FactoryDep,
    store: StoreDep,
    settings: SettingsDep,
    _: PageCaller,
    model: Annotated[str, Query(max_length=4096)] = "",
) -> HTMLResponse:
    """One data set: its first rows, as they are or, where a model is named, as that sees them."""
    locked = bool(settings.api_keys)
    try:
        with unit_of_work(factory) as session:
            dataset = dataset_rows.get(session, UUID(dataset_id))
    except (ValueError, NotFound):
        detail = f"There is no data set {dataset_id}."
        return render("error.html", status=404, title="No such data set", detail=detail, locked=locked)
    named, problem = model.strip(), None
    try:
        shown = preview(factory, store, settings, dataset.id, Asked(ROWS, CHARACTERS, named or None))
    except ServiceError as error:
        problem = f"{error.detail[:1].upper()}{error.detail[1:]}"
        shown = None
        if isinstance(error, InvalidInput):  # of the model: the rows are there without it
            shown = preview(factory, store, settings, dataset.id, Asked(ROWS, CHARACTERS))
    return render(
        "dataset.html",
        dataset=dataset,
        rows=shown.data if shown else [],
        model=named,
        models=local_models(settings.model_roots) if settings.check_local else None,
        problem=problem,
        locked=locked,
    )
