"""How byte-level tokenizers cut text before their merges, by the name under `tokenizer.ggml.pre`.

The merges were learned on words that were cut so; a model that gets other words gets other tokens. llama.cpp has a list
of names, and each of those here was compared with it on text that tells the cuts apart. Where a family's own
tokenizer.json is known, its expressions stand here: llama.cpp spells some out that its library lacks. A name that is
not here is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tokenizers import Regex, normalizers, pre_tokenizers

GPT2_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
QWEN2_WORDS = LLAMA3_WORDS.replace(r"\p{N}{1,3}", r"\p{N}")
_CASED = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+%(ending)s"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*%(ending)s"
    r"|%(digits)s| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEKKEN_WORDS = _CASED % {"ending": "", "digits": r"\p{N}"}
GPT4O_WORDS = _CASED % {"ending": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?", "digits": r"\p{N}{1,3}"}


@dataclass(frozen=True, slots=True)
class Cut:
    """One way to cut."""

    expressions: tuple[str, ...] = ()  # applied one after the other; none: GPT-2's, which the byte level step has
    digits_apart: bool = False
    composed: bool = False  # Unicode NFC first
    whole_words: bool = False  # a word that is a token is one, whatever the merges
    begins: bool = False  # adds the beginning-of-text token unless the file says otherwise

    def pre_tokenizer(self) -> Any:
        byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not self.expressions)
        steps: list[Any] = [pre_tokenizers.Split(Regex(text), "isolated") for text in self.expressions]
        if self.digits_apart:
            steps.insert(0, pre_tokenizers.Digits(individual_digits=True))
        return pre_tokenizers.Sequence([*steps, byte_level]) if steps else byte_level

    def normalizer(self) -> Any:
        return normalizers.NFC() if self.composed else None


_GPT2 = Cut()
_DIGITS = Cut(digits_apart=True)
_LLAMA3 = Cut((LLAMA3_WORDS,), whole_words=True, begins=True)
_LLAMA3_LIKE = Cut((LLAMA3_WORDS,))
_QWEN2 = Cut((QWEN2_WORDS,), composed=True)
_GPT4O = Cut((GPT4O_WORDS,))

CUTS: Mapping[str, Cut] = {
    **dict.fromkeys(("gpt-2", "phi-2", "mpt", "olmo", "jais", "gigachat", "trillion", "granite-docling"), _GPT2),
    **dict.fromkeys(("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"), _DIGITS),
    **dict.fromkeys(
        ("llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"), _LLAMA3
    ),
    **dict.fromkeys(("dbrx", "smaug-bpe"), _LLAMA3_LIKE),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen", "megrez"), _QWEN2),
    **dict.fromkeys(("stablelm2", "hunyuan"), Cut((QWEN2_WORDS,))),
    **dict.fromkeys(("gpt-4o", "llama4"), _GPT4O),
    "tekken": Cut((TEKKEN_WORDS,), whole_words=True, begins=True),
    "falcon": Cut((r"[\p{P}\$\+<=>\^~\|`]+", GPT2_WORDS, "[0-9][0-9][0-9]")),
    # what llama.cpp does where the converter knew no better
    "default": Cut((r"[\p{P}\$\+<=>\^~\|]+", GPT2_WORDS, r"\p{N}+", "[0-9][0-9][0-9]")),
}
