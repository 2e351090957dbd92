"""A job with its stages as one JSON text, written by PostgreSQL in the names of `app.schemas.jobs`.

Submitting and listing are what clients ask for most often. Objects of the mapper for a job and its stages cost several
times what the query does, and all that is done with them there is to write them as JSON. So pydantic reads this text,
and nothing is made of it in between. Results of stages, which are long, are left where they are.
"""

from __future__ import annotations


def job_json(*, stages: str = "stages", spec: bool = False) -> str:
    """An SQL expression on a row of jobs named `job`; `stages` is the table, or what stands for it, with its stages."""
    return f"""
        json_build_object(
            'id', job.id, 'state', job.state, 'verdict', job.verdict, 'model', job.model_id, 'labels', job.labels,
            'problem', job.problem, 'created_at', job.created_at, 'updated_at', job.updated_at,
            'started_at', job.started_at, 'finished_at', job.finished_at,
            'cancel_requested_at', job.cancel_requested_at, 'deadline_at', job.deadline_at,
            'last_event_seq', job.last_event_seq, {"'spec', job.spec," if spec else ""}
            'stages', (
                SELECT json_agg(
                    json_build_object(
                        'name', of.name, 'state', of.state, 'attempt', of.attempt, 'progress', of.progress,
                        'started_at', of.started_at, 'finished_at', of.finished_at, 'problem', of.problem
                    ) ORDER BY of.position
                )
                FROM {stages} AS of WHERE of.job_id = job.id
            )
        )::text
    """
