"""Block passes of the greedy search against those of plain rounds, which run every candidate from end to end.

python benchmarks/greedy_passes.py MODEL TEXT [--count 6]
"""

from __future__ import annotations

import time

from _inputs import load, parser, show

from secateur.contract.options.scoring import GreedyScoring
from workers.engine.model.block_model import BlockModel
from workers.engine.scoring import greedy
from workers.engine.scoring.task import ScoringTask


def main() -> None:
    settings = parser(__doc__).parse_args()
    model, ids = load(settings)
    view = BlockModel.from_model(model)
    start = time.perf_counter()
    scores = greedy.score(ScoringTask(view, ids, GreedyScoring(criterion="greedy"), count=settings.count))
    seconds = time.perf_counter() - start
    ours, plain = scores.details["block_passes"], scores.details["plain_block_passes"]
    row = {
        "blocks": view.n_blocks,
        "removed": " ".join(map(str, scores.order[: settings.count])),
        "block passes": ours,
        "plain rounds": plain,
        "share": ours / plain,
        "seconds": seconds,
    }
    show("Greedy removal", [row], row)


if __name__ == "__main__":
    main()
