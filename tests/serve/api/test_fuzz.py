"""Random requests that the served description allows, and random ones that it does not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.serve.api.conftest import api_server

pytest.importorskip("schemathesis", reason="schemathesis is not installed (extra: dev)")


SECRET = "sk-secret"


def test_whatever_is_asked_is_answered_as_described(chat_run, tmp_path):
    with api_server(chat_run, slots=8, queue=512, api_key=SECRET) as api:
        done = subprocess.run(
            [
                str(Path(sys.executable).with_name("st")),
                "run",
                f"{api.url}/openapi.json",
                "--checks=all",
                "--exclude-checks=ignored_auth",  # each wrong key is answered slowly; test_gate.py tries them
                "--phases=examples,coverage,fuzzing",
                "--max-examples=8",
                "--seed=1",
                "--continue-on-failure",
                "--suppress-health-check=all",
                "--generation-database=none",
                "--no-color",
                "--header",
                f"Authorization: Bearer {SECRET}",
            ],
            cwd=tmp_path,
            env=os.environ | {"SCHEMATHESIS_HOOKS": "tests.serve.api.fuzz_hooks", "PYTHONPATH": str(REPOSITORY)},
            capture_output=True,
            text=True,
            timeout=200,
        )
        assert done.returncode == 0, done.stdout[-6000:]
        health = api.health()
        assert (health["running"], health["waiting"]) == (0, 0)
