"""A run folder with two small models that learned a few conversations by heart in seconds."""

import contextlib
import dataclasses
import threading
from pathlib import Path

import pytest
import torch

from nanochat.artifact import Workspace
from nanochat.config import ChatSettings, Settings, TokenizerSettings
from nanochat.data.conversation import render
from nanochat.data.tokenizer import Tokenizer
from nanochat.model.checkpoint import save_model
from nanochat.model.gpt import GPT, GPTConfig
from nanochat.serve.server import Server, build, listen, server_of
from nanochat.serve.serving import Serving
from nanochat.serve.telemetry import Telemetry

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
    """A server in a thread: the API, and the window where it is wanted."""

    url: str
    serving: Serving
    server: Server
    thread: threading.Thread

    def stop(self) -> None:
        """End the server, as Ctrl-C does."""
        self.server.should_exit = True
        self.thread.join(timeout=15)
        assert not self.thread.is_alive()


@pytest.fixture(scope="session")
def served(chat_run, tmp_path_factory):
    """The real window and API on a free port."""
    folder = str(tmp_path_factory.mktemp("served") / "conversations")
    settings = ChatSettings(port=0, temperature=0, max_new_tokens=CONTEXT, conversations=folder)
    with serve_in_thread(chat_run, settings) as served:
        yield served


@contextlib.contextmanager
def serve_in_thread(run: Path, settings: ChatSettings, *, window: bool = True, wrap=None):
    """Serve a run on a free port until the end of the block, as `nanochat.serve.server.run` does.

    Args:
        run: the run folder.
        settings: of the chat.
        window: whether the window is served beside the API.
        wrap: makes the application another one.
    """
    telemetry = Telemetry()
    with listen(settings) as socket:
        serving = Serving.open(run, settings, telemetry)
        app = build(serving, telemetry, window=window)
        server = server_of(wrap(app) if wrap else app, serving)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]})
        thread.start()
        # Who connects before it is up waits in the socket's queue.
        served = Served(f"http://127.0.0.1:{socket.getsockname()[1]}", serving, server, thread)
        try:
            yield served
        finally:
            served.stop()
