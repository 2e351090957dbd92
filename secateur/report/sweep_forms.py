"""The forms that a sweep's report is written in, as those of a job's (`forms.py`); the service writes them when asked.

To add one: its module in `app/reporting/`, with `render(report, public_url=…)`, and its row.
"""

from __future__ import annotations

from collections.abc import Mapping

from secateur.report.forms import ReportForm

JSON = ReportForm("json", "JSON", "json", "application/json", None)
HTML = ReportForm(
    "html", "HTML", "html", "text/html", "app.reporting.sweep_html", "<!doctype html>\n<html lang=en>…</html>\n"
)
MARKDOWN = ReportForm(
    "md", "Markdown", "md", "text/markdown", "app.reporting.sweep_markdown", "## ✅ Point 2 passes all gates\n"
)
JUNIT = ReportForm(
    "junit",
    "JUnit",
    "junit.xml",
    "application/xml",
    "app.reporting.sweep_junit",
    '<testsuites name="secateur" tests="7" failures="0"/>\n',
    also=("text/xml",),
)
CSV = ReportForm(
    "csv",
    "CSV",
    "csv",
    "text/csv",
    "app.reporting.sweep_csv",
    "point,pruning.blocks,job,state,verdict,standing,speedup,speedup low,speedup high\n",
)

# In the order in which people see them.
SWEEP_FORMS: Mapping[str, ReportForm] = {form.name: form for form in (HTML, MARKDOWN, CSV, JUNIT, JSON)}
