"""Licences as the hub takes them, whatever a GGUF file or a folder calls them."""

from __future__ import annotations

import pytest

from secateur.contract.report import Report
from secateur.contract.results import Licence, SourceFile
from workers.reporting.hub_licences import licence_entries


@pytest.mark.parametrize(
    ("licence", "entries"),
    [
        (Licence(name="Apache-2.0"), {"license": "apache-2.0"}),
        (Licence(name="MIT OR Apache-2.0"), {"license": "other", "license_name": "mit-or-apache-2.0"}),
        (Licence(name="other", title='the "next" one'), {"license": "other", "license_name": "the-next-one"}),
        (Licence(name="自由"), {"license": "other"}),
        (Licence(name="mit", link="LICENSE"), {"license": "mit", "license_link": "LICENSE"}),
        (Licence(name="mit", link="LICENSE.txt"), {"license": "mit"}),  # which lies beside the weights all the same
        (Licence(name="mit", link="../../etc/passwd"), {"license": "mit"}),
        (Licence(name="mit", link="javascript://x"), {"license": "mit"}),
    ],
)
def test_of_a_local_model(report: Report, licence: Licence, entries: dict[str, str]) -> None:
    model = report.model.model_copy(update={"revision": None})
    assert dict(licence_entries(licence, model)) == entries


@pytest.mark.parametrize(
    ("link", "there"),
    [
        ("https://example.org/terms", "https://example.org/terms"),
        ("LICENSE.md", "LICENSE.md"),
        ("LICENSE.txt", "https://huggingface.co/{id}/blob/{revision}/LICENSE.txt"),
        ("./legal/my terms.md", "https://huggingface.co/{id}/blob/{revision}/legal/my%20terms.md"),
    ],
)
def test_the_link_of_a_model_of_the_hub_leads_there(report: Report, link: str, there: str) -> None:
    entries = dict(licence_entries(Licence(name="other", link=link), report.model))
    assert entries["license_link"] == there.format(id=report.model.id, revision=report.model.revision)


def test_the_words_of_a_card_on_the_hub_stay(report: Report) -> None:
    """It may know a licence that came after this was written; a GGUF file there was held to nothing."""
    new = Licence(name="newest-1.0")
    assert dict(licence_entries(new, report.model)) == {"license": "newest-1.0"}
    file = report.model.model_copy(update={"file": SourceFile(bytes=1, type="Q4_0")})
    assert dict(licence_entries(new, file)) == {"license": "other", "license_name": "newest-1.0"}
