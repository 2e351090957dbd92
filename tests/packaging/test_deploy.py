"""What `deploy/` has for operators: rules and dashboards ask for figures that there are, each alert has its words, and
systemd takes the units."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.api.metrics import Metrics
from app.local.settings_list import page
from app.settings import Settings
from workers.supervision.worker_metrics import WorkerMetrics

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
RULES = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"][0]["rules"]
DASHBOARD = json.loads((DEPLOY / "grafana" / "secateur.json").read_text())
PAGE = (ROOT / "docs" / "operations.md").read_text()
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
QUERIES = [
    *(rule["expr"] for rule in RULES),
    *(target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]),
]
METRIC = re.compile(r"\bsecateur_\w+")


@pytest.fixture(scope="module")
def figures() -> dict[str, set[str]]:
    """Names of samples that an API or a worker shows → the labels that they may have."""
    api, worker = Metrics(Settings()), WorkerMetrics()
    api.observe_request("GET", "/jobs", 200, 0.1)
    with worker.attempt("score"):
        pass
    samples = [s for registry in (api.registry, worker.registry) for f in registry.collect() for s in f.samples]
    found: dict[str, set[str]] = {}
    for sample in samples:
        found.setdefault(sample.name, set()).update(sample.labels)
    # these ask the database, which no test of files has
    found |= {"secateur_jobs": {"state"}, "secateur_stages_waiting": set(), "secateur_broker_messages": set()}
    return found


def test_every_query_asks_for_figures_that_there_are(figures: dict[str, set[str]]) -> None:
    asked = {name for query in QUERIES for name in METRIC.findall(query)}
    assert asked - figures.keys() == set()
    assert {"secateur_stage_seconds_count", "secateur_worker_device_works", "secateur_up"} <= asked


def test_every_label_in_a_query_is_one_of_its_figure(figures: dict[str, set[str]]) -> None:
    for query in QUERIES:
        for name, selector in re.findall(r"(secateur_\w+)\{([^}]*)\}", query):
            assert set(re.findall(r"(\w+)(?:=~|!=|!~|=)", selector)) <= figures[name] | {"job", "instance"}, query
        grouped = {label for labels in re.findall(r"by \(([^)]*)\)", query) for label in re.split(r",\s*", labels)}
        known = {"job", "instance"}.union(*(figures[name] for name in METRIC.findall(query)))
        assert grouped <= known, query
        assert query.count("(") == query.count(")")


def test_the_tables_of_figures_are_what_the_api_shows() -> None:
    source = (ROOT / "app" / "api" / "metrics.py").read_text()
    for name in ("secateur_jobs", "secateur_stages_waiting", "secateur_broker_messages", "secateur_up"):
        assert f'"{name}"' in source


def test_each_alert_has_its_words() -> None:
    headings = {found.lower() for found in re.findall(r"^### (\w+)$", PAGE, re.MULTILINE)}
    names = [rule["alert"] for rule in RULES]
    assert len(set(names)) == len(names)
    assert {name.lower() for name in names} == headings
    for rule in RULES:
        assert rule["annotations"]["runbook"] == f"docs/operations.md#{rule['alert'].lower()}"
        assert rule["labels"]["severity"] in ("page", "ticket")


def test_panels_have_numbers_and_places_of_their_own() -> None:
    panels: list[dict[str, Any]] = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24
    assert {panel["datasource"]["uid"] for panel in panels} == {"${datasource}"}


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    """As they stand, but for the program, which is not installed here, and the user."""
    for unit in UNITS:
        text = re.sub(r"^ExecStart=\S+", f"ExecStart={shutil.which('true')}", unit.read_text(), flags=re.MULTILINE)
        text = re.sub(r"^(User|Group)=secateur$", r"\1=root", text, flags=re.MULTILINE)
        (tmp_path / unit.name).write_text(text)
    files = [str(tmp_path / unit.name) for unit in UNITS]
    done = subprocess.run(["systemd-analyze", "verify", *files], capture_output=True, text=True, check=False)
    assert [line for line in done.stderr.splitlines() if str(tmp_path) in line or "secateur-" in line] == []
    assert len(UNITS) == 3


def test_the_units_run_commands_that_there_are() -> None:
    started = [line for unit in UNITS for line in unit.read_text().splitlines() if line.startswith("ExecStart=")]
    names = [line.removeprefix("ExecStart=/opt/secateur/bin/secateur ") for line in started]
    assert names == ["api", "migrate", "worker"]


def test_settings_that_the_page_names_are_settings() -> None:
    named = set(re.findall(r"SECATEUR_[A-Z_]+", PAGE))
    assert named - set(re.findall(r"SECATEUR_[A-Z_]+", page())) == set()
