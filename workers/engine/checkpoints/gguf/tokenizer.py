"""The tokenizer of a GGUF file, built from its keys as llama.cpp reads them.

Two kinds are built: byte-level BPE as in GPT-2 ("gpt2"), and BPE as in sentencepiece ("llama"; `scores.py`). What the
file says of it must all be used; a kind, a cut or a flag that is not known is refused by name, since a model that is
fed other tokens is another model.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from secateur.foreign_files.json_objects import quoted
from workers.engine.checkpoints.gguf.cuts import CUTS
from workers.engine.checkpoints.gguf.scores import merges_of_scores
from workers.engine.checkpoints.gguf.source import Source

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6  # token types
PREFIX = "tokenizer.ggml."
SPACE = "▁"
# Keys that change neither tokens nor logits: marks of infilling and of turns that generation may stop at or ask for.
WITHOUT_EFFECT = (
    *(f"fim_{mark}_token_id" for mark in ("pre", "suf", "mid", "pad", "rep", "sep")),
    *("prefix_token_id", "suffix_token_id", "middle_token_id"),  # the same under their old names
    *("seperator_token_id", "separator_token_id", "cls_token_id", "mask_token_id"),
    "token_type_count",
)


@dataclass(frozen=True, slots=True)
class Read:
    """The tokenizer, and the ids that the model's config names."""

    tokenizer: PreTrainedTokenizerFast
    ids: dict[str, int] = field(default_factory=dict)  # bos, eos, unk, pad
    ends: tuple[int, ...] = ()  # tokens that end a text, eos first


def read_tokenizer(source: Source) -> Read:
    """Build it.

    Raises:
        BadCheckpoint: a key is missing or broken.
        UnsupportedModel: a kind, cut or flag is not known here.
    """
    kind = source.raw(f"{PREFIX}model")
    if kind is None:
        raise source.bad("the file has no tokenizer, which a checkpoint needs")
    tokens, types = _tokens(source)
    builders: dict[Any, Any] = {"gpt2": _byte_level, "llama": _sentencepiece}
    if kind not in builders:
        raise source.unsupported(f"the tokenizer is of the kind {quoted(str(kind))}, and gpt2 and llama are known here")
    raw, begins, defaults = builders[kind](source, tokens, types)
    ids = {
        name: number
        for name in ("bos", "eos", "unk", "pad")
        if (number := _id(source, name, tokens, defaults)) is not None
    }
    _add_special(raw, source, tokens, types)
    _begin_and_end(raw, source, tokens, ids, begins)
    for name in WITHOUT_EFFECT:
        source.read_keys.add(f"{PREFIX}{name}")
    ends = [ids.get("eos"), *(_number(source, f"{name}_token_id", tokens) for name in ("eot", "eom"))]
    source.read_keys.add("tokenizer.huggingface.json")  # the same again, for those who would rather read that
    fast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # no annotations upstream
        tokenizer_object=raw,
        clean_up_tokenization_spaces=False,
        **{f"{name}_token": tokens[number] for name, number in ids.items()},
    )
    template = _templates(source)
    if template is not None:
        fast.chat_template = template
    if len(fast) != len(tokens):
        raise source.unsupported(f"the tokenizer has {len(tokens)} tokens, and {len(fast)} could be told apart")
    return Read(fast, ids, tuple(dict.fromkeys(number for number in ends if number is not None)))


def save_tokenizer(read: Read, folder: Path) -> None:
    """Write the tokenizer's files, and into them that special tokens which the file lacks are none.

    The classes that transformers puts in for some families would add tokens of their own for those.
    """
    read.tokenizer.save_pretrained(folder)
    file = folder / "tokenizer_config.json"
    lacking = {f"{name}_token": None for name in ("bos", "eos", "unk", "pad") if name not in read.ids}
    file.write_text(json.dumps({**json.loads(file.read_text()), **lacking}, indent=2, ensure_ascii=False) + "\n")


# Texts that tell cuts and normal forms apart.
_PROBES = (
    "It's 12345 o'clock, WE'LL go to x2y's  place...\n\n\tdef f(a_b):\n    return a+1 == 22;  \n ",
    "  leading, trailing  ",
    "Ünïcode e\u0301 ½ ٣ 你好世界 🙂🙂\r\nCamelCaseHTTPServer/path?x=1&y=%20",
)


