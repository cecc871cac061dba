"""What tests share: the repository, the real data beside it, and one tiny trained run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
SMOKE = REPOSITORY / "config" / "smoke.yaml"
# Each worker of `pytest -n 2` takes whole files, but these one worker runs one after the other: they share the tiny
# run, mount file systems, or hold the machine's mounts, processes and shared memory against what they were (Chromium
# uses it).
ONE_WORKER = ("test_hostile.py", "test_disk.py", "test_ui.py", "workflow")
# Of the workflow's, these have a run of their own.
OWN_RUN = ("test_own_data.py", "test_real_data.py", "test_two_runs.py")
CHROMIUM = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def group(path: Path) -> str:
    """What one worker runs one after the other."""
    together = path.name not in OWN_RUN and set(ONE_WORKER) & set(path.parts)
    return "one worker" if together else str(path)


def pytest_configure():
    """Processes that tests start have one thread, unless they say otherwise: tiny products only wait for the others."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Share the groups out in the order of the tests, not by their number of tests."""
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group(Path(nodeid.split("::")[0]))

    config.option.loadscopereorder = False
    return Groups(config, log)


def pytest_collection_modifyitems(items):
    """Skip what this machine cannot run, with the reason; run the cheap tests before the shared tiny run.

    Where several workers share the tests, the longest group is begun first.
    """
    import torch

    # Sums of products depend on the number of threads: with one, what runs in this process can be compared bit by bit
    # with what a process of its own computes.
    torch.set_num_threads(1)
    skips = {
        "gpu": (not torch.cuda.is_available(), "no CUDA device"),
        "shared": (not (REPOSITORY.parent / "shared" / "hub").is_dir(), "../shared/hub is not there"),
        "browser": (not Path("/usr/bin/chromium").exists(), "no Chromium (Debian's package chromium)"),
    }
    for item in items:
        for mark, (missing, reason) in skips.items():
            if missing and item.get_closest_marker(mark):
                item.add_marker(pytest.mark.skip(reason=reason))
    if os.environ.get("PYTEST_XDIST_WORKER"):
        # The longest first; then the other worker is not at a run of its own while the shared one is made.
        items.sort(key=lambda item: (group(item.path) != "one worker", "workflow" not in item.path.parts))
        items.sort(key=lambda item: item.path.name in OWN_RUN)
    else:
        items.sort(key=lambda item: "workflow" in item.path.parts)


@pytest.fixture(autouse=True)
def exact_products():
    """Training in this process chooses how float32 is multiplied: the next test finds the default."""
    import torch

    yield
    torch.set_float32_matmul_precision("highest")


@pytest.fixture(scope="session")
def shared_hub() -> Path:
    """Real data laid out like the public hubs."""
    return REPOSITORY.parent / "shared" / "hub"


# The tiny model's products are too small for two threads, which would only wait for each other.
ONE_THREAD = ("--set-threads", *(f"{rule}=1" for rule in ("base", "base_eval", "mid", "sft", "rl", "chat_eval")))


class Workflow:
    """Runs the real Snakefile in a folder of its own."""

    def __init__(self, folder: Path, repository: Path = REPOSITORY) -> None:
        self.folder = folder
        self.repository = repository

    def command(self, *arguments: str, configfile: Path | None = SMOKE) -> list[str]:
        """The snakemake command line; `configfile` None leaves it to the arguments."""
        config = ["--configfile", str(configfile)] if configfile else []
        return [sys.executable, "-m", "snakemake", *ONE_THREAD, "--directory", str(self.folder), *arguments, *config]

    def environment(self) -> dict[str, str]:
        """A user's environment without the test runner's own variables."""
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        own = ("PYTEST", "HF_HUB_OFFLINE")
        return {k: v for k, v in os.environ.items() if not k.startswith(own)} | {"PATH": path}

    def run(
        self, *arguments: str, configfile: Path | None = SMOKE, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run snakemake to its end; its two output streams are joined."""
        done = subprocess.run(
            self.command(*arguments, configfile=configfile),
            cwd=self.repository,
            env=self.environment(),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            timeout=900,
        )
        if check:
            assert done.returncode == 0, done.stdout[-6000:]
        return done

    def planned(self, *arguments: str, configfile: Path | None = SMOKE) -> dict[str, int]:
        """Rules a dry run lists, with their number of jobs; empty where nothing is to be done."""
        output = self.run("-n", *arguments, configfile=configfile).stdout
        table = re.search(r"^job +count\n-+ +-+\n(.*?)\ntotal", output, re.MULTILINE | re.DOTALL)
        if table is None:
            assert "Nothing to be done" in output, output
            return {}
        return {name: int(count) for name, count in (line.split() for line in table[1].splitlines())}


@pytest.fixture(scope="session")
def workflow(tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    """A folder where the whole tiny DAG has run, report included."""
    runner = Workflow(tmp_path_factory.mktemp("workflow"))
    runner.run("--cores", "2")
    return runner


@pytest.fixture(scope="session")
def tiny_run(workflow: Workflow) -> Path:
    """The run folder of the tiny run: tokenizer, base, mid, sft, rl, eval, report.md."""
    return workflow.folder / "results" / "smoke"


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra: dev)")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=CHROMIUM)
        yield browser
        browser.close()
