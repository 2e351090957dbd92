"""The service as tools of an agent: a server of the Model Context Protocol over standard input and output.

Every tool is a call of the client, so an agent may do what the key in SECATEUR_API_KEY may do, and nothing is deleted.
What the service refuses comes back as its own words: the field, the value and what is expected. `secateur mcp` starts
it; the extra `mcp` of the client brings the library, which speaks the protocol.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import wraps
from typing import Annotated, Any, Literal, ParamSpec, TypeVar
from uuid import UUID

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations
from pydantic import Field

from secateur.about import VERSION
from secateur.client.async_client import AsyncClient
from secateur.client.errors import ClientError, RequestRefused, WaitTimedOut
from secateur.contract.comparison import JobComparison
from secateur.contract.spec import CompressionSpec
from secateur.contract.sweep import SweepSpec
from secateur.report.forms import FORMS
from secateur.schemas.catalog import Catalog
from secateur.schemas.estimates import Estimate
from secateur.schemas.events import LogLine
from secateur.schemas.jobs import Job, JobSummary
from secateur.schemas.sweeps import Sweep, SweepVerdict
from secateur.schemas.workers import Worker

INSTRUCTIONS = """Prunes large language models as jobs of a service: blocks that matter least are removed, quality is
recovered by light training, and the result is measured against the original.

1. Read `secateur://schema/job` for what a job's spec may hold, or call `catalog`. The least is
   {"model": {"source": "hub", "id": "org/name"}, "pruning": {"kind": "depth", "blocks": 6}}.
2. Call `estimate` first: it checks the spec as a submission is checked, and says what the job will take.
3. Call `submit`, then `wait`, again and again until the job is over: jobs take minutes to hours.
4. Call `report`. The verdict says whether the job's gates passed. That of a job without gates is "none", which is no
   pass."""

WAIT_SECONDS = 50.0  # of one call: clients give up on tools that are silent for a minute
LOG_LINES = 200

_READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)
_MAKES = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=False, open_world_hint=False)
_STOPS = ToolAnnotations(read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=False)

P = ParamSpec("P")
T = TypeVar("T")
Calls = Context[AsyncClient]
Spec = Annotated[dict[str, Any], Field(description="A job's spec, as secateur://schema/job describes it.")]
Key = Annotated[
    str | None, Field(description="The same key with the same body gives what was made first, and not a second one.")
]
ReportForm = Literal[tuple(name for name in FORMS if name != "html")]  # type: ignore[valid-type]  # of the rows


def server() -> MCPServer[AsyncClient]:
    """The server with its tools and resources. It connects to SECATEUR_URL when it runs."""
    made: MCPServer[AsyncClient] = MCPServer(
        "secateur",
        title="Secateur",
        version=VERSION,
        instructions=INSTRUCTIONS,
        lifespan=_connected,
        log_level="WARNING",
    )
    for hints, tools in (
        (_READS, (catalog, estimate, jobs, job, wait, logs, report, compare, workers, sweep, sweep_report)),
        (_MAKES, (submit, submit_sweep, retry)),
        (_STOPS, (cancel,)),
    ):
        for tool in tools:
            made.tool(annotations=hints)(tool)
    made.resource("secateur://schema/job", mime_type="application/schema+json")(job_schema)
    made.resource("secateur://schema/sweep", mime_type="application/schema+json")(sweep_schema)
    return made


@asynccontextmanager
async def _connected(_: MCPServer[AsyncClient]) -> AsyncIterator[AsyncClient]:
    async with AsyncClient() as client:
        yield client


def _told(call: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
    """What the service refuses, or that it does not answer, is an answer for the agent and no fault of the tool."""

    @wraps(call)
    async def tool(*arguments: P.args, **named: P.kwargs) -> T:
        try:
            return await call(*arguments, **named)
        except RequestRefused as error:
            lines = [f"{error.problem.title}: {error.problem.detail}"]
            for field in error.problem.errors or []:
                given = f" (given: {field.value!r})" if field.value is not None else ""
                expected = f"; expected: {field.expected}" if field.expected else ""
                lines.append(
                    f"{field.parameter or field.pointer or 'body'}: {field.detail.removesuffix('.')}{given}{expected}"
                )
            raise ToolError("\n".join(lines)) from error
        except ClientError as error:
            raise ToolError(str(error)) from error

    return tool


def _client(context: Calls) -> AsyncClient:
    return context.request_context.lifespan_context


# --- jobs ---------------------------------------------------------------------------------------------------------


@_told
async def catalog(context: Calls) -> Catalog:
    """What the service offers: criteria, ways to prune, recoveries, quantisations, presets, families, tasks."""
    return await _client(context).catalog()


@_told
async def estimate(spec: Spec, context: Calls) -> Estimate:
    """Check a job's spec as a submission is checked, and say what the job will take and give. Nothing is queued."""
    return await _client(context).jobs.estimate(spec)


