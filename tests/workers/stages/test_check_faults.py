"""What a user's tokenizer, template or text makes a library raise: told as a field, whatever it is and wherever."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from secateur.contract.errors import InvalidInput, ServiceError, StageFailed, Unavailable
from secateur.contract.spec import CompressionSpec
from tests.fixtures.whole_job import Job
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.model.loading import load_model
from workers.stages.failure import describe_failure
from workers.stages.fields import MODEL, told_at

CHAT = {"source": "local", "path": "chat.jsonl"}
ROWS = {"source": "local", "path": "rows.jsonl"}
WORDS = {"source": "local", "path": "words.txt"}
HUB = {"source": "hub", "id": "some/set", "revision": "c" * 40}
UNFORESEEN = describe_failure(ValueError("x")).detail.split("(")[0]


@pytest.fixture(autouse=True)
def no_trial_of_configs() -> None:
    """Here they are tried in a child first, as in a stage."""


class PanicException(BaseException):
    """What a panic in Rust is to Python: no Exception."""


FAULTS: dict[str, Callable[[], BaseException]] = {
    "Exception": lambda: Exception("data did not match any variant\nsecond line"),
    "KeyError": lambda: KeyError("inv_freq"),
    "TypeError": lambda: TypeError("'NoneType' object is not iterable"),
    "RecursionError": lambda: RecursionError("maximum recursion depth exceeded"),
    "UnicodeDecodeError": lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    "OSError": lambda: PermissionError(13, "Permission denied"),
    "StopIteration": lambda: StopIteration(),
    "PanicException": lambda: PanicException("called `Option::unwrap()` on a `None` value"),
}


@pytest.fixture
def job(tiny_checkpoint: Callable[..., Path], text_file: Path) -> Callable[..., ServiceError]:
    """The error with which the check of a job ends."""
    root = tiny_checkpoint(num_hidden_layers=4).parent
    (root / "tiny" / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }}{% endfor %}")
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    (text_file.parent / "chat.jsonl").write_text(json.dumps({"messages": messages}) + "\n")
    (text_file.parent / "rows.jsonl").write_text(json.dumps({"text": "words " * 400}) + "\n")

    def check(text: dict[str, Any], recovery: dict[str, Any] | None = None, *, tasks: Any = None) -> ServiceError:
        calibration = {"text": text, "samples": 2, "tokens": 16}
        spec = {
            "model": {"source": "local", "path": "tiny"},
            "scoring": {"criterion": "perplexity", "plus": False, "calibration": calibration},
            "pruning": {"kind": "depth", "blocks": 1},
            "recovery": recovery or {"kind": "none"},
            "benchmark": {
                "latency": None,
                "perplexity": None,
                "fidelity": {"enabled": False},
                "samples": None,
                "generation": None,
            },
        }
        if tasks is not None:
            spec["benchmark"]["tasks"] = {"tasks": tasks}  # type: ignore[index]
        if recovery is not None:
            spec["scoring"]["calibration"] = {"samples": 2, "tokens": 16}  # type: ignore[index]
        job = Job(root, CompressionSpec.model_validate(spec), data_roots=(text_file.parent,))
        with pytest.raises(BaseException) as caught:  # noqa: PT011 - what comes is looked at
            job.run("check")
        error = caught.value
        assert isinstance(error, ServiceError), error
        return error

    return check


def told(error: ServiceError, *pointers: str) -> None:
    assert UNFORESEEN not in error.detail
    assert "\n" not in error.detail
    if isinstance(error, StageFailed | Unavailable):  # of a file that changed, or a hub
        return
    assert isinstance(error, InvalidInput)
    assert error.errors
    for field in error.errors:
        assert field.pointer.startswith(pointers)
        assert field.detail
        assert field.expected


def raising(fault: str) -> Callable[..., Any]:
    def broken(*_: Any, **__: Any) -> Any:
        raise FAULTS[fault]()

    return broken


def breaking_off(fault: str) -> Callable[..., Iterator[Any]]:
    """As a reader that breaks when its first row is asked for; a generator cannot raise StopIteration itself."""

    class Broken:
        def __iter__(self) -> Broken:
            return self

        def __next__(self) -> Any:
            raise FAULTS[fault]()

    return lambda *_, **__: Broken()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_tokenizer_that_breaks_when_it_is_loaded(
    job: Callable[..., ServiceError], monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr("workers.engine.text.tokenizer_loading.AutoTokenizer.from_pretrained", raising(fault))
    told(job(WORDS), "/model")


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(("text", "recovery"), [(WORDS, None), (ROWS, None), (WORDS, {"format": "chat", "text": CHAT})])
def test_a_tokenizer_that_breaks_on_a_text(
    job: Callable[..., ServiceError], monkeypatch: pytest.MonkeyPatch, fault: str, text: Any, recovery: Any
) -> None:
    from transformers import PreTrainedTokenizerBase

    call = PreTrainedTokenizerBase.__call__

    def broken(self: Any, text: str, *arguments: Any, **more: Any) -> Any:
        if len(text) > 1:
            raise FAULTS[fault]()
        return call(self, text, *arguments, **more)

    monkeypatch.setattr(PreTrainedTokenizerBase, "__call__", broken)
    told(job(text, {"kind": "lora", **recovery} if recovery else None), "/scoring/calibration/text", "/recovery/text")


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(
    "loader",
    [
        "transformers.AutoConfig.for_model",
        "transformers.AutoModelForCausalLM.from_config",
        "workers.stages.original.check_fit",
        "workers.stages.original.Checkpoint.open",
    ],
)
def test_a_loader_that_breaks(
    job: Callable[..., ServiceError], monkeypatch: pytest.MonkeyPatch, fault: str, loader: str
) -> None:
    monkeypatch.setattr(loader, raising(fault))
    told(job(WORDS), "/model")


@pytest.mark.parametrize("fault", FAULTS)
def test_a_task_that_breaks(job: Callable[..., ServiceError], monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    monkeypatch.setattr("lm_eval.tasks.TaskManager.__init__", raising(fault))
    told(job(WORDS, tasks=["piqa"]), "/benchmark/tasks")


@pytest.mark.parametrize("fault", FAULTS)
def test_a_template_that_breaks(job: Callable[..., ServiceError], monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    monkeypatch.setattr("workers.engine.text.chat_templates.render_jinja_template", raising(fault))
    told(job(WORDS, {"kind": "lora", "format": "chat", "text": CHAT}), "/recovery/text", "/model")


@pytest.mark.parametrize("fault", sorted(set(FAULTS) - {"PanicException", "StopIteration"}))  # not of Python's readers
@pytest.mark.parametrize(("reader", "text"), [
    ("workers.engine.text.sources.json_rows", ROWS),
    ("workers.engine.text.sources.plain_pieces", WORDS),
    ("datasets.load_dataset", HUB),
])  # fmt: skip
def test_a_reader_that_breaks(
    job: Callable[..., ServiceError], monkeypatch: pytest.MonkeyPatch, fault: str, reader: str, text: Any
) -> None:
    monkeypatch.setattr(reader, breaking_off(fault))
    told(job(text), "/scoring/calibration")


def test_a_text_that_may_not_be_read(job: Callable[..., ServiceError], monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Path.open

    def refused(self: Path, *arguments: Any, **more: Any) -> Any:
        if self.name == "words.txt":
            raise PermissionError(13, "Permission denied")
        return opened(self, *arguments, **more)

    monkeypatch.setattr(Path, "open", refused)
    error = job(WORDS)
    told(error, "/scoring/calibration/text/path")
    assert error.detail == '"words.txt" cannot be opened: Permission denied.'


@pytest.mark.parametrize("fault", FAULTS)
def test_a_model_that_breaks_when_a_later_stage_loads_it(
    tiny_checkpoint: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr("workers.engine.model.loading.AutoModelForCausalLM.from_pretrained", raising(fault))
    with pytest.raises(InvalidInput) as caught, told_at(MODEL):
        load_model(
            Checkpoint.open(tiny_checkpoint(num_hidden_layers=1)), device=torch.device("cpu"), dtype=torch.float32
        )
    told(caught.value, "/model")
