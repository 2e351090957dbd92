"""Evolutionary search for the set of blocks whose removal changes the predictions least.

EvoPress (Sieberling et al. 2024, arXiv 2410.14649): a set of blocks to remove is mutated by swapping a few of them for
others, min(U{1..3}, U{1..3}) at a time; the fitness is the KL divergence from the intact model's predictions; each
generation's offspring are sifted on few tokens first and on more later, the parent competing with them, so the best
never gets worse. Removals interact, and a search over sets sees that where a score per block cannot.

Here the offspring of a generation are walked together and share what they have in common (`subsets.py`), a set that
was seen before is not evaluated again, and the budget is a number of evaluations.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from secateur.contract.options.scoring import EvolutionaryScoring
from workers.engine.scoring.divergences import Divergences, distinct
from workers.engine.scoring.result import BlockScores, check_numbers
from workers.engine.scoring.subsets import Removal
from workers.engine.scoring.task import ScoringTask

SURVIVORS = 2  # of the first sifting
_FEW = 16  # the first sifting sees one in so many samples: 2,048 of 32,768 tokens in the paper
_MOST_SWAPS = 3


def score(task: ScoringTask[EvolutionaryScoring]) -> BlockScores:
    """Search for the best set of the task's count of blocks to remove.

    The first sifting uses the first sixteenth of the samples. The initial sets and the mutations follow the seed.

    Returns:
        The value of a block is the least divergence (nats per token) among the sets without it that were evaluated on
        all samples, None where there was none. The order is the best set, ascending. `details` has its
        divergence and the best after each generation.
    """
    model, tokens = task.model, task.tokens()
    count, protected = task.bounds()
    budget, initial, offspring = task.options.evaluations, task.options.initial, task.options.offspring
    generator = random.Random(task.seed)
    candidates = [block for block in range(model.n_blocks) if block not in protected]
    few = Divergences(model, tokens[: max(1, tokens.shape[0] // _FEW)])
    full = Divergences(model, tokens) if len(few.ids) < len(tokens) else few
    spent = 0
    generations: list[float] = []

    def best_of(sets: Sequence[Removal]) -> Removal:
        """The fittest of `sets`: a few by the small sample, then one by all."""
        nonlocal spent
        spent += len(sets)
        task.progress(min(spent, budget), budget, "evaluations")
        return full.fittest(few.fittest(sets, SURVIVORS), 1)[0]

    with model.packed_whole():
        first = min(initial, budget)
        parent = best_of(distinct([frozenset(generator.sample(candidates, count)) for _ in range(first)]))
        generations.append(full.known[parent])
        while spent < budget and count < len(candidates):
            children = [_mutate(parent, candidates, generator) for _ in range(min(offspring, budget - spent))]
            spent += len(children) - len(distinct(children))  # twins cost a place, so the search ends
            best = best_of(distinct(children))
            full.of([parent, best])
            parent = min((parent, best), key=lambda removal: (full.known[removal], sorted(removal)))
            generations.append(full.known[parent])
    values = [
        min((kl for removal, kl in full.known.items() if block in removal), default=None)
        for block in range(model.n_blocks)
    ]
    check_numbers(values)
    details = {
        "evaluations": min(spent, budget),
        "divergence": full.known[parent],
        "divergence_by_generation": generations,
        "block_passes": few.passes + (full.passes if full is not few else 0),
    }
    return BlockScores(values, None, sorted(parent), details)


def _mutate(parent: Removal, candidates: Sequence[int], generator: random.Random) -> Removal:
    """Swap a few removed blocks for as many that were kept."""
    removed = sorted(parent)
    kept = [block for block in candidates if block not in parent]
    swaps = min(generator.randint(1, _MOST_SWAPS), generator.randint(1, _MOST_SWAPS), len(removed), len(kept))
    return parent - set(generator.sample(removed, swaps)) | set(generator.sample(kept, swaps))
