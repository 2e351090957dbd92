"""What the service offers: one row per criterion, pruner, recovery, quantisation and benchmark.

Validation of a job, the CLI's help, `GET /catalog` and the docs page all read these rows; a method's name stands
nowhere else but in its own file, its tests and its docs page. A row's `options` is the pydantic model of the fields
that stand beside the method's name in the spec, so a job is checked field by field before anything runs.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from secateur.contract.options import benchmark as b
from secateur.contract.options import methods as o
from secateur.contract.options import quantise as q
from secateur.contract.options import recovery as r
from secateur.contract.options.sub_block import SubBlockPruning


@dataclass(frozen=True)
class Row:
    """One method that a job may name."""

    name: str  # the value in the spec
    title: str
    summary: str  # one or two sentences: what it does and when to choose it
    paper: str  # where the formula comes from
    options: type[BaseModel]  # the spec's fields beside the name

    def to_dict(self) -> dict[str, Any]:
        """The row as `GET /catalog` shows it: `options` is a JSON schema."""
        return {
            "name": self.name,
            "title": self.title,
            "summary": self.summary,
            "paper": self.paper,
            "options": self.options.model_json_schema(),
        }


def _table(*rows: Row) -> Mapping[str, Row]:
    return {row.name: row for row in rows}


SHORTENED_LLAMA = "Kim et al. 2024, Shortened LLaMA, arXiv 2402.02834"

CRITERIA = _table(
    Row(
        "perplexity",
        "Perplexity",
        "Perplexity of the model with one block removed, on the calibration text; the lowest go first. "
        "The paper's best criterion, and the default.",
        SHORTENED_LLAMA,
        o.PerplexityScoring,
    ),
    Row(
        "taylor",
        "Taylor",
        "Sum of |weight x gradient| over the block's linear and norm weights: the first-order estimate of the "
        "loss's change. Needs gradients, one block at a time.",
        SHORTENED_LLAMA,
        o.TaylorScoring,
    ),
    Row(
        "magnitude",
        "Magnitude",
        "Sum of |weight| over the block's linear and norm weights. Needs no calibration text; the weakest of the "
        "paper's three.",
        SHORTENED_LLAMA,
        o.MagnitudeScoring,
    ),
    Row(
        "block_influence",
        "Block influence",
        "How far a block turns the hidden state: the sum over tokens of 1 - cos(input, output). One forward pass, so "
        "the cheapest criterion that looks at text.",
        "Men et al. 2024, ShortGPT, arXiv 2403.03853",
        o.BlockInfluenceScoring,
    ),
    Row(
        "angular",
        "Angular distance",
        "Removes the consecutive blocks across which the last token's state turns least. For removing many deep blocks "
        "before a training.",
        "Gromov et al. 2024, The Unreasonable Ineffectiveness of the Deeper Layers, arXiv 2403.17887",
        o.AngularScoring,
    ),
    Row(
        "cosine",
        "Cosine",
        "1 - mean cos(input, output) of a block, averaged by batch: Minitron's depth importance. Close to block "
        "influence.",
        "Muralidharan et al. 2024, Minitron, arXiv 2407.14679",
        o.CosineScoring,
    ),
    Row(
        "greedy",
        "Greedy search",
        "Removes the block whose loss hurts least, looks again, and removes the next. Sees how removals interact, at "
        "the cost of a round per block; the first and the last block always stay.",
        "Song et al. 2024, SLEB, arXiv 2402.09025",
        o.GreedyScoring,
    ),
    Row(
        "evolutionary",
        "Evolutionary search",
        "Searches for the set of blocks whose removal changes the predictions least, by mutation and selection within "
        "a budget of evaluations. The most thorough, and the slowest.",
        "Sieberling et al. 2024, EvoPress, arXiv 2410.14649",
        o.EvolutionaryScoring,
    ),
    Row(
        "random",
        "Random",
        "A random order, by the job's seed: the baseline that every criterion must beat.",
        SHORTENED_LLAMA,
        o.RandomScoring,
    ),
)

PRUNERS = _table(
    Row(
        "depth",
        "Depth pruning",
        "Removes whole Transformer blocks, all at once. Faster at every batch size, and the checkpoint stays of the "
        "same architecture.",
        SHORTENED_LLAMA,
        o.DepthPruning,
    ),
    Row(
        "sub_block",
        "Sub-block pruning",
        "Removes the attention of some blocks and the MLP of others, one by one, each time the one whose loss hurts "
        "least. Finer than whole blocks; a block that loses one of the two needs this project's loader.",
        "Zhong et al. 2024, BlockPruner, arXiv 2406.10594",
        SubBlockPruning,
    ),
    Row(
        "wanda_sp",
        "Wanda-sp",
        "Removes heads and neurons with small weights times activations, the same share of every block. Width pruning: "
        "all blocks stay, so generation at small batches gains little.",
        "Sun et al. 2023, Wanda, arXiv 2306.11695; structured as in An et al. 2023, FLAP, arXiv 2312.11983",
        o.WandaSpPruning,
    ),
    Row(
        "flap",
        "FLAP",
        "Removes heads and neurons that fluctuate little, and puts their mean output into biases. Width pruning: all "
        "blocks stay, so generation at small batches gains little.",
        "An et al. 2023, FLAP, arXiv 2312.11983",
        o.FlapPruning,
    ),
    Row(
        "llm_pruner",
        "LLM-Pruner",
        "Removes heads and neurons by gradients times weights, summed over all that must go together. Width pruning: "
        "all blocks stay, so generation at small batches gains little.",
        "Ma et al. 2023, LLM-Pruner, arXiv 2305.11627",
        o.LlmPrunerPruning,
    ),
)

RECOVERIES = _table(
    Row(
        "none",
        "No recovery",
        "The pruned model as it is.",
        SHORTENED_LLAMA,
        r.NoRecovery,
    ),
    Row(
        "lora",
        "LoRA",
        "Low-rank adapters on all projections, trained by next-token loss on a text and merged into the weights.",
        f"{SHORTENED_LLAMA}; Hu et al. 2021, LoRA, arXiv 2106.09685",
        r.LoraRecovery,
    ),
    Row(
        "distill",
        "Distillation",
        "Trains the pruned model, or adapters on it, to predict what the original predicts. Recovers the original "
        "rather than adapting to a text. The default.",
        "Hinton et al. 2015, arXiv 1503.02531; Muralidharan et al. 2024, Minitron, arXiv 2407.14679",
        r.DistillRecovery,
    ),
    Row(
        "continued",
        "Continued pretraining",
        "All weights by next-token loss on a text. The strongest where much was removed and there are many tokens.",
        SHORTENED_LLAMA,
        r.ContinuedRecovery,
    ),
    Row(
        "healing",
        "Healing",
        "Fits a linear map for each cut by least squares and folds it into the weights before the cut. Takes seconds "
        "and trains nothing; can also come before a training (`heal`).",
        "Shopkhoev et al. 2025, ReplaceMe, arXiv 2505.02819",
        r.HealingRecovery,
    ),
)

QUANTISATIONS = _table(
    Row(
        "int8",
        "8-bit weights",
        "Weights of the blocks' linear layers as 8-bit integers with a scale per row, in a safetensors checkpoint that "
        "transformers and vLLM load. Close to no loss.",
        "Dettmers et al. 2022, LLM.int8(), arXiv 2208.07339; weights alone, rounded to nearest",
        q.Int8Quantisation,
    ),
    Row(
        "int4",
        "4-bit weights",
        "The same with 4-bit integers and a scale per group of weights. Half of the bytes of int8, and a loss that "
        "small models feel.",
        "Frantar et al. 2022, GPTQ, arXiv 2210.17323, its round-to-nearest baseline with groups",
        q.Int4Quantisation,
    ),
    Row(
        "gptq",
        "GPTQ",
        "The format of int4 or int8, with integers chosen so that the outputs of each layer change least on a text. "
        "Loses less than rounding to nearest, for one more walk over the blocks.",
        "Frantar et al. 2022, GPTQ, arXiv 2210.17323",
        q.GptqQuantisation,
    ),
    Row(
        "gguf",
        "GGUF file",
        "One file for llama.cpp with weights and tokenizer, the matrices in the block type that is named.",
        "Gerganov et al. 2023, GGUF, github.com/ggml-org/ggml/blob/master/docs/gguf.md",
        q.GgufQuantisation,
    ),
)

BENCHMARKS = _table(
    Row(
        "latency",
        "Latency and throughput",
        "Seconds per generation of fixed length, original and variants in turn, with the bootstrap interval of the "
        "ratio.",
        SHORTENED_LLAMA,
        b.LatencyBenchmark,
    ),
    Row(
        "perplexity",
        "Perplexity",
        "exp of the mean next-token loss on held-out text, over non-overlapping windows.",
        SHORTENED_LLAMA,
        b.PerplexityBenchmark,
    ),
    Row(
        "fidelity",
        "Fidelity to the original",
        "KL divergence of the original's next-token distribution from the variant's, and how often both rank the "
        "same token first.",
        "Kullback and Leibler 1951",
        b.FidelityBenchmark,
    ),
    Row(
        "samples",
        "Generated samples",
        "Continuations of the same prompts with the same seed by every variant, to read.",
        SHORTENED_LLAMA,
        b.SamplesBenchmark,
    ),
    Row(
        "tasks",
        "Zero-shot tasks",
        "Accuracy on multiple-choice and other tasks of lm-evaluation-harness, with the drop from the original judged "
        "item by item.",
        "Gao et al. 2024, lm-evaluation-harness, doi 10.5281/zenodo.12608602",
        b.TasksBenchmark,
    ),
)

TABLES: Mapping[str, Mapping[str, Row]] = {
    "criteria": CRITERIA,
    "pruners": PRUNERS,
    "recoveries": RECOVERIES,
    "quantisations": QUANTISATIONS,
    "benchmarks": BENCHMARKS,
}


def near_name(name: str, names: Iterable[str]) -> str | None:
    """The offered name closest to a misspelt one, or None where nothing is close."""
    matches = difflib.get_close_matches(name.lower(), list(names), n=1, cutoff=0.5)
    return matches[0] if matches else None
