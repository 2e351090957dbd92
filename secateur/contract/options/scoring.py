"""The section `scoring` of a spec: the criteria by which blocks are judged, with their options, and the table of them.

A criterion is a class here and a line in `Scoring`, at the end. What it computes is `score` in the file of its name in
`workers/engine/scoring/`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from secateur.contract.options.method import Method, usually
from secateur.contract.options.papers import SHORTENED_LLAMA
from secateur.contract.options.texts import Calibration

# Of the choice among sets that comes after the scoring, so scores do not depend on them.
OF_THE_CHOICE = ("after_healing", "candidates", "healing_samples", "finalists", "finalist_steps")

FINALIST_BATCH = 4  # samples of a step of a finalist's distillation


class BlockScoring(Method):
    """What all criteria have in common."""

    criterion: str
    plus: bool = Field(
        default=True,
        description='The "+" rule: the first four and the last two blocks are never removed.',
    )
    after_healing: bool = Field(
        default=False,
        description="Choose after healing: several sets that the criterion proposes are healed quickly, and that one "
        "goes whose model then predicts nearest to the original on held-out samples.",
    )
    candidates: int = Field(
        default=12,
        ge=2,
        le=1000,
        description="How many sets are healed: the criterion's own, runs of blocks in a row, and sets one swap away.",
    )
    healing_samples: int = Field(
        default=64,
        ge=2,
        le=100_000,
        description="Samples, at most, of the calibration's text that candidates are healed on; the last fifth judges. "
        "A criterion without one takes what the model writes.",
    )
    finalists: int | None = Field(
        default=None,
        ge=2,
        description="So many of the nearest sets are distilled for a few steps each and judged again; absent: none.",
    )
    finalist_steps: int = Field(default=40, ge=1, le=100_000, description="Steps of distillation for each finalist.")

    @model_validator(mode="after")
    def _options_of_the_choice_have_one(self) -> Self:
        """What says how sets are compared would be passed over where none are."""
        fields = BlockScoring.model_fields
        for name in OF_THE_CHOICE[1:]:
            if not self.after_healing and getattr(self, name) != fields[name].default:
                raise PydanticCustomError(
                    "no_choice_after_healing",
                    "`{field}` is for a choice after healing",
                    {"field": name, "expected": f'no `{name}`, or "after_healing": true'},
                )
        if self.finalists is None and self.finalist_steps != fields["finalist_steps"].default:
            raise PydanticCustomError(
                "steps_without_finalists",
                "`finalist_steps` is for finalists, and there are none",
                {"field": "finalist_steps", "expected": "no `finalist_steps`, or a number of `finalists`"},
            )
        if self.finalists is not None and self.finalists > self.candidates:
            raise PydanticCustomError(
                "more_finalists_than_candidates",
                "{finalists} finalists cannot come from {candidates} candidates",
                {
                    "finalists": self.finalists,
                    "candidates": self.candidates,
                    "field": "finalists",
                    "expected": f"at most {self.candidates}, or more `candidates`",
                },
            )
        return self

    @property
    def healing_text(self) -> Calibration:
        """What the candidates are healed and judged on; of a text with fewer samples, as many as it has."""
        return Calibration(samples=self.healing_samples)

    @property
    def of_runs(self) -> bool:
        """Whether a block's value is that of the run which begins there."""
        return False

    @property
    def searches(self) -> bool:
        """Whether it looks for a set of blocks, so that its scores depend on how many go and on which may not."""
        return False

    def walks(self, blocks: int, gone: int | None) -> float | None:
        """How often all of a model's blocks are walked over; None where that depends on how many go, and none says."""
        return 1


