"""Which number of blocks a plan chooses on played times: by the expected figure, or by the worse end of its interval.

python benchmarks/plan_choices.py [--targets 150] [--share 0.0263] [--most 24]

Speedups are asked for at random. Times are those of a model whose blocks take `--share` of it each, with noise that has
the tails of Student's t with three degrees of freedom; a plan has ten rounds of three depths, a benchmark nine. Told is
by how many blocks each rule misses the least number that truly reaches the target, and what a benchmark then says.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Mapping

import numpy as np

from workers.engine.benchmarks.depth_fit import TimedPair, estimated, predicted, trial_depths
from workers.engine.benchmarks.statistics import Floats, ratio_interval, widen

NOISE = (0.01, 0.03, 0.08)  # of one timing, as a share
PLANNED, MEASURED = 10, 9  # rounds
FROM, TO = 1.1, 1.9  # speedups that are asked for


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--targets", type=int, default=150, help="how many speedups are asked for")
    parser.add_argument("--share", type=float, default=1 / 38, help="what one block takes of the original's time")
    parser.add_argument("--most", type=int, default=24, help="blocks that may go")
    given = parser.parse_args()
    for noise in NOISE:
        generator = np.random.default_rng(1)
        missed, judged = {rule: Counter[int]() for rule in RULES}, {rule: Counter[str]() for rule in RULES}
        for _ in range(given.targets):
            asked = generator.uniform(FROM, TO)
            least = next(count for count in range(1, given.most + 1) if 1 / (1 - given.share * count) >= asked)
            pairs = played(generator, trial_depths(given.most), PLANNED, given.share, noise)
            for rule, reaches in RULES.items():
                counts = range(1, given.most + 1)
                chosen = next((count for count in counts if reaches(pairs, count, asked)), given.most)
                missed[rule][chosen - least] += 1
                (real,) = played(generator, [chosen], MEASURED, given.share, noise)
                found = widen(ratio_interval(real.original, real.shallower), real.same)
                judged[rule]["missed" if found.high < asked else "better" if found.low > asked else "within"] += 1
        for rule in RULES:
            print(f"noise {noise:.0%}, {rule}: {shares(missed[rule])}; {shares(judged[rule])}", flush=True)


def speedup(seconds: float, ratio: float) -> float:
    return 1 / ratio


RULES: Mapping[str, Callable[[list[TimedPair], int, float], bool]] = {
    "the figure": lambda pairs, count, asked: estimated(pairs, count, speedup) >= asked,
    "the worse end": lambda pairs, count, asked: predicted(pairs, count, speedup).low >= asked,
}


def played(
    generator: np.random.Generator, depths: list[int], rounds: int, share: float, noise: float
) -> list[TimedPair]:
    """Times of the original, 1, and of these depths, round by round."""

    def times(whole: float) -> Floats:
        return np.asarray(whole * np.exp(noise * generator.standard_t(3, rounds)))

    first, again = times(1), times(1)
    bracket, same = list((first + again) / 2), ratio_interval(list(first), list(again))
    return [TimedPair(count, bracket, list(times(1 - share * count)), same) for count in depths]


def shares(counts: Counter[int] | Counter[str]) -> str:
    """ "0 87 %, 1 13 %"."""
    return ", ".join(f"{name} {count / counts.total():.0%}" for name, count in sorted(counts.items()))


if __name__ == "__main__":
    main()
