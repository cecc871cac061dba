"""The machine under a run: devices, ranks, compute types, peak rates, memory; reads the environment variables."""

import logging
import os
import platform
import random
import resource
import time
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from nanochat.errors import DeviceError

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

# Dense bfloat16 peaks by datasheet, in FLOP/s; matched as substrings of the device name, first hit wins.
_PEAK_BF16 = (
    ("gb200", 2.5e15),
    ("b200", 2.25e15),
    ("gb10", 125e12),
    ("h200", 989e12),
    ("h100 nvl", 835e12),
    ("h100 pcie", 756e12),
    ("h100", 989e12),
    ("gh200", 989e12),
    ("a100", 312e12),
    ("l40s", 362e12),
    ("l4", 121e12),
    ("rtx 5090", 209.5e12),
    ("rtx 4090", 165.2e12),
    ("rtx 3090", 71e12),
)

_UNIFIED_MEMORY_SHARE = 0.8


@dataclass(frozen=True)
class World:
    """The processes of one launch and this one's place among them."""

    rank: int
    local_rank: int
    size: int
    device: "torch.device"

    @classmethod
    def open(cls, device: str = "auto") -> Self:
        """Join the launch: ranks from torchrun's variables, gloo on CPU and nccl on CUDA.

        Args:
            device: `auto` (CUDA where there is one), `cpu` or `cuda`.

        Raises:
            DeviceError: if CUDA is asked for and there is none, or fewer devices than local ranks.
        """
        import torch

        rank, local_rank, size = (
            int(os.environ.get(k, d)) for k, d in (("RANK", 0), ("LOCAL_RANK", 0), ("WORLD_SIZE", 1))
        )
        if device not in ("auto", "cpu", "cuda"):
            raise DeviceError(f"device {device!r}: expected auto, cpu or cuda")
        if device == "cuda" and not torch.cuda.is_available():
            build = (
                f"torch {torch.__version__} was built for CUDA {torch.version.cuda}"
                if torch.version.cuda
                else (f"torch {torch.__version__} is a CPU build")
            )
            raise DeviceError(
                f"no CUDA device: this profile asks for a GPU, but {build} and torch.cuda.is_available() is false; "
                "check nvidia-smi and the driver, install a CUDA build of torch, or use the default profile on a CPU"
            )
        use_cuda = device != "cpu" and torch.cuda.is_available()
        if use_cuda and local_rank >= torch.cuda.device_count():
            raise DeviceError(
                f"local rank {local_rank} has no GPU: the launch asks for more processes than the "
                f"{torch.cuda.device_count()} GPU(s) here; lower --nproc_per_node in the profile"
            )
        place = torch.device("cuda", local_rank) if use_cuda else torch.device("cpu")
        if use_cuda:
            torch.cuda.set_device(place)
            if torch.cuda.get_device_properties(place).is_integrated:
                # One pool for CPU and GPU: a process that takes it all freezes the host before any error comes.
                torch.cuda.set_per_process_memory_fraction(_UNIFIED_MEMORY_SHARE, place)
        if size > 1:
            if not use_cuda:  # the ranks of one machine share its cores
                threads = torch.get_num_threads() // int(os.environ.get("LOCAL_WORLD_SIZE", 1))
                torch.set_num_threads(max(1, threads))
            # nccl for GPU tensors, gloo beside it for objects and CPU tensors.
            # The main rank may wait for a lock or render a mixture for hours while the others stand at a barrier; when
            # one process dies, torchrun ends the rest.
            backend = "cpu:gloo,cuda:nccl" if use_cuda else "gloo"
            torch.distributed.init_process_group(backend, timeout=timedelta(days=7))
        return cls(rank, local_rank, size, place)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        import torch

        # After an error the other ranks may be inside a collective: leave the group as it is, torchrun ends them.
        if self.size > 1 and kind is None and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and logs."""
        return self.rank == 0

    def barrier(self) -> None:
        """Wait for all ranks."""
        import torch

        if self.size > 1:
            torch.distributed.barrier()

    def sum_(self, tensor: "torch.Tensor") -> "torch.Tensor":
        """Sum a tensor over ranks in place, and return it."""
        import torch

        if self.size > 1:
            torch.distributed.all_reduce(tensor)
        return tensor

    def broadcast_object(self, value: Any) -> Any:
        """The main rank's `value`, on every rank."""
        import torch

        if self.size == 1:
            return value
        box = [value]
        torch.distributed.broadcast_object_list(box, src=0)
        return box[0]

    def gather_objects(self, value: Any) -> list[Any]:
        """Every rank's `value`, in rank order, on every rank."""
        import torch

        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        torch.distributed.all_gather_object(values, value)
        return values


