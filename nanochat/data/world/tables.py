"""The closed vocabulary of the world: names, places, things. Who has what is decided by the seed (facts.py)."""

from typing import NamedTuple


def words(text: str, separator: str | None = None) -> tuple[str, ...]:
    """The words of a table."""
    return tuple(text.split(separator))


WOMEN = words(
    """
    Anna Ella Mia Nora Lily Rosa Clara Julia Emma Ida Lena Maria Sara Tina Vera Zoe Alice Bella Carla Dora Eva
    Fiona Grace Helen Iris Jane Kate Lucy Molly Nina Olga Paula Ruth Sofia Tess Uma Wendy Amy Beth Cora Delia
    Edith Freya Gina Hanna Isla Joan Kira Laura Martha Nell Polly Rita Sally Thea Viola Wilma Ada Birgit Celia
    """
)
MEN = words(
    """
    Ben Carl David Erik Frank Henry Jack Karl Leo Max Noah Oscar Paul Roger Simon Tom Victor Willem Adam Bruno
    Colin Dan Emil Felix George Hugo Ivan Jonas Kurt Luke Mark Nils Otto Peter Ralph Sam Theo Uwe Walter Yan
    Albert Boris Chris Dirk Edgar Fred Gus Hans Igor Jim Kevin Liam Mike Ned Owen Rupert Steve Tim Vince Wim
    """
)
# Beyond the table, names are put together from syllables; the second part tells she-names from he-names.
NAME_STARTS = words("Bal Cor Dal Fen Gal Hal Jor Kel Lor Mar Nor Pel Ral Sol Tal Vor Wel Yor Zel Bri Dru Gri Kri Tri")
WOMEN_ENDS = words("ina ela ira ona ova ulia")
MEN_ENDS = words("bert dan mund rik ton wald")

TOWNS = words(
    """
    Ashford Brookdale Castleton Deerfield Eastbury Foxhill Greenport Highmoor Ironbridge Kingsley Longwood
    Millbrook Northgate Oakham Pinewood Redcliff
    """
)
RIVERS = words("Alder Bourne Clyde Dove Esk Fleet Glen Humber")
HILLS = words("Badger Eagle Falcon Heron Magpie Raven Otter Swan")
FAMOUS_FOR = words("apples boats bridges clocks flowers glass horses lace music paper towers wool")

PETS = words("dog cat rabbit pony parrot turtle hamster goat duck frog mouse hen")
PET_NAMES = words(
    """
    Milo Luna Bingo Coco Dusty Fluffy Ginger Happy Jolly Kiwi Lucky Mango Nemo Pepper Quincy Rusty Shadow Toffee
    Velvet Whisky Ziggy Biscuit Pebble Sunny
    """
)
COLOURS = words("red blue green yellow white black brown pink purple grey")
JOBS = words("baker teacher farmer doctor painter sailor tailor miller gardener builder singer writer")
FOODS = words("soup bread rice cake cheese pasta honey plums pears beans fish salad")
HOBBIES = words("reading fishing singing dancing cooking drawing swimming hiking knitting sailing chess cycling")


class Animal(NamedTuple):
    """What everybody knows about an animal; all values are single words."""

    name: str
    legs: str
    colour: str
    sound: str
    home: str
    food: str
    baby: str


