"""The style of a report's page, be it of a job or of a sweep: light, dark, on a phone, in print.

That of tabs is the dashboard's too, which brings its own colours: the variables --ink, --muted and --line.
"""

from __future__ import annotations

from importlib.resources import files

_HERE = files(__package__)

TABS = (_HERE / "tabs.css").read_text(encoding="utf-8").rstrip()
STYLE = f"{TABS}\n{(_HERE / 'page.css').read_text(encoding='utf-8').rstrip()}"  # whose print shows all tabs