def check_reload(source: Source, read: Read, config: Any) -> None:
    """See that transformers will load the tokenizer as what was built: for some families it puts in a class of its own.

    Raises:
        UnsupportedModel: it would cut text in another way, or put other tokens around it.
    """
    with tempfile.TemporaryDirectory(prefix="gguf-") as folder:
        config.save_pretrained(folder)
        save_tokenizer(read, Path(folder))
        loaded: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    built: Any = read.tokenizer
    same = getattr(loaded, "backend_tokenizer", None) is not None and all(
        _cut(loaded.backend_tokenizer, text) == _cut(built.backend_tokenizer, text)
        and loaded(text).input_ids == built(text).input_ids
        for text in _PROBES
    )
    if not same or len(loaded) != len(built):
        raise source.unsupported(
            f"transformers reads the tokenizer of every {config.model_type} model as a {type(loaded).__name__}, which "
            f"cuts text otherwise than the file says ({quoted(str(source.raw(f'{PREFIX}pre')))})"
        )


def _cut(raw: Any, text: str) -> list[str]:
    normal = raw.normalizer.normalize_str(text) if raw.normalizer is not None else text
    return (
        [word for word, _ in raw.pre_tokenizer.pre_tokenize_str(normal)] if raw.pre_tokenizer is not None else [normal]
    )


def _tokens(source: Source) -> tuple[list[str], list[int]]:
    """All tokens by number, with their types."""
    tokens = source.array(f"{PREFIX}tokens")
    if not tokens or not isinstance(tokens[0], str):
        raise source.bad("the file has no list of tokens")
    tokens = [token or f"[EMPTY_{number}]" for number, token in enumerate(tokens)]  # as llama.cpp names them
    if len(set(tokens)) != len(tokens):
        seen: set[str] = set()
        twice = next(token for token in tokens if token in seen or seen.add(token))  # type: ignore[func-returns-value]
        raise source.bad(f"the token {quoted(twice)} stands twice")
    types = source.array(f"{PREFIX}token_type") or [NORMAL] * len(tokens)
    if len(types) != len(tokens):
        raise source.bad(f"there are {len(tokens)} tokens and {len(types)} types of tokens")
    rows = source.shape("token_embd.weight")[0]
    if len(tokens) > rows:
        raise source.bad(f"there are {len(tokens)} tokens, and the embedding has {rows} rows")
    return tokens, types


def _byte_level(source: Source, tokens: list[str], types: list[int]) -> tuple[Tokenizer, bool, dict[str, int]]:
    name = source.raw(f"{PREFIX}pre")
    cut = CUTS.get(name) if isinstance(name, str) else None
    if cut is None:
        said = "does not say" if name is None else f"says {quoted(str(name))}, which is not known here, of"
        raise source.unsupported(f"the key 'tokenizer.ggml.pre' {said} how text is cut")
    for flag in ("add_space_prefix", "remove_extra_whitespaces"):
        if source.raw(f"{PREFIX}{flag}") not in (None, False):
            raise source.unsupported(f"the key 'tokenizer.ggml.{flag}' is true for a byte-level tokenizer")
    source.read_keys.add(f"{PREFIX}scores")  # byte-level merges are a list of their own
    merges = source.array(f"{PREFIX}merges")
    if merges is None or not all(isinstance(merge, str) for merge in merges):
        raise source.bad("the file has no list of merges, which a byte-level tokenizer needs")
    pairs = [(merge[:at], merge[at + 1 :]) for merge in merges if (at := merge.find(" ", 1)) > 0]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    lost = next((p for p in pairs if any(part not in vocabulary for part in (*p, "".join(p)))), None)
    if lost is not None:
        raise source.bad(f"the merge {quoted(' '.join(lost))} is not of the tokens")
    raw = Tokenizer(models.BPE(vocab=vocabulary, merges=pairs, ignore_merges=cut.whole_words))
    raw.pre_tokenizer = cut.pre_tokenizer()
    if cut.composed:
        raw.normalizer = cut.normalizer()
    raw.decoder = decoders.ByteLevel()
    return raw, cut.begins, {}


