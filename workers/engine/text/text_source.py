"""Where the texts of one job come from: what all that reads or writes its token batches has in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal
from uuid import UUID

from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from secateur.contract.errors import InvalidInput
from secateur.contract.options.texts import AnswersText, BlendText, Bos, SelfText
from secateur.contract.protocol import UploadedFile
from workers.engine.runtime import Machine
from workers.engine.text.beginning import Beginning, beginning_of
from workers.engine.text.text_ids import GivenText
from workers.engine.text.token_cache import tokenizer_fingerprint
from workers.engine.text.tokenizer_loading import load_tokenizer
from workers.engine.text.tokenizing import put_around, put_first

Purpose = Literal["calibration", "training", "measuring"]
AnyText = SelfText | AnswersText | GivenText | BlendText


@dataclass(frozen=True)
class Wanted:
    """Which samples of a text; `token_batch` says what each of these means."""

    purpose: Purpose
    samples: int | None
    tokens: int
    bos: Bos = "auto"
    stride: int | None = None
    exact: bool = True
    mapped: bool = False
    timed: bool = False
    index: int = 0


@dataclass(frozen=True)
class TextSource:
    """What the token batches of one job have in common: the original model and where texts may lie."""

    checkpoint: Path  # of the original: its tokenizer reads, its model writes
    config: PretrainedConfig
    fingerprint: str  # of the original, for the cache of generated text
    load: Callable[[], PreTrainedModel]  # brings the original into memory; called for generated text alone
    machine: Machine
    data_roots: Sequence[Path]
    cache: Path
    seed: int
    uploads: Mapping[UUID, UploadedFile] = field(default_factory=dict)  # data sets on this machine

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return load_tokenizer(self.checkpoint)

    @cached_property
    def tokenizer_fingerprint(self) -> str:
        return tokenizer_fingerprint(self.checkpoint)

    @property
    def bos(self) -> int | None:
        """The beginning-of-text token: what the tokenizer puts first or calls so, or else what the config does."""
        try:
            found = put_first(self.tokenizer)
            found = self.tokenizer.bos_token_id if found is None else found
        except InvalidInput:  # no tokenizer: the config may still know
            found = None
        found = self.config.bos_token_id if found is None else found
        return found if isinstance(found, int) and 0 <= found < int(self.config.vocab_size) else None

    def beginning(self, text: SelfText | AnswersText | GivenText, asked: Bos) -> Beginning:
        """Where a beginning-of-text token stands in samples of `text`; the model begins what it writes with its own.

        Of prompts and answers it is where each prompt has it, unless `asked` says otherwise.

        Raises:
            InvalidInput: the token is asked for, and the model has none.
        """
        rows = int(self.config.vocab_size)
        if isinstance(text, AnswersText):
            return beginning_of("each" if asked == "each" else "none", adds=False, token=self.bos, rows=rows)
        if isinstance(text, SelfText):
            asked = asked if asked in ("each", "none") else "each" if self.bos is not None else "none"
            return beginning_of(asked, adds=False, token=self.bos, rows=rows)
        if asked == "none":
            return beginning_of(asked, adds=False, token=None, rows=rows)
        first = put_first(self.tokenizer)
        if first is None and asked != "each":
            self._refuse_several(asked)
        return beginning_of(asked, adds=first is not None, token=self.bos if first is None else first, rows=rows)

    def _refuse_several(self, asked: Bos) -> None:
        """Refuse to leave out what the tokenizer begins a text with where that is more than a sample can have."""
        several, _ = put_around(self.tokenizer)
        if len(several) > 1:
            raise InvalidInput.field(
                "bos",
                f"The tokenizer begins a text with {len(several)} tokens (ids {', '.join(map(str, several))}), and a "
                "sample can begin with one.",
                value=asked,
                expected='"none" for samples without them, or "each" for the beginning-of-text token alone',
            )


@contextmanager
def within_text(place: str) -> Iterator[None]:
    """Errors over a text are over the one that lies at `place` in the text that was asked for."""
    try:
        yield
    except InvalidInput as error:
        error.errors = [
            replace(item, pointer=f"text/{place}{item.pointer.removeprefix('text')}")
            if item.pointer.split("/")[0] == "text"
            else item
            for item in error.errors
        ]
        raise
