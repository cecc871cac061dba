"""A model of peak memory from the configuration: what one rank holds when it needs most. Loads without torch.

Every term is read off the code: what the functions of `pointwise`, `attention`, `tiled_attention` and `loss` keep for
the backward pass, what the optimizer allocates, what a checkpoint is copied to. A compiler may keep less. Rows count
as one document each: packed with shorter ones, tiled attention keeps less too. `benchmarks/memory.py` compares with
what processes and devices report.
"""

from dataclasses import asdict, dataclass
from typing import Literal

from nanochat.model.config import GPTConfig
from nanochat.model.scaling import count_parameters

AttentionWay = Literal["dense", "tiled", "flex"]

CPU_OVERHEAD = 360 * 2**20
"""Resident memory of a process that has loaded torch and this package and trained a step of next to nothing."""
CPU_GAPS, CPU_GAPS_RETURNED = 0.55, 0.15
"""What is allocated and freed in a step leaves gaps in the heap, as share of its size: measured with glibc 2.36 where
freed memory is kept, and where large blocks are handed back, as training does when it recomputes."""
CUDA_OVERHEAD = 256 * 2**20
"""Workspaces of cuBLAS and small tensors, inside what torch's allocator counts. The context itself (0.5 to 1 GB) lies
outside of it, and is in use already when free memory is asked for."""
_CPU_LOSS_CHUNK, _CUDA_LOSS_CHUNK = 1 << 21, 1 << 28
_CPU_LOSS_WORK, _CUDA_LOSS_WORK = 1 << 19, 1 << 27
_TILE, _GRAIN = 128, 64


@dataclass(frozen=True)
class Memory:
    """Bytes on one rank's device at the peak of a training step, by component.

    Attributes:
        weights: float32 master weights.
        gradients: of all weights, and what is received when they are summed over ranks.
        optimizer: this rank's share of momentum, means and squares.
        staging: the copy of weights and state that a step checkpoint is written from, where it lies in this memory.
        overhead: libraries and workspaces.
        casts: weights in the compute type, kept from forward to backward.
        activations: what the blocks, embeddings and last norm keep, attention apart.
        attention: what attention keeps besides queries, keys, values and result: probabilities, statistics, masks.
        working: what comes and goes, at the moment when most is held: in the loss, in the backward pass of a block.
        update: what comes and goes in the optimizer's step, when activations are gone.
        saving: what the ranks send each other for a checkpoint, likewise.
    """

    weights: int
    gradients: int
    optimizer: int
    staging: int
    overhead: int
    casts: int
    activations: int
    attention: int
    working: int
    update: int
    saving: int

    @property
    def lasting(self) -> int:
        """What is held all the time."""
        return self.weights + self.gradients + self.optimizer + self.staging + self.overhead

    @property
    def total(self) -> int:
        """Bytes at the peak."""
        passes = self.casts + self.activations + self.attention + self.working
        return self.lasting + max(passes, self.update, self.saving)

    def to_dict(self) -> dict[str, int]:
        """Component → bytes, and `total`."""
        return asdict(self) | {"total": self.total}


@dataclass(frozen=True)
class MemorySettings:
    """What memory depends on besides the model's shape and the rows of a micro-batch.

    Attributes:
        device: whose memory is meant.
        dtype: compute type.
        ranks: that share the optimizer's state.
        recompute: whether blocks are computed again in the backward pass.
        attention: how it is computed; None: see `way`.
        kernels: whether the loss runs as a Triton kernel.
        staging: whether the copy for step checkpoints lies in this memory: on CPUs and where CPU and GPU share theirs.
    """

    device: Literal["cpu", "cuda"] = "cpu"
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    ranks: int = 1
    recompute: bool = False
    attention: AttentionWay | None = None
    kernels: bool = False
    staging: bool = True

    @property
    def itemsize(self) -> int:
        """Bytes of a number in the compute type."""
        return 2 if self.dtype == "bfloat16" else 4

    def way(self, window: int, length: int) -> AttentionWay:
        """How attention with this window is computed; on GPUs, as in compiled training unless said otherwise."""
        if self.attention is not None:
            return self.attention
        if self.device == "cpu":
            return "tiled" if self.dtype != "float32" or window < length else "dense"
        return "flex" if length % _TILE == 0 else "dense"


def tiled_keys(window: int, length: int) -> int:
    """Pairs of queries and keys that the tiles of one row and head hold, the row being one document."""
    pairs = 0
    for start in range(0, length, _TILE):
        stop = min(start + _TILE, length)
        first = max(0, start - window + 1) // _GRAIN * _GRAIN
        pairs += (stop - start) * (stop - first)
    return pairs


