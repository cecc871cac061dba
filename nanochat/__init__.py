"""nanochat as a workflow. `from nanochat import load` gives a trained model to Python; see docs/python.md."""

TYPE_CHECKING = False  # what type checkers take for true; `typing` itself is not needed here
if TYPE_CHECKING:
    from nanochat.serve.local import Model, load

__all__ = ["Model", "load"]


def __getattr__(name: str) -> object:
    """`load` and `Model` when they are first asked for: settings and artifacts must load without torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from nanochat.serve import local

    return getattr(local, name)
