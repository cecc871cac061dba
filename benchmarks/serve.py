"""Serving: many streaming clients at once against one, over real connections to a real server process.

    python benchmarks/serve.py --run results/tiny

Every client asks something else, with a seed of its own; what it gets beside the others is compared with what the
same requests get one after the other. Clients and server share the machine. Further parts: clients that leave in the
middle, more requests than are let in, and the server's memory over many requests.
"""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
from report import Sample, finish, machine, number, print_table, share, with_briefly_spinning_threads
from streaming_clients import Answer, Client

HERE = Path(__file__).parent
HOST = "127.0.0.1"
SUBJECTS = ("Anna", "Noah", "the cat", "12 + 30", "apple", "the river", "a bicycle", "snow")


class Server:
    """A server in a process of its own."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process, self.port = process, port

    def get(self, path: str) -> Any:
        """JSON of a path."""
        with urllib.request.urlopen(f"http://{HOST}:{self.port}{path}", timeout=60) as answer:
            return json.load(answer)

    @property
    def resident_bytes(self) -> int:
        """Memory it holds."""
        return psutil.Process(self.process.pid).memory_info().rss


@contextlib.contextmanager
def serving(run: Path, **settings: Any) -> Iterator[Server]:
    """A server on a free port, until the end of the block."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        chat = json.dumps({"port": port, "conversations": folder, **settings})
        command = [sys.executable, "-m", "workflow_scripts.serve", "--run", str(run), "--chat", chat]
        # With a file for what it says: a pipe that nobody reads would stop it.
        with (Path(folder) / "log").open("wb") as log:
            process = subprocess.Popen(command, cwd=HERE.parent, stderr=log, stdout=log)
        server = Server(process, port)
        try:
            for _ in range(600):
                with contextlib.suppress(OSError):
                    server.get("/health")
                    break
                if process.poll() is not None:
                    raise SystemExit(f"the server did not start:\n{(Path(folder) / 'log').read_text()}")
                time.sleep(0.1)
            yield server
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=30)


def request(number_: int, model: str, kind: str, tokens: int) -> tuple[str, dict[str, Any]]:
    """Path and body of a request that no other one equals."""
    subject = SUBJECTS[number_ % len(SUBJECTS)]
    body: dict[str, Any] = {"model": model, "max_tokens": tokens, "temperature": 1.0, "seed": number_}
    if kind == "text":
        return "/v1/completions", body | {"prompt": f"{number_}. A story of {subject}:"}
    return "/v1/chat/completions", body | {"messages": [{"role": "user", "content": f"{number_}. What of {subject}?"}]}


async def crowd(port: int, asked: list[tuple[str, dict[str, Any]]], clients: int) -> tuple[list[Answer], float]:
    """Ask everything, `clients` requests at a time; the answers in order, and the seconds it took."""
    answers: list[Answer | None] = [None] * len(asked)
    left = iter(range(len(asked)))

    async def one() -> None:
        client = Client(HOST, port)
        for index in left:
            answers[index] = await client.ask(*asked[index])
        client.close()

    started = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(clients)))
    return [answer for answer in answers if answer is not None], time.perf_counter() - started


def percentile(values: list[float], share_: float) -> float:
    """Value below which this share of the values lies."""
    return sorted(values)[min(len(values) - 1, int(share_ * len(values)))]


