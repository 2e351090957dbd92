"""Markdown for a pull request: the verdict first, tables whole, foreign text harmless."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from secateur.contract.report import Report
from secateur.report.markdown_text import code, escape
from workers.reporting import markdown

MakeReport = Callable[..., Report]


def tables(text: str) -> list[list[str]]:
    """Runs of table lines."""
    found: list[list[str]] = [[]]
    for line in text.splitlines():
        if line.startswith("|"):
            found[-1].append(line)
        elif found[-1]:
            found.append([])
    return [table for table in found if table]


def test_names_in_notes_are_code(report: Report) -> None:
    text = markdown.render(report.model_copy(update={"notes": ["Gate `max_kl` of @all was near, `<b>` too: <b>"]}))
    assert "- Gate `max_kl` of @\u200ball was near, `<b>` too: \\<b\\>\n" in text


def test_verdict_table_gates_links(report: Report) -> None:
    text = markdown.render(report, public_url="https://prune.example")
    assert text.startswith("## ❌ 1 of 4 gates failed\n")
    assert f"[Full report](<https://prune.example/jobs/{report.job_id}/report.html>)" in text
    assert "other parts of the same" in text
    assert "`commit=abc123`" in text
    figures, gates = tables(text)
    assert figures[0] == "| | original | pruned | recovered |"
    assert any(line.startswith("| Parameters | 134,515,008 | 113,275,008 <sub>−15.8 %</sub> |") for line in figures)
    assert len(gates) == 2 + 4
    for table in (figures, gates):
        assert len({line.replace("\\|", "").count("|") for line in table}) == 1


def test_without_address_there_are_no_links(report: Report) -> None:
    assert "](" not in markdown.render(report)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("plain", "`plain`"),
        ("a`b", "``a`b``"),
        ("`a", "`` `a ``"),
        ("a|b", "`a\\|b`"),
        ("a\nb", "`a b`"),
        ("", "` `"),
    ],
)
def test_code_spans_cannot_be_left(text: str, written: str) -> None:
    assert code(text) == written


def test_foreign_text_is_escaped() -> None:
    written = escape("[x](https://evil.example) @someone #12 <b> `a` | www.evil.example")
    assert written == (
        "\\[x\\](https:\u200b//evil.example) @\u200bsomeone \\#\u200b12 \\<b\\> \\`a\\` \\| www\u200b.evil.example"
    )


def test_hostile_names_leave_the_tables_whole(make_report: MakeReport, report: Report) -> None:
    variants = []
    for m in report.benchmarks.variants:
        texts = [
            p.model_copy(update={"text": p.text.model_copy(update={"description": "a | b\n## c", "sha256": "0"})})
            for p in m.perplexity[:1]
        ]
        variants.append(m.model_copy(update={"perplexity": texts, "fidelity": []}))
    model = report.model.model_copy(update={"id": "x`|\n# y"})
    changed = make_report(
        benchmarks=report.benchmarks.model_copy(update={"variants": variants}),
        pruned=report.pruned.model_copy(update={"model": model}),
    )
    text = markdown.render(changed)
    assert [line for line in text.splitlines() if line.startswith("#")] == [text.splitlines()[0]]
    figures = tables(text)[0]
    assert len({line.replace("\\|", "").count("|") for line in figures}) == 1
