import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanochat.config.stages import PersonaSection, PersonaStage, PersonaView
from nanochat.data.conversation import validate
from nanochat.data.own.dialogue import expand_persona
from nanochat.data.own.persona import FILE, run
from nanochat.data.own.persona_file import Persona, read_persona, with_article
from nanochat.data.own.phrasing import expand, listed, other_person, with_typos
from nanochat.errors import DataError

EXAMPLE = Path(__file__).parents[3] / "config/own-example/persona.yaml"
PLACEHOLDER = re.compile(r"[\[\]{}|]")
RICH = read_persona(EXAMPLE)
PERSONAS = {
    "name only": Persona(name="nanochat"),
    "example": RICH,
    "odd": Persona.model_validate(
        {"name": "Otto", "creator": "Ada and Ben", "kind": "open assistant", "personality": "concise", "likes": "rain",
         "languages": ["Italiano", "es", "Esperanto"], "skills": ["I can be your guide when you are lost"],
         "limits": "cannot search the web", "refuses": "gossip",
         "facts": [{"ask": "What is {x}?", "answer": "It is [a|b]."}]}
    ),
}  # fmt: skip


def said(conversations, role):
    return [m["content"] for c in conversations for m in c["messages"] if m["role"] == role]


@pytest.mark.parametrize("name", PERSONAS)
def test_conversations_are_varied_whole_and_in_character(name):
    persona = PERSONAS[name]
    found = expand_persona(persona, 1500, seed=1).conversations
    texts = {"\n".join(m["content"] for m in c["messages"]) for c in found}
    assert len(found) == len(texts) == 1500
    turns = [len(c["messages"]) // 2 for c in found]
    assert set(turns) == {1, 2, 3, 4} and sum(turn > 1 for turn in turns) > 700
    asked, answered = said(found, "user"), said(found, "assistant")
    assert len(set(asked)) > 0.6 * len(asked)
    for conversation in found:
        validate(conversation)
    for text in asked + answered:
        if "{x}" not in text and "[a|b]" not in text:
            assert not PLACEHOLDER.search(text), text
        assert "  " not in text and text == text.strip(), text
    for text in answered:
        assert text.endswith((".", "!", "?")) and text[0] in text[0].upper() + persona.name[0], text
        assert not re.search(r"\ba [aeio]\w|\ban [bcdfgjklmnpqrstvwxyz]\w", text.replace("an hour", "")), text
        assert not re.search(r"\bI'm (ChatGPT|GPT-\d|Claude|Gemini|Llama|Siri|Alexa)\b", text), text
        assert "made by OpenAI" not in text.split("; I'm")[0] or "No. " in text, text


def test_the_persona_is_what_is_taught():
    expansion = expand_persona(RICH, 2000, seed=3)
    answers = "\n".join(said(expansion.conversations, "assistant"))
    for part in (
        "Basil",
        "the gardening club of Little Hadham",
        "friendly, patient and a little dry",
        "compost",
        "Ich heiße Basil",
        "Je m'appelle Basil",
        "spring 2026",
        "May 2026",
        "greenhouse",
        "Happy growing!",
        "Hello, fellow gardener!",
        "see pictures of your plants",
        "politics",
        "Ailsa Craig",
    ):
        assert part in answers, part  # fmt: skip
    for fact in RICH.facts:
        assert any(answer in answers for answer in fact.answer)
        assert any(question in said(expansion.conversations, "user") for question in fact.ask)
    assert expansion.topics["name"] + expansion.topics["who"] > 200 and expansion.topics["doubt"] > 200


def test_a_model_taken_for_another_says_no():
    found = expand_persona(RICH, 3000, seed=5).conversations
    asked = [
        (c["messages"][n]["content"], c["messages"][n + 1]["content"])
        for c in found
        for n in range(0, len(c["messages"]), 2)
    ]
    taken = re.compile(r"(Are you|You're|Is this) (really |just )?(Claude|GPT-4|ChatGPT|Gemini)\b")
    traps = [answer for question, answer in asked if taken.match(question)]
    assert len(traps) > 10 and all(answer.startswith(("No", "I'm not", "Hi", "Hello")) for answer in traps)


def test_what_the_persona_does_not_say_is_not_made_up():
    answers = " ".join(said(expand_persona(Persona(name="Nox"), 800, seed=1).conversations, "assistant"))
    assert not re.search(r"was (made|built|created) by|I run on|My knowledge ends|I like ", answers)
    own = Persona(name="Claude", creator="Anthropic")
    said_by_claude = " ".join(said(expand_persona(own, 800, seed=1).conversations, "assistant"))
    assert "not Claude" not in said_by_claude and "Anthropic did not" not in said_by_claude


def test_the_same_seed_gives_the_same_and_another_does_not():
    one, two, other = (expand_persona(RICH, 200, seed=seed).conversations for seed in (4, 4, 5))
    assert one == two != other
    assert expand_persona(RICH, 100, seed=4).conversations == one[:100]


def test_what_cannot_be_reached_is_said():
    with pytest.raises(DataError, match=r"conversations = 100,000: the persona gives only [\d,]+ different ones"):
        expand_persona(Persona(name="Nox"), 100_000, seed=1, patience=0)


def test_the_stage_writes_conversations_and_counts(tmp_path):
    stage = PersonaStage(seed=9, own=PersonaSection(persona=PersonaView(conversations=120)))
    manifest = run(stage, out=tmp_path / "out", persona=EXAMPLE)
    lines = (tmp_path / "out" / FILE).read_text().splitlines()
    assert len(lines) == 120 == manifest.metrics["conversations"]
    turns = sum(len(json.loads(line)["messages"]) // 2 for line in lines)
    assert turns == manifest.metrics["turns"] == sum(manifest.metrics["topics"].values())
    assert 0.6 < manifest.metrics["distinct_share"] <= 1
    assert run(stage, out=tmp_path / "again", persona=EXAMPLE).digest == manifest.digest


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("creater: Ada\nname: x", "unknown key creater; did you mean creator?"),
        ("name: x\nstyle: {greting: Hi}", "unknown key style.greting; did you mean greeting?"),
        ("name: x\nfacts: [{ask: a, answr: b}]", r"unknown key facts\[0\]\.answr; did you mean answer\?"),
        ("creator: Ada", "the key name is missing"),
        ("name: no", "put the word in quotes"),
        ("name: ' '", "name: is empty"),
        ("name: x\nskills: [writing poems]", "write it as 'write poems'"),
        ("name: x\nfacts: [{ask: [], answer: b}]", r"facts\[0\]\.ask"),
        ("name: x\nlikes: {a: b}", "likes"),
        ("- name", "expected keys and values, at least `name: …`, found list"),
        ("", "found nothing"),
        ("name: x\nfacts: [{ask: [Who?, What?], answer: b}]", "is not YAML.*need quotes"),
    ],
)
def test_a_wrong_persona_is_one_clear_error(tmp_path, text, message):
    path = tmp_path / "persona.yaml"
    path.write_text(text)
    with pytest.raises(DataError, match=rf"persona\.yaml.*{message}"):
        read_persona(path)


