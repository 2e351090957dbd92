"""A job with its stages as one JSON text, written by PostgreSQL in the names of `secateur.schemas.jobs`.

Whoever asks for jobs is answered with this text as it is, be it one job or a list, so that a job looks the same
wherever it is read; to read rows only to write them again took longer than the query besides. So it has every field of
the schema, null where there is nothing, those of a problem and its fields too, and times in UTC to the microsecond.
Results of stages, which are long, are left where they are.
"""

from __future__ import annotations


def job_json(*, stages: str = "stages", spec: bool = False, queue: str = "NULL") -> str:
    """An SQL expression on a row of jobs named `job`; `stages` is the table, or what stands for it, with its stages.

    Args:
        queue: an expression for where the job stands in the queue, which goes with the spec.
    """
    return f"""
        json_build_object(
            'id', job.id, 'state', job.state, 'verdict', job.verdict, 'model', job.model_id, 'labels', job.labels,
            'sweep_id', job.sweep_id, 'request_id', job.request_id,
            'created_at', {_time("job.created_at")}, 'updated_at', {_time("job.updated_at")},
            'started_at', {_time("job.started_at")}, 'finished_at', {_time("job.finished_at")},
            'cancel_requested_at', {_time("job.cancel_requested_at")}, 'deadline_at', {_time("job.deadline_at")},
            'stages', (
                SELECT json_agg(stage)
                FROM (
                    SELECT of.key, of.kind, of.needs, of.added_by, of.waits_for, of.state, of.attempt, of.progress,
                           of.memory AS memory_bytes, of.use,
                           {_time("of.started_at")} AS started_at,
                           {_time("of.finished_at")} AS finished_at, {_problem("of.problem")} AS problem
                    FROM {stages} AS of WHERE of.job_id = job.id ORDER BY of.place
                ) AS stage
            ),
            'problem', {_problem("job.problem")}, 'last_event_seq', job.last_event_seq
            {f", 'asked_of', job.asked_of, 'queue', {queue}, 'spec', job.spec" if spec else ""}
        )::text
    """


def _time(column: str) -> str:
    return f"""to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""


def _problem(column: str) -> str:
    return f"""
        CASE WHEN {column} IS NOT NULL THEN
            '{{"instance": null, "request_id": null, "stage": null, "errors": null}}'::jsonb || {column}
            || CASE WHEN jsonb_typeof({column} -> 'errors') = 'array' THEN jsonb_build_object('errors', (
                SELECT coalesce(jsonb_agg(
                    '{{"value": null, "expected": null, "parameter": null, "line": null}}'::jsonb || field
                    ORDER BY place
                ), '[]'::jsonb)
                FROM jsonb_array_elements({column} -> 'errors') WITH ORDINALITY AS given (field, place)
            )) ELSE '{{}}'::jsonb END
        END
    """
