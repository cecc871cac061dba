"""How much memory a process may use: of its device, of the machine, of its control group; and signs of having had none.

On CPUs and on machines whose GPU shares the CPU's memory, what counts is what the kernel calls available: free memory
as CUDA reports it counts page cache as used there, and a process that takes the rest freezes the host before any error
comes.
"""

import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from nanochat.runtime import World

_HEADROOM = 0.10
"""Share of what is available that is left alone: for what the model of memory does not know."""
_UNIFIED_RESERVE = (16 * 10**9, 0.15)
"""What a machine with one pool of memory keeps for the system: at least so many bytes, and so large a share."""
_NO_LIMIT = 1 << 60
"""Control groups without a limit report one beyond this."""


@dataclass(frozen=True)
class OomKills:
    """How many processes the kernel has killed for want of memory in this process's control group.

    Attributes:
        group: the control group and the boot that the count belongs to.
        count: so far.
    """

    group: str
    count: int

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"group": self.group, "count": self.count}


def _numbers(text: str) -> dict[str, int]:
    """`name number` lines."""
    pairs = (line.replace(":", " ").split() for line in text.splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) > 1 and pair[1].isdigit()}


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _control_groups(root: Path) -> list[tuple[Path, str]]:
    """Folders of the memory control groups this process is in, innermost first, and the name of its own.

    Both versions; inside a container the name may be one of the host's, whose files then lie at the top.
    """
    found = []
    for line in _read(root / "proc/self/cgroup").splitlines():
        number, controllers, name = line.split(":", 2)
        if number == "0":
            top = root / "sys/fs/cgroup"
        elif "memory" in controllers.split(","):
            top = root / "sys/fs/cgroup/memory"
        else:
            continue
        own = Path(name.lstrip("/"))
        found += [(top / place, name) for place in (own, *own.parents)]
    return found


def _group_left(root: Path) -> int | None:
    """Bytes that the control groups leave; page cache that the kernel would drop is not counted as used."""
    left = []
    for folder, _ in _control_groups(root):
        for limit, usage in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
            most, used = _read(folder / limit).strip(), _read(folder / usage).strip()
            if most.isdigit() and used.isdigit() and int(most) < _NO_LIMIT:
                statistics = _numbers(_read(folder / "memory.stat"))
                cache = statistics.get("total_inactive_file", statistics.get("inactive_file", 0))
                left.append(max(0, int(most) - max(0, int(used) - cache)))
    return min(left, default=None)


def machine_bytes(root: Path = Path("/")) -> int:
    """Memory this machine has left for new processes, or this process's control group has, if that is less.

    Args:
        root: where /proc and /sys are.
    """
    memory = _numbers(_read(root / "proc/meminfo"))
    available = 1024 * memory["MemAvailable"] if "MemAvailable" in memory else 0
    if not available:  # not Linux
        available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    left = _group_left(root)
    return available if left is None else min(available, left)


def resident_bytes(root: Path = Path("/")) -> int:
    """Memory that this process holds."""
    return 1024 * _numbers(_read(root / "proc/self/status")).get("VmRSS", 0)


def oom_kills(root: Path = Path("/")) -> OomKills | None:
    """The kernel's count for this process's control group; None where it keeps none."""
    boot = _read(root / "proc/sys/kernel/random/boot_id").strip()
    for folder, name in _control_groups(root):
        for file in ("memory.events", "memory.oom_control"):
            count = _numbers(_read(folder / file)).get("oom_kill")
            if count is not None:
                return OomKills(f"{boot}:{name}", count)
    return None


def shares_memory(device: "torch.device") -> bool:
    """Whether what is allocated on this device is taken from the memory of the CPU."""
    import torch

    return device.type == "cpu" or bool(torch.cuda.get_device_properties(device).is_integrated)


def usable_bytes(world: "World") -> int:
    """Memory that each rank may hold in all, headroom taken off; the least of all ranks.

    What the process holds already is part of it: of the process on CPUs, of torch's allocator on GPUs.
    """
    import torch

    hosts = world.gather_objects(socket.gethostname())
    local = hosts.count(hosts[world.rank])
    device = world.device
    if device.type == "cpu":
        # All ranks of a host see the same memory available, and each its own part in use.
        usable = (1 - _HEADROOM) * (machine_bytes() / local + resident_bytes())
    else:
        held = torch.cuda.memory_reserved(device)
        free, total = torch.cuda.mem_get_info(device)
        if shares_memory(device):
            least, share = _UNIFIED_RESERVE
            usable = (machine_bytes() - max(least, share * total)) / local + held
        else:
            usable = (1 - _HEADROOM) * (free + held)
    return min(world.gather_objects(max(0, int(usable))))