@_told
async def submit(spec: Spec, context: Calls, idempotency_key: Key = None) -> Job:
    """Submit a job, which begins when a worker is free."""
    return await _client(context).jobs.create(spec, idempotency_key=idempotency_key)


@_told
async def jobs(
    context: Calls,
    state: Annotated[str | None, Field(description="queued, running, succeeded, failed or cancelled")] = None,
    verdict: Annotated[str | None, Field(description="passed, failed or none")] = None,
    model: Annotated[str | None, Field(description="Hub id or path, exactly.")] = None,
    labels: dict[str, str] | None = None,
    limit: Annotated[int, Field(ge=1, le=100)] = 20,
) -> list[JobSummary]:
    """Jobs, the newest first; all given conditions must hold."""
    found = []
    listed = _client(context).jobs.list(state=state, verdict=verdict, model=model, labels=labels, page_size=limit)
    async for one in listed:
        found.append(one)
        if len(found) == limit:
            break
    return found


@_told
async def job(job_id: UUID, context: Calls) -> Job:
    """One job with its stages, how far they are, and its spec."""
    return await _client(context).jobs.retrieve(job_id)


@_told
async def wait(
    job_id: UUID, context: Calls, seconds: Annotated[float, Field(gt=0, le=WAIT_SECONDS)] = WAIT_SECONDS
) -> Job:
    """Wait until the job is over, at most so long; the job as it then is. Call it again while the job goes on."""
    client = _client(context)
    try:
        return await client.jobs.wait(job_id, timeout=seconds)
    except WaitTimedOut:
        return await client.jobs.retrieve(job_id)


@_told
async def logs(job_id: UUID, context: Calls, last: Annotated[int, Field(ge=1, le=LOG_LINES)] = 50) -> list[LogLine]:
    """The last lines that the job's stages have logged."""
    lines: deque[LogLine] = deque(maxlen=last)
    async for line in _client(context).jobs.logs(job_id):
        lines.append(line)
    return list(lines)


@_told
async def cancel(job_id: UUID, context: Calls) -> Job:
    """End a job that waits or runs."""
    return await _client(context).jobs.cancel(job_id)


@_told
async def retry(job_id: UUID, context: Calls) -> Job:
    """Run a failed or cancelled job again, from its last checkpoint."""
    return await _client(context).jobs.retry(job_id)


# --- results ------------------------------------------------------------------------------------------------------


@_told
async def report(job_id: UUID, context: Calls, form: ReportForm = "md") -> str:  # type: ignore[valid-type]
    """The report of a job that has succeeded: speed, size and quality against the original, gates, what to mind."""
    return await _client(context).jobs.report_text(job_id, form)


@_told
async def compare(job_id: UUID, other_id: UUID, context: Calls) -> JobComparison:
    """What differs between two jobs that have succeeded, in their specs and in every figure that both have."""
    return await _client(context).jobs.compare(job_id, other_id)


@_told
async def workers(context: Calls) -> list[Worker]:
    """Who runs the stages of jobs: device, memory, what each runs, when it was heard of last."""
    return await _client(context).workers.list()


# --- sweeps -------------------------------------------------------------------------------------------------------


@_told
async def submit_sweep(
    asked: Annotated[dict[str, Any], Field(description="As secateur://schema/sweep describes it.")],
    context: Calls,
    idempotency_key: Key = None,
) -> Sweep:
    """Submit many jobs that share what they can: a spec with a grid, or with a list of points."""
    return await _client(context).sweeps.create(asked, idempotency_key=idempotency_key)


@_told
async def sweep(sweep_id: UUID, context: Calls) -> Sweep:
    """One sweep with its points, as they stand."""
    return await _client(context).sweeps.retrieve(sweep_id)


@_told
async def sweep_report(sweep_id: UUID, context: Calls) -> tuple[SweepVerdict, str]:
    """Whether a point passes all gates and which is recommended; then the report in Markdown, also while it runs."""
    client = _client(context)
    verdict, text = await asyncio.gather(client.sweeps.verdict(sweep_id), client.sweeps.report_text(sweep_id))
    return verdict, text


# --- what a spec may hold -----------------------------------------------------------------------------------------


def job_schema() -> dict[str, Any]:
    """JSON schema of a job's spec."""
    return CompressionSpec.model_json_schema()


def sweep_schema() -> dict[str, Any]:
    """JSON schema of a sweep."""
    return SweepSpec.model_json_schema()
