"""`secateur datasets`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import Result

from app.api import datasets
from secateur.contract.errors import PayloadTooLarge, ServiceError
from tests.fixtures.answers import Service

Run = Callable[..., Result]
ID = datasets.EXAMPLE_ID


def problem(error: ServiceError) -> httpx.Response:
    return httpx.Response(error.status, json=error.to_problem())


def test_add_sends_the_file_with_its_checksum(service: Service, run: Run, tmp_path: Path) -> None:
    service.answers["POST /datasets"] = httpx.Response(201, json=datasets.EXAMPLE)
    path = tmp_path / "alpaca.jsonl"
    path.write_bytes(b'{"text": "a"}\n')
    result = run("datasets", "add", str(path), "--name", "mine")
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{ID}\n"
    assert f"upload:{ID}" in result.stderr
    assert json.loads(run("datasets", "add", str(path), "--name", "mine", "--json").stdout)["id"] == ID
    body = service.requests[-1].content
    assert b'filename="alpaca.jsonl"' in body
    assert b'{"text": "a"}\n' in body
    assert hashlib.sha256(path.read_bytes()).hexdigest().encode() in body
    assert b'name="name"\r\n\r\nmine' in body
    assert b'name="format"' not in body


@pytest.mark.parametrize(("error", "says"), [
    (datasets.UPLOAD_ERRORS[3], "/file/output line 3 has no string as `output` (given: 42)"),
    (PayloadTooLarge("the file has more than 10 bytes"), "the file has more than 10 bytes"),
])  # fmt: skip
def test_what_the_service_refuses(service: Service, run: Run, tmp_path: Path, error: ServiceError, says: str) -> None:
    service.answers["POST /datasets"] = problem(error)
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"x")
    result = run("datasets", "add", str(path))
    assert result.exit_code == 2
    assert says in result.stderr


def test_a_file_that_there_is_not(run: Run) -> None:
    assert run("datasets", "add", "missing.jsonl").exit_code == 2


def test_list_and_show(service: Service, run: Run) -> None:
    pages: list[Any] = [{**datasets.EXAMPLE_PAGE, "has_more": True, "next_cursor": "abc"}, datasets.EXAMPLE_PAGE]
    for arguments, count in ((("list",), 2), (("list", "-n", "1"), 1)):
        answers = iter(pages)

        def handle(request: httpx.Request, answers: Any = answers) -> httpx.Response:
            service.requests.append(request)
            return httpx.Response(200, json=next(answers))

        service.handle = handle  # type: ignore[method-assign]  # two pages by one path
        result = run("datasets", *arguments, "--json")
        assert [json.loads(line)["id"] for line in result.stdout.splitlines()] == [ID] * count
    del service.handle  # back to the class's own
    service.answers["GET /datasets"] = datasets.EXAMPLE_PAGE
    assert "alpaca.jsonl" in run("datasets", "list").stdout
    service.answers[f"GET /datasets/{ID}"] = datasets.EXAMPLE
    assert datasets.EXAMPLE["sha256"] in run("datasets", "show", ID).stdout
    assert json.loads(run("datasets", "show", ID, "--json").stdout) == datasets.EXAMPLE


def test_delete(service: Service, run: Run) -> None:
    service.answers[f"DELETE /datasets/{ID}"] = httpx.Response(204)
    assert run("datasets", "delete", ID).exit_code == 0
    assert json.loads(run("datasets", "delete", ID, "--json").stdout) == {"id": ID, "deleted": True}
    service.answers[f"DELETE /datasets/{ID}"] = problem(datasets.IN_USE)
    result = run("datasets", "delete", ID)
    assert result.exit_code == 2
    assert "is used by job" in result.stderr


def test_rows_are_shown_as_they_are_and_as_a_model_sees_them(service: Service, run: Run) -> None:
    row = datasets.EXAMPLE_ROWS["data"][0]
    service.answers[f"GET /datasets/{ID}/rows"] = httpx.Response(200, json={"data": [row | {"seen": None}]})
    plain = run("datasets", "preview", ID, "-n", "3")
    assert plain.exit_code == 0, plain.output
    assert '"role": "user"' in plain.stdout
    assert dict(service.requests[-1].url.params) == {"limit": "3", "characters": "1000"}
    service.answers[f"GET /datasets/{ID}/rows"] = httpx.Response(200, json=datasets.EXAMPLE_ROWS)
    seen = run("datasets", "preview", ID, "--model", "smollm2")
    assert "row 1 13 tokens, 4 learnt" in seen.stdout
    assert "<|im_start|>user\nHi<|im_end|>" in seen.stdout
    assert service.requests[-1].url.params["model"] == "smollm2"
    assert json.loads(run("datasets", "preview", ID, "--json").stdout) == row
    problem = {"parts": [], "problem": "the [template] says: no"}
    service.answers[f"GET /datasets/{ID}/rows"] = httpx.Response(200, json={"data": [row | {"seen": problem}]})
    assert "the [template] says: no" in run("datasets", "preview", ID, "--model", "m").stdout
