"""Every figure of a result, one row each.

The report in all its forms, the dashboard, the command line and the gates ask these rows and know no figure by name,
so one result has one set of figures. To add one: a field of the result (`results.py`), what measures it, and its row.
"""

from __future__ import annotations

from collections.abc import Mapping

from secateur.contract import numbers as n
from secateur.contract.draft_metrics import DRAFT_METRICS
from secateur.contract.engine_metrics import metrics_under
from secateur.contract.metric_row import CHANGE, DROP, RATIO, RISE, Comparison, Metric, Section
from secateur.contract.readings import (
    accuracies,
    bits_per_byte,
    bytes_per_second,
    counted,
    exact_matches,
    file_size,
    in_cells,
    in_memory,
    in_samples,
    on_texts,
    perplexities,
    same_answers,
    tokens_per_byte,
    weights_on_disk,
)

SIZE = Section("Size", "counted in the checkpoint's files; 1 MB is 10⁶ bytes")
SPEED = Section("Speed", of_machine=True)
MEMORY = Section("Memory", of_machine=True)
QUALITY = Section("Quality", quality=True)
GENERATION = Section(
    "Generation",
    "built-in checks, answered greedily; ± standard error over prompts; p: McNemar's exact test against the original",
    quality=True,
)
SAMPLES = Section("Samples", quality=True)
TASKS = Section(
    "Tasks",
    "lm-evaluation-harness; ± standard error over items; p: McNemar's exact test against the original",
    quality=True,
)