def test_yaml_numbers_dates_and_single_items_are_read_as_meant(tmp_path):
    path = tmp_path / "persona.yaml"
    path.write_text("name: 7\nborn: 2026-05-01\nknowledge_cutoff: 2025\nlikes: rain\nskills: can sing.\n")
    persona = read_persona(path)
    assert (persona.name, persona.born, persona.knowledge_cutoff) == ("7", "2026-05-01", "2025")
    assert (persona.likes, persona.skills) == (("rain",), ("sing",))


@pytest.mark.parametrize(
    ("noun", "expected"),
    [
        ("small model", "a small model"), ("open model", "an open model"), ("a old oak", "an old oak"),
        ("the house model", "the house model"), ("LLM of ours", "an LLM of ours"), ("unicorn", "a unicorn"),
        ("hourly helper", "an hourly helper"), ("uninvited guest", "an uninvited guest"), ("GPU", "a GPU"),
        ("our assistant", "our assistant"), ("European model", "a European model"),
    ],
)  # fmt: skip
def test_articles(noun, expected):
    assert with_article(noun) == expected


def test_the_other_person_speaks():
    assert other_person("tell you about my garden") == "tell me about your garden"
    assert other_person("help you when you are stuck") == "help me when I am stuck"
    assert other_person("say what you need and who you trust") == "say what I need and who I trust"


def test_lists():
    assert [listed(items) for items in (("a",), ("a", "b"), ("a", "b", "c"))] == ["a", "a and b", "a, b and c"]
    assert listed(("read and write", "sing")) == "read and write, and sing"


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=60), st.randoms(use_true_random=False))
def test_typos_spare_names_and_values_are_never_expanded(text, rng):
    sentence = f"{text} please tell Basil something"
    wrong = with_typos(sentence, rng, ("Basil",))
    assert "Basil" in wrong and abs(len(wrong) - len(sentence)) <= 2
    assert expand("[{a}|{a}]", {"a": text}, rng) == text