class TextScoring(BlockScoring):
    """What criteria have in common that judge on a text; by what they carry their memory is estimated."""

    predicts: ClassVar[bool] = True  # whether the head is asked
    compares: ClassVar[bool] = False  # two models' predictions
    heals: ClassVar[bool] = False  # the sets that it judges
    needs_gradients: ClassVar[bool] = False  # of one block at a time; weights are not packed for that

    calibration: Calibration = Field(default_factory=Calibration)

    @property
    def healing_text(self) -> Calibration:
        return self.calibration.model_copy(update={"samples": self.healing_samples})

    @property
    def packs_all(self) -> bool:
        """Whether, on a CPU, the weights of all blocks are packed at a time, since it comes back to each."""
        return False

    def states(self, blocks: int) -> float:
        """How many states of the whole text it carries at a time, each before some block."""
        return blocks + 2  # the walk's: of the intact model and of that without each block, one of them twice

    def states_kept(self, blocks: int, free: Sequence[int]) -> int:
        """How many more it keeps for its next walk, where there is room; `free`: blocks that may go."""
        return 0


class PerplexityScoring(TextScoring):
    title = "Perplexity"
    summary = (
        "Perplexity of the model with one block removed, on the calibration text; the lowest go first. "
        "The paper's best criterion, and the default."
    )
    paper = SHORTENED_LLAMA

    criterion: Literal["perplexity"] = "perplexity"
    racing: bool = Field(
        default=False,
        description="Spend no more samples on blocks that can no longer be among the lowest: faster, and the scores of "
        "those blocks are from fewer samples.",
    )

    @property
    def searches(self) -> bool:
        return self.racing

    @property
    def packs_all(self) -> bool:
        return self.racing

    def walks(self, blocks: int, gone: int | None) -> float | None:
        return blocks / 2  # with each block missing, from that block on


class TaylorScoring(TextScoring):
    title = "Taylor"
    summary = (
        "Sum of |weight x gradient| over the block's linear and norm weights: the first-order estimate of the "
        "loss's change. Needs gradients, one block at a time."
    )
    paper = SHORTENED_LLAMA

    needs_gradients = True

    criterion: Literal["taylor"]


class MagnitudeScoring(BlockScoring):
    title = "Magnitude"
    summary = (
        "Sum of |weight| over the block's linear and norm weights. Needs no calibration text; the weakest of the "
        "paper's three."
    )
    paper = SHORTENED_LLAMA

    criterion: Literal["magnitude"]


class BlockInfluenceScoring(TextScoring):
    title = "Block influence"
    summary = (
        "How far a block turns the hidden state: the sum over tokens of 1 - cos(input, output). One forward pass, so "
        "the cheapest criterion that looks at text."
    )
    paper = "Men et al. 2024, ShortGPT, arXiv 2403.03853"

    predicts = False

    criterion: Literal["block_influence"]

    def states(self, blocks: int) -> float:
        return 2  # before a block and after it


class AngularScoring(TextScoring):
    title = "Angular distance"
    summary = (
        "Removes the consecutive blocks across which the last token's state turns least. Quick, and far off where a "
        "few channels own the states, as in Gemma 3: compare it with another."
    )
    paper = "Gromov et al. 2024, The Unreasonable Ineffectiveness of the Deeper Layers, arXiv 2403.17887"

    predicts = False

    criterion: Literal["angular"]

    def states(self, blocks: int) -> float:
        return 2  # before a block and after it

    @property
    def of_runs(self) -> bool:
        return True

    @property
    def searches(self) -> bool:
        return True


class CosineScoring(TextScoring):
    title = "Cosine"
    summary = (
        "1 - mean cos(input, output) of a block, averaged by batch: Minitron's depth importance. Close to block "
        "influence."
    )
    paper = "Muralidharan et al. 2024, Minitron, arXiv 2407.14679"

    predicts = False

    criterion: Literal["cosine"]
    batch_size: int = Field(default=1, ge=1, description="Samples whose cosines are averaged before they are added up.")

    def states(self, blocks: int) -> float:
        return 2  # before a block and after it


