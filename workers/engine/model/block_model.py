"""A model seen as embed → blocks → head: the one view that every part of the engine takes of a model.

Blocks come one at a time, in any order, each ready to be called on a hidden state alone: the arguments that the
family's forward would give it were recorded beforehand (`catching.py`). Whether the weights lie in memory or are
streamed from disk (`streaming.py`) is the affair of the source behind `blocks()`, so a criterion that walks the
blocks scores a model larger than memory with the same lines.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from secateur.contract.errors import InvalidInput
from secateur.contract.models.architecture import Architecture
from workers.engine.architectures.config import unsupported
from workers.engine.architectures.registry import architecture_of
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.model.block_calls import Call, record, replay_head, returns_tuple, same_calls
from workers.engine.model.onednn_linear import packed_weights
from workers.engine.model.streaming import Streamed, open_stream
from workers.engine.runtime import available_memory

# Logits held at once by the head, in bytes. A CPU takes their loss while part of them is in its caches. A GPU's pieces
# are larger: the head's weights, often the largest matrix of all, are read anew for each.
CPU_LOGITS_BYTES = 32 * 2**20
GPU_LOGITS_BYTES = 128 * 2**20
PACKED_SHARE = 0.25  # of the free memory: what a packed copy of all blocks may take


class BlockSource(Protocol):
    """Where block modules come from."""

    def walk(self, order: Sequence[int]) -> Iterator[nn.Module]:
        """Yield the module of each block in `order`, with its weights; each is valid until the next is asked for."""
        ...


@dataclass(frozen=True)
class InMemory:
    """Blocks of a model that is wholly in memory."""

    modules: Sequence[nn.Module]

    def walk(self, order: Sequence[int]) -> Iterator[nn.Module]:
        for index in order:
            yield self.modules[index]


@dataclass(frozen=True)
class Block:
    """One block with its weights, which takes a hidden state and nothing else."""

    index: int
    module: nn.Module
    model: BlockModel

    def __call__(self, hidden: Tensor) -> Tensor:
        """(samples, tokens, hidden) → the same shape. Gradients flow where the caller has them enabled."""
        call = self.model.calls(hidden.shape[0], hidden.shape[1])[self.index]
        out = self.module(hidden, *call.args, **call.kwargs)
        state: Tensor = out[0] if isinstance(out, tuple) else out
        return state

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """Weights of the block's linear maps and norms, by name; biases and other parameters are left out.

        Experts count as linear maps: a parameter of two or more dimensions is a stack of them.
        """
        for name, parameter in self.module.named_parameters():
            path, _, last = name.rpartition(".")
            if last.endswith("bias"):
                continue
            if parameter.dim() >= 2 or "norm" in type(self.module.get_submodule(path)).__name__.lower():
                yield name, parameter


class BlockModel:
    """embed → blocks → head. Not thread-safe: the model's forward is patched while it is consulted."""

    def __init__(self, model: PreTrainedModel, architecture: Architecture, source: BlockSource) -> None:
        """Use `from_model` or `from_checkpoint`."""
        self.architecture = architecture
        self.config: PretrainedConfig = model.config
        self._model = model
        self._modules = list(model.get_submodule(architecture.blocks_prefix).children())
        self._source = source
        self._calls: dict[tuple[int, int], list[Call]] = {}
        embedding = model.get_submodule(architecture.embeddings[0])
        weight = embedding.get_parameter("weight")
        self.device: torch.device = weight.device
        self.dtype: torch.dtype = weight.dtype
        if self.n_blocks < 2:
            raise unsupported("The model has a single block.", model_type=self.config.model_type)
        probe = torch.zeros((1, 3), dtype=torch.long, device=self.device)
        self._as_tuple = returns_tuple(model, self._modules, probe)
        calls = self._record(probe)[1]
        if not same_calls(calls, self._record(probe + 1)[1]):
            raise unsupported(
                f'The blocks of a "{self.config.model_type}" model read the tokens beside the hidden state.',
                model_type=self.config.model_type,
            )

    @classmethod
    def from_model(cls, model: PreTrainedModel) -> BlockModel:
        """View a model that is in memory; it is put into evaluation mode.

        Raises:
            UnsupportedModel: it is no decoder-only stack of blocks; the reason is in the message.
        """
        architecture = architecture_of(model.config)
        model.train(False)
        return cls(model, architecture, InMemory(list(model.get_submodule(architecture.blocks_prefix).children())))

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint, *, device: torch.device | str, dtype: torch.dtype) -> BlockModel:
        """View a checkpoint on disk; blocks are streamed from it, one in use and one read ahead.

        Args:
            checkpoint: opened; its tensors are read as each walk comes to them.
            device: where blocks are computed.
            dtype: what weights are converted to while they are read.

        Raises:
            BadCheckpoint: the files are broken, or do not hold the tensors that the config asks for.
            UnsupportedModel: it is no decoder-only stack of blocks, or it is quantised.
        """
        model, architecture, source = open_stream(checkpoint, device=torch.device(device), dtype=dtype)
        return cls(model, architecture, source)

    @property
    def n_blocks(self) -> int:
        return len(self._modules)

    @property
    def bytes_read(self) -> int:
        """Bytes of weights read from the checkpoint since it was opened; 0 for a model in memory."""
        return self._source.loader.checkpoint.bytes_read if isinstance(self._source, Streamed) else 0

    @property
    def streamed(self) -> bool:
        """Whether each walk reads the blocks from disk."""
        return isinstance(self._source, Streamed)

    @property
    def head_worth(self) -> float:
        """About how many blocks the head costs as much time as, by their numbers of weights."""
        head = sum(weight.numel() for module in self._heads() for weight in module.parameters())
        return head / max(1, sum(weight.numel() for weight in self._modules[0].parameters()))

    @property
    def hidden_size(self) -> int:
        return int(self.config.hidden_size)

    @property
    def vocab_size(self) -> int:
        return int(self.config.vocab_size)

    def check_ids(self, ids: Tensor) -> Tensor:
        """`ids` on the model's device.

        Raises:
            InvalidInput: they are no (samples, tokens) of token ids within the vocabulary, with at least two tokens.
        """
        if ids.dim() != 2 or ids.shape[0] < 1 or ids.shape[1] < 2:
            raise InvalidInput.field(
                "calibration",
                f"Calibration tokens have the shape {tuple(ids.shape)}.",
                value=list(ids.shape),
                expected="at least one sample of at least two tokens",
            )
        limit = getattr(self.config, "max_position_embeddings", None)
        if "learned_positions" in self.architecture.quirks and limit and ids.shape[1] > limit:
            raise InvalidInput.field(
                "calibration",
                f"Samples have {ids.shape[1]} tokens, but the model has {limit} positions.",
                value=ids.shape[1],
                expected=f"at most {limit} tokens",
            )
        if int(ids.min()) < 0 or int(ids.max()) >= self.vocab_size:
            raise InvalidInput.field(
                "calibration",
                f"Calibration tokens go up to {int(ids.max())}, but the vocabulary has {self.vocab_size}.",
                value=int(ids.max()),
                expected="tokens of the model's own tokenizer",
            )
        return ids.to(self.device)

    @torch.no_grad()
    def embed(self, ids: Tensor) -> Tensor:
        """(samples, tokens) → the state before the first block, (samples, tokens, hidden)."""
        state, calls = self._record(self.check_ids(ids))
        self._calls.setdefault((ids.shape[0], ids.shape[1]), calls)
        return state

    def blocks(self, order: Sequence[int] | None = None) -> Iterator[Block]:
        """Blocks one at a time, in `order` (block numbers; all of them, first to last, by default).

        Each is valid until the next is asked for: a streamed block's weights are freed then.
        """
        order = range(self.n_blocks) if order is None else order
        for index, module in zip(order, self._source.walk(order), strict=True):
            yield Block(index, module, self)

    def calls(self, samples: int, tokens: int) -> list[Call]:
        """The arguments of each block for a state of `samples` x `tokens`."""
        found = self._calls.get((samples, tokens))
        if found is None:
            ids = torch.zeros((samples, tokens), dtype=torch.long, device=self.device)
            found = self._calls[samples, tokens] = self._record(ids)[1]
        return found

    def head(self, hidden: Tensor) -> Tensor:
        """Logits, (samples, tokens, vocabulary), of the state that leaves the last block. Whole: mind the size."""
        return replay_head(self._model, self._modules, hidden, as_tuple=self._as_tuple)

    @contextmanager
    def packed_head(self) -> Iterator[None]:
        """The head multiplies by packed weights (`packed.py`): for callers that have many states for it."""
        with packed_weights(*self._heads()):
            yield

    @contextmanager
    def packed_whole(self) -> Iterator[None]:
        """Head and blocks multiply by packed weights: for callers that walk the blocks many times.

        Otherwise a walk packs each block anew. Blocks that are streamed stay so, and those that a quarter of the free
        memory does not hold once more.
        """
        modules = self._heads()
        if isinstance(self._source, InMemory) and self.device.type == "cpu":
            size = sum(weight.nbytes for module in self._source.modules for weight in module.parameters())
            if size <= PACKED_SHARE * available_memory(self.device):
                modules += self._source.modules
        with packed_weights(*modules):
            yield

    def _heads(self) -> list[nn.Module]:
        """The map that makes the logits, where the model has one that can be named."""
        head: nn.Module | None = self._model.get_output_embeddings()  # type: ignore[no-untyped-call]  # no annotations
        return [] if head is None else [head]

    def head_pieces(self, hidden: Tensor, *, bytes_at_once: int | None = None) -> Iterator[tuple[slice, Tensor]]:
        """Cut a state into pieces whose logits are small enough to exist at once.

        Args:
            hidden: (samples, tokens, hidden).
            bytes_at_once: size that the fp32 logits of a piece stay under, a token's worth at least; by
                default what suits the device.

        Yields:
            A slice into the samples x tokens rows, and those rows as a view, (some samples, some tokens, hidden).
        """
        if bytes_at_once is None:
            bytes_at_once = CPU_LOGITS_BYTES if hidden.device.type == "cpu" else GPU_LOGITS_BYTES
        samples, tokens = hidden.shape[:2]
        limit = max(1, bytes_at_once // (4 * self.vocab_size))  # tokens at once
        if limit >= tokens:  # whole samples, several at once
            step = limit // tokens
            for at in range(0, samples, step):
                piece = hidden[at : at + step]
                yield slice(at * tokens, (at + piece.shape[0]) * tokens), piece
            return
        for sample in range(samples):  # parts of one sample, in a row: learned positions go no further
            for at in range(0, tokens, limit):
                piece = hidden[sample : sample + 1, at : at + limit]
                start = sample * tokens + at
                yield slice(start, start + piece.shape[1]), piece

    def head_chunks(self, hidden: Tensor, *, bytes_at_once: int | None = None) -> Iterator[tuple[slice, Tensor]]:
        """Logits piece by piece, so that no full logits tensor ever exists.

        Yields:
            A slice into the samples x tokens rows, and their logits, (rows, vocabulary), in the model's dtype.
        """
        for rows, piece in self.head_pieces(hidden, bytes_at_once=bytes_at_once):
            yield rows, self.head(piece).flatten(0, 1)

    @torch.no_grad()
    def head_nll(self, hidden: Tensor, ids: Tensor) -> Tensor:
        """Negative log-likelihood of each next token, in nats.

        Args:
            hidden: (samples, tokens, hidden), the state that leaves the last block.
            ids: (samples, tokens).

        Returns:
            (samples, tokens - 1), fp32.
        """
        targets = ids[:, 1:].reshape(-1).to(hidden.device)  # (samples x (tokens - 1),)
        losses = torch.empty(targets.shape, dtype=torch.float32, device=hidden.device)
        for rows, logits in self.head_chunks(hidden[:, :-1]):
            losses[rows] = F.cross_entropy(logits.float(), targets[rows], reduction="none")
        return losses.view(ids.shape[0], ids.shape[1] - 1)

    def _record(self, ids: Tensor) -> tuple[Tensor, list[Call]]:
        return record(self._model, self._modules, ids, as_tuple=self._as_tuple)
