"""A run folder with two small models that learned a few conversations by heart in seconds."""

import dataclasses
import threading
import urllib.request
from pathlib import Path

import pytest
import torch

from nanochat.artifact import Workspace
from nanochat.config import ChatSettings, Settings, TokenizerSettings
from nanochat.data.conversation import render
from nanochat.data.tokenizer import Tokenizer
from nanochat.model.checkpoint import save_model
from nanochat.model.gpt import GPT, GPTConfig

SUM = "What is 12 + 30?"
MARKUP = "Write HTML."
ENDLESS = "Sing for ever."
ACCENTS = "Say it in French."
SECOND = "And again?"
FRENCH = "Déjà vu à Noël ✓"
SCRIPT = "<script>document.title='hacked'</script> <b>bold</b> &amp; <|bos|>"
CONTEXT = 4096

_CALL = [
    {"type": "text", "text": "It is "},
    {"type": "python", "text": "12+30"},
    {"type": "python_output", "text": "42"},
    {"type": "text", "text": "42."},
]
_SONG = "la li lo " * 24


def _turns(*contents):
    return {"messages": [{"role": ("user", "assistant")[n % 2], "content": c} for n, c in enumerate(contents)]}


CONVERSATIONS = (
    _turns(SUM, _CALL),
    _turns(MARKUP, SCRIPT),
    _turns(ACCENTS, FRENCH),
    _turns(ACCENTS, FRENCH, SECOND, "Encore."),
    _turns(SUM, _CALL, SECOND, "Still 42."),
    _turns(ENDLESS, _SONG),
)


def _learn(rows: list[tuple[list[int], list[int]]], vocab_size: int, steps: int) -> GPT:
    """A model that knows these (ids, mask) rows by heart."""
    torch.manual_seed(0)
    config = GPTConfig(
        arch="classic",
        depth=2,
        width=64,
        heads=2,
        kv_heads=2,
        head_dim=32,
        vocab_size=vocab_size,
        sequence_length=CONTEXT,
    )
    model = GPT(config)
    model.init_weights(0)
    length = max(len(ids) for ids, _ in rows)
    tokens = torch.zeros(len(rows), length, dtype=torch.int64)
    targets = torch.full((len(rows), length), -1)
    for row, (ids, mask) in enumerate(rows):
        tokens[row, : len(ids)] = torch.tensor(ids)
        wanted = torch.tensor(ids[1:]).where(torch.tensor(mask[1:]) == 1, torch.tensor(-1))
        targets[row, : len(ids) - 1] = wanted
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(steps):
        losses = model.token_losses(tokens, targets)
        loss = losses.sum(dim=1) / (targets >= 0).sum(dim=1)
        optimizer.zero_grad()
        loss.mean().backward()
        optimizer.step()
    assert loss.max() < 0.05, f"the test's model did not learn its conversations: {loss.tolist()}"
    return model


def _publish(run: Path, stage: str, model: GPT, tokenizer: Tokenizer) -> None:
    with Workspace(run / stage, stage, Settings(), {}) as workspace:
        save_model(workspace.final, model)
        tokenizer.save(workspace.final)
        workspace.finish(steps=1)


@pytest.fixture(scope="session")
def chat_run(tmp_path_factory) -> Path:
    """A run folder with `base` (continues "Once upon a time") and `sft` (knows CONVERSATIONS)."""
    run = tmp_path_factory.mktemp("results") / "heart"
    texts = [SUM, MARKUP, SCRIPT, ACCENTS, FRENCH, SECOND, _SONG, "It is 42. Once upon a time there was a cat."] * 2
    tokenizer = Tokenizer.train(texts, TokenizerSettings(vocab_size=384, max_digits=1))
    story = [tokenizer.bos, *tokenizer.encode("Once upon a time there was a cat."), tokenizer.bos]
    _publish(run, "base", _learn([(story, [1] * len(story))], tokenizer.vocab_size, 60), tokenizer)
    rows = []
    for conversation in CONVERSATIONS:
        ids, mask = render(tokenizer, conversation)
        # The song is cut before its end, so that the model never learns to stop singing.
        rows.append((ids[:-8], mask[:-8]) if conversation["messages"][0]["content"] == ENDLESS else (ids, mask))
    _publish(run, "sft", _learn(rows, tokenizer.vocab_size, 150), tokenizer)
    return run


@dataclasses.dataclass
class Served:
    """A chat window being served in a thread."""

    url: str
    window: object


@pytest.fixture(scope="session")
def served(chat_run):
    """The real window on a free port."""
    yield from serve_in_thread(chat_run, ChatSettings(port=0, temperature=0, max_new_tokens=CONTEXT))


def serve_in_thread(run: Path, settings: ChatSettings):
    """Serve the window of a run until the generator is closed."""
    import uvicorn

    from nanochat.serve.registry import Registry
    from nanochat.serve.server import application, listen
    from nanochat.serve.ui import ChatWindow

    with listen(settings) as socket:
        window = ChatWindow(Registry(run), settings)
        config = uvicorn.Config(application(window.build(), settings), log_level="warning", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]})
        thread.start()
        url = f"http://127.0.0.1:{socket.getsockname()[1]}"
        try:
            urllib.request.urlopen(url, timeout=20).close()  # the socket queues it until the server is up
            yield Served(url, window)
        finally:
            server.should_exit = True
            thread.join(timeout=15)
