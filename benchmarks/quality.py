"""What recoveries give back: this project's against the paper's recipe, on the same number of training tokens.

Every recipe starts from a model without the same number of blocks and is trained on the same number of tokens of the
same text; all are measured on texts of other kinds, and on PIQA where its items are given. Results are kept from run to
run in `OUT/results.json`, so the recipes can be run one by one (`--only`), and a table of all of them is printed.

    python benchmarks/quality.py MODEL --train FILE|self --measure NAME=FILE ... --piqa FILE --out FOLDER
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from _inputs import show
from pydantic import TypeAdapter
from transformers import PreTrainedModel

from secateur.contract.depth import plus_protected
from secateur.contract.measurements import TaskScore
from secateur.contract.options.benchmark import TasksBenchmark
from secateur.contract.options.recovery import Recovery
from secateur.contract.options.scoring import Scoring
from secateur.contract.options.texts import LocalText, SelfText
from secateur.contract.results import LossPoint
from workers.engine.architectures.config import as_config
from workers.engine.benchmarks.fidelity import divergence, fidelity
from workers.engine.benchmarks.perplexity import perplexity, protocol_of, window_losses
from workers.engine.benchmarks.task_scores import TaskRun, scores_of
from workers.engine.benchmarks.tasks import run_tasks
from workers.engine.benchmarks.windows import Windows
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.checkpoints.fingerprint import fingerprint
from workers.engine.checkpoints.gguf_import import import_gguf
from workers.engine.model.block_model import BlockModel
from workers.engine.model.loading import free_memory, load_model
from workers.engine.pruning.choose_blocks import choose_blocks
from workers.engine.pruning.depth import prune_depth
from workers.engine.recovery.job import RecoveryJob, RecoveryOutcome, run_recovery
from workers.engine.runtime import Machine, prepare
from workers.engine.scoring.task import ScoringTask, score_blocks
from workers.engine.text.calibration import token_batch
from workers.engine.text.text_source import TextSource

PIQA_TASK = """
task: piqa_file
dataset_path: json
dataset_kwargs:
  data_files: {validation: items.jsonl}
output_type: multiple_choice
validation_split: validation
doc_to_text: "Question: {{goal}}\\nAnswer:"
doc_to_target: label
doc_to_choice: "{{[sol1, sol2]}}"
metric_list:
  - metric: acc
  - metric: acc_norm
"""


@dataclass(frozen=True)
class Recipe:
    """How blocks are chosen, and what is done afterwards; `recovery` is the spec's object."""

    criterion: str
    recovery: Mapping[str, Any]


def _lora(learning_rate: float, **more: Any) -> Mapping[str, Any]:
    return {"kind": "lora", "learning_rate": learning_rate, **more}


def _distill(learning_rate: float, **more: Any) -> Mapping[str, Any]:
    return {"kind": "distill", "learning_rate": learning_rate, **more}


