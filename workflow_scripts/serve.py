"""Serve the OpenAI-compatible API, without the chat window.

python -m workflow_scripts.serve --run results/r --chat '{"port": 8000}'

A password and a key for the API are taken from NANOCHAT_PASSWORD and NANOCHAT_API_KEY.
"""

from workflow_scripts.command import run
from workflow_scripts.serving import serve

if __name__ == "__main__":
    run(lambda: serve(__doc__, window=False))
