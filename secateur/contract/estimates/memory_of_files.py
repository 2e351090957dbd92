"""The memory of stages that read and write files tensor by tensor: the import, and what is quantised."""

from __future__ import annotations

from secateur.contract.estimates.memory_of_texts import BUFFERS, TOKENS_OF_A_WALK
from secateur.contract.estimates.setting import FLOAT, READ, Setting, tokens_of
from secateur.contract.options.quantise import GgufQuantisation, GptqQuantisation, IntegerOptions, VariantOptions

HASHED = 7 << 24  # of pieces of 16 MiB that are read, hashed and looked through for what is not finite
ROWS_AT_ONCE = 1 << 24  # weights that are rounded for a GGUF file at a time,
ROUNDED_COPIES = 4  # and how often they are there
FACTOR_COPIES = 5  # in double precision, of what GPTQ inverts


def check(setting: Setting) -> int:
    if setting.device != "cpu":
        return 0
    if not setting.imported:
        return max(HASHED, READ * setting.merges)
    whole, embedding = FLOAT * setting.parameters, FLOAT * setting.largest_matrix
    return setting.tokenizer + max(whole, 2 * embedding)  # unpacked, and then in its place


def quantise(setting: Setting) -> int:
    return max(_way(setting, way) for way in setting.spec.quantise)


def _way(setting: Setting, way: VariantOptions) -> int:
    if isinstance(way, GgufQuantisation):
        rows = min(setting.largest_matrix, ROWS_AT_ONCE)
        return FLOAT * (setting.largest_matrix + ROUNDED_COPIES * rows)
    assert isinstance(way, IntegerOptions), "there are no other ways"
    written = _integers(setting, way) + BUFFERS
    return max(written, _by_text(setting, way)) if isinstance(way, GptqQuantisation) else written


def _integers(setting: Setting, way: IntegerOptions) -> int:
    """Bytes of a whole file of tensors, which are held until it is written."""
    stored = setting.model.stored
    width = FLOAT if stored is None else stored.total / setting.parameters
    blocks = setting.left - setting.outside
    scales = 2 * blocks / (way.group_size or setting.model.hidden)
    return round(width * setting.outside + getattr(way, "bits", 8) * blocks / 8 + scales)


def _by_text(setting: Setting, way: GptqQuantisation) -> int:
    """Blocks that have become rounded ones in memory, and of a layer its inputs' second moments and their factor."""
    tokens = tokens_of(way.calibration)
    rounded = setting.width * (setting.left - setting.outside)
    squares = (FLOAT * 2 + FACTOR_COPIES * 8) * max(setting.inner, setting.model.hidden) ** 2
    made = setting.packed(setting.largest_block) + setting.made(min(tokens, TOKENS_OF_A_WALK[setting.device]))
    return setting.tokenizer + rounded + setting.states(tokens, 2) + max(squares, made)


def unpacked(setting: Setting) -> int:
    """Bytes of a model whose integers are unpacked when it is loaded: those of its blocks are no mapped file's."""
    return setting.width * (setting.left - setting.outside) + setting.loaded(setting.outside)
