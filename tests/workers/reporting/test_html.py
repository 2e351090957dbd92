"""The page is well-formed, self-contained, accessible, and holds hostile text as text."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from secateur.contract.measurements import Sample
from secateur.contract.numbers import duration
from secateur.contract.report import Report
from secateur.contract.results import (
    BlockWidth,
    Healed,
    HealedCut,
    KeptExperts,
    MixtureExperts,
    RefittedBlocks,
    UnitScore,
    UnitScores,
)
from workers.reporting import html

MakeReport = Callable[..., Report]

VOID = {"meta", "br", "link", "img", "input", "hr"}
HOSTILE = "</style></title><script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{7*7}}\x00\ud800&amp;\u202e"


class Page(HTMLParser):
    """Checks nesting, and gathers tags, ids, references and text."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)

    def values(self, attribute: str) -> list[str]:
        return [value for _, attrs in self.tags if (value := attrs.get(attribute)) is not None]


def svgs(text: str) -> list[ET.Element]:
    return [ET.fromstring(part) for part in re.findall(r"<svg.*?</svg>", text, re.DOTALL)]


def hostile(make_report: MakeReport, report: Report) -> Report:
    """A report in which every foreign string is an attack."""
    model = report.model.model_copy(update={"id": HOSTILE, "family": HOSTILE, "revision": HOSTILE})
    variants = []
    for m in report.benchmarks.variants:
        perplexity = [
            p.model_copy(update={"text": p.text.model_copy(update={"description": HOSTILE, "sha256": str(i)})})
            for i, p in enumerate(m.perplexity)
        ]
        samples = [Sample(prompt=HOSTILE, text=HOSTILE)]
        variants.append(m.model_copy(update={"perplexity": perplexity, "fidelity": [], "samples": samples}))
    assert report.scores is not None
    machine = report.benchmarks.environment.model_copy(update={"device_name": HOSTILE, "versions": {HOSTILE: HOSTILE}})
    return make_report(
        pruned=report.pruned.model_copy(update={"model": model, "kind": HOSTILE, "notes": [HOSTILE]}),
        scores=report.scores.model_copy(update={"criterion": HOSTILE}),
        benchmarks=report.benchmarks.model_copy(update={"variants": variants, "environment": machine}),
        labels={"commit": HOSTILE.replace("\ud800", "")},
    )


def test_structure(report: Report) -> None:
    text = html.render(report)
    page = Page(text)
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    for reference in page.values("aria-labelledby"):
        assert set(reference.split()) <= set(ids)
    assert page.count("h1") == 1
    assert all(attrs.get("scope") for tag, attrs in page.tags if tag == "th")
    assert page.values("lang") == ["en"]
    assert "1 of 4 gates failed" in page.text
    assert "1.24×" in page.text
    assert "134,515,008" in page.text
    assert "67.1 %" in page.text
    assert "sha256 of the token ids" in page.text


def test_names_in_notes_are_code_and_the_checkpoint_is_loaded_by_its_path(report: Report) -> None:
    text = html.render(report.model_copy(update={"notes": ["Gate `max_kl<` was near"]}))
    assert "<li>Gate <code>max_kl&lt;</code> was near</li>" in text
    assert "vllm serve result/recover/checkpoint" in text


def test_nothing_is_loaded_from_elsewhere(report: Report) -> None:
    page = Page(html.render(report))
    assert page.count("script") == page.count("link") == page.count("img") == 0
    assert page.values("src") == []
    assert page.values("href") == ["report.md", "report.junit.xml", "report.json"]
    assert "url(" not in html.render(report)
    assert any("default-src 'none'" in content for content in page.values("content"))


def test_links_where_the_service_is_known(report: Report) -> None:
    page = Page(html.render(report, public_url="https://prune.example/"))
    assert f"https://prune.example/jobs/{report.job_id}/report.json" in page.values("href")
    assert f"https://prune.example/jobs/{report.job_id}/artifacts" in page.values("href")


def test_drawings_are_xml_with_titles(report: Report) -> None:
    drawings = [svg for svg in svgs(html.render(report)) if svg.get("role") == "img"]
    assert len(drawings) == 4 * 2 + 4  # importance, latency, tasks, loss for page and phone; four trade-offs
    for svg in drawings:
        assert (svg.findtext("title") or "").strip()
        assert (svg.findtext("desc") or "").strip()
        width, height = (float(v) for v in (svg.get("viewBox") or "").split()[2:])
        for element in svg.iter():
            for axis, limit in (("x", width), ("cx", width), ("x1", width), ("x2", width), ("y", height)):
                value = element.get(axis)
                assert value is None or -1 <= float(value) <= limit + 1, (element.tag, axis, value)


