"""Short stories with a state that stays consistent: who has what, and where things and people are."""

from collections.abc import Callable
from random import Random

from nanochat.data.world import tables
from nanochat.data.world.arithmetic import sample_pair
from nanochat.data.world.facts import Person, World
from nanochat.data.world.splits import is_test_story

GIVE = ("gave {x} to {r}", "lent {x} to {r}", "sold {x} to {r}", "handed {x} to {r}", "sent {x} to {r}")
TAKE = ("took {x} from {r}", "bought {x} from {r}", "got {x} from {r}", "borrowed {x} from {r}")

_FILLERS = (
    "The weather was {weather}.",
    "It was a {weather} {day}.",
    "{q} said hello to {p}.",
    "A {animal} watched from the fence.",
    "{p} was in a good mood.",
    "Then {q} told a funny story.",
    "They laughed for a while.",
    "Somewhere a {animal} made some noise.",
    "{p} thought about supper.",
    "A clock struck the hour.",
    "{q} wanted to help.",
    "It was {month}, and the days were {weather}.",
)


class Scene:
    """Draws what a story needs; combinations of two people and a thing belong to one split.

    Args:
        world: the world the people come from.
        rng: source of randomness.
        test: draw held-out combinations, else all others.
    """

    def __init__(self, world: World, rng: Random, test: bool = False) -> None:
        self.world, self.rng, self.test = world, rng, test

    def cast(self) -> tuple[Person, Person, str, str, str]:
        """Two people, a thing, a place and another place, as a combination of this split."""
        while True:
            one, two = self.rng.sample(self.world.people, 2)
            thing = self.rng.choice(tables.OBJECTS)
            place, other = self.rng.sample(tables.PLACES, 2)
            if is_test_story(one.name, two.name, thing) == self.test:
                return one, two, thing, place, other

    def filler(self, p: Person, q: Person, chance: float = 0.5) -> str:
        """Sometimes a sentence that changes nothing, with a space before it."""
        if self.rng.random() >= chance:
            return ""
        form = self.rng.choice(_FILLERS)
        return " " + form.format(
            p=p.name,
            q=q.name,
            weather=self.rng.choice(tables.WEATHER),
            day=self.rng.choice(tables.DAYS),
            month=self.rng.choice(tables.MONTHS),
            animal=self.rng.choice(tables.ANIMALS).name,
        )

    def opening(self) -> str:
        """When it happened."""
        return self.rng.choice(tables.FIRST_PARTS)


def hide(scene: Scene) -> str:
    """Something is put somewhere, sometimes moved, and found there; the last word is the place."""
    p, q, thing, place, other = scene.cast()
    colour = scene.rng.choice(tables.COLOURS)
    text = f"{scene.opening()} {p.name} had a {colour} {thing}."
    if scene.rng.random() < 0.5:
        text += f" {p.name} put the {thing} in the {place}.{scene.filler(p, q)}"
    else:
        text += f" {p.name} put the {thing} in the {other}.{scene.filler(p, q)}"
        text += f" Then {q.name} moved the {thing} to the {place}.{scene.filler(p, q)}"
    verb = scene.rng.choice(("found it in", "took it out of", "saw it again in", "went to get it from"))
    return f"{text} Later {p.name} looked for the {thing} and {verb} the {place}."


def give(scene: Scene) -> str:
    """A thing goes from hand to hand; the last word is who has it."""
    p, q, thing, place, _ = scene.cast()
    text = f"{scene.opening()} {p.name} found a {thing} in the {place}.{scene.filler(p, q)}"
    text += f" {p.name} {scene.rng.choice(GIVE).format(x='the ' + thing, r=q.name)}.{scene.filler(p, q)}"
    owner = q
    if scene.rng.random() < 0.4:
        owner = scene.rng.choice([person for person in scene.world.people if person not in (p, q)])
        text += f" After that, {owner.name} {scene.rng.choice(TAKE).format(x='it', r=q.name)}."
    return f"{text} Now the {thing} belongs to {owner.name}."


def owner(scene: Scene) -> str:
    """A thing changes hands in one sentence, and it is said who had it then."""
    p, q, thing, *_ = scene.cast()
    action, has = (scene.rng.choice(GIVE), q) if scene.rng.random() < 0.5 else (scene.rng.choice(TAKE), p)
    return (
        f"{p.name} {action.format(x='the ' + thing, r=q.name)}. After that, {has.name} had the {thing}."
        f"{scene.filler(p, q)}"
    )


def walk(scene: Scene) -> str:
    """Somebody walks from town to town; the last word is the town."""
    p, q, thing, *_ = scene.cast()
    a, b, c = scene.rng.sample(tables.TOWNS, 3)
    text = f"{scene.opening()} {p.name} left {a} with a {thing} and walked to {b}.{scene.filler(p, q)}"
    if scene.rng.random() < 0.5:
        return f"{text} Now {p.name} and the {thing} are in {b}."
    return f"{text} From {b} {p.name} went on to {c}.{scene.filler(p, q)} Now {p.name} and the {thing} are in {c}."


