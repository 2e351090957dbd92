"""The tools of an agent, called by the protocol's own client against a service."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import pytest
from mcp import Client, StdioServerParameters
from mcp.types import CallToolResult, TextContent, TextResourceContents

from secateur.agents import server
from secateur.contract.spec import CompressionSpec
from secateur.schemas.jobs import Job
from tests.fixtures.played_service import MODEL

SPEC = {"model": {"source": "local", "path": MODEL}, "pruning": {"kind": "depth", "blocks": 6}}
Calls = Callable[[Client], Awaitable[None]]


@pytest.fixture
def talk(played_service: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[Calls], None]:
    """Has an agent do something with a service whose jobs end as they come."""
    monkeypatch.setenv("SECATEUR_URL", played_service)

    def run(calls: Calls) -> None:
        async def connected() -> None:
            async with Client(server()) as agent:
                await calls(agent)

        asyncio.run(asyncio.wait_for(connected(), 120))

    return run


def text_of(answer: CallToolResult) -> str:
    return "\n".join(part.text for part in answer.content if isinstance(part, TextContent))


async def call(agent: Client, tool: str, **arguments: Any) -> Any:
    """What a tool gives; a list or a text is in the field `result`."""
    answer = await agent.call_tool(tool, arguments)
    assert not answer.is_error, text_of(answer)
    found = answer.structured_content
    assert found is not None
    return found["result"] if list(found) == ["result"] else found


def test_from_an_estimate_to_the_report(talk: Callable[[Calls], None]) -> None:
    async def calls(agent: Client) -> None:
        assert (await call(agent, "estimate", spec=SPEC))["stages"]
        key = str(uuid4())
        job = Job.model_validate(await call(agent, "submit", spec=SPEC, idempotency_key=key))
        assert (await call(agent, "submit", spec=SPEC, idempotency_key=key))["id"] == str(job.id)
        while (await call(agent, "wait", job_id=str(job.id), seconds=20))["state"] != "succeeded":
            pass
        assert (await call(agent, "job", job_id=str(job.id)))["verdict"] == "passed"
        assert [one["id"] for one in await call(agent, "jobs", state="succeeded")] == [str(job.id)]
        assert await call(agent, "jobs", labels={"branch": "main"}) == []
        assert "The gate passed" in await call(agent, "report", job_id=str(job.id))
        assert json.loads(await call(agent, "report", job_id=str(job.id), form="json"))["verdict"] == "passed"
        assert await call(agent, "logs", job_id=str(job.id), last=1) == []
        assert await call(agent, "workers") == []
        assert "perplexity" in json.dumps(await call(agent, "catalog"))

    talk(calls)


def test_two_jobs_are_compared_and_a_sweep_is_reported(talk: Callable[[Calls], None]) -> None:
    async def calls(agent: Client) -> None:
        sweep = await call(agent, "submit_sweep", asked={"spec": SPEC, "points": [{"seed": 1}, {"seed": 2}]})
        one, two = (point["job_id"] for point in sweep["points"])
        for job_id in (one, two):
            while (await call(agent, "wait", job_id=job_id))["state"] != "succeeded":
                pass
        compared = await call(agent, "compare", job_id=one, other_id=two)
        assert [change["pointer"] for change in compared["spec"]] == []  # the played report is one and the same
        assert (await call(agent, "sweep", sweep_id=sweep["id"]))["state"] == "succeeded"
        verdict, text = await call(agent, "sweep_report", sweep_id=sweep["id"])
        assert verdict["verdict"] == "passed"
        assert text.startswith("#")

    talk(calls)


def test_what_the_service_refuses_is_told_field_by_field(talk: Callable[[Calls], None]) -> None:
    async def calls(agent: Client) -> None:
        bad = {**SPEC, "pruning": {"kind": "depth", "blocks": 40}}
        for tool in ("estimate", "submit"):
            answer = await agent.call_tool(tool, {"spec": bad})
            assert answer.is_error
            assert "/pruning/blocks: " in text_of(answer)
            assert "(given: 40)" in text_of(answer)
        missing = str(uuid4())
        for tool in ("job", "report", "cancel"):
            answer = await agent.call_tool(tool, {"job_id": missing})
            assert answer.is_error
            assert f"there is no job {missing}" in text_of(answer)
        for arguments in ({"job_id": "7"}, {"job_id": missing, "seconds": 1000}):
            assert (await agent.call_tool("wait", arguments)).is_error

    talk(calls)


def test_a_service_that_does_not_answer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECATEUR_URL", "http://127.0.0.1:9")

    async def calls() -> None:
        async with Client(server()) as agent:
            answer = await agent.call_tool("estimate", {"spec": SPEC})
            assert answer.is_error
            assert "127.0.0.1:9" in text_of(answer)

    asyncio.run(asyncio.wait_for(calls(), 120))


def test_an_agent_is_told_what_there_is() -> None:
    async def calls() -> None:
        async with Client(server()) as agent:
            tools = {tool.name: tool for tool in (await agent.list_tools()).tools}
            resource = (await agent.read_resource("secateur://schema/job")).contents[0]
            assert isinstance(resource, TextResourceContents)
            assert json.loads(resource.text) == CompressionSpec.model_json_schema()
        assert not any("delete" in name for name in tools)
        assert all(tool.description and tool.annotations for tool in tools.values())
        stops = {name for name, tool in tools.items() if tool.annotations and tool.annotations.destructive_hint}
        assert stops == {"cancel"}
        assert "context" not in json.dumps([tool.input_schema for tool in tools.values()])

    asyncio.run(asyncio.wait_for(calls(), 120))


def test_the_command_speaks_it_over_standard_input_and_output(played_service: str) -> None:
    """Nothing else is printed there, which would be no message."""

    async def calls() -> None:
        command = StdioServerParameters(
            command=sys.executable,
            args=["-c", "from secateur.cli.main import main; main()", "mcp"],
            env={**os.environ, "SECATEUR_URL": played_service},
        )
        async with Client(command) as agent:
            assert (await call(agent, "jobs")) == []

    asyncio.run(asyncio.wait_for(calls(), 180))
