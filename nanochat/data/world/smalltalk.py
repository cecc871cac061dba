"""What the dialogues say that is not about the facts of the world: greetings, feelings, small instructions, rhymes."""

GREETINGS = ("Hi", "Hello", "Good morning", "Good evening", "Hey", "Hi there", "Hello there", "Good day")
REPLIES_TO_GREETING = (
    "Hello! How can I help you?",
    "Hi! What would you like to know?",
    "Good day! Ask me something.",
    "Hello! It is nice to meet you.",
)
# Questions or remarks, then answers; any answer fits any of its questions.
SMALL_TALK: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (
        ("How are you?", "How are you today?", "How do you do?", "Are you well?", "Is all well?"),
        ("I am well, thank you.", "I am fine. How are you?", "Very well, thank you for asking."),
    ),
    (
        ("Thank you.", "Thanks!", "Thank you very much.", "That was helpful.", "Great, thanks.", "Nice work."),
        ("You are welcome.", "I am glad to help.", "You are welcome. Ask me more if you like."),
    ),
    (
        ("Goodbye.", "Bye!", "See you later.", "I have to go now.", "Good night."),
        ("Goodbye! Have a nice day.", "Bye! Come back soon.", "See you later."),
    ),
    (
        ("I am sad.", "I feel sad today.", "I had a bad day.", "I am not happy.", "Today was hard."),
        ("I am sorry to hear that. A walk may help.", "I am sorry. Would a story help?", "That is hard. I am here."),
    ),
    (
        ("I am happy.", "I feel great today.", "I had a good day.", "Today was fun."),
        ("I am glad to hear that!", "That is nice. What made you happy?", "How lovely!"),
    ),
    (
        ("Tell me a joke.", "Do you know a joke?", "Make me laugh.", "Say something funny."),
        (
            "Why did the clock go to school? It wanted to be on time.",
            "What has four legs and cannot walk? A table.",
            "What gets wet when it dries? A towel.",
            "Why is the book sad? It has too many problems.",
        ),
    ),
    (
        ("I am bored.", "What shall I do today?", "Give me an idea.", "I do not know what to do."),
        ("You could read a book.", "You could bake a cake.", "You could go for a walk in the forest.", "Let us count."),
    ),
    (
        ("I am hungry.", "What shall I eat?", "What is for supper?", "What shall I cook?"),
        ("How about bread and cheese?", "You could cook some soup.", "A salad would be nice."),
    ),
    (
        ("Do you like music?", "Do you like books?", "Do you like animals?", "Do you like stories?"),
        ("Yes, I like to read about it.", "I do. Do you like it too?"),
    ),
    (
        ("Is it raining?", "How is the weather?", "Is it cold outside?", "Is the sun shining?"),
        ("I cannot look outside, sorry.", "I have no window. Please look for me."),
    ),
    (
        ("Can you help me?", "I have a question.", "I need help.", "May I ask you something?"),
        ("Of course. What is it?", "Yes, please ask.", "I will try. What do you want to know?"),
    ),
)
EXPLANATIONS: tuple[tuple[str, str], ...] = (
    ("How do I make tea?", "First boil water. Then pour it over the tea. Wait a little and drink."),
    ("How do I bake bread?", "Mix flour, water and salt. Let the dough rest. Then bake it in the oven."),
    ("How do I plant a tree?", "Dig a hole. Put the tree in the hole. Fill it with earth and water it."),
    ("How do I wash my hands?", "Make them wet. Rub them with soap. Then rinse and dry them."),
    ("How do I write a letter?", "Take paper and a pen. Write the date and a greeting. Then say what you want."),
    ("Why does it rain?", "Water rises from the sea and makes clouds. When clouds are heavy, it rains."),
    ("Why is it dark at night?", "At night the sun is on the other side of the earth."),
    ("Why do we sleep?", "Sleep gives the body rest. After it we feel strong again."),
    ("What is a river?", "A river is water that flows through the land to the sea."),
    ("What is a town?", "A town is a place where many people live close together."),
    ("What is a friend?", "A friend is a person who likes you and helps you."),
    ("What is a market?", "A market is a place where people buy and sell things."),
    ("What is a season?", "A season is a part of the year. There are four of them."),
    ("What is an opposite?", "An opposite is a word that means the reverse of another word."),
    ("What is a plural?", "The plural of a word is its form for more than one."),
    ("What does a baker do?", "A baker makes bread and cake."),
    ("What does a tailor do?", "A tailor makes clothes."),
    ("What does a miller do?", "A miller makes flour from grain."),
    ("What does a teacher do?", "A teacher helps children to learn."),
    ("What does a doctor do?", "A doctor helps people who are ill."),
    ("What does a sailor do?", "A sailor works on a ship."),
    ("What does a gardener do?", "A gardener takes care of flowers and trees."),
)
POLITE = (
    "",
    "",
    "",
    "Please tell me: ",
    "Tell me, ",
    "I have a question. ",
    "Hello! ",
    "Do you know this? ",
    "Excuse me. ",
)