def set_deterministic(seed: int) -> None:
    """Seed every generator and ask for deterministic kernels, so that a resumed run equals an uninterrupted one."""
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # As use_deterministic_algorithms(True, warn_only=True), which imports the compiler: seconds in every process. Where
    # something is compiled, acceleration.accelerate tells the compiler.
    torch.set_deterministic_debug_mode("warn")
    # Filling every new tensor with NaN would only help to find errors, at the price of a pass over its memory.
    torch.utils.deterministic.fill_uninitialized_memory = False


def has_bfloat16(device: "torch.device") -> bool:
    """Whether the device multiplies bfloat16 in hardware: GPUs from Ampere on, CPUs with AVX512-BF16 or AMX."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return torch.backends.mkldnn.is_available() and torch.cpu._is_avx512_bf16_supported()


def compute_dtype(precision: str, device: "torch.device") -> "torch.dtype":
    """The compute type that `model.precision` means in training on this device; fp8 is bfloat16 outside of products."""
    import torch

    if precision == "auto":
        return torch.bfloat16 if has_bfloat16(device) else torch.float32
    return torch.bfloat16 if precision == "fp8" else getattr(torch, precision)


def inference_dtype(precision: str, device: "torch.device") -> "torch.dtype":
    """The compute type of evaluation and chat: as in training on GPUs, float32 on CPUs.

    There a product of few rows takes its time for reading the weights, which are float32 already.
    """
    import torch

    return torch.float32 if device.type == "cpu" else compute_dtype(precision, device)


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4


def _set_allocator(*options: tuple[int, int]) -> None:
    """Call mallopt, where the C library is glibc and has it."""
    import ctypes

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for option, value in options:
            mallopt(option, value)


def keep_freed_memory() -> None:
    """Let the C library keep freed memory for the next allocation instead of handing it back to the system.

    Activations of some megabytes are allocated and freed thousands of times in a run; each time anew from the system,
    their page faults took up to a third of the time of wide products (docs/benchmarks.md).
    """
    _set_allocator((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1))


def return_freed_memory() -> None:
    """Let the C library hand large blocks back to the system when they are freed; undoes `keep_freed_memory`.

    A heap that is never handed back falls into pieces: where blocks of a few sizes come and go between ones that stay,
    as with blocks computed twice, it grew to five times of what was in use. This costs page faults, and saves memory.
    """
    _set_allocator((_M_MMAP_MAX, 1 << 16), (_M_MMAP_THRESHOLD, 1 << 20))


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
        return names[0] if names else platform.machine()
    except OSError:
        return platform.processor() or platform.machine()


def hardware_info(device: "torch.device | None" = None) -> dict[str, Any]:
    """What the run ran on: device name and count, memory in bytes, CPU, threads."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    cores = len(os.sched_getaffinity(0))
    info: dict[str, Any] = {
        "cpu": _cpu_name(),
        "cores": cores,
        "memory_bytes": memory,
        "device": "cpu",
        "devices": 0,
    }
    if device is None:
        return info
    import torch

    info["threads"] = torch.get_num_threads()
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        info |= {
            "device": properties.name,
            "device_memory_bytes": properties.total_memory,
            "cuda": torch.version.cuda,
        }
        info["devices"] = int(os.environ.get("WORLD_SIZE", 1))
    return info


def peak_flops(device_name: str) -> float | None:
    """Dense bfloat16 peak of a GPU by its datasheet, in FLOP/s; None where it is not known."""
    lowered = device_name.lower()
    return next((peak for name, peak in _PEAK_BF16 if name in lowered), None)


def measured_matmul_flops(device: "torch.device", dtype: "torch.dtype", seconds: float = 0.3) -> float:
    """Rate of square matrix products on this device now, in FLOP/s: the best of repeated runs."""
    import torch

    size = 4096 if device.type == "cuda" else 1024
    a = torch.randn(size, size, device=device, dtype=dtype)
    b = torch.randn(size, size, device=device, dtype=dtype)

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    for _ in range(3):
        a @ b
    wait()
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        a @ b
        wait()
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def peak_memory_bytes(device: "torch.device") -> int:
    """Largest memory use so far: of the device's allocator on CUDA, of the process on CPU."""
    if device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def wandb_mode(mode: str) -> str:
    """What `wandb.mode: auto` means here: online where there is a key, else offline; WANDB_MODE wins."""
    if os.environ.get("WANDB_MODE"):
        return os.environ["WANDB_MODE"]
    if mode != "auto":
        return mode
    return "online" if os.environ.get("WANDB_API_KEY") else "offline"
