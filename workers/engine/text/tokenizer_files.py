"""What is wrong with a model's tokenizer files, by name: libraries tell little of that, each in its own kind of error.

One of them is unlike the others. Where a file gives two tokens one id, or an id that leaves a gap, the library
`tokenizers` gives the token another id without a word. The model has learnt the id of the file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from secateur.contract.errors import InvalidInput
from secateur.contract.json_text import LongNumber, fault_of, load_json
from secateur.contract.shown import shortened, shown
from workers.engine.blame import is_over_input, words_of
from workers.engine.text.tokenizer_entries import bad_entry

MAX_BYTES = 256 * 2**20  # of one file; those of the largest vocabularies have some 40 MB
EXPECTED = "tokenizer files beside the weights, as transformers writes them, or text that the model generates itself"
_SERIALISED = "tokenizer.json"
_OBJECTS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json")
_ANY = ("*token*.json", "*.model", "*.tiktoken", "vocab.*")


def tokenizer_fault(folder: Path, error: BaseException, load: Callable[[Path], Any]) -> InvalidInput:
    """What a failure of `load` on the folder means: which file is to blame, and for what."""
    found = next(_faults(folder), None)
    if found is None and "trust_remote_code" in str(error):
        found = "tokenizer_config.json", "names a tokenizer that is code of the model's own, which is not run"
    if found is not None:
        return _refused(*found)
    if not any(file for pattern in _ANY for file in folder.glob(pattern)):
        return InvalidInput.field("tokenizer", "The model has no tokenizer.", expected=EXPECTED)
    words = words_of(error)
    entry = bad_entry(folder, load, words=words)
    if entry is not None:
        more = f": {words}" if entry.expected is None else "."
        return InvalidInput.field(
            "tokenizer",
            f"The model's tokenizer cannot be loaded: `{shortened(entry.key)}` of {entry.file} cannot be used{more}",
            value=entry.value,
            expected=entry.expected or "what transformers writes there, or no such entry",
        )
    detail = f"The model has no tokenizer that can be loaded: {words}"
    return InvalidInput.field("tokenizer", detail, expected=EXPECTED)


def _refused(name: str, what: str) -> InvalidInput:
    detail = f"The model's tokenizer cannot be loaded: {name} {what}."
    return InvalidInput.field("tokenizer", detail, value=name, expected=EXPECTED)


def check_ids(folder: Path, tokenizer: Any) -> None:
    """Hold the ids of added tokens against those that tokenizer.json gives them.

    Raises:
        InvalidInput: two of them have one id, or the library has given one another id.
    """
    file = folder / _SERIALISED
    if not file.is_file():
        return
    document, fault = _json(file)
    if fault is not None:  # a library has passed over it
        raise _refused(_SERIALISED, fault)
    given = document.get("added_tokens") or []
    holders: dict[int, str] = {}
    for token in given:
        content, number = token["content"], token["id"]
        other = holders.setdefault(number, content)
        detail: str | None = None
        if other != content:
            detail = f'gives the tokens "{shortened(other)}" and "{shortened(content)}" the one id {number:,}'
        elif (read := tokenizer.convert_tokens_to_ids(content)) != number:
            detail = f'gives the token "{shortened(content)}" the id {number:,}, which is read as {read}'
        if detail is not None:
            raise InvalidInput.field(
                "tokenizer",
                f"The model's tokenizer cannot be used: {_SERIALISED} {detail}.",
                value=shown(content),
                expected="one id for each token, and no gap between ids",
            )


def _faults(folder: Path) -> Iterator[tuple[str, str]]:
    """Files that cannot be read, each with what is wrong with it."""
    for name in _OBJECTS:
        if (folder / name).is_file():
            found, fault = _json(folder / name)
            if fault is None and not isinstance(found, dict):
                fault = "is not a JSON object"
            if fault is not None:
                yield name, fault
    if (folder / _SERIALISED).is_file():
        _, fault = _json(folder / _SERIALISED)
        fault = fault or _unknown_to_the_library(folder / _SERIALISED)
        if fault is not None:
            yield _SERIALISED, fault
    for file in [folder / "chat_template.jinja", *sorted((folder / "additional_chat_templates").glob("*.jinja"))]:
        if file.is_file() and _not_utf8(file.read_bytes()):
            yield str(file.relative_to(folder)), "is not UTF-8"
    alone = [] if (folder / _SERIALISED).is_file() else sorted([*folder.glob("*.model"), *folder.glob("*.tiktoken")])
    if alone:
        yield (
            alone[0].name,
            f"stands without a {_SERIALISED}, and this worker reads no other form: where sentencepiece or tiktoken is "
            "installed, transformers writes one by `AutoTokenizer.from_pretrained(…).save_pretrained(…)`",
        )


def _json(file: Path) -> tuple[Any, str | None]:
    if file.stat().st_size > MAX_BYTES:
        return None, f"has more than {MAX_BYTES:,} bytes"
    raw = file.read_bytes()
    if raw.startswith(b"version https://git-lfs"):
        return None, "is a pointer of Git LFS: fetch the file itself with `git lfs pull`"
    if _not_utf8(raw):
        return None, "is not UTF-8"
    try:
        return load_json(raw.decode("utf-8")), None  # of bytes, json takes more than the libraries do: a BOM, UTF-16
    except LongNumber as error:
        return None, f"{error.detail}, at {error.pointer}"
    except RecursionError:
        return None, "is nested too deeply"
    except ValueError as error:
        return None, f"is not JSON, or is cut off: {fault_of(error)}"


def _unknown_to_the_library(file: Path) -> str | None:
    import tokenizers

    try:
        tokenizers.Tokenizer.from_str(file.read_text(encoding="utf-8"))
    except BaseException as error:  # bare Exceptions, and panics
        if not is_over_input(error):
            raise
        known = f"tokenizers {tokenizers.__version__}"
        return f"holds what {known} does not know, such as a newer version writes: {words_of(error)}"
    return None


def _not_utf8(raw: bytes) -> bool:
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return True
    return False
