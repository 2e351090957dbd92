"""The choose stage: several sets of blocks that could go are healed quickly, and the one nearest to the original goes.

A criterion judges the bare model, and what counts is what is left once the cuts are healed. So sets that the criterion
holds for nearly as good as its own are healed and judged on held-out samples (`engine/pruning/candidates.py`,
`engine/healing/sets.py`). The best few can be distilled for some steps each and judged again. Scores know nothing of
it, so jobs that differ in how they choose share them.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import torch
from torch import Tensor

from secateur.contract.errors import InvalidInput, StageFailed
from secateur.contract.options.recovery import LoraRecovery
from secateur.contract.options.scoring import BlockScoring, TextScoring
from secateur.contract.planning import Candidate, Chosen
from secateur.contract.results import TextInfo
from secateur.contract.stage_kinds import SCORE
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.checkpoints.computable import refuse_uncomputable
from workers.engine.healing.local_regression import RegressionSettings
from workers.engine.healing.sets import HealedSets
from workers.engine.model.block_model import BlockModel
from workers.engine.pruning import candidates
from workers.engine.pruning.depth import prune_depth
from workers.engine.recovery.finalist import distilled_states, finalist_options
from workers.engine.recovery.job import RecoveryJob
from workers.engine.recovery.lora import check_adapters
from workers.engine.recovery.sequences import Sequences
from workers.engine.recovery.teacher import stored_predictions
from workers.engine.remembered import remembered
from workers.engine.runtime import Machine, environment
from workers.engine.text.calibration import token_batch
from workers.stages.block_model import block_model, must_stream
from workers.stages.choice import NO_SCORING, block_scores, wanted
from workers.stages.context import StageContext, part
from workers.stages.fields import MODEL, PRUNING, Fields, told_at, told_in
from workers.stages.original import Original, open_original, prepare_machine, text_source

PLACE = "/scoring/after_healing"


@told_in("/scoring", {**MODEL, **PRUNING, "calibration": PLACE, "weights": "/scoring"})
def run(context: StageContext) -> Chosen:
    """Compare the sets.

    Raises:
        InvalidInput: more blocks are to go than may, the text cannot be read, or finalists are asked for and memory
            does not hold the model.
        UnsupportedModel: the model is quantised, and this machine has no kernels for it; or no adapters can be put on
            a finalist.
        StageFailed: a divergence or a loss is not finite.
    """
    began = time.monotonic()
    spec = context.stage.spec
    machine, original = prepare_machine(context), open_original(context)
    refuse_uncomputable(original.checkpoint.config, expected=NO_SCORING)
    refuse_finalists(spec.scoring, original, machine)
    count, protected = wanted(context, original)
    proposed = candidates.candidates(
        block_scores(context.read(SCORE)),
        count=count,
        protected=protected,
        most=spec.scoring.candidates,
        of_runs=spec.scoring.of_runs,
    )
    ids, text = _tokens(context, original, machine)
    comparison = _Comparison(context, original, machine, ids)
    judged, tokens = comparison.healed(proposed)
    steps = None
    if spec.scoring.finalists is not None:
        judged, steps = comparison.distilled(judged, spec.scoring.finalists, spec.scoring.finalist_steps)
    best = min(judged, key=_merit)
    context.log(f"blocks {best.blocks} go; the criterion alone takes {judged[0].blocks}")
    return Chosen(
        dropped=best.blocks,
        candidates=judged,
        steps=steps,
        fitted_tokens=tokens[0],
        judged_tokens=tokens[1],
        text=text,
        model=original.info,
        seconds=time.monotonic() - began,
        environment=environment(machine),
    )


def refuse_finalists(scoring: BlockScoring, original: Original, machine: Machine) -> None:
    """Raises InvalidInput or UnsupportedModel where finalists are asked for and cannot be trained here."""
    if scoring.finalists is None:
        return
    if must_stream(machine, original.info.parameters):
        raise InvalidInput.field(
            "/scoring/finalists",
            "Finalists are trained, and memory does not hold the model, which is streamed from disk.",
            value=scoring.finalists,
            expected="no `finalists`: sets are compared after healing all the same",
        )
    check_adapters(original.checkpoint.config, LoraRecovery())


def text_fields(scoring: BlockScoring) -> Fields:
    """Where the text comes from that candidates are healed on: the calibration's, or what the model writes."""
    place = "/scoring/calibration" if isinstance(scoring, TextScoring) else None
    own = {name: f"{place}/{name}" if place else PLACE for name in ("text", "tokens", "bos")}
    return {**own, "batch": place or PLACE, "calibration": place or PLACE, "samples": "/scoring/healing_samples"}


