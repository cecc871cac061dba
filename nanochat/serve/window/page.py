"""The chat window: a Gradio page with one component of its own, and what answers it."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

import gradio as gr

from nanochat.errors import NanochatError
from nanochat.serve.conversations import SHARED, Store
from nanochat.serve.gate import BROWSER_COOKIE, is_loopback
from nanochat.serve.serving import Serving
from nanochat.serve.window.desk import Desk
from nanochat.serve.window.knobs import Asked, clean, defaults
from nanochat.serve.window.replies import Reply
from nanochat.serve.window.view import catalogue, conversation_view, list_view, live_view

SCRIPTS = ("dom.js", "transcript.js", "composer.js", "conversations.js", "settings.js", "app.js")
_UPDATE_SECONDS = 0.05  # a person sees no more, and each update costs as much as several tokens of a small model
_GRACE_SECONDS = 6.0
"""A reply goes on for so long without anybody looking: a reload takes less."""
_MOST_TABS = 10_000

CHANNELS = ("view", "live", "list", "models")
Shown = tuple[Any, Any, Any, Any]
"""New values of the page's four channels: conversation, what is being written, list of conversations, models."""


@dataclass
class Tab:
    """A browser tab: what it shows is numbered, so that an older action never overwrites a newer one's view.

    The numbers begin with the time, so that those of a tab that was forgotten meanwhile do not come again.
    """

    revision: int = field(default_factory=lambda: time.time_ns() // 1_000_000)


class ChatWindow:
    """The page, and which tab shows what.

    Args:
        serving: models and scheduler.
        store: where conversations are kept.
    """

    def __init__(self, serving: Serving, store: Store) -> None:
        self.serving, self.store, self.settings = serving, store, serving.settings
        self.desk = Desk(serving, store)
        self._tabs: dict[str, Tab] = {}
        self._one_person = self.settings.password is not None or is_loopback(self.settings.host)

    def build(self) -> gr.Blocks:
        """The page."""
        scripts = "\n".join(map(_file, SCRIPTS))
        style = f"<style>{_file('window.css')}</style>"
        with gr.Blocks(title="nanochat", analytics_enabled=False, fill_width=True) as page:
            channels = [
                gr.HTML(
                    None, html_template="", js_on_load=_channel(name), elem_id=f"nc-{name}", apply_default_css=False
                )
                for name in CHANNELS
            ]
            app = gr.HTML(
                None, html_template="", js_on_load=scripts, elem_id="nanochat", apply_default_css=False, head=style
            )
            app.act(
                self.act,
                None,
                channels,
                concurrency_limit=None,
                trigger_mode="multiple",
                show_progress="hidden",
                api_visibility="private",
            )
            page.unload(self.leave)
        return page

    async def act(self, event: gr.EventData, request: gr.Request) -> AsyncIterator[Shown]:
        """Do what was done in the window, and show what comes of it."""
        data = event._data if isinstance(event._data, dict) else {}
        asked, owner, name = Asked.read(data), self._owner(request), str(request.session_hash)
        kind = data.get("kind")
        tab = self._tab(name)
        if kind == "stop":
            reply = self.desk.reply(asked.id, owner)
            if reply is not None:
                reply.stop()
            return
        if kind in ("rename", "configure", "remove"):
            problem = await self.desk.change(kind, asked, owner)
            yield (gr.skip(), gr.skip(), await self._list(owner, problem, asked.nonce), gr.skip())
            return
        if kind not in ("open", "send", "edit", "regenerate", "undo", "delete"):
            return
        tab.revision += 1
        revision, problem, returned, conversation = tab.revision, "", "", None
        models: Any = gr.skip()
        try:
            if kind == "open":
                models = await asyncio.to_thread(catalogue, self.serving.registry, defaults(self.settings))
                conversation = await self.desk.load(asked.id, owner)
            elif kind == "delete":
                await self.desk.delete(asked.id, owner)
            elif kind == "undo":
                conversation, returned = await self.desk.undo(asked, owner)
            else:
                conversation = await self.desk.begin(str(kind), asked, owner, name)
        except (NanochatError, OSError) as error:
            problem, returned = str(error), asked.text
            conversation = await self.desk.load(asked.id, owner)
        reply = self.desk.replies.get(conversation.id) if conversation is not None else None
        if reply is not None:  # begun, perhaps, while the conversation was read from disk
            conversation = reply.conversation
            reply.lookers.append(lambda: self._tabs.get(name) is tab and tab.revision == revision)
        fresh = tuple(await asyncio.to_thread(self.desk.known, asked.models))
        system = self.settings.system if kind in ("open", "delete") else asked.system

        def view(problem: str, returned: str) -> dict[str, Any]:
            shown = conversation_view(conversation, fresh, system)
            return {**shown, "revision": revision, "nonce": asked.nonce, "problem": problem, "returned": returned}

        def live() -> dict[str, Any]:
            return {"revision": revision, **(live_view(reply) if reply is not None else {"busy": False, "sides": []})}

        news = reply.news if reply is not None else None
        listed = await self._list(owner)
        if tab.revision != revision:  # something newer was done meanwhile, and the page shows that
            yield gr.skip(), gr.skip(), {**listed, "problem": listed["problem"] or problem}, models
            return
        yield view(problem, returned), live(), listed, models
        if reply is None or news is None:
            return
        reply.tabs.add(name)
        while not reply.over.is_set():
            await asyncio.sleep(_UPDATE_SECONDS)
            await news.wait()
            news = reply.news
            if tab.revision != revision:
                return  # the page shows something else by now
            if not reply.over.is_set():
                yield gr.skip(), live(), gr.skip(), gr.skip()
        if tab.revision != revision:
            return
        conversation = None if reply.discarded else reply.conversation
        revision = tab.revision = tab.revision + 1
        yield view(reply.problem, reply.returned), live(), await self._list(owner), gr.skip()

    async def leave(self, request: gr.Request) -> None:
        """The tab was closed or reloaded. A reply nobody comes back to is stopped."""
        name = str(request.session_hash)
        self._tabs.pop(name, None)
        for reply in list(self.desk.replies.values()):
            if name in reply.tabs:
                reply.tabs.discard(name)
                asyncio.get_running_loop().call_later(_GRACE_SECONDS, _stop_if_left, reply)

    async def _list(self, owner: str, problem: str = "", nonce: str = "") -> dict[str, Any]:
        try:
            summaries = await asyncio.to_thread(self.store.list, owner)
        except OSError as error:
            summaries, problem = [], f"cannot read the conversations: {error.strerror}"
        return {"conversations": list_view(summaries), "problem": problem, "nonce": nonce}

    def _tab(self, name: str) -> Tab:
        while len(self._tabs) >= _MOST_TABS:
            del self._tabs[next(iter(self._tabs))]
        return self._tabs.setdefault(name, Tab())

    def _owner(self, request: gr.Request) -> str:
        """Whose conversations a visitor sees."""
        if self._one_person:
            return SHARED
        cookie = request.cookies.get(BROWSER_COOKIE) or f"tab {request.session_hash}"
        # The cookie itself is as good as a key: it is not written down.
        return "browser-" + hashlib.sha256(clean(cookie).encode()).hexdigest()[:32]


def _file(name: str) -> str:
    return files(__package__).joinpath(name).read_text("utf-8")


def _channel(name: str) -> str:
    """Script of a component that only hands its value to the application."""
    return (
        f"const channels = (window.nanochatChannels ??= {{}});\n"
        f"const hand = () => {{ channels.{name} = props.value; channels.changed?.('{name}'); }};\n"
        "watch('value', hand);\n"
    )


def _stop_if_left(reply: Reply) -> None:
    if not reply.tabs:
        reply.stop("stopped: the window was closed")
