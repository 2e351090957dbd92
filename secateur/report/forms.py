"""The forms that a report is written in, one row each: service, client, command line and pages ask here.

To add one: its module in `workers/reporting/`, with `render(report, public_url=…)`, and its row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class ReportForm:
    """One form."""

    name: str  # as the command line takes it
    title: str  # for people
    suffix: str  # of the path, and of the file that the report stage publishes
    media_type: str
    renderer: str | None  # the module that writes it; None: it is the report itself
    example: str = ""  # how it begins, for the API's page
    also: tuple[str, ...] = ()  # other media types that it is asked for by

    @property
    def file(self) -> str:
        return f"report.{self.suffix}"


JSON = ReportForm("json", "JSON", "json", "application/json", None)
HTML = ReportForm(
    "html", "HTML", "html", "text/html", "workers.reporting.html", "<!doctype html>\n<html lang=en>…</html>\n"
)
MARKDOWN = ReportForm(
    "md", "Markdown", "md", "text/markdown", "workers.reporting.markdown", "## ✅ All 4 gates passed\n"
)
JUNIT = ReportForm(
    "junit",
    "JUnit",
    "junit.xml",
    "application/xml",
    "workers.reporting.junit",
    '<testsuites name="secateur" tests="1" failures="0"/>\n',
    also=("text/xml",),
)

# In the order in which people see them.
FORMS: Mapping[str, ReportForm] = {form.name: form for form in (HTML, MARKDOWN, JUNIT, JSON)}
