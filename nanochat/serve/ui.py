"""The chat window as a server mounts it. It brings its own style and scripts."""

from nanochat.serve.window.page import ChatWindow

CSS = ".gradio-container footer { display: none !important; }"
"""Style that Gradio's own frame needs."""
HEAD = '<meta name="color-scheme" content="light dark">'
"""What the page's head has beside Gradio's own."""

__all__ = ["CSS", "HEAD", "ChatWindow"]
