"""What an estimate of a stage knows, and the sizes that follow: of states, of what a block makes of them, of logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from secateur.contract.estimates.model import KnownModel
from secateur.contract.estimates.removal import Removal
from secateur.contract.models.families import family_of
from secateur.contract.spec import CompressionSpec

FLOAT, DOUBLE = 4, 8  # bytes
READ, KEPT, REWRITTEN = 1300, 780, 1650  # for each merge of a tokenizer: while it is read, afterwards, and rewritten
LOGITS_AT_ONCE = {"cpu": 32 << 20, "cuda": 128 << 20}  # that the head makes of a text
STATE_BYTES = 1 << 30  # that one walk over removals carries; more samples are walked in groups


class Text(Protocol):
    """So many samples of so many tokens each."""

    @property
    def samples(self) -> int: ...

    @property
    def tokens(self) -> int: ...


@dataclass(frozen=True)
class Samples:
    """Such a text."""

    samples: int
    tokens: int


@dataclass(frozen=True)
class Setting:
    """One job on one kind of device."""

    spec: CompressionSpec
    model: KnownModel
    removal: Removal | None
    imported: bool  # whether the model comes as a GGUF file, which is unpacked at first
    device: str  # "cpu", "cuda"
    width: int  # bytes of a number in the stages' arithmetic
    target: KnownModel | None = None  # that a draft is for

    @property
    def parameters(self) -> int:
        return self.model.count.total

    @property
    def left(self) -> int:
        """Parameters of the pruned model."""
        return self.parameters - (self.removal.parameters if self.removal else 0)

    @property
    def blocks(self) -> int:
        """How many the original has."""
        return len(self.model.count.blocks)

    @property
    def blocks_left(self) -> int:
        return self.blocks - round(self.removal.blocks if self.removal else 0)

    @property
    def of_blocks(self) -> int:
        """Parameters of all blocks together."""
        return sum(self.model.count.per_block)

    @property
    def outside(self) -> int:
        """Parameters that are in no block."""
        return self.parameters - self.of_blocks

    @property
    def largest_block(self) -> int:
        return max(self.model.count.per_block)

    @property
    def head(self) -> int:
        return self.model.count.head or self.model.count.embedding

    @property
    def largest_matrix(self) -> int:
        """The embedding or the head, which are larger than what is in a block."""
        return max(self.model.count.head, self.model.count.embedding)

    @property
    def merges(self) -> int:
        """Of the tokenizer, about: no config tells."""
        family = family_of(self.model.config.get("model_type"))
        return round(self.model.vocabulary * (1.0 if family is None else family.merges))

    @property
    def tokenizer(self) -> int:
        """Bytes of a tokenizer that has been read."""
        return KEPT * self.merges

    def after_reading(self, needed: int) -> int:
        """Of a stage that reads a text first: its tokenizer on the way, or what is left of that beside the work."""
        return max(READ * self.merges, self.tokenizer + needed)

    @property
    def inner(self) -> int:
        """Neurons of an MLP."""
        return int(self.model.config.get("intermediate_size") or 4 * self.model.hidden)

    @property
    def head_dim(self) -> int:
        """Numbers of a head, where the config tells."""
        heads = int(self.model.config.get("num_attention_heads") or 0)
        return int(self.model.config.get("head_dim") or (self.model.hidden // heads if heads else 0))

    @property
    def heads(self) -> int:
        """Numbers of all query heads of a token."""
        return int(self.model.config.get("num_attention_heads") or 0) * self.head_dim or self.model.hidden

    @property
    def packs(self) -> bool:
        """Whether weights are brought into the processor's own order, which is a copy."""
        return self.device == "cpu" and self.width == FLOAT

    def has_quirk(self, name: str) -> bool:
        """Whether the model's family is built so."""
        family = family_of(self.model.config.get("model_type"))
        return family is not None and name in family.architecture.quirks

    def packed(self, parameters: int) -> int:
        """Bytes of weights in the processor's own order, beside those that they were."""
        return FLOAT * parameters if self.packs else 0

    @property
    def stacked(self) -> int:
        """Parameters of experts, which lie on disk one by one and in memory as one tensor."""
        return sum(block.experts * block.expert for block in self.model.count.blocks)

    def loaded(self, parameters: int) -> int:
        """Bytes of weights that are computed with; of those that are the mapped file's own, none."""
        if self.device == "cpu" and self.model.stored is not None:
            mapped = self.imported or self.model.stored.total == self.parameters * self.width
            return round(self.width * parameters * (self.stacked / self.parameters if mapped else 1))
        return parameters * self.width

    def states(self, tokens: int, count: float = 1) -> int:
        """Bytes of so many states of a text, each of all its tokens."""
        return round(count * tokens * self.model.hidden * self.width)

    def carried(self, text: Text, states: float) -> int:
        """Of a walk over removals, which takes samples in groups where all of them would be too much."""
        sample = self.states(text.tokens, states)
        return min(text.samples, max(1, STATE_BYTES // max(1, sample))) * sample

    def made(self, tokens: int) -> int:
        """What a block makes of so many tokens: gate, up and their product, beside three states."""
        return tokens * (3 * self.inner + 3 * self.model.hidden) * self.width

    def logits(self, text: Text, copies: int) -> int:
        """Of a text, piece by piece, in float32: of whole samples where one is not too much."""
        limit = max(1, LOGITS_AT_ONCE[self.device] // (FLOAT * self.model.vocabulary))  # tokens
        fitting = limit if limit < text.tokens else limit // text.tokens * text.tokens
        return copies * min(text.samples * text.tokens, fitting) * self.model.vocabulary * FLOAT


def tokens_of(text: Text) -> int:
    return text.samples * text.tokens
