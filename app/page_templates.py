"""How the pages of reports are filled in, of jobs by workers and of sweeps by the API: everything is escaped, and
nothing that is missing is passed over."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined

from secateur.report.text import parted, printable


def page_templates(package: str) -> Environment:
    """The templates in the folder `templates` of this package."""
    environment = Environment(
        loader=PackageLoader(package),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: printable(value) if type(value) is str else value,
    )
    environment.filters["parted"] = parted
    return environment