ANIMALS = tuple(
    Animal(*line.split())
    for line in """
    cow four brown moos barn grass calf
    horse four brown neighs stable hay foal
    sheep four white bleats meadow grass lamb
    pig four pink grunts sty corn piglet
    dog four brown barks house meat puppy
    cat four grey meows house fish kitten
    goat four white bleats hills leaves kid
    lion four yellow roars plains meat cub
    bear four brown growls cave honey cub
    wolf four grey howls forest meat pup
    fox four red barks den mice cub
    mouse four grey squeaks hole cheese pup
    rabbit four white squeaks burrow carrots kit
    frog four green croaks pond flies tadpole
    duck two yellow quacks pond bread duckling
    hen two brown clucks coop corn chick
    goose two white honks lake grass gosling
    crow two black caws tree seeds chick
    parrot two green talks jungle nuts chick
    robin two red sings garden worms chick
    bee six yellow buzzes hive nectar larva
    cricket six black chirps field leaves nymph
    spider eight black - web flies spiderling
    snake zero green hisses rocks eggs snakelet
    """.strip().splitlines()
)
SHOPS = words("bakery market bookshop toyshop workshop pottery")
MATERIALS = words("wood glass iron paper clay cloth stone silver")
OBJECTS = words(
    """
    lamp chair table clock book ball kite drum flute basket bucket ladder hammer kettle mirror blanket candle
    ribbon spoon plate bottle scarf hat coat boat doll bell box brush rope
    """
)
PLACES = words("box basket drawer cupboard garden kitchen barn attic cellar bag shed cabin")
# What people count in stories and word problems: (singular, plural).
COUNTABLES = tuple(
    (word, word + "s")
    for word in words(
        """
        apple pear plum pen book coin ball shell stamp card cookie flower marble button egg sticker stone ribbon
        lemon nut candle bead
        """
    )
)

DAYS = words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
MONTHS = words("January February March April May June July August September October November December")
SEASONS = words("winter winter spring spring spring summer summer summer autumn autumn autumn winter")
NUMBER_WORDS = words(
    """
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
    seventeen eighteen nineteen twenty
    """
)

OPPOSITES = tuple(
    words(pair, "/")
    for pair in words(
        """
        hot/cold big/small up/down left/right day/night open/closed fast/slow old/young happy/sad light/dark
        hard/soft wet/dry full/empty rich/poor early/late high/low long/short thick/thin loud/quiet strong/weak
        clean/dirty good/bad in/out near/far first/last begin/end push/pull buy/sell give/take win/lose
        love/hate yes/no true/false black/white heavy/easy sweet/sour sharp/blunt smooth/rough deep/shallow
        wide/narrow tall/tiny brave/timid wise/foolish calm/angry awake/asleep alive/dead safe/risky
        simple/complex cheap/costly new/ancient front/back top/bottom inside/outside above/below before/after
        always/never all/none more/less many/few north/south east/west summer/winter morning/evening
        friend/enemy king/queen boy/girl man/woman father/mother brother/sister uncle/aunt question/answer
        arrive/leave remember/forget find/hide build/destroy raise/lower laugh/cry float/sink attack/defend
        accept/refuse add/remove join/separate borrow/lend teach/learn speak/listen sit/stand sleep/wake
        save/spend grow/shrink start/stop increase/decrease success/failure peace/war truth/lie beauty/horror
        hero/coward polite/rude lazy/busy tight/loose fresh/stale bright/dim public/private guest/host
        """
    )
)

PLURALS = tuple(
    words(pair, "/")
    for pair in words(
        """
        cat/cats dog/dogs house/houses tree/trees book/books car/cars lamp/lamps river/rivers town/towns
        box/boxes fox/foxes glass/glasses bus/buses dish/dishes brush/brushes church/churches peach/peaches
        watch/watches baby/babies city/cities lady/ladies berry/berries party/parties story/stories pony/ponies
        puppy/puppies fly/flies leaf/leaves wolf/wolves knife/knives wife/wives loaf/loaves shelf/shelves
        half/halves calf/calves man/men woman/women child/children foot/feet tooth/teeth goose/geese mouse/mice
        ox/oxen person/people sheep/sheep fish/fish deer/deer toy/toys day/days key/keys boy/boys monkey/monkeys
        potato/potatoes tomato/tomatoes hero/heroes piano/pianos photo/photos window/windows flower/flowers
        teacher/teachers
        """
    )
)

FIRST_PARTS = words(
    "On a sunny day|One morning|One day|Last week|In the spring|After lunch|Before supper|On market day", "|"
)
WEATHER = words("sunny rainy windy cold warm foggy snowy bright")