def _sentencepiece(source: Source, tokens: list[str], types: list[int]) -> tuple[Tokenizer, bool, dict[str, int]]:
    source.read_keys.update(f"{PREFIX}{name}" for name in ("pre", "merges"))  # llama.cpp goes by the scores alone
    for flag in ("remove_extra_whitespaces", "escape_whitespaces"):
        if source.raw(f"{PREFIX}{flag}") not in (None, flag == "escape_whitespaces"):
            raise source.unsupported(f"the key 'tokenizer.ggml.{flag}' is not as usual")
    scores = source.array(f"{PREFIX}scores")
    if scores is None or len(scores) != len(tokens):
        raise source.bad("the file has not one score for each token, which a sentencepiece tokenizer needs")
    prefix = source.raw(f"{PREFIX}add_space_prefix")
    prefix = True if prefix is None else bool(prefix)
    merges = merges_of_scores(source, tokens, types, scores)
    unknown = next((token for token, kind in zip(tokens, types, strict=True) if kind == UNKNOWN), None)
    vocabulary = {token: number for number, token in enumerate(tokens)}
    raw = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, unk_token=unknown, fuse_unk=True, byte_fallback=True))
    spaces = normalizers.Replace(" ", SPACE)
    raw.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), spaces] if prefix else [spaces])
    steps: list[Any] = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    raw.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)] if prefix else steps)
    return raw, True, {"bos": 1, "eos": 2, "unk": 0}  # llama.cpp's ids where the file names none


def _number(source: Source, name: str, tokens: list[str]) -> int | None:
    value = source.raw(f"{PREFIX}{name}")
    if value is None:
        return None
    if type(value) is not int or not 0 <= value < len(tokens):
        raise source.bad(f"the key 'tokenizer.ggml.{name}' is {quoted(str(value))}, and there are {len(tokens)} tokens")
    return value


def _id(source: Source, name: str, tokens: list[str], defaults: dict[str, int]) -> int | None:
    long = {"unk": "unknown", "pad": "padding"}.get(name, name)
    found = _number(source, f"{long}_token_id", tokens)
    default = defaults.get(name)
    return default if found is None and default is not None and default < len(tokens) else found


def _add_special(raw: Tokenizer, source: Source, tokens: list[str], types: list[int]) -> None:
    """Tokens that are found in the text as a whole, before anything is cut."""
    name = source.header.values.get("general.name")
    # llama.cpp knows by the name that this model's marks of turns take the space behind them along
    takes_space = name is not None and any(word in str(name.value).lower() for word in ("phi-3", "phi3"))
    keeps = {"<unk>", "<s>", "<|endoftext|>"}
    special, plain = [], []
    for token, kind in zip(tokens, types, strict=True):
        if kind in (CONTROL, UNKNOWN):
            strip = takes_space and token not in keeps
            special.append(AddedToken(token, normalized=False, special=True, rstrip=strip))
        elif kind == USER_DEFINED:
            plain.append(AddedToken(token, normalized=False, special=False))
        elif kind not in (0, NORMAL, UNUSED, BYTE):
            raise source.bad(f"the token {quoted(token)} is of the unknown type {kind}")
    raw.add_special_tokens(special)
    raw.add_tokens(plain)


def _begin_and_end(raw: Tokenizer, source: Source, tokens: list[str], ids: dict[str, int], begins: bool) -> None:
    """The tokens that are put around a text."""
    flags = {"bos": begins, "eos": False, "sep": False}
    for name in flags:
        value = source.raw(f"{PREFIX}add_{name}_token")
        if value is not None:
            if type(value) is not bool:
                raise source.bad(f"the key 'tokenizer.ggml.add_{name}_token' is neither true nor false")
            flags[name] = value
    if flags["sep"]:
        raise source.unsupported("the key 'tokenizer.ggml.add_sep_token' is true")
    wanted = [name for name in ("bos", "eos") if flags[name]]
    lost = next((name for name in wanted if name not in ids), None)
    if lost is not None:
        raise source.bad(f"a token '{lost}' is put around every text, and the file does not say which")
    if wanted:
        pieces = [(tokens[ids[name]], ids[name]) for name in wanted]
        begin = f"{pieces[0][0]} " if flags["bos"] else ""
        end = f" {pieces[-1][0]}" if flags["eos"] else ""
        raw.post_processor = processors.TemplateProcessing(single=f"{begin}$A{end}", special_tokens=pieces)


def _templates(source: Source) -> str | dict[str, str] | None:
    """The chat template, or several by name."""
    key = "tokenizer.chat_template"
    names = source.array("tokenizer.chat_templates") or []
    found = {name: source.raw(f"{key}.{name}") for name in names}
    found = {name: text for name, text in found.items() if isinstance(text, str)}
    default = source.raw(key)
    if default is not None and not isinstance(default, str):
        raise source.bad("the chat template is no string")
    if not found:
        return default
    return {**({} if default is None else {"default": default}), **found}
