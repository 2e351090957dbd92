"""What `POST /jobs` and `GET /jobs` are measured against: the least that a FastAPI service on PostgreSQL can do.

One table, one INSERT or SELECT, plain psycopg on as many connections as the service has, JSON in and out. No check of
the body, no stages, no events, no message to a worker.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from queue import LifoQueue
from typing import Any
from uuid import UUID

import psycopg
from fastapi import FastAPI
from psycopg.types.json import Jsonb
from uuid6 import uuid7

from app.db.threads import POOL_SIZE

TABLE = """
    CREATE TABLE IF NOT EXISTS bare_jobs (
        id uuid PRIMARY KEY, created_at timestamptz NOT NULL DEFAULT now(), state text NOT NULL, spec jsonb NOT NULL
    )
"""

app = FastAPI()
_free: LifoQueue[psycopg.Connection[Any]] = LifoQueue()


def create_app() -> FastAPI:
    """The application, with its connections open."""
    url = os.environ["BARE_DATABASE_URL"]
    for number in range(POOL_SIZE):
        connection = psycopg.connect(url)
        if number == 0:
            connection.execute(TABLE)
            connection.commit()
        _free.put(connection)
    return app


@contextmanager
def _connection() -> Iterator[psycopg.Connection[Any]]:
    connection = _free.get()
    try:
        with connection.transaction():
            yield connection
    finally:
        _free.put(connection)


@app.post("/jobs", status_code=202)
def submit_job(spec: dict[str, Any]) -> dict[str, Any]:
    """One row, committed, and told."""
    job_id = UUID(int=uuid7().int)
    with _connection() as connection:
        (created,) = connection.execute(
            "INSERT INTO bare_jobs (id, state, spec) VALUES (%s, 'queued', %s) RETURNING created_at",
            (job_id, Jsonb(spec)),
        ).fetchone() or (None,)
    return {"id": job_id, "created_at": created, "state": "queued", "spec": spec}


@app.get("/jobs")
def list_jobs() -> dict[str, Any]:
    """The twenty newest rows, without their specs."""
    with _connection() as connection:
        rows = connection.execute("SELECT id, created_at, state FROM bare_jobs ORDER BY id DESC LIMIT 20").fetchall()
    return {"data": [{"id": row[0], "created_at": row[1], "state": row[2]} for row in rows]}
