"""The card of what is published, made of the card that the report stage really writes."""

from __future__ import annotations

import yaml

from secateur.client.publishing.card import of_files, with_base_model
from secateur.contract.results import Licence
from tests.fixtures.finished_jobs import a_report
from workers.reporting import model_card


def card(*, local: bool = False) -> str:
    report = a_report()
    licence = Licence(name="apache-2.0", link="LICENSE")
    model = report.model.model_copy(update={"licence": licence, **({"revision": None} if local else {})})
    return model_card.render(
        pruned=report.pruned.model_copy(update={"model": model}), recovered=report.recovered, report=report
    )


def parts(text: str) -> tuple[dict[str, object], str]:
    _, metadata, body = text.split("---\n", 2)
    return yaml.safe_load(metadata), body


def test_a_base_model_is_added_and_never_replaced() -> None:
    before, body = parts(card(local=True))
    after, same = parts(with_base_model(card(local=True), 'team/"small"'))
    assert after == {**before, "base_model": 'team/"small"'}
    assert same == body
    assert with_base_model(card(), "team/other") == card()


def test_the_card_of_a_gguf_file_says_how_that_is_loaded() -> None:
    before, body = parts(card())
    after, made = parts(of_files(card(), ["model-q8_0.gguf"]))
    assert before.pop("library_name") == "transformers"
    assert after == {**before, "base_model_relation": "quantized"}
    assert "from_pretrained" in body
    assert "from_pretrained" not in made
    assert "## Use\n\nllama.cpp" in made
    assert "llama-cli -m model-q8_0.gguf\n" in made
    kept = [line for line in body.splitlines() if line.startswith("## ")]
    assert [line for line in made.splitlines() if line.startswith("## ")] == kept
    assert of_files(of_files(card(), ["a.gguf"]), ["a.gguf"]) == of_files(card(), ["a.gguf"])
