"""Memory as the kernel tells it, in made-up /proc and /sys trees, and here."""

import os

import pytest
import torch

from nanochat.headroom import machine_bytes, oom_kills, resident_bytes, usable_bytes
from nanochat.runtime import World

GB = 10**9


def tree(root, files):
    memory = "MemTotal: 64000000 kB\nMemAvailable: 40000000 kB\n"
    defaults = {"proc/meminfo": memory, "proc/sys/kernel/random/boot_id": "b1\n"}
    for name, text in (defaults | files).items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


SECOND = {
    "proc/self/cgroup": "0::/user.slice/job\n",
    "sys/fs/cgroup/user.slice/job/memory.max": "max\n",
    "sys/fs/cgroup/user.slice/job/memory.current": f"{GB}\n",
    "sys/fs/cgroup/user.slice/job/memory.events": "low 0\nmax 9\noom 2\noom_kill 1\noom_group_kill 0\n",
    "sys/fs/cgroup/user.slice/memory.max": f"{8 * GB}\n",
    "sys/fs/cgroup/user.slice/memory.current": f"{5 * GB}\n",
    "sys/fs/cgroup/user.slice/memory.stat": f"anon {3 * GB}\nactive_file 7\ninactive_file {2 * GB}\n",
}
FIRST = {
    "proc/self/cgroup": "4:memory:/docker/x\n0::/\n",
    "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{4 * GB}\n",
    "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{GB}\n",
    "sys/fs/cgroup/memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 40_000_000 * 1024),
        ({"proc/self/cgroup": "0::/\n"}, 40_000_000 * 1024),
        (SECOND, 5 * GB),  # of the group above: 8 less 5, of which 2 are cache
        (FIRST, 3 * GB),  # of a container: its own name is the host's
        (FIRST | {"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}, 40_000_000 * 1024),
    ],
)
def test_the_least_of_machine_and_control_groups(tmp_path, files, expected):
    assert machine_bytes(tree(tmp_path, files)) == expected


@pytest.mark.parametrize(
    ("files", "group", "count"), [(SECOND, "b1:/user.slice/job", 1), (FIRST, "b1:/docker/x", 3), ({}, None, None)]
)
def test_kills_are_counted_by_group_and_boot(tmp_path, files, group, count):
    found = oom_kills(tree(tmp_path, files))
    assert (found and found.group, found and found.count) == (group, count)


def test_this_machine():
    world = World(0, 0, 1, torch.device("cpu"))
    everything = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 10**6 < resident_bytes() < everything
    assert 10**6 < usable_bytes(world) < everything
