"""docs/config.md, rendered from the settings classes: python -m nanochat.config.document > docs/config.md."""

import inspect
import sys
import types
from typing import Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from nanochat.config.base import Settings
from nanochat.config.run import RunConfig

_HEAD = """# Configuration

Every key, its type, its default and its meaning; rendered from the settings classes, which are its only home.
A configuration file holds what it chooses and nothing else: see `config/tiny.yaml`, `config/dgx-spark.yaml`,
`config/h100x8.yaml`. On the command line: `snakemake --config depth=6`, or nested, `--config 'sft={matrix_lr: 0.03}'`.
`null` as a default means that the depth dial decides (`nanochat/model/scaling.py`).

Keys of `wandb`, `execution` and, but for the sampling that an export names, `chat` say how things are done; changing
them never reruns a stage.
"""


def _settings_class(annotation: Any) -> type[Settings] | None:
    """The settings class in an annotation such as `X` or `dict[str, X]`."""
    if get_origin(annotation) is dict:
        annotation = get_args(annotation)[1]
    return annotation if isinstance(annotation, type) and issubclass(annotation, Settings) else None


def _type(annotation: Any) -> str:
    if annotation is type(None):
        return "null"
    if get_origin(annotation) in (Union, types.UnionType):
        return " or ".join(map(_type, get_args(annotation)))
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(annotation))
    if get_origin(annotation) is tuple:
        return f"list of {_type(get_args(annotation)[0])}"
    if get_origin(annotation) is dict:
        return f"name → {_type(get_args(annotation)[1])}"
    return {"str": "text", "int": "integer", "float": "number", "bool": "true or false"}[annotation.__name__]


def _default(field: FieldInfo) -> str:
    value = field.default
    if value is PydanticUndefined:
        return "required"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and value >= 10_000:
        return f"{value:_}"
    return "empty" if value in ((), {}, "") else str(value)


def _section(name: str, settings: type[Settings]) -> list[str]:
    rows = []
    nested: list[str] = []
    for key, field in settings.model_fields.items():
        inner = _settings_class(field.annotation)
        description = " ".join((field.description or "").split()).replace("|", "\\|")
        if inner is None:
            rows.append(f"| `{key}` | {_type(field.annotation)} | {_default(field)} | {description} |")
        elif get_origin(field.annotation) is dict:
            rows.append(f"| `{key}` | name → keys below | empty | {description} |")
            nested += _section(f"{name}.{key}.<name>", inner)
        else:
            nested += _section(f"{name}.{key}".lstrip("."), inner)
    title = f"## {name}\n\n{inspect.cleandoc(settings.__doc__ or '')}" if name else "## Top level"
    table = ["| key | type | default | meaning |", "|---|---|---|---|", *rows]
    return [title, "\n".join(table), *nested]


def render() -> str:
    """The text of docs/config.md."""
    return "\n\n".join([_HEAD.strip(), *_section("", RunConfig)]) + "\n"


if __name__ == "__main__":
    sys.stdout.write(render())
