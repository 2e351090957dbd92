"""A tiny checkpoint with a tokenizer, and a text for it: enough for every stage to run for real."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from app.settings import Settings
from tests.fixtures.stage_runner import Runner
from workers.engine.checkpoints.check_fit import _run as run_without_weights
from workers.launch.fork_server import ForkServer

WORDS = ("river", "stone", "light", "garden", "winter", "paper", "engine", "music", "window", "silver", "forest")


def byte_tokenizer(*, bos: bool = False) -> PreTrainedTokenizerFast:
    """One token per byte, and <s>, </s>, <pad>: 259 in all. With `bos`, a text begins with <s>."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate(["<pad>", "<s>", "</s>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # no annotations upstream
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", model_max_length=64
    )


def plain_text(lines: int, *, seed: int = 0) -> str:
    """Lines of words drawn at random."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(len(WORDS), (lines, 8), generator=generator).tolist()
    return "".join(" ".join(WORDS[word] for word in line) + ".\n" for line in drawn)


@pytest.fixture(autouse=True)
def every_name_has_a_field(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the engine that leaves a stage names an argument that the stage has mapped to a field of the spec."""
    told = "an error over {!r} has no field of its own, and was to be told at {}"
    monkeypatch.setattr("workers.stages.fields.nobodys", lambda name, section: pytest.fail(told.format(name, section)))


@pytest.fixture(autouse=True)
def no_trial_of_configs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A config is built at once: that it is built in a child first, tests of strange configs and stage processes hold.

    Each trial is a fork of this process, which is large, and there would be a thousand.
    """
    monkeypatch.setattr("workers.engine.architectures.config._refuse_bursting", lambda model_type, entries: None)


_ran: set[tuple[object, str]] = set()


def _run_once(model: PreTrainedModel) -> None:
    asked = (type(model).forward, model.config.to_json_string())
    if asked not in _ran:
        run_without_weights(model)
        _ran.add(asked)


@pytest.fixture(autouse=True)
def each_config_is_run_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a model runs without its weights is up to its config and its code, and takes a third of a check."""
    monkeypatch.setattr("workers.engine.checkpoints.check_fit._run", _run_once)


@pytest.fixture(scope="session")
def stage_server() -> Iterator[ForkServer]:
    """One process that has imported what a worker's has: a real stage starts in no time."""
    server = ForkServer("workers.stage:main", Settings().stage_preload)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """As `tiny_checkpoint`, each made once for all tests: they take copies."""
    folder = tmp_path_factory.mktemp("checkpoints")
    made: dict[str, Path] = {}

    def make(*, model_type: str, seed: int, bos: bool, **settings: Any) -> Path:
        asked = repr((model_type, seed, bos, sorted(settings.items())))
        if asked not in made:
            path = folder / str(len(made))
            _write_checkpoint(path, model_type=model_type, seed=seed, bos=bos, **settings)
            made[asked] = path
        return made[asked]

    return make


@pytest.fixture
def tiny_checkpoint(tmp_path: Path, checkpoints: Callable[..., Path]) -> Callable[..., Path]:
    """tiny_checkpoint("name", num_hidden_layers=4): a random Llama with its tokenizer, as a folder, or another type."""

    def make(
        name: str = "tiny", *, model_type: str = "llama", seed: int = 0, bos: bool = False, **settings: Any
    ) -> Path:
        path = tmp_path / "models" / name
        made = checkpoints(model_type=model_type, seed=seed, bos=bos, **settings)
        shutil.copytree(made, path, copy_function=shutil.copy, dirs_exist_ok=True)
        return path

    return make


def _write_checkpoint(path: Path, *, model_type: str, seed: int, bos: bool, **settings: Any) -> None:
    config = AutoConfig.for_model(
        model_type,
        **{
            "vocab_size": 259,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 8,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 256,
            "tie_word_embeddings": True,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "pad_token_id": 0,
            **settings,
        },
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        # the auto classes carry no annotations
        model = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
        with torch.no_grad():  # blocks that differ, and matter
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.05)
    model.save_pretrained(path)
    byte_tokenizer(bos=bos).save_pretrained(path)


@pytest.fixture
def text_file(tmp_path: Path) -> Path:
    """A text of some 25,000 tokens under a folder of texts."""
    path = tmp_path / "data" / "words.txt"
    path.parent.mkdir(exist_ok=True)
    path.write_text(plain_text(450))
    return path


@pytest.fixture
def runner(
    stage_server: ForkServer, tmp_path: Path, tiny_checkpoint: Callable[..., Path], text_file: Path
) -> Iterator[Runner]:
    """Stages of one job on a tiny model of ten blocks, each a process."""
    path = tiny_checkpoint("tiny", num_hidden_layers=10)
    runner = Runner(stage_server, tmp_path / "job", path.parent, text_file.parent)
    yield runner
    for process in runner.started:
        process.close()
