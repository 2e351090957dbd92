"""A licence as the hub's metadata takes it: a card with a name that is not on its list is refused, or with any link.

A card on the hub was held to that when it went up. What a GGUF file or a folder says was not: an SPDX expression, a
title, `LICENSE.txt`.
"""

from __future__ import annotations

import re
from urllib.parse import quote

from secateur.contract.results import Licence, ModelInfo

LINKED = ("LICENSE", "LICENSE.md")  # files of the repository that it takes as a link
OTHER = "other"
_NAMES = """
    afl-3.0 agpl-3.0 apache-2.0 apple-amlr apple-ascl artistic-2.0 bigcode-openrail-m bigscience-bloom-rail-1.0
    bigscience-openrail-m bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 c-uda cc cc-by-2.0 cc-by-2.5
    cc-by-3.0 cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0
    cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 cdla-permissive-1.0
    cdla-permissive-2.0 cdla-sharing-1.0 creativeml-openrail-m deepfloyd-if-license ecl-2.0 epl-1.0 epl-2.0
    etalab-2.0 eupl-1.1 eupl-1.2 fair-noncommercial-research-license gemma gfdl gpl gpl-2.0 gpl-3.0 grok2-community
    h-research intel-research isc lgpl lgpl-2.1 lgpl-3.0 lgpl-lr llama2 llama3 llama3.1 llama3.2 llama3.3 llama4
    lppl-1.3c mit mpl-2.0 ms-pl ncsa odbl odc-by ofl-1.1 openmdw-1.0 openmdw-1.1 openrail openrail++ osl-3.0 other
    pddl postgresql unknown unlicense wtfpl zlib
"""
KNOWN = frozenset(_NAMES.split())  # https://huggingface.co/docs/hub/repositories-licenses; a later one is an `other`


def licence_entries(licence: Licence, model: ModelInfo) -> list[tuple[str, str]]:
    """`license`, `license_name` and `license_link`, as far as there are any."""
    name, title, link = licence.name, licence.title, _reachable(licence.link, model) if licence.link else None
    if not _from_card(licence, model):
        name = licence.name.lower()
        if name not in KNOWN:
            name, title = OTHER, title or licence.name
        title = re.sub(r"[^a-z0-9.]+", "-", title.lower()).strip("-.") if title else None
    return [
        (key, value) for key, value in (("license", name), ("license_name", title), ("license_link", link)) if value
    ]


def _from_card(licence: Licence, model: ModelInfo) -> bool:
    """Whether the words are those of a card that is on the hub."""
    return model.revision is not None and model.file is None


def _reachable(link: str, model: ModelInfo) -> str | None:
    """Where the licence's text is: beside the weights, by that name, or where the original is; None where nowhere."""
    if link in LINKED or re.match(r"https?://", link):
        return link
    if model.revision is None:
        return None
    return f"https://huggingface.co/{model.id}/blob/{model.revision}/{quote(link.removeprefix('./'))}"