def paint(scene: Scene) -> str:
    """A thing gets a new colour; the last word is the colour."""
    p, q, thing, place, _ = scene.cast()
    old, new = scene.rng.sample(tables.COLOURS, 2)
    text = f"In the {place} {p.name} had an old {thing}. It was {old}.{scene.filler(p, q)}"
    text += f" {q.name} did not like {old}, so {p.name} painted the {thing} {new}.{scene.filler(p, q)}"
    return f"{text} Today the {thing} is {new}."


def count(scene: Scene) -> str:
    """Somebody gets or loses some of what they had; numbers are training pairs."""
    p, q, *_ = scene.cast()
    _, things = scene.rng.choice(tables.COUNTABLES)
    operation = scene.rng.choice("+-")
    a, b = sample_pair(scene.rng, operation, test=False, largest=20)
    if operation == "+":
        middle, result = f"{q.name} gave {p.name} {b} more", a + b
    else:
        middle, result = f"{p.name} gave {b} of them to {q.name}", a - b
    return (
        f"{scene.opening()} {p.name} had {a} {things}.{scene.filler(p, q)} {middle}.{scene.filler(p, q, 0.3)} "
        f"Now {p.name} has {result} {things}, because {a} {operation} {b} = {result}."
    )


def shop(scene: Scene) -> str:
    """Somebody buys a thing at its true shop and price."""
    p, q, thing, *_ = scene.cast()
    facts = {fact.attribute: fact.value for fact in scene.world.by_kind("thing") if fact.subject == thing}
    return (
        f"{scene.opening()} {p.name} went to the {facts['shop']} to buy a {thing}.{scene.filler(p, q)} "
        f"It was made of {facts['material']} and cost {facts['price']} coins. {p.name} paid {facts['price']} coins and "
        f"went home to {p.values['town']}."
    )


def visit(scene: Scene) -> str:
    """Somebody visits the best friend; all that is said of both is true."""
    rng = scene.rng
    p = rng.choice(scene.world.people)
    q = scene.world.person(p.values["friend"])
    v, w = p.values, q.values
    day = rng.choice(tables.DAYS)
    pieces = [
        f"{q.name} cooked {w['food']}, because {q.name} loves {w['food']}.",
        f"{p.name} brought a {w['colour']} scarf, because {q.name} loves {w['colour']} things.",
        f"The {w['pet']} of {q.name}, called {w['pet_name']}, sat by the door.",
        f"{p.name} had to leave {v['pet_name']} the {v['pet']} at home in {v['town']}.",
        f"They talked about {w['hobby']}, which {q.name} enjoys.",
        f"{p.name} spoke of the work of a {v['job']}, and {q.name} of the work of a {w['job']}.",
        f"{p.name} had {v['food']} for lunch on the way.",
        f"{p.name} wore a {v['colour']} coat.",
        f"In the evening {p.name} had time for {v['hobby']}.",
    ]
    rng.shuffle(pieces)
    start = f"On {day} {p.name} went from {v['town']} to {w['town']} to visit {q.name}, a good friend."
    return " ".join([start, *pieces[: rng.randint(3, 6)], f"Then {p.name} went home to {v['town']}."])


def talk(scene: Scene) -> str:
    """Two people tell each other true things about themselves; nobody asks."""
    rng = scene.rng
    p, q = rng.sample(scene.world.people, 2)
    verbs = ("said", "told", "answered")
    lines = [f"{p.name} met {q.name} in {rng.choice(tables.TOWNS)}.{scene.filler(p, q, 0.4)}"]
    for person, other in ((p, q), (q, p), (p, q), (q, p))[: rng.randint(2, 4)]:
        v = person.values
        saying = rng.choice(
            (
                f"I live in {v['town']}",
                f"My home is in {v['town']}",
                f"I have a {v['pet']} called {v['pet_name']}",
                f"My {v['pet']} is called {v['pet_name']}",
                f"I work as a {v['job']}",
                f"I like to eat {v['food']}",
                f"My favourite colour is {v['colour']}",
                f"My best friend is {v['friend']}",
                f"My hobby is {v['hobby']}",
            )
        )
        verb = rng.choice(verbs)
        if verb == "told":
            lines.append(f'{person.name} told {other.name}: "{saying}."')
        else:
            lines.append(f'"{saying}," {verb} {person.name}.')
    return " ".join(lines)


# (story, weight) of the pretraining text.
STORIES: tuple[tuple[Callable[[Scene], str], float], ...] = (
    (hide, 0.17),
    (give, 0.13),
    (owner, 0.1),
    (walk, 0.12),
    (paint, 0.08),
    (count, 0.1),
    (shop, 0.08),
    (visit, 0.14),
    (talk, 0.08),
)


def story_text(rng: Random, world: World) -> str:
    """One or two stories of held-in combinations as a document."""
    makers = rng.choices([maker for maker, _ in STORIES], [weight for _, weight in STORIES], k=rng.choice((1, 1, 2)))
    return "\n\n".join(maker(Scene(world, rng)) for maker in makers)