class GreedyScoring(TextScoring):
    title = "Greedy search"
    summary = (
        "Removes the block whose loss hurts least, looks again, and removes the next. Sees how removals interact, at "
        "the cost of a round per block; the first and the last block always stay."
    )
    paper = "Song et al. 2024, SLEB, arXiv 2402.09025"

    criterion: Literal["greedy"]

    @property
    def searches(self) -> bool:
        return True

    @property
    def packs_all(self) -> bool:
        return True

    def states_kept(self, blocks: int, free: Sequence[int]) -> int:
        """Before each block that of the intact model and of those without an earlier one; what is the same, once."""
        gone = [block for block in free if 0 < block < blocks - 1]
        return sum(1 + sum(block < depth - 1 for block in gone) for depth in range(blocks))

    def walks(self, blocks: int, gone: int | None) -> float | None:
        return None if gone is None else gone * blocks / 2


def _more_text() -> Calibration:
    """Healing is fitted on it too."""
    return Calibration(samples=64)


class HealedGreedyScoring(TextScoring):
    title = "Greedy search after healing"
    summary = (
        "Judges sets of blocks by how far the model predicts from the original once their cuts are healed: every run "
        "of so many blocks in a row, and sets found one block at a time. The best of both go."
    )
    paper = "after Shopkhoev et al. 2025, ReplaceMe, arXiv 2505.02819, and Song et al. 2024, SLEB, arXiv 2402.09025"

    criterion: Literal["healed_greedy"]
    calibration: Calibration = Field(
        default_factory=_more_text, description="Four fifths of it are fitted on; sets are judged on the last fifth."
    )
    sets: Literal["runs", "scattered", "both"] = Field(
        default="both", description="Blocks in a row, blocks found one at a time wherever they stand, or both."
    )

    heals = True

    @property
    def searches(self) -> bool:
        return True

    def states(self, blocks: int) -> float:
        """The original's at every depth, and about as many again of the models of one round and the next."""
        return blocks + 1 if self.sets == "runs" else 2 * (blocks + 1)

    def walks(self, blocks: int, gone: int | None) -> float | None:
        return None if gone is None else gone * blocks / 2


class EvolutionaryScoring(TextScoring):
    title = "Evolutionary search"
    summary = (
        "Searches for the set of blocks whose removal changes the predictions least, by mutation and selection within "
        "a budget of evaluations. The most thorough, and the slowest."
    )
    paper = "Sieberling et al. 2024, EvoPress, arXiv 2410.14649"

    criterion: Literal["evolutionary"]
    evaluations: int = Field(default=704, ge=1, le=1_000_000, description="The budget: sets of blocks to try in all.")
    initial: int = Field(default=64, ge=1, le=100_000, description="Random sets in the first generation.")
    offspring: int = Field(default=32, ge=1, le=100_000, description="Mutations tried in each later generation.")

    compares = True

    @property
    def searches(self) -> bool:
        return True

    @property
    def packs_all(self) -> bool:
        return True

    def states(self, blocks: int) -> float:
        """A generation's on a part of the text, or the few best of it on all."""
        sets = min(max(self.initial, self.offspring), self.evaluations) + 2
        return max(4, sets * max(1, self.calibration.samples // 16) / self.calibration.samples)

    def walks(self, blocks: int, gone: int | None) -> float | None:
        return self.evaluations


class RandomScoring(BlockScoring):
    title = "Random"
    summary = "A random order, by the job's seed: the baseline that every criterion must beat."
    paper = SHORTENED_LLAMA

    criterion: Literal["random"]


USUAL_SCORING = PerplexityScoring  # meant where a spec names none

# The table of criteria: a type checker knows by it what stands behind `spec.scoring`, and all the rest is read from it.
Scoring = Annotated[
    PerplexityScoring
    | TaylorScoring
    | MagnitudeScoring
    | BlockInfluenceScoring
    | AngularScoring
    | CosineScoring
    | GreedyScoring
    | HealedGreedyScoring
    | EvolutionaryScoring
    | RandomScoring,
    Field(discriminator="criterion"),
    usually(USUAL_SCORING, "criterion"),
]
