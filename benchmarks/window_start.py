"""The chat window: seconds from `snakemake chat_ui` to a page one can type in, beside those of `snakemake serve`.

    python benchmarks/window_start.py

On the run that the configuration names, which must be trained. The page is opened in a headless Chromium; it is usable
when its text box is there and what it greets with is shown. Then Ctrl-C: how long until no process is left.
"""

import argparse
import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
from report import Sample, finish, machine, number, print_table, ratio, share

ROOT = Path(__file__).parents[1]
CHROMIUM = "/usr/bin/chromium"


@contextlib.contextmanager
def browser() -> Iterator[Callable[[str], None]]:
    """Opens addresses, and returns when the page can be used."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])

        def opened(url: str) -> None:
            page = chromium.new_page()
            page.goto(url)
            page.locator("#box textarea").wait_for()
            page.locator(".welcome, .message").first.wait_for()
            page.close()

        yield opened
        chromium.close()


def ask_models(url: str) -> None:
    """The API's first answer."""
    urllib.request.urlopen(f"{url}/v1/models", timeout=30).close()


def once(rule: str, usable: Callable[[str], None]) -> tuple[float, float]:
    """Seconds until it is usable, and from Ctrl-C until nothing of it is left."""
    snakemake = [sys.executable, "-m", "snakemake", rule, "--config"]
    with tempfile.NamedTemporaryFile("w+") as said, tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        command = [*snakemake, f"chat={{port: 0, conversations: {folder}}}"]
        process = subprocess.Popen(command, cwd=ROOT, stdout=said, stderr=said, start_new_session=True)
        while (found := re.search(r"API: (http://[^/\s]+)/v1", Path(said.name).read_text())) is None:
            if process.poll() is not None:
                raise SystemExit(Path(said.name).read_text())
            time.sleep(0.02)
        usable(found[1])
        seconds = time.perf_counter() - started
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        stopped = time.perf_counter()
        os.killpg(process.pid, signal.SIGINT)
        process.wait(timeout=60)
        psutil.wait_procs(family, timeout=60)
        return seconds, time.perf_counter() - stopped


def main() -> None:
    """Measure in turns and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="default: %(default)s")
    repeats = parser.parse_args().repeats
    found: dict[str, list[tuple[float, float]]] = {"chat_ui": [], "serve": []}
    with browser() as opened:
        for _ in range(repeats):
            for rule, usable in (("chat_ui", opened), ("serve", ask_models)):
                found[rule].append(once(rule, usable))
    starts = {rule: Sample.of([start for start, _ in measured]) for rule, measured in found.items()}
    ends = {rule: Sample.of([end for _, end in measured]) for rule, measured in found.items()}
    print_table(
        f"From the command to the first usable page or answer, medians of {repeats}",
        ["", "start", "spread", "Ctrl-C to no process"],
        [
            [
                f"snakemake {rule}",
                number(starts[rule].median, 1, " s"),
                share(starts[rule].spread),
                number(ends[rule].median, 1, " s"),
            ]
            for rule in found
        ],
    )
    figures: dict[str, object] = {"repeats": repeats, "ratio": ratio(starts["chat_ui"], starts["serve"])}
    for rule in found:
        figures |= {f"{rule}_seconds": starts[rule].median, f"{rule}_end_seconds": ends[rule].median}
    finish("window_start", figures, machine())


if __name__ == "__main__":
    main()
