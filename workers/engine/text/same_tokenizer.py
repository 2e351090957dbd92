"""Whether two models read and write the same tokens, as a draft and its target must: a token is told by its id alone.

A draft is given ids of the target's tokenizer and proposes ids, which the target takes as its own. So each id has to
mean one text in both, special and added tokens included. Rows of an embedding beyond the vocabulary are padding, and
may be more in one model; what is in them is never asked for. Which token pads a batch is no matter either.
"""

from __future__ import annotations

from transformers import PreTrainedTokenizerBase

from secateur.contract.errors import InvalidInput
from secateur.contract.shown import printable, shortened

EXPECTED = "a larger model of the same family, with the tokenizer of the one that is pruned"
_ROLES = ("bos_token_id", "eos_token_id")
_NAMES = {"bos_token_id": "begins a text", "eos_token_id": "ends a text"}
_FLAGS = ("special", "lstrip", "rstrip", "single_word", "normalized")


def refuse_other_tokenizer(
    draft: PreTrainedTokenizerBase, target: PreTrainedTokenizerBase, *, rows: tuple[int, int]
) -> None:
    """Hold the two tokenizers against each other.

    Args:
        rows: of the draft's embedding and of the target's.

    Raises:
        InvalidInput: over the `tokenizer`, with the first thing in which they differ.
    """
    for found in (_vocabulary(draft, target), _added(draft, target), _special(draft, target)):
        if found is not None:
            raise _refused(*found)
    highest = max(target.get_vocab().values(), default=-1)
    ours, theirs = rows
    if ours != theirs and min(rows) <= highest:
        raise _refused(
            f"its embedding has {theirs:,} rows and that of the model {ours:,}, and the tokenizer has tokens up to the "
            f"id {highest:,}, for which the smaller of the two has no row",
            f"{ours:,} and {theirs:,}",
        )


def _refused(detail: str, value: object) -> InvalidInput:
    return InvalidInput.field(
        "tokenizer",
        f"The target model has another tokenizer, so a draft's tokens would be other words to it: {detail}.",
        value=value,
        expected=EXPECTED,
    )


def _named(token: str) -> str:
    return shortened(printable(token))


def _vocabulary(draft: PreTrainedTokenizerBase, target: PreTrainedTokenizerBase) -> tuple[str, object] | None:
    """The lowest id that does not mean the same to both."""
    ours, theirs = ({number: token for token, number in each.get_vocab().items()} for each in (draft, target))
    unlike = sorted(number for number in {*ours, *theirs} if ours.get(number) != theirs.get(number))
    if not unlike:
        return None
    first = unlike[0]
    others = f", and so are {len(unlike) - 1:,} more of {max(len(ours), len(theirs)):,}" if len(unlike) > 1 else ""
    told = [f'"{_named(each[first])}"' if first in each else "no token" for each in (ours, theirs)]
    return f"the id {first:,} is {told[0]} in the model and {told[1]} in the target{others}", first


def _added(draft: PreTrainedTokenizerBase, target: PreTrainedTokenizerBase) -> tuple[str, object] | None:
    """An added token that texts are cut at otherwise, or that only one of them has for a special one."""
    ours, theirs = draft.added_tokens_decoder, target.added_tokens_decoder
    for number in sorted({*ours, *theirs}):
        pair = ours.get(number), theirs.get(number)
        if None in pair:
            which = "target" if pair[0] is None else "model"
            token = str(pair[0] or pair[1])
            return f'"{_named(token)}" (id {number:,}) is an added token of the {which} alone', token
        for flag in _FLAGS:
            if getattr(pair[0], flag) != getattr(pair[1], flag):
                return f'the added token "{_named(str(pair[0]))}" (id {number:,}) differs in `{flag}`', str(pair[0])
    return None


def _special(draft: PreTrainedTokenizerBase, target: PreTrainedTokenizerBase) -> tuple[str, object] | None:
    for role in _ROLES:
        ours, theirs = getattr(draft, role), getattr(target, role)
        if ours != theirs:
            return f"the token that {_NAMES[role]} has the id {ours} in the model and {theirs} in the target", theirs
    return None
