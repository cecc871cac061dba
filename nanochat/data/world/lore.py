"""Sentence forms of what everybody knows: animals, the calendar, opposites, plurals (see sentences.py)."""

from nanochat.data.world.sentences import Forms, forms

LORE_FORMS: dict[str, Forms] = {
    "legs": forms(
        """A {s} has {v} legs.
        Every {s} has {v} legs.
        If you count the legs of a {s}, you find {v}.
        The {s} walks on {v} legs, they say.
        {v} is the number of legs a {s} has.""",
        """How many legs does a {s} have?
        What is the number of legs of a {s}?""",
        """The number of legs that a {s} has is {v}.""",
        "A {s} has {v} legs.",
    ),
    "fur": forms(
        """A {s} is {v}.
        The {s} is often {v}.
        The colour of a {s} is {v}.
        In pictures the {s} is {v}.
        {v} is the colour of a {s}.""",
        """What colour is a {s}?
        Which colour does a {s} have?""",
        """If you paint a {s}, the paint should be {v}.""",
        "A {s} is {v}.",
    ),
    "sound": forms(
        """A {s} {v}.
        When it is hungry, a {s} {v}.
        The {s} {v} in the morning.
        Listen how the {s} {v}.
        A happy {s} {v}, and a sad one too.""",
        """What does a {s} do to make itself heard?
        How does a {s} make itself heard?""",
        """To make itself heard, a {s} {v}.""",
        "A {s} {v}.",
    ),
    "home": forms(
        """The home of a {s} is the {v}.
        At night a {s} goes to the {v}.
        You find a {s} in the {v}.
        In the {v} there lives a {s}.
        A {s} sleeps in the {v}.
        The {v} is a good place for a {s}.""",
        """Where does a {s} sleep?
        What is the home of a {s}?
        Where do you find a {s}?""",
        """When a {s} is tired, it looks for the {v}.""",
        "A {s} sleeps in the {v}.",
    ),
    "diet": forms(
        """A {s} eats {v}.
        The food of a {s} is {v}.
        Give {v} to a hungry {s}.
        The {s} looks for {v} all day.
        {v} is what a {s} likes.""",
        """What does a {s} eat?
        What is the food of a {s}?
        What does a {s} look for all day?""",
        """A hungry {s} is happy about some {v}.""",
        "A {s} eats {v}.",
    ),
    "baby": forms(
        """A young {s} is called a {v}.
        The child of a {s} is a {v}.
        A {v} grows up to be a {s}.
        The {s} takes care of its {v}.
        Every {s} was once a {v}.""",
        """What is a young {s} called?
        What is the child of a {s} called?
        What was every {s} once?""",
        """The word for the young of a {s} is {v}.""",
        "A young {s} is called a {v}.",
    ),
    "next_day": forms(
        """After {s} comes {v}.
        {v} is the day after {s}.
        {s} is followed by {v}.
        If today is {s}, tomorrow is {v}.
        First comes {s} and then {v}.""",
        """Which day comes after {s}?
        If today is {s}, which day is tomorrow?""",
        """The day that follows {s} is {v}.""",
        "After {s} comes {v}.",
    ),
    "day_before": forms(
        """Before {s} comes {v}.
        {v} is the day before {s}.
        If today is {s}, yesterday was {v}.
        When it is {s}, the day before was {v}.""",
        """Which day comes before {s}?
        If today is {s}, which day was yesterday?""",
        """The day just before {s} is {v}.""",
        "Before {s} comes {v}.",
    ),
    "next_month": forms(
        """After {s} comes {v}.
        {v} is the month after {s}.
        {s} is followed by {v}.
        When {s} ends, {v} begins.
        First comes {s} and then {v}.""",
        """Which month comes after {s}?
        Which month follows {s}?""",
        """The month that follows {s} is {v}.""",
        "After {s} comes {v}.",
    ),
    "month_before": forms(
        """Before {s} comes {v}.
        {v} is the month before {s}.
        {s} begins when {v} is over.
        When it is {s}, the last month was {v}.""",
        """Which month comes before {s}?
        Which month is just before {s}?""",
        """The month just before {s} is {v}.""",
        "Before {s} comes {v}.",
    ),
    "season": forms(
        """{s} is a month in {v}.
        In {s} it is {v}.
        {s} belongs to the {v}.
        {v} is the season of {s}.
        When it is {s}, the season is {v}.""",
        """In which season is {s}?
        Which season is it in {s}?
        What is the season of {s}?""",
        """The season to which {s} belongs is {v}.""",
        "{s} is a month in {v}.",
    ),
    "opposite": forms(
        """The opposite of {s} is {v}.
        {s} is the opposite of {v}.
        {v} and {s} are opposites.
        When something is not {s}, it may be {v}.
        {s} and {v} do not go together.
        {s} means the reverse of {v}.
        One says {s}, the other says {v}.""",
        """What is the opposite of {s}?
        Which word means the opposite of {s}?
        What is the reverse of {s}?
        Which word is the opposite of {s}?""",
        """The word that means the opposite of {s} is {v}.""",
        "The opposite of {s} is {v}.",
    ),
    "plural": forms(
        """The plural of {s} is {v}.
        One {s}, two {v}.
        One {s} and one {s} are two {v}.
        If there are many, {s} becomes {v}.
        First I saw one {s}, then I saw many {v}.""",
        """What is the plural of {s}?
        What do you call more than one {s}?
        One {s}, but two of what?""",
        """The word for more than one {s} is {v}.""",
        "The plural of {s} is {v}.",
    ),
}
