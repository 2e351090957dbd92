"""Training speed of `lora` against the plain recipe, and memory of `distill` against a teacher that runs along.

Speed: the same instruction examples, padded in micro-batches of four, as recipes for Alpaca do it, with adapters as
peft has them; and packed, with the adapters' arithmetic of this project. Both see the same tokens in about as many
steps, so the loss on held-out examples says whether a token taught as much.
Memory: the greatest resident memory of a process that distils with stored predictions, and of one that runs the
teacher beside the student at each step; each in a process of its own.

    python benchmarks/training.py CHECKPOINT EXAMPLES.jsonl [--only speed|memory]
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from _inputs import show
from torch import Tensor, nn

from secateur.contract.options.recovery import DistillRecovery, LoraRecovery
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.model.block_model import BlockModel
from workers.engine.model.loading import free_memory, load_model
from workers.engine.recovery.example import Example
from workers.engine.recovery.instruction_data import alpaca, pack, pad_each
from workers.engine.recovery.lora import add_adapters
from workers.engine.recovery.objective import Objective
from workers.engine.recovery.packed_predictions import PackedForm
from workers.engine.recovery.quick_adapters import quick_adapters
from workers.engine.recovery.sequences import REAL_TOKENS, Sequences
from workers.engine.recovery.teacher import PREDICTIONS, kl_to_predictions, top_predictions
from workers.engine.recovery.training import Training, train
from workers.engine.recovery.training_settings import TrainingSettings
from workers.engine.recovery.weights import train_all
from workers.engine.runtime import Machine, prepare
from workers.engine.text.tokenizer_loading import load_tokenizer
from workers.engine.text.tokenizing import BoundedEncoder

MICRO_BATCH = 4  # of both
HELD = 24  # examples whose loss is taken after training


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("model", type=Path, help="checkpoint folder")
    arguments.add_argument("examples_file", type=Path, help="JSON lines with instruction, input and output")
    arguments.add_argument("--only", choices=["speed", "memory"])
    arguments.add_argument("--tokens", type=int, default=256, help="longest sample")
    arguments.add_argument("--examples", type=int, default=10_000, help="of the file, at most")
    arguments.add_argument("--batch", type=int, default=32, help="examples per step")
    arguments.add_argument("--threads", type=int, default=2)
    settings = arguments.parse_args()
    if settings.only != "memory":
        speed(settings)
    if settings.only != "speed":
        memory(settings)


def speed(settings: argparse.Namespace) -> None:
    machine = prepare(threads=settings.threads)
    tokenizer = load_tokenizer(settings.model)
    lines = settings.examples_file.read_text(encoding="utf-8").splitlines()[: settings.examples]
    rows = [json.loads(line) for line in lines]
    with BoundedEncoder(tokenizer) as encoder:
        examples = [
            Example(example.ids[: settings.tokens], example.answer[: settings.tokens])
            for example in (alpaca(encoder, row) for row in rows)
        ]
    pad = int(tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id)
    shape: dict[str, Any] = {"tokens": settings.tokens, "pad": pad, "mask_prompt": False}
    held, trained = pad_each(examples[:HELD], **shape), examples[HELD:]
    packed = pack(trained, **shape)
    micro_batches = max(1, round(settings.batch * len(packed) / len(trained) / MICRO_BATCH))  # with as many tokens
    ways: dict[str, tuple[Sequences, int, Callable[[Any], Any]]] = {
        "padded, peft's adapters": (pad_each(trained, **shape), settings.batch, nullcontext),
        "packed, quick adapters": (packed, micro_batches * MICRO_BATCH, quick_adapters),
    }
    rows_shown: list[dict[str, Any]] = []
    for name, (data, batch, adapters) in ways.items():
        model: Any = add_adapters(
            load_model(Checkpoint.open(settings.model), device=machine.device, dtype=machine.dtype),
            LoraRecovery(),
            seed=0,
        )
        before = _loss(model, held)
        with tempfile.TemporaryDirectory() as scratch, adapters(model):
            how = TrainingSettings(
                learning_rate=1e-3,
                batch_size=batch,
                micro_batch_size=MICRO_BATCH,
                epochs=1,
                warmup_steps=1,
                checkpoint_steps=10**6,
            )
            done = train(
                Training(model, data, settings=how, machine=machine, scratch=Path(scratch), identity="benchmark")
            )
        rows_shown.append(
            {
                "way": name,
                "steps": done.steps,
                "tokens": done.tokens,
                "seconds": done.seconds,
                "tokens per second": done.tokens / done.seconds,
                "held-out loss before": before,
                "after": _loss(model, held),
            }
        )
        print(rows_shown[-1], flush=True)
        del model
        free_memory()
    plain, ours = rows_shown
    ratio = ours["tokens per second"] / plain["tokens per second"]
    show("LoRA: this project's against the plain recipe", rows_shown, {"times faster": ratio, "runs": rows_shown})


@torch.no_grad()
def _loss(model: Any, data: Sequences) -> float:
    """Mean loss per token of padded examples."""
    total, count = 0.0, 0
    model.eval()
    for row in (data[index] for index in range(len(data))):
        real = int(row[REAL_TOKENS])
        ids = row["input_ids"][None, :real]
        total += float(model(input_ids=ids, labels=ids).loss) * (real - 1)
        count += real - 1
    return total / count


def memory(settings: argparse.Namespace) -> None:
    context = multiprocessing.get_context("spawn")
    rows = []
    for name, run in (("stored predictions", _stored), ("teacher at each step", _alongside)):
        with context.Pool(1) as pool:
            peak, start = pool.apply(_peak_of, (run, settings))
        rows.append({"way": name, "peak MB": peak / 1e6, "of which imports MB": start / 1e6})
    ratio = rows[1]["peak MB"] / rows[0]["peak MB"]
    show("Distillation of all weights: greatest resident memory", rows, {"ratio": ratio, "runs": rows})


def _peak_of(run: Callable[[argparse.Namespace, Machine, Tensor], None], settings: argparse.Namespace) -> Any:
    machine = prepare(threads=settings.threads)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 1000, (16, 128), generator=generator)
    start = _resident_peak()
    run(settings, machine, ids)
    return _resident_peak(), start


def _stored(settings: argparse.Namespace, machine: Machine, ids: Tensor) -> None:
    options = DistillRecovery(kind="distill")
    teacher = BlockModel.from_model(
        load_model(Checkpoint.open(settings.model), device=machine.device, dtype=machine.dtype)
    )
    form = PackedForm.of(options.top_k, teacher.vocab_size)
    columns = {PREDICTIONS: form.pack(*top_predictions(teacher, ids, top_k=options.top_k, temperature=1.0))}
    del teacher
    free_memory()

    def loss(model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
        logits = model(input_ids=inputs["input_ids"]).logits
        return kl_to_predictions(logits, *form.unpack(inputs[PREDICTIONS]), temperature=1.0)

    _distil(settings, machine, Sequences(ids, columns), loss)


def _alongside(settings: argparse.Namespace, machine: Machine, ids: Tensor) -> None:
    teacher = load_model(Checkpoint.open(settings.model), device=machine.device, dtype=machine.dtype)

    def loss(model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
        with torch.no_grad():
            target = teacher(input_ids=inputs["input_ids"]).logits.log_softmax(-1)
        ours = model(input_ids=inputs["input_ids"]).logits.log_softmax(-1)
        return nn.functional.kl_div(ours, target, reduction="none", log_target=True).sum(-1).mean()

    _distil(settings, machine, Sequences(ids), loss)


def _distil(settings: argparse.Namespace, machine: Machine, data: Sequences, loss: Any) -> None:
    student: Any = load_model(Checkpoint.open(settings.model), device=machine.device, dtype=torch.float32)
    train_all(student)
    with tempfile.TemporaryDirectory() as scratch:
        train(
            Training(
                student,
                data,
                settings=TrainingSettings(
                    learning_rate=1e-5,
                    batch_size=8,
                    micro_batch_size=4,
                    epochs=1,
                    warmup_steps=0,
                    checkpoint_steps=10**6,
                ),
                machine=machine,
                scratch=Path(scratch),
                identity="benchmark",
                objective=Objective(loss),
            )
        )


def _resident_peak() -> int:
    """Greatest resident memory of this process so far, in bytes (Linux)."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))


if __name__ == "__main__":
    began = time.perf_counter()
    main()
    print(f"{math.ceil(time.perf_counter() - began)} s in all")