@part("text to heal on")
def _tokens(context: StageContext, original: Original, machine: Machine) -> tuple[Tensor, TextInfo]:
    scoring = context.stage.spec.scoring
    asked = scoring.healing_text
    with told_at({**text_fields(scoring), "tokenizer": "/model"}):
        return token_batch(
            text_source(context, original, machine),
            asked.text,
            purpose="calibration",
            samples=asked.samples,
            tokens=asked.tokens,
            bos=asked.bos,
            exact=False,
            progress=context.progress,
        )


def _merit(candidate: Candidate) -> tuple[bool, float, list[int]]:
    """Finalists before the others; the nearest to the original first."""
    distilled = candidate.kl_distilled
    return distilled is None, candidate.kl_healed if distilled is None else distilled, candidate.blocks


@dataclass(frozen=True)
class _Comparison:
    """Sets of blocks of one model, on one text. What an attempt has found out, the next one finds in the scratch."""

    context: StageContext
    original: Original
    machine: Machine
    ids: Tensor

    @cached_property
    def _model(self) -> BlockModel:
        return block_model(self.original.checkpoint, self.machine, self.original.info.parameters)

    @cached_property
    def _sets(self) -> HealedSets:
        return HealedSets(self._model, self._model.check_ids(self.ids), trained=RegressionSettings())

    def _file(self, what: str, blocks: Sequence[int]) -> Path:
        return self.context.scratch / f"{what}-{'-'.join(map(str, blocks))}.json"

    def healed(self, proposed: Sequence[candidates.Candidate]) -> tuple[list[Candidate], tuple[int, int]]:
        """All of them judged, and how many tokens were fitted and judged on."""
        found = []
        for done, candidate in enumerate(proposed, start=1):
            with self.context.part(f"without {candidate.blocks}"):
                figures = remembered(self._file("healed", candidate.blocks), partial(self._judge, candidate.blocks))
            found.append(Candidate(blocks=list(candidate.blocks), origin=candidate.origin, **figures))
            self.context.progress(done, len(proposed), "sets")
        tokens = remembered(self.context.scratch / "tokens.json", lambda: self._sets.tokens)
        return found, (tokens[0], tokens[1])

    def _judge(self, blocks: Sequence[int]) -> dict[str, float]:
        judged = self._sets.judged(blocks)
        if not math.isfinite(judged.kl_pruned):
            raise StageFailed(
                f"Without the blocks {list(blocks)} the divergence from the original is no finite number. The weights "
                'are broken, or the arithmetic overflowed: compute in "float32" or "bfloat16".'
            )
        return {"kl_pruned": judged.kl_pruned, "kl_healed": judged.kl_healed}

    def distilled(self, judged: Sequence[Candidate], count: int, steps: int) -> tuple[list[Candidate], int]:
        """The nearest `count` distilled for so many steps each, and how many steps there were."""
        finalists = sorted(judged, key=_merit)[:count]
        found, taken = list(judged), steps
        for candidate in finalists:
            with self.context.part(f"distil without {candidate.blocks}"):
                file = self._file("distilled", candidate.blocks)
                kl, taken = remembered(file, partial(self._distil, candidate.blocks, steps))
            self.context.log(f"without {candidate.blocks}: KL {candidate.kl_healed:.4f} healed, {kl:.4f} distilled")
            found[judged.index(candidate)] = candidate.model_copy(update={"kl_distilled": kl})
        return found, taken

    def _distil(self, blocks: Sequence[int], steps: int) -> tuple[float, int]:
        kept = tuple(block for block in range(self.original.info.blocks) if block not in blocks)
        options = finalist_options(steps=steps, tokens=self._sets.fitted_ids.shape[1])
        texts = text_source(self.context, self.original, self.machine)
        ids = self._sets.fitted_ids.cpu()
        predictions = stored_predictions(
            self.context.scratch / "teacher",
            lambda: self._model,
            ids,
            vocabulary=int(texts.config.vocab_size),
            top_k=options.top_k,
            temperature=options.temperature,
            progress=self.context.progress,
        )
        folder = self.context.scratch / "finalist"
        shutil.rmtree(folder / "pruned", ignore_errors=True)  # of an attempt that was killed
        prune_depth(self.original.checkpoint, folder / "pruned", drop=list(blocks))
        job = RecoveryJob(
            pruned=Checkpoint.open(folder / "pruned"),
            original=self.original.checkpoint,
            kept=kept,
            out=folder,
            scratch=folder,
            options=options,
            machine=self.machine,
            texts=texts,
            progress=self.context.progress,
        )
        changes = self._sets.judged(blocks).changes
        with torch.enable_grad():
            states, taken = distilled_states(
                job, options, changes, Sequences(ids, predictions.columns), self._sets.held_ids
            )
        shutil.rmtree(folder)
        return self._sets.divergence(states), taken
