"""The model card says what was removed and what it cost, and its metadata is YAML whatever the names are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from secateur.contract.report import Report
from secateur.contract.results import BlockWidth, Licence
from workers.reporting import model_card

MakeReport = Callable[..., Report]


def front_matter(card: str) -> Any:
    _, metadata, _ = card.split("---\n", 2)
    return yaml.safe_load(metadata)


def test_at_prune_time(report: Report, tmp_path: Path) -> None:
    path = model_card.write(tmp_path, pruned=report.pruned, scores=report.scores)
    assert [file.name for file in tmp_path.iterdir()] == ["README.md"]
    card = path.read_text()
    assert front_matter(card) == {
        "base_model": "HuggingFaceTB/SmolLM2-135M-Instruct",
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["secateur", "pruned", "depth-pruning", "llama"],
    }
    assert "Blocks removed: 10, 17, 20, 21, 24, 25 of 0–29" in card
    assert "had not been measured" in card
    assert "without recovery" in card


def test_with_a_report(report: Report) -> None:
    card = model_card.render(pruned=report.pruned, scores=report.scores, recovered=report.recovered, report=report)
    assert "recovered by LoRA" in card
    assert "| KL divergence" in card
    assert "Measured on AMD EPYC 7B13" in card
    assert "other parts of the same" in card


def test_the_licence_of_the_original_is_kept(report: Report) -> None:
    def metadata(**changes: Any) -> Any:
        model = report.model.model_copy(update=changes)
        return front_matter(model_card.render(pruned=report.pruned.model_copy(update={"model": model})))

    assert "license" not in metadata()
    own = Licence(name="other", title='the "next" one', link="LICENSE.md")
    found = metadata(licence=own)
    assert (found["license"], found["license_name"], found["license_link"]) == (own.name, own.title, own.link)
    model = report.model.model_copy(update={"licence": own})
    card = model_card.render(pruned=report.pruned.model_copy(update={"model": model}))
    assert 'The licence of the original, `the "next" one`, holds for it too.' in card


def test_a_local_model_names_no_hub_model(report: Report) -> None:
    model = report.model.model_copy(update={"revision": None, "id": "folder: [evil]\nbase_model: x"})
    metadata = front_matter(model_card.render(pruned=report.pruned.model_copy(update={"model": model})))
    assert "base_model" not in metadata


def test_hostile_names_stay_within_their_string(report: Report) -> None:
    name = 'a"\n---\ntags: [x]\n# b \x85 `c`'
    model = report.model.model_copy(update={"id": name, "family": name})
    card = model_card.render(pruned=report.pruned.model_copy(update={"model": model}))
    metadata = front_matter(card)
    assert metadata["base_model"] == name.replace("\x85", "\ufffd")
    assert [line for line in card.splitlines() if line.startswith("# ")] == [
        '# a" --- tags: \\[x\\] \\# b \ufffd \\`c\\`, pruned'
    ]


def test_width_pruning(report: Report) -> None:
    widths = [BlockWidth(heads=6, key_value_heads=2, neurons=neurons) for neurons in (1200, 1300)]
    changes = {
        "kind": "flap",
        "dropped": [],
        "widths": widths,
        "calibration": report.recovered and report.recovered.text,
    }
    card = model_card.render(pruned=report.pruned.model_copy(update=changes))
    assert "Method: FLAP (An et al. 2023, FLAP, arXiv 2312.11983)" in card
    assert "Left: 6 heads (2 key-value heads) and 1,200 to 1,300 neurons in a block" in card
    assert "Calibration: news.txt" in card
    assert "flap-pruning" in front_matter(card)["tags"]


def test_what_needs_the_loader_says_so(report: Report) -> None:
    card = model_card.render(pruned=report.pruned.model_copy(update={"needs_loader": True, "dropped": []}))
    assert "library_name" not in front_matter(card)
    assert "from modeling_secateur import load" in card


def test_a_decilm_says_what_loads_it(report: Report) -> None:
    changes = {"needs_loader": True, "decilm": True, "dropped": []}
    card = model_card.render(pruned=report.pruned.model_copy(update=changes))
    assert front_matter(card)["library_name"] == "transformers"
    assert "trust_remote_code=True" in card
