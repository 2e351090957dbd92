"""What the documentation's site has beside the pages of docs/: a hook of mkdocs, which `make docs` runs.

- The reference of HTTP API and command line is written from the code, whenever the site is made.
- The decisions are listed by their titles.
- A link to a file of the repository that is no page, such as an example, leads to a copy of it in the site.
"""

from __future__ import annotations

import json
import os
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"\]\(([^)#\s:]+)(#[^)\s]*)?\)")
COPIES = "repository"  # the site's folder of files that lie elsewhere in the repository
DECISIONS = "decisions/README.md"
ICON = ROOT / "app" / "web" / "static" / "icon.svg"


# --- the reference ------------------------------------------------------------------------------------------------


def http_page(document: dict[str, Any]) -> str:
    """Every operation of an OpenAPI document, by tag."""
    parts = [
        f"# HTTP API\n\n{document['info']['description']}\n\nA running service shows the same at `/docs`, to try out."
    ]
    for tag in document["tags"]:
        parts.append(f"## {tag['name'].capitalize()}\n\n{tag['description']}")
        for path, item in document["paths"].items():
            for method, operation in item.items():
                if tag["name"] in operation["tags"]:
                    parts.append("\n\n".join(_operation(method, path, operation)))
    return "\n\n".join(parts) + "\n"


def _operation(method: str, path: str, operation: dict[str, Any]) -> Iterator[str]:
    yield f"### {operation['summary']}"
    yield f"`{method.upper()} {path}`"
    yield str(operation["description"])
    parameters = [one for one in operation.get("parameters", ()) if one.get("description")]
    if parameters:
        rows = [f"| `{one['name']}` | {one['in']} | {_cell(one['description'])} |" for one in parameters]
        yield "\n".join(["| parameter | in | what |", "|:--|:--|:--|", *rows])
    for content in operation.get("requestBody", {}).get("content", {}).values():
        for example in content.get("examples", {}).values():
            yield f"{example['summary']}. {example.get('description', '')}".rstrip()
            yield f"```json\n{json.dumps(example['value'], indent=2, ensure_ascii=False)}\n```"
    answers = [f"| {status} | {_cell(answer['description'])} |" for status, answer in operation["responses"].items()]
    yield "\n".join(["| status | when |", "|:--|:--|", *answers])


def _cell(words: str) -> str:
    return " ".join(words.split()).replace("|", "\\|")


def command_page() -> str:
    """Every command with its options, as `--help` has them."""
    from typer import Context
    from typer.cli import get_docs_for_click
    from typer.main import get_command

    from secateur.cli.main import app

    command = get_command(app)
    text = get_docs_for_click(obj=command, ctx=Context(command), name="secateur", title="Command line")
    return re.sub(r"\*\*Commands\*\*:\n\n(\* .*\n)+\n", "", str(text))  # cut short there, and each follows in full


def decision_titles() -> dict[str, str]:
    """Each decision's file with its title, in the order of the files' names."""
    pages = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    return {page.name: page.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ") for page in pages}


def pages() -> dict[str, str]:
    """The text of each page that is made here, by its path below docs/."""
    os.environ.setdefault("SECATEUR_DATA_DIR", str(ROOT / ".cache" / "docs-data"))
    from app.main import create_app
    from app.settings import Settings

    listed = "\n".join(f"- [{title}]({name})" for name, title in decision_titles().items())
    return {
        "reference/http.md": http_page(create_app(Settings()).openapi()),
        "reference/command-line.md": command_page(),
        DECISIONS: f"# Decisions\n\nWhy it is as it is, one page each.\n\n{listed}\n",
        "CHANGELOG.md": (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"),
    }


# --- mkdocs -------------------------------------------------------------------------------------------------------


def on_config(config: Any) -> Any:
    config.nav.append({"Decisions": [DECISIONS, *(f"decisions/{name}" for name in decision_titles())]})
    return config


def on_files(files: Any, config: Any) -> Any:
    from mkdocs.structure.files import File

    for path, text in pages().items():
        files.append(File.generated(config, path, content=text))
    files.append(File.generated(config, "images/icon.svg", abs_src_path=str(ICON)))
    for path in sorted({target for page in (ROOT / "docs").rglob("*.md") for target in _copied(page)}):
        files.append(File.generated(config, f"{COPIES}/{path}", abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Links out of docs/ lead to the copies, and a link to a folder to its first page."""
    folder = posixpath.dirname(page.file.src_uri)

    def led(found: re.Match[str]) -> str:
        target, anchor = found[1], found[2] or ""
        if target.endswith("/"):
            target = f"{target}README.md"
        outside = posixpath.normpath(posixpath.join("docs", folder, target))
        if not outside.startswith("docs/") and (ROOT / outside).is_file():
            target = posixpath.relpath(f"{COPIES}/{outside}", folder or ".")
        return f"]({target}{anchor})"

    return LINK.sub(led, markdown)


def _copied(page: Path) -> Iterator[str]:
    """Files of the repository, outside docs/, that the page has links to."""
    for target, _ in LINK.findall(page.read_text(encoding="utf-8")):
        path = (page.parent / target).resolve()
        if path.is_file() and not path.is_relative_to(ROOT / "docs"):
            yield path.relative_to(ROOT).as_posix()