def _kept_by_block(config: GPTConfig, layer: int, settings: MemorySettings) -> tuple[float, float]:
    """Bytes that one row of a block keeps: (activations, attention)."""
    width, length, itemsize = config.width, config.sequence_length, settings.itemsize
    queries, keys = config.heads * config.head_dim, config.kv_heads * config.head_dim
    way = settings.way(config.windows[layer], length)
    # Both norms, normalised queries and keys, relu and its square.
    numbers = width + queries + keys + width + 8 * width
    # Values and result: of tiled attention the copies that it works on, and of queries and keys as well.
    numbers += queries + (3 * queries if way == "tiled" else keys)
    if layer in config.value_embedding_layers:
        numbers += keys + config.kv_heads
    # Factors of the norms.
    numbers += 2 + config.heads + config.kv_heads
    if config.arch == "modern" and layer:
        numbers += width  # the input of `mix`
    activations = float(numbers * itemsize)
    if config.precision == "fp8":
        # Inputs of the products in 8 bits, in place of the square of relu.
        activations += 3 * width + queries + width + 4 * width - 4 * width * itemsize
    if way == "tiled":
        attention = float(config.heads * tiled_keys(config.windows[layer], length) * itemsize)
    else:
        attention = float(4 * config.heads * length)  # sum of exponentials of each query
    return activations * length, attention


def _masks(config: GPTConfig, rows: int, settings: MemorySettings) -> float:
    """Bytes of the masks of all windows; of tiled and flexible attention they are small."""
    length = config.sequence_length
    windows = {w for w in config.windows if settings.way(w, length) == "dense" and w < length}
    return float(len(windows) * rows * length * length * settings.itemsize)


def _matrix_bytes(config: GPTConfig, settings: MemorySettings) -> float:
    """Bytes of one block's weights in the compute type; none where they are used as they are."""
    itemsize = 1 if config.precision == "fp8" else settings.itemsize
    return 0.0 if itemsize == 4 else count_parameters(config)["matrices"] / config.depth * itemsize


def _loss(config: GPTConfig, positions: int, settings: MemorySettings) -> float:
    """Bytes at the peak of the loss: logits of a chunk and both gradients, or the gradients scaled."""
    head, itemsize = config.vocab_size * config.width, settings.itemsize
    cpu = settings.device == "cpu"
    chunk = min(positions * config.vocab_size, _CPU_LOSS_CHUNK if cpu else _CUDA_LOSS_CHUNK)
    work = 0 if settings.kernels else 3 * 4 * min(chunk, _CPU_LOSS_WORK if cpu else _CUDA_LOSS_WORK)
    cast = 0 if itemsize == 4 else head * itemsize
    hidden = positions * config.width * itemsize
    # The product that is added to the head's gradient comes after the chunk's work.
    forward = hidden + 4 * head + cast + chunk * itemsize + max(work, head * itemsize)
    return max(forward, 2 * hidden + 8 * head)


def _block_backward(config: GPTConfig, positions: int, settings: MemorySettings) -> float:
    """Bytes that come on top of what is kept while the gradient goes through the last block's MLP or attention."""
    width, itemsize = config.width, settings.itemsize
    keys = config.kv_heads * config.head_dim
    streams = 3 if config.arch == "modern" else 1  # gradients of x, of x0 and of the middle
    # Gradients on both sides of relu²; the square is free by then.
    mlp = (streams + 4) * positions * width * itemsize + 4 * width * width * (itemsize + 4)
    # By now the MLP's part is free; sums over keys are in float32 where tiles are added up.
    queries = config.heads * config.head_dim
    attention = (streams + 2 - 9) * positions * width * itemsize + positions * queries * (itemsize + 8)
    if config.value_embedding_layers:
        attention += positions * keys * (4 + itemsize) + 4 * config.vocab_size * keys
    return max(mlp, attention, 0.0)


def _update(config: GPTConfig, settings: MemorySettings) -> float:
    """Bytes that come and go while the largest stack of matrices is made orthogonal."""
    attention = config.heads * config.head_dim * config.width
    stacks = {"square": 4 * attention, "long": 4 * config.width**2}
    bucket = 32 * 2**20 / 4
    largest = max(stacks.values()) * config.depth
    if settings.ranks > 1:  # cut into buckets, then by rank
        largest = min(largest, max(bucket, *stacks.values())) / settings.ranks
    itemsize = 2 if settings.device == "cuda" else 4
    return largest * max(4 * itemsize, 3 * 4)


