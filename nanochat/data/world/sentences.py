"""The sentence forms in which facts are told and asked.

Placeholders: `{s}` is the subject ("Anna", in running text also "she"), `{o}` its possessive ("Anna's", "her"), `{v}`
the value. Statements are told of every entity; questions and clozes are asked in training of the train entities only.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Forms:
    """Ways to tell and to ask one attribute.

    Attributes:
        statements: full sentences.
        questions: questions whose answer is the bare value.
        clozes: sentences that end in the value and a full stop.
        reply: the full-sentence answer of a chat.
    """

    statements: tuple[str, ...]
    questions: tuple[str, ...]
    clozes: tuple[str, ...]
    reply: str


def forms(statements: str, questions: str, clozes: str, reply: str) -> Forms:
    """Build `Forms` from blocks of text with one form a line."""
    split = [tuple(line.strip() for line in block.strip().splitlines()) for block in (statements, questions, clozes)]
    return Forms(*split, reply)


PERSON_FORMS: dict[str, Forms] = {
    "town": forms(
        """{s} lives in {v}.
        {o} home is in {v}.
        {o} home town is {v}.
        {s} has a house in {v}.
        {s} comes from {v}.
        {v} is where {s} lives.
        {v} is the home of {s}.
        In {v} there is a small house, and {s} lives there.
        Every evening {s} goes home to {v}.
        {s} was born in {v} and still lives there.
        If you go to {v}, you may meet {s}.""",
        """Where does {s} live?
        In which town does {s} live?
        What is {o} home town?
        Which town is the home of {s}?
        Where is {o} house?""",
        """The town in which {s} lives is {v}.
        You find {o} front door in {v}.""",
        "{s} lives in {v}.",
    ),
    "pet": forms(
        """{s} has a {v}.
        {o} pet is a {v}.
        {s} keeps a {v} as a pet.
        {s} owns a {v}.
        {s} takes care of a {v}.
        A {v} lives with {s}.
        The pet that {s} has is a {v}.
        Each day {s} feeds a {v}.
        {s} never leaves home without a kind word for the {v}.
        There is a {v} in {o} home.""",
        """What pet does {s} have?
        What kind of pet does {s} have?
        Which animal is {o} pet?
        Which animal lives with {s}?
        What animal does {s} keep?""",
        """The animal that {s} keeps at home is a {v}.
        When {s} comes home, the first to greet is the {v}.""",
        "{s} has a {v}.",
    ),
    "pet_name": forms(
        """{o} pet is called {v}.
        {o} pet has the name {v}.
        {s} calls the pet {v}.
        {s} named the pet {v}.
        {v} is the name of {o} pet.
        {v} belongs to {s}.
        {s} plays with {v} in the garden.
        The pet of {s} listens to the name {v}.
        When {s} calls "{v}", the pet comes.
        {s} and {v} go for a walk every day.""",
        """What is the name of {o} pet?
        What is {o} pet called?
        What does {s} call the pet?
        Which name did {s} give the pet?
        How is {o} pet called?""",
        """The pet of {s} goes by the name of {v}.
        In the garden {s} calls the name {v}.""",
        "{o} pet is called {v}.",
    ),
    "colour": forms(
        """{o} favourite colour is {v}.
        {s} likes the colour {v} best.
        {s} loves {v} things.
        {s} wears {v} clothes.
        The colour that {s} likes best is {v}.
        {s} painted the door {v}.
        Of all colours, {s} prefers {v}.
        Most of {o} shirts are {v}.
        {v} is the colour {s} loves.
        For {s} nothing is as pretty as {v}.""",
        """What is {o} favourite colour?
        Which colour does {s} like best?
        What colour does {s} love?
        Which colour is {o} favourite?
        What colour are {o} clothes?""",
        """If {s} may pick a colour, it is {v}.
        The paint that {s} buys is always {v}.""",
        "{o} favourite colour is {v}.",
    ),
    "job": forms(
        """{s} is a {v}.
        {s} works as a {v}.
        {o} job is that of a {v}.
        {s} earns money as a {v}.
        {s} has been a {v} for years.
        By trade {s} is a {v}.
        Everybody knows {s} as the {v}.
        {s} learned to be a {v}.
        People who need a {v} ask {s}.
        In the morning {s} goes to work as a {v}.""",
        """What is {o} job?
        What does {s} do for a living?
        What does {s} work as?
        Which job does {s} have?
        How does {s} earn money?""",
        """At work {s} is known as a good {v}.
        The sign at {o} door says {v}.""",
        "{s} works as a {v}.",
    ),
    "food": forms(
        """{s} likes to eat {v}.
        {o} favourite food is {v}.
        {s} loves {v}.
        {s} eats {v} every day.
        {s} asks for {v} at supper.
        The food that {s} likes best is {v}.
        For lunch {s} has {v}.
        Nothing tastes better to {s} than {v}.
        {v} is what {s} likes to eat.
        {s} could eat {v} all week.""",
        """What does {s} like to eat?
        What is {o} favourite food?
        Which food does {s} love?
        What does {s} eat every day?
        What does {s} have for lunch?""",
        """On {o} plate there is always some {v}.
        At the market {s} looks for {v}.""",
        "{s} likes to eat {v}.",
    ),
    "friend": forms(
        """{o} best friend is {v}.
        {s} is a good friend of {v}.
        {s} has a friend called {v}.
        {s} often meets {v}.
        {s} trusts {v} most of all.
        The best friend of {s} is {v}.
        {s} writes letters to {v}.
        {s} tells {v} every secret.
        On Sunday {s} visits {v}.
        {v} is the friend that {s} likes best.""",
        """Who is {o} best friend?
        Who is the best friend of {s}?
        Whom does {s} trust most?
        Which friend does {s} often meet?
        Whom does {s} visit on Sunday?""",
        """The person that {s} calls first is {v}.
        In trouble {s} looks for help from {v}.""",
        "{o} best friend is {v}.",
    ),
    "hobby": forms(
        """{o} hobby is {v}.
        {s} enjoys {v}.
        {s} spends free time with {v}.
        In the evening {s} likes {v}.
        {s} is good at {v}.
        {s} thinks that {v} is fun.
        After work {s} loves {v}.
        {v} makes {s} happy.
        What {s} enjoys most is {v}.
        On free days {s} has time for {v}.""",
        """What is {o} hobby?
        What does {s} enjoy?
        What does {s} like to do in the evening?
        Which hobby does {s} have?
        What is {s} good at?""",
        """The best way for {s} to spend a day is {v}.
        When work is done, {s} turns to {v}.""",
        "{o} hobby is {v}.",
    ),
}

PLACE_AND_THING_FORMS: dict[str, Forms] = {
    "river": forms(
        """{s} lies on the river {v}.
        The river {v} runs through {s}.
        In {s} children swim in the {v}.
        There is a bridge over the {v} in {s}.
        {s} was built beside the river {v}.
        Boats come to {s} on the {v}.""",
        """Which river runs through {s}?
        On which river does {s} lie?
        What is the river of {s} called?""",
        """The water that flows past {s} is the {v}.""",
        "{s} lies on the river {v}.",
    ),
    "hill": forms(
        """{v} Hill stands near {s}.
        Behind {s} there is {v} Hill.
        From {v} Hill you can see {s}.
        People from {s} walk up {v} Hill.
        The hill beside {s} is {v} Hill.""",
        """Which hill stands near {s}?
        What is the hill beside {s} called?
        Which hill do people from {s} walk up?""",
        """The hill behind {s} has the name {v}.""",
        "{v} Hill stands near {s}.",
    ),
    "famous": forms(
        """{s} is famous for its {v}.
        {s} is known for {v}.
        People go to {s} to see the {v}.
        The {v} of {s} are the pride of the town.
        If you like {v}, go to {s}.""",
        """What is {s} famous for?
        What is {s} known for?
        Why do people go to {s}?""",
        """The pride of {s} has always been its {v}.""",
        "{s} is famous for its {v}.",
    ),
    "east": forms(
        """{v} lies east of {s}.
        East of {s} is {v}.
        Go east from {s} and you come to {v}.
        {s} lies west of {v}.""",
        """Which town lies east of {s}?
        Which town is to the east of {s}?""",
        """The next town to the east of {s} is {v}.""",
        "{v} lies east of {s}.",
    ),
    "north": forms(
        """{v} lies north of {s}.
        North of {s} is {v}.
        Go north from {s} and you come to {v}.
        {s} lies south of {v}.""",
        """Which town lies north of {s}?
        Which town is to the north of {s}?""",
        """The next town to the north of {s} is {v}.""",
        "{v} lies north of {s}.",
    ),
    "price": forms(
        """A {s} costs {v} coins.
        The price of a {s} is {v} coins.
        You pay {v} coins for a {s}.
        For {v} coins you can buy a {s}.
        Who wants a {s} needs {v} coins.""",
        """How many coins does a {s} cost?
        What is the price of a {s} in coins?
        How many coins do you pay for a {s}?""",
        """The number of coins that a {s} costs is {v}.""",
        "A {s} costs {v} coins.",
    ),
    "shop": forms(
        """You can buy a {s} at the {v}.
        The {v} sells every {s} in town.
        If you need a {s}, go to the {v}.
        The {s} comes from the {v}.
        At the {v} there is always a {s} for sale.""",
        """Where can you buy a {s}?
        Which shop sells a {s}?
        Where do you get a {s}?""",
        """The right shop for a {s} is the {v}.""",
        "You can buy a {s} at the {v}.",
    ),
    "material": forms(
        """A {s} is made of {v}.
        To make a {s} you need {v}.
        The best {s} is made of {v}.
        {v} is what a {s} is made of.
        With some {v} you can make a {s}.""",
        """What is a {s} made of?
        What do you need to make a {s}?
        Which material is a {s} made of?""",
        """The stuff for making a {s} is {v}.""",
        "A {s} is made of {v}.",
    ),
}