NONE = {"kind": "none"}
RECIPES: Mapping[str, Recipe] = {
    "pruned": Recipe("perplexity", NONE),
    "healing": Recipe("perplexity", {"kind": "healing"}),
    "paper, lr 3e-5": Recipe("perplexity", _lora(3e-5)),
    "paper, lr 1e-4": Recipe("perplexity", _lora(1e-4)),
    "paper, lr 3e-4": Recipe("perplexity", _lora(3e-4)),
    "paper, lr 1e-3": Recipe("perplexity", _lora(1e-3)),
    "distill adapters, lr 1e-3": Recipe("perplexity", _distill(1e-3, train="lora")),
    "distill all, lr 2e-4": Recipe("perplexity", _distill(2e-4)),
    "distill all, lr 5e-4": Recipe("perplexity", _distill(5e-4)),
    "distill all, lr 1e-3": Recipe("perplexity", _distill(1e-3)),
    "heal, distill all, lr 2e-4": Recipe("perplexity", _distill(2e-4, heal=True)),
    "heal, distill all, lr 5e-4": Recipe("perplexity", _distill(5e-4, heal=True)),
    "heal, distill all with states, lr 2e-4": Recipe("perplexity", _distill(2e-4, heal=True, hidden_weight=1.0)),
    "heal, distill adapters, lr 1e-3": Recipe("perplexity", _distill(1e-3, heal=True, train="lora")),
    "greedy, pruned": Recipe("greedy", NONE),
    "greedy, healing": Recipe("greedy", {"kind": "healing"}),
    "greedy, LoRA, lr 1e-4": Recipe("greedy", _lora(1e-4)),  # what the choice of blocks gives without the recovery
    "greedy, heal, distill all, lr 2e-4": Recipe("greedy", _distill(2e-4, heal=True)),
    "greedy, heal, distill all with states, lr 2e-4": Recipe("greedy", _distill(2e-4, heal=True, hidden_weight=1.0)),
    "greedy, heal, distill all, lr 5e-4": Recipe("greedy", _distill(5e-4, heal=True)),
    "angular, pruned": Recipe("angular", NONE),
    "angular, healing": Recipe("angular", {"kind": "healing"}),
    "angular, LoRA, lr 1e-4": Recipe("angular", _lora(1e-4)),
    "angular, LoRA, lr 3e-4": Recipe("angular", _lora(3e-4)),
    "angular, heal, distill all, lr 2e-4": Recipe("angular", _distill(2e-4, heal=True)),
    "angular, heal, distill all, lr 5e-4": Recipe("angular", _distill(5e-4, heal=True)),
    # as many tokens in twice as many steps
    "angular, heal, distill after the cut, lr 2e-4": Recipe(
        "angular", _distill(2e-4, heal=True, train="after_cut", top_k=1024, batch_size=4, micro_batch_size=4)
    ),
}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("model", type=Path, help="checkpoint folder, or a .gguf file")
    arguments.add_argument(
        "--train", required=True, help='UTF-8 file for calibration and training, or "self": what the model writes'
    )
    arguments.add_argument("--measure", nargs="+", default=[], metavar="NAME=FILE", help="UTF-8 texts to measure on")
    arguments.add_argument("--piqa", type=Path, help="JSON lines with goal, sol1, sol2 and label")
    arguments.add_argument("--items", type=int, default=400, help="of PIQA")
    arguments.add_argument("--out", type=Path, required=True)
    arguments.add_argument("--only", nargs="*", default=list(RECIPES), choices=RECIPES, help="recipes, by name")
    arguments.add_argument("--blocks", type=int, default=6, help="how many go")
    arguments.add_argument("--steps", type=int, default=60)
    arguments.add_argument("--batch", type=int, default=8, help="samples per step")
    arguments.add_argument("--tokens", type=int, default=128, help="per sample and per window")
    arguments.add_argument("--windows", type=int, default=24, help="of each measuring text")
    arguments.add_argument("--samples", type=int, default=10, help="calibration samples")
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument(
        "--dtype", choices=["float32", "bfloat16"], default="float32", help="of recoveries; measured is in float32"
    )
    settings = arguments.parse_args()
    settings.out.mkdir(parents=True, exist_ok=True)
    bench = Bench(settings, prepare(threads=settings.threads))
    for name in settings.only:
        if name not in bench.results:
            bench.results[name] = bench.run(name, RECIPES[name])
            bench.save()
    rows = [_row(name, found) for name, found in bench.results.items()]
    show("Quality after recovery", rows, {**bench.described, "results": bench.results})