def compare(server: Server, model: str, kind: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Many clients against one, in turns."""
    clients = arguments.clients
    asked = [request(n, model, kind, arguments.tokens) for n in range(clients * arguments.requests)]
    few = asked[: max(4, len(asked) // 8)]
    asyncio.run(crowd(server.port, few, clients))  # warms up
    rates: dict[int, list[float]] = {1: [], clients: []}
    firsts: dict[int, list[float]] = {1: [], clients: []}
    whole: dict[int, list[Answer]] = {}
    for turn in range(arguments.repeats):
        for count in (1, clients):
            # Alone, everything is asked only once: to compare the answers.
            answers, seconds = asyncio.run(crowd(server.port, asked if count > 1 or turn == 0 else few, count))
            rates[count].append(sum(answer.tokens for answer in answers) / seconds)
            firsts[count] += [answer.first_seconds for answer in answers if answer.text]
            whole.setdefault(count, answers)
            assert all(answer.status == 200 for answer in answers)
    alone, together = whole[1], whole[clients]
    different = sum(a.text != b.text or a.tokens != b.tokens for a, b in zip(alone, together, strict=True))
    found: dict[str, Any] = {"requests": len(asked), "tokens": sum(answer.tokens for answer in together)}
    for count in (1, clients):
        sample = Sample.of(rates[count])
        name = "one" if count == 1 else "many"
        found |= {
            f"tokens_per_s_{name}": sample.median,
            f"spread_{name}": sample.spread,
            f"first_p50_{name}": percentile(firsts[count], 0.5),
            f"first_p95_{name}": percentile(firsts[count], 0.95),
        }
    return found | {"ratio": found["tokens_per_s_many"] / found["tokens_per_s_one"], "different_answers": different}


def leaving(server: Server, model: str, clients: int) -> dict[str, Any]:
    """Clients that leave after a few pieces: how long until nothing is generated for them any more."""

    async def leave() -> None:
        path, body = request(0, model, "text", 10**6)
        await asyncio.gather(*(Client(HOST, server.port).ask(path, body, leave_after=2) for _ in range(clients)))

    asyncio.run(leave())
    started = time.perf_counter()
    while True:
        health = server.get("/health")
        if health["running"] + health["waiting"] == 0:
            return {"free_after_seconds": time.perf_counter() - started}
        if time.perf_counter() - started > 30:
            raise SystemExit(f"clients left 30 s ago, and there is still work: {health}")


def overload(run: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Three times as many requests as are let in: who gets which status, and when."""
    slots = queue = max(1, arguments.clients // 8)
    with serving(run, slots=slots, queue=queue) as server:
        model = server.get("/v1/models")["data"][0]["id"]

        async def all_at_once() -> list[Answer]:
            asked = [request(n, model, "text", arguments.tokens) for n in range(3 * (slots + queue))]
            return list(await asyncio.gather(*(Client(HOST, server.port).ask(*one) for one in asked)))

        answers = asyncio.run(all_at_once())
    by_status = Counter(str(answer.status) for answer in answers)
    return {"asked": len(answers), "let_in": slots + queue, "by_status": dict(sorted(by_status.items()))}


def memory(server: Server, model: str, arguments: argparse.Namespace) -> list[tuple[int, int]]:
    """(requests so far, resident bytes) over many requests of all kinds."""
    marks = []
    step = max(1, arguments.memory_requests // 8)
    for begin in range(0, arguments.memory_requests, step):
        kinds = [("text", "chat")[n % 2] for n in range(step)]
        asked = [request(begin + n, model, kind, 8 + n % 24) for n, kind in enumerate(kinds)]
        asyncio.run(crowd(server.port, asked, arguments.clients))
        marks.append((begin + step, server.resident_bytes))
    return marks


def main() -> None:
    """Command line."""
    with_briefly_spinning_threads()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="run folder or checkpoint directory")
    parser.add_argument("--clients", type=int, default=64, help="default: %(default)s")
    parser.add_argument("--requests", type=int, default=4, help="of each client; default: %(default)s")
    parser.add_argument("--tokens", type=int, default=128, help="of an answer, at most; default: %(default)s")
    parser.add_argument("--repeats", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--memory-requests", type=int, default=2000, help="default: %(default)s")
    run(parser.parse_args())


def run(arguments: argparse.Namespace) -> None:
    """Measure and print."""
    run_folder = arguments.run.resolve()
    started = time.perf_counter()
    with serving(run_folder) as server:
        up = time.perf_counter() - started
        models = [entry["id"] for entry in server.get("/v1/models")["data"]]
        default = "auto"
        base = next((name for name in models if name.split("/")[-1] == "base"), default)
        found = {kind: compare(server, name, kind, arguments) for kind, name in (("text", base), ("chat", default))}
        left = leaving(server, base, arguments.clients)
        marks = memory(server, default, arguments)
    busy = overload(run_folder, arguments)
    print_table(
        f"{arguments.clients} streaming clients against one: {arguments.requests} requests each of up to "
        f"{arguments.tokens} tokens, medians of {arguments.repeats}",
        ["", "clients", "tokens/s", "spread", "first token p50", "p95", "ratio", "other answers than alone"],
        [
            [
                f"{kind} ({name})",
                str(1 if who == "one" else arguments.clients),
                number(found[kind][f"tokens_per_s_{who}"], 0),
                share(found[kind][f"spread_{who}"]),
                number(1e3 * found[kind][f"first_p50_{who}"], 0, " ms"),
                number(1e3 * found[kind][f"first_p95_{who}"], 0, " ms"),
                number(found[kind]["ratio"]) if who == "many" else "",
                f"{found[kind]['different_answers']} of {found[kind]['requests']}" if who == "many" else "",
            ]
            for kind, name in (("text", base), ("chat", default))
            for who in ("one", "many")
        ],
    )
    print(f"\n{arguments.clients} clients left in the middle: all slots free after {left['free_after_seconds']:.2f} s")
    print(f"{busy['asked']} requests at once where {busy['let_in']} are let in: {busy['by_status']}")
    print("memory: " + ", ".join(f"{size / 2**20:.0f} MiB after {count}" for count, size in marks))
    growth = max((b[1] - a[1]) / (b[0] - a[0]) for a, b in pairwise(marks[len(marks) // 2 :])) if len(marks) > 3 else 0
    print(f"the server was up after {up:.1f} s")
    flat = {f"{kind}_{key}": value for kind, figures in found.items() for key, value in figures.items()}
    figures = {
        "clients": arguments.clients,
        "tokens_per_answer": arguments.tokens,
        **flat,
        **left,
        "overload": busy,
        "resident_bytes": dict(marks),
        "bytes_per_request_late": growth,
        "start_seconds": up,
    }
    finish("serve", figures, machine())


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    main()
