"""The style of a report's page, be it of a job or of a sweep: light, dark, on a phone, in print."""

from __future__ import annotations

from importlib.resources import files

STYLE = (files(__package__) / "page.css").read_text(encoding="utf-8").rstrip()