def training_memory(config: GPTConfig, *, rows: int, settings: MemorySettings | None = None) -> Memory:
    """Peak memory of training.

    Args:
        config: shape of the model.
        rows: of a micro-batch, each of the model's context.
        settings: everything else; None: one rank in bfloat16 on a CPU.
    """
    settings = settings or MemorySettings()
    counts = count_parameters(config)
    cpu = settings.device == "cpu"
    weights = 4 * counts["total"]
    # Momentum and one number per row for matrices, mean and square for all else.
    state = 4 * (counts["matrices"] + 2 * (counts["total"] - counts["matrices"]))
    gradients = weights
    saving = 0
    if settings.ranks > 1:
        # Without a kernel that sums on the way, all ranks' shares arrive.
        gradients += weights if cpu else weights // settings.ranks
        # One slab after the other: the largest is a table of embeddings.
        saving = 4 * config.vocab_size * config.width
    positions = rows * config.sequence_length
    blocks = [_kept_by_block(config, layer, settings) for layer in range(config.depth)]
    outside = (3 if config.arch == "modern" else 2) * positions * config.width * settings.itemsize
    kept, scores = (rows * sum(part) for part in zip(*blocks, strict=True))
    casts = config.depth * _matrix_bytes(config, settings)
    working = _block_backward(config, positions, settings)
    loss = _loss(config, positions, settings)
    if settings.recompute:
        one, one_scores = max(blocks, key=sum)
        # Inputs of the blocks and of `mix`; the first block's is counted with the embeddings.
        kept = ((2 if config.arch == "modern" else 1) * config.depth - 1) * positions * config.width * settings.itemsize
        scores = 0.0
        working += rows * (one + one_scores) + _matrix_bytes(config, settings)
        casts = 0.0
    working = max(working, loss)
    attention = scores + _masks(config, rows, settings)
    overhead = CUDA_OVERHEAD
    if cpu:
        gaps = CPU_GAPS_RETURNED if settings.recompute else CPU_GAPS
        overhead = CPU_OVERHEAD + int(gaps * (casts + kept + outside + attention + working))
    return Memory(
        weights=weights,
        gradients=gradients,
        optimizer=state // settings.ranks,
        staging=weights + state if settings.staging else 0,
        overhead=overhead,
        casts=int(casts),
        activations=int(kept + outside),
        attention=int(attention),
        working=int(working),
        update=int(_update(config, settings)),
        saving=saving,
    )


def largest_batch(config: GPTConfig, budget: int, *, most: int, settings: MemorySettings | None = None) -> int:
    """The largest power of two of rows, `most` at most, whose training fits.

    Args:
        config: shape of the model.
        budget: bytes.
        most: rows, at least 1.
        settings: as in `training_memory`.

    Returns:
        Rows of a micro-batch; 0 if not even one fits.
    """
    rows = 1 << (most.bit_length() - 1)
    while rows and training_memory(config, rows=rows, settings=settings).total > budget:
        rows //= 2
    return rows


def inference_memory(config: GPTConfig, *, rows: int, settings: MemorySettings) -> int:
    """Bytes at the peak of evaluation with full rows: generation with its cache, or the losses of whole rows.

    Args:
        config: shape of the model.
        rows: generated at a time, or in one forward pass.
        settings: device and compute type.
    """
    counts = count_parameters(config)
    cpu, itemsize = settings.device == "cpu", settings.itemsize
    positions = rows * config.sequence_length
    keys = config.kv_heads * config.head_dim
    cache = 2 * rows * sum(config.windows) * keys * itemsize
    masks = len(set(config.windows)) * rows * config.sequence_length**2 * itemsize
    # The stream and its embedding twice, queries to values, the MLP's inside and its square.
    passing = positions * (4 * config.width + 4 * config.heads * config.head_dim + 12 * config.width) * itemsize
    logits = 5 * min(positions * config.vocab_size, _CPU_LOSS_CHUNK if cpu else _CUDA_LOSS_CHUNK)
    last = 2 * 4 * rows * config.vocab_size
    overhead = CPU_OVERHEAD if cpu else CUDA_OVERHEAD
    # Generation has weights of its own (infer/decoder.py); in float32 it shares the value embeddings.
    own = counts["total"] - (counts["value_embeddings"] if itemsize == 4 else 0)
    return 4 * counts["total"] + itemsize * own + overhead + cache + masks + passing + max(logits, last)
