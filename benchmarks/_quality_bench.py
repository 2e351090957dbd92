"""One model of `quality.py`: its blocks judged, pruned, recovered and measured with the product's own functions.

Options are those that a job has where its spec says nothing, but for what the command line gives. What is found is kept
in `results.json` of the model's folder at once, under all that it follows from: a figure that stands there is not
computed again, and two criteria that name the same blocks share what became of them.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from transformers import PreTrainedModel

from secateur.contract.depth import plus_protected
from secateur.contract.measurements import TaskScore
from secateur.contract.options.benchmark import TasksBenchmark
from secateur.contract.options.recovery import Recovery
from secateur.contract.options.scoring import Scoring, TextScoring
from secateur.contract.options.texts import AnswersText, LocalText, SelfText
from secateur.contract.options.training import TrainedRecovery
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
from workers.engine.recovery.job import RecoveryJob, run_recovery
from workers.engine.runtime import Machine
from workers.engine.scoring.result import BlockScores
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
class Given:
    """What the command line says of every cell; None: as a job that does not say it."""

    train: str  # "self", "answers", or a UTF-8 file: what is calibrated and trained on
    measure: Mapping[str, Path]  # texts by name
    windows: int  # of each of them
    window_tokens: int
    perplexity: bool  # of each of them too
    piqa: Path | None  # JSON lines with goal, sol1, sol2 and label
    items: int  # of PIQA
    samples: int | None  # of calibration
    tokens: int | None  # of a sample, of calibration and recovery
    healing_samples: int | None
    steps: int | None
    batch: int | None  # samples of a step
    dtype: str  # of recoveries; what is measured is in float32

    def key(self) -> dict[str, Any]:
        """What recovered models depend on."""
        names = ("train", "tokens", "healing_samples", "steps", "batch", "dtype")
        return {name: value for name in names if (value := getattr(self, name)) is not None}


class Bench:
    """One model, and what has been found of it so far."""

    def __init__(self, model: Path, out: Path, given: Given, machine: Machine) -> None:
        out.mkdir(parents=True, exist_ok=True)
        self.given = given
        self.machine = machine
        self.out = out
        self.name = model.stem
        self.file = out / "results.json"
        self.results: dict[str, Any] = json.loads(self.file.read_text()) if self.file.exists() else {}
        self.original = model
        if model.suffix == ".gguf":
            self.original = out / "original"
            if not self.original.exists():
                import_gguf(model, self.original)
        checkpoint = Checkpoint.open(self.original)
        config = as_config(checkpoint.config)
        self.blocks = int(config.num_hidden_layers)
        files = [*given.measure.values()]
        self.train: LocalText | SelfText | AnswersText = SelfText()
        if given.train == "answers":
            self.train = AnswersText(source="answers")
        elif given.train != "self":
            files.append(Path(given.train))
            self.train = LocalText(source="local", path=files[-1].name)
        self.source = TextSource(
            checkpoint=self.original,
            config=config,
            fingerprint=fingerprint(checkpoint),
            load=lambda: self.load(self.original),
            machine=machine,
            data_roots=sorted({file.resolve().parent for file in files}),
            cache=out / "cache",
            seed=machine.seed,
        )
        self._windows: dict[str, Windows] = {}

    def load(self, path: Path) -> PreTrainedModel:
        return load_model(Checkpoint.open(path), device=self.machine.device, dtype=self.machine.dtype)

    def cell(self, criterion: str, count: int, name: str, recovery: Mapping[str, Any]) -> dict[str, Any]:
        """What is left of the original without `count` blocks by this criterion, recovered in this way."""
        dropped, seconds = self.dropped(criterion, count)
        found = self.recovered(dropped, recovery)
        row = {"model": self.name, "blocks": count, "criterion": criterion, "recovery": name, "dropped": dropped}
        return {**row, "scoring_seconds": seconds, **found}

    def of_original(self) -> dict[str, Any]:
        return self._kept({"original": self._measured()}, lambda: self.measure(self.original))

    def dropped(self, criterion: str, count: int) -> tuple[list[int], float]:
        """The blocks that the criterion removes, and the processor seconds that it took."""
        options: Any = TypeAdapter(Scoring).validate_python({"criterion": criterion})
        if isinstance(options, TextScoring):
            given = {"samples": self.given.samples, "tokens": self.given.tokens}
            changed = {name: value for name, value in given.items() if value is not None}
            calibration = options.calibration.model_copy(update={"text": self.train, **changed})
            options = options.model_copy(update={"calibration": calibration})
        scored = {"scoring": options.model_dump(mode="json")}
        key = {**scored, "count": count if options.searches else None}
        if criterion == "greedy":  # its rounds for more blocks begin with those for fewer
            more = [{**scored, "count": more} for more in range(count, self.blocks)]
            key = next((one for one in more if _name(one) in self.results), key)
        found = self._kept(key, lambda: self._order(options, count if options.searches else None))
        protected = frozenset(plus_protected(self.blocks))
        scores = BlockScores([None] * self.blocks, None, found["order"])
        return sorted(choose_blocks(scores, count=count, protected=protected)), found["seconds"]

    def _order(self, options: Any, count: int | None) -> dict[str, Any]:
        began, ids = time.process_time(), None
        if isinstance(options, TextScoring):
            text = options.calibration
            ids, _ = token_batch(
                self.source, text.text, purpose="calibration", samples=text.samples, tokens=text.tokens, bos=text.bos
            )
        view = BlockModel.from_model(self.load(self.original))
        protected = frozenset(plus_protected(self.blocks))
        scores = score_blocks(ScoringTask(view, ids, options, count=count, protected=protected, seed=self.machine.seed))
        return {"order": scores.order, "seconds": round(time.process_time() - began, 1)}

    def recovered(self, dropped: Sequence[int], recovery: Mapping[str, Any]) -> dict[str, Any]:
        """Without these blocks and recovered: how far it is from the original, and what that took."""
        options = self.options(recovery)
        key = {"dropped": dropped, "recovery": options.model_dump(mode="json"), **self.given.key(), **self._measured()}
        return self._kept(key, lambda: self._recovered(dropped, options))

    def _recovered(self, dropped: Sequence[int], options: Recovery) -> dict[str, Any]:
        kept = tuple(block for block in range(self.blocks) if block not in dropped)
        pruned, out = self.out / "pruned", self.out / "recovered"
        for folder in (pruned, out):
            shutil.rmtree(folder, ignore_errors=True)
        prune_depth(Checkpoint.open(self.original), pruned, drop=list(dropped))
        began, checkpoint, training = time.process_time(), pruned, None
        if options.kind != "none":
            job = RecoveryJob(
                pruned=Checkpoint.open(pruned),
                original=Checkpoint.open(self.original),
                kept=kept,
                out=out,
                scratch=out / "scratch",
                options=options,
                machine=replace(self.machine, dtype=getattr(torch, self.given.dtype)),
                texts=self.source,
                on_point=_print_point,
            )
            training = run_recovery(job).training
            checkpoint = out / "checkpoint"
        seconds = round(time.process_time() - began, 1)
        return {
            "seconds": seconds,
            "training_tokens": training.tokens if training else 0,
            "last_loss": training.curve[-1].loss if training and training.curve else None,
            **self.measure(checkpoint),
        }

    def options(self, recovery: Mapping[str, Any]) -> Any:
        """The recovery's options, with what the command line gives."""
        spec = dict(recovery)
        if spec["kind"] != "none":
            spec["text"] = self.train.model_dump(mode="json")
            if self.given.tokens is not None:
                spec["tokens"] = self.given.tokens
        options: Any = TypeAdapter[Any](Recovery).validate_python(spec)
        if isinstance(options, TrainedRecovery):
            batch = self.given.batch or options.batch_size
            spec.update(batch_size=batch, micro_batch_size=min(batch, options.micro_batch_size))
            if self.given.steps is not None:
                spec.update(samples=self.given.steps * batch, epochs=1)
        elif spec["kind"] == "healing" and self.given.healing_samples is not None:
            spec["samples"] = self.given.healing_samples
        return TypeAdapter[Any](Recovery).validate_python(spec)

    @torch.no_grad()
    def measure(self, checkpoint: Path) -> dict[str, Any]:
        """KL divergence from the original and agreement on each text, and where asked for perplexity and PIQA."""
        model = self.load(checkpoint)
        view, original = BlockModel.from_model(model), BlockModel.from_model(self.load(self.original))
        texts = {}
        for name, windows in self.windows().items():
            found = fidelity(divergence(original, view, windows), windows)
            texts[name] = {"kl": found.kl, "low": found.kl_low, "high": found.kl_high}
            texts[name]["agreement"] = found.top1_agreement
            if self.given.perplexity:
                texts[name]["perplexity"] = perplexity(window_losses(view, windows), windows).value
        result: dict[str, Any] = {"texts": texts}
        if self.given.piqa is not None:
            result["piqa"] = self.piqa(model, self.given.piqa)
        del model, view, original
        free_memory()
        return result

    def windows(self) -> dict[str, Windows]:
        """The first windows of each measuring text."""
        for name, file in self.given.measure.items():
            if name not in self._windows:
                text, tokens = LocalText(source="local", path=file.name), self.given.window_tokens
                ids, info = token_batch(
                    self.source, text, purpose="measuring", samples=self.given.windows, tokens=tokens, exact=False
                )
                where = self.source.beginning(text, "auto").where
                self._windows[name] = Windows(ids, info, protocol_of(tokens=tokens, bos=where))
        return self._windows

    def piqa(self, model: PreTrainedModel, file: Path) -> dict[str, Any]:
        """Accuracy on the first items, with the drop from the original judged item by item."""
        folder = self.out / "piqa"
        folder.mkdir(exist_ok=True)
        (folder / "piqa.yaml").write_text(PIQA_TASK)
        shutil.copyfile(file, folder / "items.jsonl")
        options = TasksBenchmark(tasks=("piqa_file",), folder="piqa", limit=self.given.items)
        runs, _ = run_tasks(model, self.source.tokenizer, options, roots=[self.out.resolve()])
        kept = self.out / f"piqa-original-{self.given.items}.json"
        first = not kept.exists()
        if first:
            kept.write_text(json.dumps(runs[0].items))
        original = TaskRun(runs[0].task, runs[0].metric, json.loads(kept.read_text()), runs[0].few_shot, "")
        (score,) = scores_of(runs, None if first else [original])
        return _task(score)

    def _measured(self) -> dict[str, Any]:
        """What figures depend on beside the model."""
        given = self.given
        files = {name: file.name for name, file in given.measure.items()}
        piqa = given.items if given.piqa is not None else 0
        windows = [given.windows, given.window_tokens]
        return {"measure": files, "windows": windows, "perplexity": given.perplexity, "piqa": piqa}

    def _kept(self, key: Mapping[str, Any], find: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What stands under the key, or else is found now and put there."""
        name = _name(key)
        if name not in self.results:
            self.results[name] = find()
            part = self.file.with_suffix(".part")
            part.write_text(json.dumps(self.results, indent=1))
            part.replace(self.file)
        found: dict[str, Any] = self.results[name]
        return found


def _name(key: Mapping[str, Any]) -> str:
    return json.dumps(key, sort_keys=True)


def _task(score: TaskScore) -> dict[str, Any]:
    names = ("metric", "value", "standard_error", "items", "drop", "drop_low", "drop_high", "p_value")
    return {name: getattr(score, name) for name in names}


def _print_point(point: LossPoint) -> None:
    if point.step % 10 == 0:
        print(f"  step {point.step}: loss {point.loss:.3f}", flush=True)