def test_removed_blocks_are_marked(report: Report) -> None:
    drawing = next(svg for svg in svgs(html.render(report)) if svg.findtext("title") == "Importance of each block")
    classes = [element.get("class") for element in drawing.iter()]
    assert classes.count("removed stroke") == 6
    assert classes.count("band") == 6
    assert classes.count("protected") == 6
    assert classes.count("kept") == 18


def test_hostile_text_stays_text(make_report: MakeReport, report: Report) -> None:
    text = html.render(hostile(make_report, report))
    page = Page(text)
    assert page.count("script") == page.count("img") == 0
    assert page.count("style") == page.count("title") - len([s for s in svgs(text) if s.find("title") is not None])
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    assert "<script>alert(1)</script>" in page.text
    assert "{{7*7}}" in page.text
    text.encode()  # no lone surrogate is left
    assert "\x00" not in text
    assert "\u202e" not in text


def bare(make_report: MakeReport, report: Report) -> Report:
    """As little as a report can hold."""
    variants = [
        m.model_copy(
            update={
                "latency": [],
                "memory": None,
                "perplexity": [],
                "fidelity": [],
                "samples": [],
                "generation": [],
                "tasks": [],
            }
        )
        for m in report.benchmarks.variants[:2]
    ]
    benchmarks = report.benchmarks.model_copy(update={"variants": variants})
    return make_report(scores=None, recovered=None, benchmarks=benchmarks, gates={}, labels={})


def test_width_pruning(make_report: MakeReport, report: Report) -> None:
    widths = [BlockWidth(heads=9, key_value_heads=9, neurons=1200)] * 30
    pruned = report.pruned.model_copy(update={"kind": "wanda_sp", "dropped": [], "widths": widths})
    page = Page(html.render(make_report(pruned=pruned, scores=None)))
    assert "heads and neurons removed in 30 blocks" in page.text.lower()
    assert "9 heads and 1,200 neurons in each block" in page.text
    assert "Width pruning leaves the number of blocks" in page.text


def test_experts(make_report: MakeReport, report: Report) -> None:
    mixtures = [MixtureExperts(block=block, kept=[0, 2, 3], scores=[1.0, 0.1, 2.0, 3.0]) for block in range(28)]
    experts = KeptExperts(criterion="reap", before=4, after=3, per_token=2, mixtures=mixtures)
    pruned = report.pruned.model_copy(update={"kind": "experts", "dropped": [], "experts": experts})
    page = Page(html.render(make_report(pruned=pruned, scores=None)))
    assert "1 of 4 experts removed in 28 blocks" in page.text
    assert "3 of 4 experts in each of 28 blocks, 2 for a token, judged by reap" in page.text
    assert "Expert pruning saves memory and disk" in page.text
    assert "Width pruning leaves" not in page.text


def test_halves_of_blocks(make_report: MakeReport, report: Report) -> None:
    units = ["3.attention", "5.attention", "6.attention", "6.mlp"]
    changes = {"kind": "sub_block", "dropped": [6], "units": units, "needs_loader": True}
    page = Page(html.render(make_report(pruned=report.pruned.model_copy(update=changes), scores=None)))
    assert "4 of 60 halves of blocks removed (3 attention, 1 MLP, 1 block whole)" in page.text
    assert "attention of blocks 3, 5, 6; MLP of block 6" in page.text
    assert "the halves were named in the job" in page.text
    assert "Width pruning leaves" not in page.text
    assert "Plain transformers cannot load this checkpoint" in page.text


