"""The section `pruning` of a spec for the vocabulary: rows of embedding and head go, and every block stays.

The arithmetic of it is `secateur/contract/vocabulary.py`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from secateur.contract.options.method import Method
from secateur.contract.options.texts import HubText, LocalText, NamedText, UploadText

CountedText = Annotated[NamedText | HubText | LocalText | UploadText, Field(discriminator="source")]


class VocabularyPruning(Method):
    """A text that is given, and none that the model writes: it would count what the model says, and not what it reads.

    No recovery follows: what a text hardly uses is removed, and the weights that are left are the original's.
    """

    title = "Vocabulary pruning"
    summary = (
        "Removes tokens that a text hardly uses, with their rows of embedding and head, and rewrites the tokenizer. "
        "Costs a few more tokens for the same text. For small models, of which the vocabulary is a large part."
    )
    paper = "after Abdaoui et al. 2020, Load What You Need, arXiv 2010.05609; Yang et al. 2022, TextPruner, 2203.15996"

    kind: Literal["vocabulary"]
    tokens: int = Field(
        ge=1,
        le=10_000_000,
        description="How many tokens stay, special ones and bytes among them; a multiple of 64 suits most hardware.",
        examples=[24_000],
    )
    text: CountedText = Field(description="The text whose tokens are counted: like what the model will read and write.")
