"""The figures of a variant as a speculative draft: rows of the table of metrics (`metrics.py`)."""

from __future__ import annotations

from secateur.contract import numbers as n
from secateur.contract.metric_row import Metric, Section
from secateur.contract.readings import as_draft

DRAFT = Section("Speculative draft", "of the job's target model", of_machine=True)

DRAFT_SPEEDUP = Metric(
    "draft_speedup",
    "Target's speedup",
    DRAFT,
    as_draft(lambda found: found.speedup),
    n.RATIO,
    better="higher",
    measured_by="draft",
    judged_as="target's speedup with the draft",
    how="its time alone over that with the draft, median over prompts of paired ratios",
    short=True,
    headline=True,
)
DRAFT_ACCEPTANCE = Metric(
    "draft_acceptance",
    "Acceptance",
    DRAFT,
    as_draft(lambda found: (found.acceptance, found.acceptance_low, found.acceptance_high)),
    n.PERCENT,
    better="higher",
    measured_by="draft",
    judged_as="acceptance of the draft's tokens",
    how="proposed tokens that the target takes, of those before which all were taken",
    short=True,
    headline=True,
)
TOKENS_PER_PASS = Metric(
    "tokens_per_pass",
    "Tokens per pass",
    DRAFT,
    as_draft(lambda found: found.tokens_per_pass),
    n.NUMBER,
    better="higher",
    measured_by="draft",
    how="that a pass of the target yields, its own one included",
)
DRAFT_COST = Metric(
    "draft_cost",
    "Cost of a token",
    DRAFT,
    as_draft(lambda found: found.cost),
    n.PERCENT,
    better="lower",
    measured_by="draft",
    judged_as="cost of a draft's token",
    how="seconds of a token of the draft alone, over the target's",
    short=True,
)
VERIFICATION = Metric(
    "verification",
    "Verification",
    DRAFT,
    as_draft(lambda found: found.verification),
    n.RATIO,
    better="lower",
    measured_by="draft",
    how="time of the target's pass over all proposed tokens and one, over a pass of one token",
)
EXPECTED_SPEEDUP = Metric(
    "expected_speedup",
    "Speedup by the formula",
    DRAFT,
    as_draft(lambda found: found.expected),
    n.RATIO,
    better="higher",
    measured_by="draft",
    how="from acceptance and cost, a verification taken as 1 (Leviathan et al. 2023)",
)
EXPECTED_VERIFIED = Metric(
    "expected_verified",
    "Speedup by the formula, verified",
    DRAFT,
    as_draft(lambda found: found.expected_verified),
    n.RATIO,
    better="higher",
    measured_by="draft",
    how="the same with what a verification was measured to take",
)
ASSISTED_TOKENS = Metric(
    "assisted_tokens_per_second",
    "Target's tokens per second",
    DRAFT,
    as_draft(lambda found: found.tokens_per_second),
    n.NUMBER,
    better="higher",
    measured_by="draft",
    judged_as="target's tokens per second with the draft",
    how="with the draft",
    short=True,
)
TARGET_TOKENS = Metric(
    "target_tokens_per_second",
    "Target's tokens per second alone",
    DRAFT,
    as_draft(lambda found: found.target_tokens_per_second),
    n.NUMBER,
    better="higher",
    measured_by="draft",
    how="without a draft",
)
DRAFT_EQUAL = Metric(
    "draft_equal",
    "Same text",
    DRAFT,
    as_draft(lambda found: found.equal / found.prompts),
    n.PERCENT,
    better="higher",
    measured_by="draft",
    judged_as="prompts continued as by the target alone",
    exact=True,
    how="prompts that are continued as by the target alone, token by token",
    short=True,
)

DRAFT_METRICS = (
    DRAFT_SPEEDUP,
    DRAFT_ACCEPTANCE,
    TOKENS_PER_PASS,
    DRAFT_COST,
    VERIFICATION,
    EXPECTED_SPEEDUP,
    EXPECTED_VERIFIED,
    ASSISTED_TOKENS,
    TARGET_TOKENS,
    DRAFT_EQUAL,
)