@pytest.mark.parametrize("values", [[3.1, 3.2, None, 3.4, 3.3, 3.5, 3.3, 3.1], [None] * 8, [3.0] * 8])
def test_the_search_over_halves_is_drawn(make_report: MakeReport, report: Report, values: list[float | None]) -> None:
    names = [f"{block}.{half}" for block in range(4) for half in ("attention", "mlp")]
    assert report.recovered is not None
    search = UnitScores(
        options={"kind": "sub_block", "units": 2},
        units=[
            UnitScore(unit=n, value=v, standard_error=None if v is None else 0.1)
            for n, v in zip(names, values, strict=True)
        ],
        order=["0.attention", "3.mlp"],
        protected=["1.attention"],
        seed=0,
        seconds=2.0,
        environment=report.benchmarks.environment,
        details={"rounds": [{"removed": "0.attention", "loss": 3.1}, {"removed": "3.mlp", "loss": 3.1}]},
    )
    model = report.pruned.model.model_copy(update={"blocks": 4})
    changes = {"kind": "sub_block", "dropped": [], "units": ["0.attention", "3.mlp"], "unit_scores": search}
    changes |= {"model": model, "calibration": report.recovered.text}
    page = Page(html.render(make_report(pruned=report.pruned.model_copy(update=changes), scores=None)))
    drawn = any(value is not None for value in values)
    assert ("Loss without each half of a block" in page.text) == drawn
    assert ("Removed, one in each round: 0.attention, 3.mlp." in page.text) == drawn
    assert f"2 rounds, {duration(2.0)}" in page.text
    assert "0.attention, 3.mlp" in page.text


def test_every_optional_part_may_be_missing(make_report: MakeReport, report: Report) -> None:
    page = Page(html.render(bare(make_report, report)))
    assert "No gates were set" in page.text
    assert "no recovery" in page.text
    assert page.count("figure") == 0


@pytest.mark.parametrize("part", ["latency", "memory", "perplexity", "fidelity", "samples", "generation", "tasks"])
@pytest.mark.parametrize("variant", [0, 1, 2])
def test_one_part_of_one_variant_may_be_missing(
    make_report: MakeReport, report: Report, part: str, variant: int
) -> None:
    variants = list(report.benchmarks.variants)
    variants[variant] = variants[variant].model_copy(update={part: None if part == "memory" else []})
    Page(html.render(make_report(benchmarks=report.benchmarks.model_copy(update={"variants": variants}), gates={})))


def test_scores_without_values_show_the_order(make_report: MakeReport, report: Report) -> None:
    assert report.scores is not None
    blocks = [block.model_copy(update={"value": None, "standard_error": None}) for block in report.scores.blocks]
    page = Page(html.render(make_report(scores=report.scores.model_copy(update={"blocks": blocks}))))
    assert "place in the order of removal" in page.text


@pytest.mark.parametrize("value", [float("inf"), float("nan"), 0.0, -1.0])
def test_strange_scores_are_drawn_or_left_out(make_report: MakeReport, report: Report, value: float) -> None:
    assert report.scores is not None
    blocks = list(report.scores.blocks)
    blocks[3] = blocks[3].model_copy(update={"value": value, "standard_error": 5.0})
    Page(html.render(make_report(scores=report.scores.model_copy(update={"blocks": blocks}))))


def test_one_step_of_training(make_report: MakeReport, report: Report) -> None:
    assert report.recovered is not None
    for curve in ([], report.recovered.curve[:1]):
        recovered: Any = report.recovered.model_copy(update={"curve": curve})
        Page(html.render(make_report(recovered=recovered)))


def test_what_healing_did_for_each_cut_is_told(make_report: MakeReport, report: Report) -> None:
    assert report.recovered is not None
    cut = HealedCut(
        block=6, last=12, ridge=0.1, error_before=0.81, error_after=0.54, kl_before=2.04, kl_after=1.18, folded=True
    )
    worse = cut.model_copy(update={"block": 14, "kl_before": 1.18, "kl_after": 1.5, "folded": False})
    grafted = cut.model_copy(update={"block": 20, "kl_before": 1.1, "kl_after": 1.0, "neurons": 768})
    after = RefittedBlocks(blocks=[15, 17], kl_before=1.18, kl_after=0.9, folded=True)
    healed = Healed(cuts=[cut, worse, grafted], refitted=[after])
    page = html.render(make_report(recovered=report.recovered.model_copy(update={"healed": healed})))
    assert "Healing of block 6" in page
    assert "taken, KL 2.04 → 1.18 on held-out samples" in page
    assert "left as it was, since the best change gave KL 1.18 → 1.50 on held-out samples" in page
    assert "taken with 768 neurons of removed blocks, KL 1.10 → 1.00 on held-out samples" in page
    assert "Healing of blocks 15 to 17" in page
    assert "taken, KL 1.18 → 0.900 on held-out samples" in page