PARAMETERS = Metric(
    "parameters",
    "Parameters",
    SIZE,
    counted(lambda m: m.parameters),
    n.COUNT,
    better="lower",
    compares=CHANGE,
    judged_as="number of parameters",
    exact=True,
    how="tied weights counted once",
    short=True,
    headline=True,
)
BLOCKS = Metric("blocks", "Blocks", SIZE, counted(lambda m: m.blocks), n.COUNT, better="lower", exact=True)
FILE_SIZE = Metric(
    "file_size",
    "GGUF file",
    SIZE,
    file_size,
    n.SIZE,
    better="lower",
    compares=CHANGE,
    exact=True,
    short=True,
    headline=True,
)
WEIGHTS_ON_DISK = Metric(
    "weights_on_disk",
    "Weights on disk",
    SIZE,
    weights_on_disk,
    n.SIZE,
    better="lower",
    compares=CHANGE,
    judged_as="size of the weights on disk",
    exact=True,
    short=True,
    headline=True,
)
SPEEDUP = Metric(
    "speedup",
    "Speedup",
    SPEED,
    in_cells(lambda cell: cell.speedup),
    n.RATIO,
    better="higher",
    measured_by="latency",
    at_original=1,
    sought="speedup",
    how="median of paired ratios",
    short=True,
    headline=True,
)
TOKENS_PER_SECOND = Metric(
    "tokens_per_second",
    "Tokens per second",
    SPEED,
    in_cells(lambda cell: cell.tokens_per_second),
    n.NUMBER,
    better="higher",
    measured_by="latency",
    compares=CHANGE,
    short=True,
)
BYTES_PER_SECOND = Metric(
    "bytes_per_second",
    "Bytes of text per second",
    SPEED,
    bytes_per_second,
    n.NUMBER,
    better="higher",
    measured_by="latency",
    in_any_tokens=True,
    compares=CHANGE,
    how="tokens per second over the tokens that a byte of the first text takes",
    short=True,
)
SECONDS = Metric(
    "seconds",
    "Time per generation",
    SPEED,
    in_cells(lambda cell: cell.seconds),
    n.SECONDS,
    better="lower",
    measured_by="latency",
    compares=CHANGE,
)
TIME_TO_FIRST_TOKEN = Metric(
    "time_to_first_token",
    "Time to first token",
    SPEED,
    in_cells(lambda cell: cell.time_to_first_token),
    n.SECONDS,
    better="lower",
    measured_by="latency",
    compares=CHANGE,
)
TIME_PER_OUTPUT_TOKEN = Metric(
    "time_per_output_token",
    "Time per output token",
    SPEED,
    in_cells(lambda cell: cell.time_per_output_token),
    n.SECONDS,
    better="lower",
    measured_by="latency",
    compares=CHANGE,
)
NOISE = Metric(
    "noise",
    "Noise",
    SPEED,
    in_cells(lambda cell: cell.noise),
    n.PERCENT,
    better="lower",
    measured_by="latency",
    how="by which the original differs from itself",
)
UNDER_LLAMA_CPP = metrics_under("llama_cpp", "llama.cpp", lambda measured: measured.llama_cpp)
UNDER_VLLM = metrics_under("vllm", "vLLM", lambda measured: measured.vllm)
LLAMA_CPP_SPEEDUP, VLLM_SPEEDUP = UNDER_LLAMA_CPP.speedup, UNDER_VLLM.speedup
WEIGHTS_IN_MEMORY = Metric(
    "weights_in_memory",
    "Weights in memory",
    MEMORY,
    in_memory(lambda memory: memory.weights),
    n.SIZE,
    better="lower",
    measured_by="latency",
    compares=CHANGE,
    exact=True,
    how="parameters and buffers",
)
PEAK_MEMORY = Metric(
    "peak_memory",
    "Peak memory",
    MEMORY,
    in_memory(lambda memory: memory.peak),
    n.SIZE,
    better="lower",
    measured_by="latency",
    compares=CHANGE,
    exact=True,
    how="while generating",
    short=True,
)
CACHE_PER_TOKEN = Metric(
    "cache_per_token",
    "KV cache per token",
    MEMORY,
    in_memory(lambda memory: memory.kv_bytes_per_token),
    n.SIZE,
    better="lower",
    measured_by="latency",
    compares=CHANGE,
    exact=True,
    how="of one sequence",
)
LARGEST_BATCH = Metric(
    "largest_batch",
    "Largest batch",
    MEMORY,
    in_memory(lambda memory: memory.largest_batch),
    n.COUNT,
    better="higher",
    measured_by="latency",
    exact=True,
    how="sequences of the first cell that fit at a time, largest found",
)
KL = Metric(
    "kl",
    "KL divergence",
    QUALITY,
    on_texts(lambda f: (f.kl, f.kl_low, f.kl_high)),
    n.NUMBER,
    better="lower",
    measured_by="fidelity",
    of_tokens=True,
    several="worst",
    at_original=0,
    how="nats per token, KL(original ‖ variant)",
    unit="nats per token",
    short=True,
    headline=True,
)
TOP1_AGREEMENT = Metric(
    "top1_agreement",
    "Top-1 agreement",
    QUALITY,
    on_texts(lambda f: (f.top1_agreement, f.top1_agreement_low, f.top1_agreement_high)),
    n.PERCENT,
    better="higher",
    measured_by="fidelity",
    of_tokens=True,
    several="worst",
    at_original=1,
    how="positions where both rank the same token first",
    short=True,
)
PERPLEXITY = Metric(
    "perplexity",
    "Perplexity",
    QUALITY,
    perplexities,
    n.NUMBER,
    better="lower",
    measured_by="perplexity",
    of_tokens=True,
    several="worst",
    compares=RATIO,
    judges="comparison",
    judged_as="perplexity ratio",
    short=True,
    headline=True,
)
BITS_PER_BYTE = Metric(
    "bits_per_byte",
    "Bits per byte",
    QUALITY,
    bits_per_byte,
    n.NUMBER,
    better="lower",
    measured_by="perplexity",
    in_any_tokens=True,
    several="worst",
    compares=RISE,
    judges="comparison",
    judged_as="rise of bits per byte",
    how="of the same text, each in its own tokens",
    unit="bits per byte",
    short=True,
    headline=True,
)
TOKENS_PER_BYTE = Metric(
    "tokens_per_byte",
    "Tokens per byte",
    QUALITY,
    tokens_per_byte,
    n.NUMBER,
    better="lower",
    measured_by="perplexity",
    in_any_tokens=True,
    several="worst",
    compares=CHANGE,
    exact=True,
    how="of the same text",
    short=True,
)
EXACT_MATCH = Metric(
    "exact_match",
    "Exact match",
    GENERATION,
    exact_matches,
    n.PERCENT,
    better="higher",
    measured_by="generation",
    compares=DROP,
    judges="comparison",
    judged_as="exact-match drop",
    how="answers that are right to the letter",
    unit="%",
    short=True,
    headline=True,
)
SAME_TEXT = Metric(
    "same_text",
    "Same text",
    GENERATION,
    same_answers,
    n.PERCENT,
    better="higher",
    measured_by="generation",
    at_original=1,
    how="answers that are the original's to the letter",
    short=True,
    headline=True,
)
REPETITION = Metric(
    "repetition",
    "Repetition",
    SAMPLES,
    in_samples(lambda found: (found.repetition, found.repetition_low, found.repetition_high)),
    n.PERCENT,
    better="lower",
    measured_by="samples",
    compares=Comparison(lambda after, before: after - before, n.signed_points),
    how="4-grams of tokens that stood in their sample before",
    short=True,
)
SAMPLE_LENGTH = Metric(
    "sample_length",
    "Length",
    SAMPLES,
    in_samples(lambda found: (found.tokens, found.tokens_low, found.tokens_high)),
    n.NUMBER,
    better="higher",
    measured_by="samples",
    compares=CHANGE,
    judged_as="length of the samples",
    how="tokens",
)
ACCURACY = Metric(
    "accuracy",
    "Accuracy",
    TASKS,
    accuracies,
    n.PERCENT,
    better="higher",
    measured_by="tasks",
    several="mean",
    compares=DROP,
    judges="comparison",
    judged_as="accuracy drop",
    unit="%",
    short=True,
    headline=True,
)

# In the order in which people read them; the headlines too.
METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        PARAMETERS,
        BLOCKS,
        FILE_SIZE,
        WEIGHTS_ON_DISK,
        SPEEDUP,
        TOKENS_PER_SECOND,
        BYTES_PER_SECOND,
        SECONDS,
        TIME_TO_FIRST_TOKEN,
        TIME_PER_OUTPUT_TOKEN,
        NOISE,
        *UNDER_LLAMA_CPP,
        *UNDER_VLLM,
        WEIGHTS_IN_MEMORY,
        PEAK_MEMORY,
        CACHE_PER_TOKEN,
        LARGEST_BATCH,
        KL,
        TOP1_AGREEMENT,
        PERPLEXITY,
        BITS_PER_BYTE,
        TOKENS_PER_BYTE,
        EXACT_MATCH,
        SAME_TEXT,
        REPETITION,
        SAMPLE_LENGTH,
        ACCURACY,
        *DRAFT_METRICS,
    )
}
