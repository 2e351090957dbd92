"""A job with its stages as one JSON text, written by PostgreSQL in the names of `secateur.schemas.jobs`.

Submitting and listing are what clients ask for most often, and this text is what they are answered with, as it is: to
read it only to write it again took longer than the query. So it has every field of the schema, times in UTC as the
schema writes them, and every field of a problem. Results of stages, which are long, are left where they are.
"""

from __future__ import annotations


def job_json(*, stages: str = "stages", spec: bool = False) -> str:
    """An SQL expression on a row of jobs named `job`; `stages` is the table, or what stands for it, with its stages."""
    return f"""
        json_build_object(
            'id', job.id, 'state', job.state, 'verdict', job.verdict, 'model', job.model_id, 'labels', job.labels,
            'request_id', job.request_id,
            'created_at', {_time("job.created_at")}, 'updated_at', {_time("job.updated_at")},
            'started_at', {_time("job.started_at")}, 'finished_at', {_time("job.finished_at")},
            'cancel_requested_at', {_time("job.cancel_requested_at")}, 'deadline_at', {_time("job.deadline_at")},
            'stages', (
                SELECT json_agg(stage)
                FROM (
                    SELECT of.name, of.state, of.attempt, of.progress, {_time("of.started_at")} AS started_at,
                           {_time("of.finished_at")} AS finished_at, {_problem("of.problem")} AS problem
                    FROM {stages} AS of WHERE of.job_id = job.id ORDER BY of.position
                ) AS stage
            ),
            'problem', {_problem("job.problem")}, 'last_event_seq', job.last_event_seq
            {", 'spec', job.spec" if spec else ""}
        )::text
    """


def _time(column: str) -> str:
    return f"""to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""


def _problem(column: str) -> str:
    return f"""'{{"instance": null, "request_id": null, "stage": null, "errors": null}}'::jsonb || {column}"""
