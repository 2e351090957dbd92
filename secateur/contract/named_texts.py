"""Text sets that published figures are measured on, by name: which files of which repository, and how they are read.

Perplexities compare only where text and protocol are the same, so nothing here is left to the user: files, commit,
split, and what stands between documents are those of the papers. Each set is read from plain files, for newer
versions of `datasets` run no loading script, which Penn Treebank's own repository has.

- WikiText-2 (Merity et al. 2016, arXiv 1609.07843): the raw test part, joined by empty lines.
- Penn Treebank (Marcus et al. 1993) as Mikolov et al. (2010) prepared it: the validation part, joined by empty lines,
  as LLM-Pruner (arXiv 2305.11627) and Shortened LLaMA (arXiv 2402.02834) measure it. The files are those of a
  repository that has the Parquet conversion of ptb-text-only/ptb_text_only.
- C4 (Raffel et al. 2020, arXiv 1910.10683): the first 1,100 documents of the English validation part, joined by a
  space, as SparseGPT (arXiv 2301.00774) measures it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

TextName = Literal["wikitext2", "ptb", "c4"]
Split = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class NamedSet:
    """One text set on the Hugging Face hub."""

    title: str
    id: str  # of the repository
    revision: str | None  # commit; None: that of the default branch when a stage runs
    files: Mapping[Split, str]  # paths in the repository
    column: str
    measured: Split  # which published figures are measured on
    between: str  # what stands between documents
    documents: Mapping[Split, int]  # how many are taken, where not all are


NAMED_TEXTS: Mapping[TextName, NamedSet] = {
    "wikitext2": NamedSet(
        title="WikiText-2",
        id="Salesforce/wikitext",
        revision="b08601e04326c79dfdd32d625aee71d232d685c3",
        files={
            "train": "wikitext-2-raw-v1/train-00000-of-00001.parquet",
            "validation": "wikitext-2-raw-v1/validation-00000-of-00001.parquet",
            "test": "wikitext-2-raw-v1/test-00000-of-00001.parquet",
        },
        column="text",
        measured="test",
        between="\n\n",
        documents={},
    ),
    "ptb": NamedSet(
        title="Penn Treebank",
        id="FALcon6/ptb_text_only",
        revision=None,
        files={
            "train": "penn_treebank/train/0000.parquet",
            "validation": "penn_treebank/validation/0000.parquet",
            "test": "penn_treebank/test/0000.parquet",
        },
        column="sentence",
        measured="validation",
        between="\n\n",
        documents={},
    ),
    "c4": NamedSet(
        title="C4",
        id="allenai/c4",
        revision="607bd4c8450a42878aa9ddc051a65a055450ef87",
        files={
            "train": "en/c4-train.00000-of-01024.json.gz",
            "validation": "en/c4-validation.00000-of-00008.json.gz",
        },
        column="text",
        measured="validation",
        between=" ",
        documents={"validation": 1100},
    ),
}


def split_of(name: TextName, split: Split | None, *, measuring: bool) -> Split:
    """The part that is read: the one that was asked for, else what is measured by custom, or what is trained on."""
    return split or (NAMED_TEXTS[name].measured if measuring else "train")
