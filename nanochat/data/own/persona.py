"""The stage `persona`: who the model is, from a short file to conversations to finetune on."""

import json
import logging
import time
from pathlib import Path

from nanochat.artifact import Manifest, Workspace
from nanochat.config.stages import PersonaStage
from nanochat.data.conversation import validate
from nanochat.data.own.dialogue import expand_persona
from nanochat.data.own.persona_file import read_persona

log = logging.getLogger(__name__)

FILE = "conversations.jsonl"


def run(settings: PersonaStage, *, out: Path, persona: Path) -> Manifest:
    """Expand a persona to `out`: conversations.jsonl and manifest.json.

    Args:
        settings: `own.persona.conversations` of them are made, by `seed`.
        out: folder to make.
        persona: YAML file, see `Persona`.

    Returns:
        The manifest. Its metrics: conversations, turns, characters, distinct_user_messages and their share of all,
        distinct_answers, topics {name: turns}.

    Raises:
        DataError: if the persona has a wrong key or value, or gives fewer different conversations.
    """
    who = read_persona(persona)
    with Workspace(out, "persona", settings, {"persona": persona}) as workspace:
        if workspace.finished():
            return workspace.promote()
        begin = time.perf_counter()
        expansion = expand_persona(who, settings.own.persona.conversations, settings.seed)
        asked: list[str] = []
        answered: list[str] = []
        with (workspace.final / FILE).open("w", encoding="utf-8", newline="\n") as file:
            for conversation in expansion.conversations:
                validate(conversation, str(persona))
                said = [str(message["content"]) for message in conversation["messages"]]
                asked += said[::2]
                answered += said[1::2]
                file.write(json.dumps(conversation, ensure_ascii=False) + "\n")
        metrics = {
            "conversations": len(expansion.conversations),
            "turns": len(asked),
            "characters": sum(map(len, asked)) + sum(map(len, answered)),
            "distinct_user_messages": len(set(asked)),
            "distinct_share": round(len(set(asked)) / len(asked), 4),
            "distinct_answers": len(set(answered)),
            "topics": dict(sorted(expansion.topics.items())),
        }
        log.info(
            "persona %s: %s conversations, %s different questions",
            who.name,
            f"{metrics['conversations']:,}",
            f"{metrics['distinct_user_messages']:,}",
        )
        return workspace.finish(metrics=metrics, wall_seconds=time.perf_counter() - begin)
