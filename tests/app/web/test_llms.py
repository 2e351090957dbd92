"""The page for agents: what it says is true."""

from __future__ import annotations

import json
import re

from starlette.testclient import TestClient


def test_its_example_can_be_submitted_and_its_links_lead_somewhere(client: TestClient) -> None:
    page = client.get("/llms.txt")
    assert page.headers["content-type"].startswith("text/markdown")
    assert page.text.startswith("# Secateur\n\n> ")
    (example,) = re.findall(r"```json\n(.*?)```", page.text, flags=re.DOTALL)
    response = client.post("/jobs", json=json.loads(example))
    assert response.status_code == 202, response.text
    links = re.findall(r"\]\((.+?)\)", page.text)
    assert links == ["openapi.json", "catalog", "docs"]
    assert all(client.get(f"/{link}").status_code == 200 for link in links)
    paths = set(client.get("/openapi.json").json()["paths"])
    named = {path.replace("{id}", "{job_id}") for path in re.findall(r"`(?:GET|POST) (/[^`]*)`", page.text)}
    assert named
    assert named <= paths
