"""Check of the models in between: there are numbers of blocks between what is left and what there was."""

from __future__ import annotations

from secateur.contract.options.pruning import DepthPruning
from workers.stages.checks.subject import Subject
from workers.stages.choice import wanted
from workers.stages.sizes import refuse_sizes


def look(subject: Subject) -> str | None:
    """Raises InvalidInput."""
    options, pruning = subject.spec.sizes, subject.spec.pruning
    if options is None or not isinstance(pruning, DepthPruning):
        return None
    count = subject.original.info.blocks
    measured = (pruning.target is not None and pruning.target.measured) or pruning.constraints is not None
    if pruning.drop is not None:
        left = count - len(set(pruning.drop))
    else:
        left = 1 if measured else count - wanted(subject.context, subject.original)[0]
    return refuse_sizes(options, count=count, left=left, dropped=pruning.drop)