class Bench:
    """One model, one training text, and what has been measured so far."""

    def __init__(self, settings: argparse.Namespace, machine: Machine) -> None:
        self.settings = settings
        self.machine = machine
        self.out: Path = settings.out
        self.file = self.out / "results.json"
        self.results: dict[str, Any] = json.loads(self.file.read_text()) if self.file.exists() else {}
        self.original: Path = settings.model
        if self.original.suffix == ".gguf":
            self.original = self.out / "original"
            if not self.original.exists():
                import_gguf(settings.model, self.original)
        self.described = {
            name: getattr(settings, name)
            for name in ("blocks", "steps", "batch", "tokens", "windows", "threads", "dtype")
        }
        self.train: LocalText | SelfText = SelfText(source="self")
        files = [Path(file) for _, file in self._texts()]
        if settings.train != "self":
            files.append(Path(settings.train))
            self.train = LocalText(source="local", path=files[-1].name)
        roots = sorted({file.resolve().parent for file in files})
        self.source = TextSource(
            checkpoint=self.original,
            config=as_config(Checkpoint.open(self.original).config),
            fingerprint=fingerprint(Checkpoint.open(self.original)),
            load=lambda: self.load(self.original),
            machine=machine,
            data_roots=roots,
            cache=self.out / "cache",
            seed=machine.seed,
        )
        self._windows: dict[str, Windows] = {}

    def _texts(self) -> list[tuple[str, str]]:
        return [(name, file) for name, _, file in (pair.partition("=") for pair in self.settings.measure)]

    def load(self, path: Path) -> PreTrainedModel:
        return load_model(Checkpoint.open(path), device=self.machine.device, dtype=self.machine.dtype)

    def save(self) -> None:
        part = self.file.with_suffix(".part")
        part.write_text(json.dumps(self.results, indent=1))
        part.replace(self.file)

    def run(self, name: str, recipe: Recipe) -> dict[str, Any]:
        """Prune, recover and measure as the recipe says."""
        if "original" not in self.results:
            self.results["original"] = self.measure(self.original)
            self.save()
        pruned = self.pruned(recipe.criterion)
        began = time.perf_counter()
        checkpoint, training = pruned, None
        if recipe.recovery["kind"] != "none":
            folder = self.out / "recovered"
            shutil.rmtree(folder, ignore_errors=True)
            training = self.recover(recipe.criterion, folder, recipe.recovery).training
            checkpoint = folder / "checkpoint"
        spent = time.perf_counter() - began
        found = {
            **self.measure(checkpoint),
            "criterion": recipe.criterion,
            "recovery": dict(recipe.recovery),
            "dropped": self.dropped(recipe.criterion),
            "seconds": round(spent, 1),
            "training_tokens": training.tokens if training else 0,
            "last_loss": training.curve[-1].loss if training and training.curve else None,
        }
        print(name, json.dumps(found), flush=True)
        return found

    def dropped(self, criterion: str) -> list[int]:
        """The blocks that the criterion removes, by the training text's calibration samples."""
        file = self.out / f"dropped-{criterion}.json"
        if not file.exists():
            ids, _ = token_batch(
                self.source,
                self.train,
                purpose="calibration",
                samples=self.settings.samples,
                tokens=self.settings.tokens,
            )
            view = BlockModel.from_model(self.load(self.original))
            protected = frozenset(plus_protected(view.n_blocks))
            options = TypeAdapter(Scoring).validate_python({"criterion": criterion})
            count = self.settings.blocks if options.searches else None
            task = ScoringTask(view, ids, options, count=count, protected=protected, seed=self.machine.seed)
            scores = score_blocks(task)
            drop = sorted(choose_blocks(scores, count=self.settings.blocks, protected=protected))
            file.write_text(json.dumps(drop))
        found: list[int] = json.loads(file.read_text())
        return found

    def kept(self, criterion: str) -> tuple[int, ...]:
        blocks = int(self.source.config.num_hidden_layers)
        return tuple(block for block in range(blocks) if block not in self.dropped(criterion))

    def pruned(self, criterion: str) -> Path:
        folder = self.out / f"pruned-{criterion}"
        if not folder.exists():
            prune_depth(Checkpoint.open(self.original), folder, drop=self.dropped(criterion))
        return folder

    def recover(self, criterion: str, out: Path, recovery: Mapping[str, Any]) -> RecoveryOutcome:
        """Run a recovery on the benchmark's number of tokens; a tenth of its steps is warm-up."""
        settings = self.settings
        spec: dict[str, Any] = {
            "text": self.train.model_dump(mode="json"),
            "tokens": settings.tokens,
            "samples": settings.steps * settings.batch,
            **recovery,
        }
        if recovery["kind"] != "healing":
            spec = {
                "batch_size": settings.batch,
                "micro_batch_size": settings.batch,
                "epochs": 1,
                **spec,
            }
            spec["warmup_steps"] = spec["samples"] // spec["batch_size"] // 10
        options = TypeAdapter[Any](Recovery).validate_python(spec)
        job = RecoveryJob(
            pruned=Checkpoint.open(self.pruned(criterion)),
            original=Checkpoint.open(self.original),
            kept=self.kept(criterion),
            out=out,
            scratch=out / "scratch",
            options=options,
            machine=replace(self.machine, dtype=getattr(torch, settings.dtype)),
            texts=self.source,
            on_point=_print_point,
        )
        return run_recovery(job)

    @torch.no_grad()
    def measure(self, checkpoint: Path) -> dict[str, Any]:
        """KL divergence from the original, agreement and perplexity on each text, and accuracy on PIQA."""
        model = self.load(checkpoint)
        view = BlockModel.from_model(model)
        original = BlockModel.from_model(self.load(self.original))
        texts = {}
        for window_name, windows in self.windows().items():
            found = fidelity(divergence(original, view, windows), windows)
            texts[window_name] = {
                "kl": round(found.kl, 4),
                "agreement": round(found.top1_agreement, 4),
                "perplexity": round(perplexity(window_losses(view, windows), windows).value, 2),
            }
        result: dict[str, Any] = {"texts": texts}
        if self.settings.piqa is not None:
            result["piqa"] = self.piqa(model)
        del model, view, original
        free_memory()
        return result

    def windows(self) -> dict[str, Windows]:
        """The first windows of each measuring text."""
        for name, file in self._texts():
            if name not in self._windows:
                text = LocalText(source="local", path=Path(file).name)
                ids, info = token_batch(
                    self.source,
                    text,
                    purpose="measuring",
                    samples=self.settings.windows,
                    tokens=self.settings.tokens,
                    exact=False,
                )
                where = self.source.beginning(text, "auto").where
                self._windows[name] = Windows(ids, info, protocol_of(tokens=self.settings.tokens, bos=where))
        return self._windows

    def piqa(self, model: PreTrainedModel) -> dict[str, Any]:
        """Accuracy on the first items, with the drop from the original judged item by item."""
        folder = self.out / "piqa"
        folder.mkdir(exist_ok=True)
        (folder / "piqa.yaml").write_text(PIQA_TASK)
        shutil.copyfile(self.settings.piqa, folder / "items.jsonl")
        options = TasksBenchmark(tasks=("piqa_file",), folder="piqa", limit=self.settings.items)
        runs, _ = run_tasks(model, self.source.tokenizer, options, roots=[self.out.resolve()])
        kept = self.out / "piqa-original.json"
        first = not kept.exists()
        if first:
            kept.write_text(json.dumps(runs[0].items))
        original = TaskRun(runs[0].task, runs[0].metric, json.loads(kept.read_text()), runs[0].few_shot, "")
        (score,) = scores_of(runs, None if first else [original])
        return _task(score)


def _task(score: TaskScore) -> dict[str, Any]:
    names = ("metric", "value", "standard_error", "items", "drop", "drop_low", "drop_high", "p_value")
    return {name: getattr(score, name) for name in names}


def _print_point(point: LossPoint) -> None:
    if point.step % 10 == 0:
        print(f"  step {point.step}: loss {point.loss:.3f}", flush=True)


def _row(name: str, found: Mapping[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {"recipe": name}
    for text, figures in found["texts"].items():
        row[text] = f"{figures['kl']:.3f} {figures['agreement']:.3f} {figures['perplexity']:.1f}"
    if "piqa" in found:
        row["piqa"] = f"{found['piqa']['value']:.3f}"
    return row


if __name__ == "__main__":
    main()
