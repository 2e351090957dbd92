"""How a joint search found what goes, and by which costs, in words that every form of the report shares."""

from __future__ import annotations

from secateur.contract import numbers as n
from secateur.contract.planning import Share, TimedHalves, UnitCosts
from secateur.contract.results import JointSearch, JudgedParts
from secateur.contract.sub_blocks import HALVES
from secateur.contract.target_figures import TARGET_FIGURES
from secateur.report.text import listed, plural
from secateur.report.words import healed_in_words, timed_runs

_UNITS = {"share": "of the original's cost", "parameters": "parameters", "bytes": "bytes of weights"}


def joint_rows(search: JointSearch) -> list[tuple[str, str]]:
    """How what goes was found, as terms and descriptions."""
    best, alone = search.best, search.blocks_alone
    judged = f"{len(search.parts)} choices alone and {plural(search.judged, 'set')} as a whole"
    went = f"{_amount(search, search.needed)} had to go, and {_amount(search, best.saved)} went"
    rows = [
        (
            "Search",
            f"{judged}, on {search.searched_tokens:,} tokens, in {n.duration(search.seconds)}. {went}, for "
            f"{_divergence(best)}",
        ),
        (
            "Sum of single choices",
            f"the choice whose divergences alone sum to least, KL {n.significant(search.summed)}, came to "
            f"{n.significant(search.summed_kl)} as a whole",
        ),
    ]
    if alone is not None:
        rows.append(
            (
                "Whole blocks alone",
                f"{len(alone.units) // len(HALVES)} by the same search, {_amount(search, alone.saved)}, for "
                f"{_divergence(alone)}",
            )
        )
    if search.set_aside is not None:
        aside = search.set_aside
        rows.append(
            (
                "Halves set aside",
                f"nearest on the text of the search was a choice of {plural(len(aside.units), 'half', 'halves')}, for "
                f"{_divergence(aside)}. On held-out samples whole blocks alone are nearer, so these went",
            )
        )
    rows += [(f"Healing of block {cut.block}", healed_in_words(cut)) for cut in search.healed]
    if search.protected:
        rows.append(("Protected", ", ".join(search.protected)))
    return rows


def _divergence(judged: JudgedParts) -> str:
    """ "KL 0.41 from the original, and 0.45 on samples that the search has not seen"."""
    healed = "" if judged.kl_healed is None else f"; {n.significant(judged.kl_healed)} on held-out samples once healed"
    return (
        f"KL {n.significant(judged.kl)} from the original, and {n.significant(judged.kl_held)} on samples that the "
        f"search has not seen{healed}"
    )


def _amount(search: JointSearch, saved: float) -> str:
    written = n.percent(saved) if search.unit == "share" else n.count(round(saved))
    return f"{written} {_UNITS.get(search.unit, search.unit)}"


def costs_in_words(costs: UnitCosts) -> str:
    """What halves take, and by which models that was found."""
    form = TARGET_FIGURES[costs.figure].format

    def shown(found: TimedHalves) -> str:
        span = form.span(found.low, found.high)
        gone = listed([plural(found.attentions, "attention"), plural(found.mlps, "MLP")])
        return f"{form.write(found.value)}{f' ({span})' if span else ''} without {gone}"

    tried = "; ".join(shown(found) for found in costs.tried)
    return (
        f"{tried}. By these an attention takes {_share(costs.attention)} of the original, an MLP {_share(costs.mlp)}, "
        f"and {n.percent(costs.needed)} have to go, {timed_runs(costs)}, {n.duration(costs.seconds)}"
    )


def _share(share: Share) -> str:
    span = n.PERCENT.span(share.low, share.high)
    return n.percent(share.value) + (f" ({span})" if span else "")
