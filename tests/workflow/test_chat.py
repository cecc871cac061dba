"""The chat rules on a trained run: standard output, secrets, and the end by Ctrl-C."""

import os
import re
import signal
import subprocess
import time
import urllib.error
import urllib.request

import psutil
import pytest

from tests.serve.test_cli import Typist

QUESTION = "Who are you?"
GREEDY = "temperature: 0, max_new_tokens: 24"
SECRETS = {"password": "Sesame-4711", "api_key": "Key-0815-and-more"}
VARIABLES = {f"NANOCHAT_{key.upper()}": value for key, value in SECRETS.items()}


def ask(workflow, *arguments, piped=""):
    """What `snakemake chat_cli` writes, its streams apart."""
    done = subprocess.run(
        workflow.command("chat_cli", *arguments),
        cwd=workflow.repository,
        env=workflow.environment(),
        input=piped,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done


def test_an_answer_is_all_there_is_on_standard_output(workflow, tiny_run):
    piped = ask(workflow, "--config", f"chat={{{GREEDY}}}", piped=f"{QUESTION}\n")
    assert len(piped.stdout.strip()) > 1 and "snakemake" not in piped.stdout.lower()
    assert "Starting the terminal chat" in piped.stderr
    quiet = ask(workflow, "--quiet", "all", "--config", f'chat={{{GREEDY}, prompt: "{QUESTION}"}}')
    assert quiet.stdout == piped.stdout
    assert "Job" not in quiet.stderr and "rule" not in quiet.stderr


class Server:
    """`snakemake chat_ui` or `serve` in a process group of its own."""

    def __init__(self, workflow, rule, *config, environment=None):
        self.log = workflow.folder / f"{rule}.out"
        given = ["--config", f"chat={{{', '.join(('port: 0', *config))}}}"]
        with self.log.open("w") as file:
            self.process = subprocess.Popen(
                workflow.command(rule, "--verbose", *given),
                cwd=workflow.repository,
                env=workflow.environment() | (environment or {}),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def said(self):
        return self.log.read_text(errors="replace")

    def url(self):
        """Where it listens, once it answers there."""
        deadline = time.monotonic() + 60
        while (found := re.search(r"API: (http://[^/\s]+)/v1", self.said)) is None:
            assert self.process.poll() is None and time.monotonic() < deadline, self.said[-3000:]
            select_nothing(0.05)
        return found[1]

    def below(self):
        return psutil.Process(self.process.pid).children(recursive=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def select_nothing(seconds):
    """Give the processor to the server."""
    import select

    select.select([], [], [], seconds)


def status(url):
    try:
        return urllib.request.urlopen(url, timeout=30).status
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.parametrize(("rule", "where"), [("chat_ui", "environment"), ("serve", "config")])
def test_secrets_are_asked_for_and_written_nowhere(workflow, tiny_run, rule, where):
    given = [f"{key}: {value}" for key, value in SECRETS.items()] if where == "config" else []
    # What the configuration says wins.
    environment = VARIABLES if where == "environment" else dict.fromkeys(VARIABLES, "something-else")
    with Server(workflow, rule, *given, environment=environment) as server:
        url = server.url()
        assert status(f"{url}/") == status(f"{url}/v1/models") == 401
        asked = urllib.request.Request(f"{url}/v1/models", headers={"Authorization": f"Bearer {SECRETS['api_key']}"})
        assert status(asked) == 200
        below = server.below()
        assert below
        for process in below:
            assert not any(secret in " ".join(process.cmdline()) for secret in SECRETS.values())
        os.killpg(server.process.pid, signal.SIGINT)
        server.process.wait(timeout=30)
        assert not any(process.is_running() and process.status() != "zombie" for process in below)
    assert "the server has ended" in server.said
    places = (workflow.folder / ".snakemake", tiny_run, server.log)
    found = [file for place in places for file in ([place] if place.is_file() else place.rglob("*")) if file.is_file()]
    assert len(found) > 10
    for file in found:
        content = file.read_bytes()
        assert not any(secret.encode() in content for secret in SECRETS.values()), file
    assert ("stands on the command line" in server.said) == (where == "config")


def test_other_rules_do_not_see_the_secrets(workflow, tiny_run):
    given = ", ".join(f"{key}: {value}" for key, value in SECRETS.items())
    done = workflow.run("-n", "--forcerun", "report", "--config", f"chat={{{given}, temperature: 0.5}}")
    assert "workflow_scripts.report" in done.stdout and '"temperature":0.5' in done.stdout
    assert not any(secret in done.stdout for secret in SECRETS.values())


def test_ctrl_c_at_a_terminal_is_the_end_and_no_failure(workflow, tiny_run):
    command = workflow.command("chat_ui", "--quiet", "all", "--config", "chat={port: 0}")
    with Typist(command, **workflow.environment()) as typist:
        typist.wait_for("Ctrl-C ends it")
        typist.type("\x03")
        typist.wait_for("the chat ended with 0")
        assert typist.process.wait(timeout=30) == 0
    assert b"interrupted" not in typist.seen and b"Traceback" not in typist.seen


def test_ctrl_c_in_the_terminal_chat_does_not_end_the_workflow(workflow, tiny_run):
    command = workflow.command("chat_cli", "--quiet", "all", "--config", f"chat={{{GREEDY}}}")
    with Typist(command, **workflow.environment()) as typist:
        typist.wait_for("> ")
        typist.insist("\x03", "Ctrl-D ends the chat")
        typist.wait_for("> ")
        typist.type(f"{QUESTION}\n")
        typist.wait_for("tokens/s")
        typist.wait_for("> ")
        typist.type("\x04")
        typist.wait_for("the chat ended with 0")
    assert len(list((workflow.folder / "results" / "conversations").glob("*.json"))) == 1
