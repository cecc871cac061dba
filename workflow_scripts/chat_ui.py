"""Open the chat window, with the API beside it.

python -m workflow_scripts.chat_ui --run results/r --chat '{"port": 7861}'

A password and a key for the API are taken from NANOCHAT_PASSWORD and NANOCHAT_API_KEY.
"""

from workflow_scripts.command import run
from workflow_scripts.serving import serve

if __name__ == "__main__":
    run(lambda: serve(__doc__, window=True))
