"""The chat window: Gradio on the session core. Works offline, shows model output as text, stops when told to."""

import html
import secrets
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from nanochat.config import ChatSettings
from nanochat.data.conversation import Message
from nanochat.errors import NanochatError
from nanochat.infer.sampling import SamplingParams
from nanochat.serve.display import bubbles, status, turn_at
from nanochat.serve.events import Done
from nanochat.serve.registry import Registry
from nanochat.serve.server import listen, serve
from nanochat.serve.session import ChatSession

# A page cannot show more, and each update costs as much as several tokens of a small model.
_UPDATE_SECONDS = 0.05
_MANY_REPLIES = 8  # at once, over all visitors
_EXAMPLES = ("Who are you?", "What is 12 + 30?", "Spell the word apple.")
_CSS = """
#status { font-size: 0.85rem; opacity: 0.75; min-height: 1.4em; }
#bar { align-items: end; }
footer { display: none !important; }
"""


class ChatWindow:
    """The page and what its buttons do.

    Each browser tab has its conversation in a `gr.State`; the window only keeps the flag that stops a tab's reply.
    """

    def __init__(self, registry: Registry, settings: ChatSettings) -> None:
        self.registry = registry
        self.settings = settings
        self._replying: dict[str, threading.Event] = {}

    def build(self) -> gr.Blocks:
        """The page."""
        settings = self.settings
        with gr.Blocks(title="nanochat", analytics_enabled=False, fill_height=True) as page:
            messages = gr.State([])
            with gr.Row(elem_id="bar"):
                stage = gr.Dropdown(
                    choices=list(self.registry.stages),
                    value=self.registry.resolve(settings.stage),
                    label="Stage",
                    info="base continues text, the others chat",
                    elem_id="stage",
                    scale=3,
                )
                new = gr.Button("New chat", elem_id="new", scale=1, min_width=100)
            chat = gr.Chatbot(
                elem_id="chat",
                show_label=False,
                scale=1,
                height="60vh",
                editable="user",
                allow_tags=False,
                sanitize_html=True,
                render_markdown=False,
                feedback_options=None,
                buttons=["copy"],
                placeholder="Say something.",
                examples=[{"text": text} for text in _EXAMPLES],
            )
            note = gr.HTML("", elem_id="status")
            box = gr.Textbox(
                placeholder="Message (Enter sends, Shift+Enter breaks the line)",
                show_label=False,
                autofocus=True,
                submit_btn=True,
                max_lines=8,
                elem_id="box",
            )
            with gr.Accordion("Settings", open=False, elem_id="settings"):
                system = gr.Textbox(label="System prompt", lines=2, elem_id="system")
                with gr.Row():
                    temperature = gr.Slider(
                        0, 2, settings.temperature, step=0.05, label="Temperature", info="0 is greedy"
                    )
                    top_k = gr.Number(settings.top_k or 0, label="Top-k", info="0 is all", minimum=0, precision=0)
                    top_p = gr.Slider(0.05, 1, 1, step=0.05, label="Top-p", info="1 is all")
                with gr.Row():
                    length = gr.Number(settings.max_new_tokens, label="Longest reply, tokens", minimum=1, precision=0)
                    seed = gr.Number(
                        None, label="Seed", info="empty: a new one each time", minimum=0, precision=0, elem_id="seed"
                    )

            knobs = [messages, stage, system, temperature, top_k, top_p, length, seed]
            shown = [box, messages, chat, note]
            replying = {
                "outputs": shown,
                "concurrency_limit": _MANY_REPLIES,
                "concurrency_id": "reply",
                "show_progress": "hidden",
                "api_visibility": "private",
            }
            at_once = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
            box.submit(self.send, [box, *knobs], **replying)
            chat.example_select(self.example, knobs, **replying)
            chat.retry(self.retry, knobs, **replying)
            chat.edit(self.edit, knobs, **replying)
            chat.undo(self.undo, messages, shown, **at_once)
            box.stop(self.stop, None, None, **at_once)
            gr.on([new.click, chat.clear], self.clear, None, shown, **at_once)
            page.unload(self.leave)
            page.load(lambda: gr.update(choices=list(self.registry.stages)), None, stage, **at_once)
        return page

    def send(self, request: gr.Request, text: str, messages: list[Message], *knobs: Any) -> Iterator[Any]:
        """The user sent a message."""
        yield from self._reply(text, messages, *knobs, tab=_tab(request))

    def example(self, event: gr.SelectData, request: gr.Request, messages: list[Message], *knobs: Any) -> Iterator[Any]:
        """The user chose an example."""
        yield from self._reply(event.value["text"], messages, *knobs, tab=_tab(request))

    def retry(self, event: gr.RetryData, request: gr.Request, messages: list[Message], *knobs: Any) -> Iterator[Any]:
        """The user wants another answer to the message at `event.index`."""
        text, before = _rewound(messages, turn_at(messages, int(event.index)))
        yield from self._reply(text, before, *knobs, tab=_tab(request))

    def edit(self, event: gr.EditData, request: gr.Request, messages: list[Message], *knobs: Any) -> Iterator[Any]:
        """The user changed the message at `event.index`: the conversation goes on from there."""
        _, before = _rewound(messages, turn_at(messages, int(event.index)))
        yield from self._reply(html.unescape(str(event.value)), before, *knobs, tab=_tab(request))

    def undo(self, event: gr.UndoData, request: gr.Request, messages: list[Message]) -> tuple[Any, ...]:
        """The user takes the message at `event.index` back into the text box."""
        self._stop(_tab(request))
        text, before = _rewound(messages, turn_at(messages, int(event.index)))
        return gr.update(value=text, submit_btn=True, stop_btn=False), before, bubbles(before), ""

    def clear(self, request: gr.Request) -> tuple[Any, ...]:
        """The user begins a new conversation."""
        self._stop(_tab(request))
        return gr.update(value="", submit_btn=True, stop_btn=False), [], [], ""

    def stop(self, request: gr.Request) -> None:
        """The user stops the reply; what there is of it stays."""
        flag = self._replying.get(_tab(request))
        if flag is not None:
            flag.set()

    def leave(self, request: gr.Request) -> None:
        """The tab was closed: nobody reads its reply any more."""
        self._stop(_tab(request))

    def _stop(self, tab: str) -> None:
        """Stop the tab's reply and let it show nothing more."""
        flag = self._replying.pop(tab, None)
        if flag is not None:
            flag.set()

    def _reply(
        self,
        text: str,
        messages: list[Message],
        stage: str,
        system: str,
        temperature: float,
        top_k: float | None,
        top_p: float,
        length: float | None,
        seed: float | None,
        *,
        tab: str,
    ) -> Iterator[tuple[Any, ...]]:
        """Answer `text`, yielding (text box, messages, bubbles, status) a few times a second."""
        if not text.strip():
            yield gr.skip(), gr.skip(), gr.skip(), gr.skip()
            return
        self._stop(tab)
        cancel = self._replying[tab] = threading.Event()
        params = SamplingParams(
            max_tokens=max(1, int(length or self.settings.max_new_tokens)),
            temperature=max(0.0, temperature),
            top_k=int(top_k) if top_k and top_k >= 1 else None,
            top_p=top_p if 0 < top_p < 1 else None,
            seed=secrets.randbelow(1 << 31) if seed is None else max(0, int(seed)),
        )
        session = ChatSession(self.registry, stage, params, system or "", messages)
        asked: Message = {"role": "user", "content": text}
        yield gr.update(value="", submit_btn=False, stop_btn=True), gr.skip(), bubbles([*messages, asked]), ""
        line = ""
        shown_at = 0.0
        try:
            for event in session.send(text, cancel):
                if self._replying.get(tab) is not cancel:
                    return  # a newer reply owns the page
                if isinstance(event, Done):
                    line = status(stage, event, params.seed)
                elif time.monotonic() - shown_at >= _UPDATE_SECONDS:
                    yield gr.skip(), session.messages, bubbles(session.messages), ""
                    shown_at = time.monotonic()
            box = gr.update(submit_btn=True, stop_btn=False)
        except NanochatError as error:
            line = str(error)
            box = gr.update(value=text, submit_btn=True, stop_btn=False)
        finally:
            if self._replying.get(tab) is cancel:
                del self._replying[tab]
        yield box, session.messages, bubbles(session.messages), html.escape(line)


def _tab(request: gr.Request) -> str:
    return str(request.session_hash)


def _rewound(messages: list[Message], turn: int) -> tuple[str, list[Message]]:
    """Text of user message number `turn`, and the messages before it."""
    places = [place for place, message in enumerate(messages) if message["role"] == "user"]
    if not 0 <= turn < len(places):  # the page was older than the conversation
        return "", messages
    return str(messages[places[turn]]["content"]), messages[: places[turn]]


def run(run_folder: Path, settings: ChatSettings) -> None:
    """Serve the chat window over the checkpoints below `run_folder` until Ctrl-C.

    Raises:
        ArtifactError: if there is no checkpoint, or the chosen one is damaged.
        ConfigError: if the host or port cannot be listened on.
    """
    registry = Registry(run_folder)
    with listen(settings) as socket:
        registry.get(settings.stage)  # a damaged checkpoint is told here, not in the browser
        serve(ChatWindow(registry, settings).build(), socket, settings, css=_CSS)
    registry.close()
