"""`secateur settings`: what people and programs read of it."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from app.local.settings_list import all_settings
from secateur.cli.main import app


def test_settings_as_json_are_one_a_line() -> None:
    result = CliRunner().invoke(app, ["settings", "--json"])
    assert result.exit_code == 0, result.output
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert [one["variable"] for one in found] == [one.variable for one in all_settings()]
    assert {"variable", "default", "description"} == set(found[0])
