"""All plots of a report that its figures allow, in the order in which the page shows them."""

from __future__ import annotations

from secateur.contract.report import Report
from secateur.report.picture import Picture
from secateur.report.plot_importance import importance
from secateur.report.plot_latency import latency
from secateur.report.plot_loss import loss
from secateur.report.plot_tasks import tasks
from secateur.report.plot_tradeoff import tradeoffs
from secateur.report.plot_units import units


def pictures(report: Report) -> list[Picture]:
    """Importance, speed against quality, speedup by cell, accuracy by task, training loss: those that were measured."""
    made: list[Picture | None] = [importance(report.scores) if report.scores and report.scores.blocks else None]
    made.append(units(report.pruned, report.pruned.unit_scores) if report.pruned.unit_scores else None)
    made += tradeoffs(report.benchmarks.variants)
    made.append(latency(report.benchmarks.variants))
    made.append(tasks(report.benchmarks.variants))
    made.append(loss(report.recovered) if report.recovered else None)
    return [picture for picture in made if picture is not None]
