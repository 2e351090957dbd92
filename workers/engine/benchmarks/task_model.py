"""The model in memory as the harness takes it: with our progress, and a count of what it cuts off.

It encodes in a process of its own, as all text is (`text/tokenizing.py`): the words are those of a task's author, and a
tokenizer's pattern may take hours for them.

The harness cuts a prompt that is longer than the model's positions from its left, as its own command does, and says so
in a log that nobody reads. The figure is of what was left, so a report says it too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from secateur.contract.errors import InvalidInput
from secateur.contract.shown import shown
from workers.engine.blame import is_over_input, words_of
from workers.engine.bounded_child import BoundedChild, ChildEnded
from workers.engine.progress import Progress
from workers.engine.text.tokenizing import seconds_for


@contextmanager
def harness_model(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, batch_size: int, progress: Progress
) -> Iterator[Any]:
    """An `HFLM` of the harness, with a method `notes`, which encodes texts until the context ends.

    Its methods raise InvalidInput where the tokenizer cannot take a text, or not in a time that its length allows.
    """
    from lm_eval.models.huggingface import HFLM  # type: ignore[import-untyped]  # takes seconds; ships no annotations

    class _Model(HFLM):  # type: ignore[misc]  # untyped upstream
        asked = cut = 0

        def tok_encode(self, string: str, *args: Any, **kwargs: Any) -> Any:
            return self._bounded("tok_encode", [string], string, *args, **kwargs)

        def tok_batch_encode(self, strings: list[str], *args: Any, **kwargs: Any) -> Any:
            found = self._bounded("tok_batch_encode", strings, strings, *args, **kwargs)
            return tuple(torch.tensor(rows, dtype=torch.long) for rows in found)

        def _bounded(self, method: str, texts: list[str], *args: Any, **kwargs: Any) -> Any:
            """The harness's own method, on these texts, in the process that encodes."""
            question = json.dumps([method, args, kwargs]).encode()
            try:
                answer = json.loads(encoder.ask(question, seconds=seconds_for("".join(texts))))
            except ChildEnded as error:
                raise _refused(f"on {sum(map(len, texts)):,} characters it {error}", texts) from None
            if "words" in answer:
                raise _refused(answer["words"], texts)
            return answer["found"]

        def _answered(self, question: bytes) -> bytes:
            """In that process."""
            method, args, kwargs = json.loads(question)
            try:
                found = getattr(super(), method)(*args, **kwargs)
            except BaseException as error:  # whatever a tokenizer raises, panics too
                if not is_over_input(error):
                    raise
                return json.dumps({"words": words_of(error)}).encode()
            if method == "tok_batch_encode":
                found = [tensor.tolist() for tensor in found]
            return json.dumps({"found": found}).encode()

        def _loglikelihood_tokens(self, requests: list[Any], *args: Any, **kwargs: Any) -> Any:
            self.asked += len(requests)
            self.cut += sum(len(context) + len(answer) > self.max_length + 1 for _, context, answer in requests)
            with _bars(progress):
                return super()._loglikelihood_tokens(requests, *args, **kwargs)

        def generate_until(self, requests: list[Any], *args: Any, **kwargs: Any) -> Any:
            self.asked += len(requests)
            for request in requests:
                prompt, options = request.args
                room = self.max_length - int(options.get("max_gen_toks", self.max_gen_toks))
                self.cut += len(self.tok_encode(prompt)) > room
            with _bars(progress):
                return super().generate_until(requests, *args, **kwargs)

        def notes(self) -> list[str]:
            if not self.cut:
                return []
            return [
                f"{self.cut:,} of {self.asked:,} prompts of the tasks are longer than the model's {self.max_length:,} "
                "positions and were cut from their left, as lm-evaluation-harness does it: the figures are of what was "
                "left of them."
            ]

    made = _Model(pretrained=model, tokenizer=tokenizer, batch_size=batch_size)
    with BoundedChild(made._answered) as encoder:
        yield made


def _refused(why: str, texts: list[str]) -> InvalidInput:
    return InvalidInput.field(
        "items",
        f"The model's tokenizer cannot take a text of the tasks: {why}.",
        value=shown(texts[0] if texts else ""),
        expected="a model whose tokenizer cuts text in a time that grows with its length",
    )


@contextmanager
def _bars(progress: Progress) -> Iterator[None]:
    """The harness's progress bars as our progress, of requests."""
    from lm_eval.models import huggingface  # type: ignore[import-untyped]  # ships no annotations

    class _Bar:
        def __init__(self, *_: Any, total: int = 0, **__: Any) -> None:
            self.done, self.total = 0, total

        def update(self, count: int = 1) -> None:
            self.done += count
            progress(self.done, self.total, "requests")

        def close(self) -> None:
            pass

    before = huggingface.tqdm
    huggingface.tqdm = _Bar
    try:
        yield
    finally:
        huggingface.tqdm = before
