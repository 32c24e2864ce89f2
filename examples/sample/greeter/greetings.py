"""Which greeting a person gets."""

GREETINGS = {
    "de": "Guten Tag, {name}!",
    "en": "Hello, {name}!",
    "fr": "Bonjour, {name} !",
}
DEFAULT = "en"
LONGEST_NAME = 80


class BadRequest(ValueError):
    """The caller asked for something that cannot be answered."""


def greet(name, languages=""):
    """Greets NAME in the first language of an Accept-Language text that is spoken here."""
    name = " ".join(name.split())
    if not name:
        raise BadRequest("a name is needed")
    if len(name) > LONGEST_NAME:
        raise BadRequest(f"a name has at most {LONGEST_NAME} characters")
    return GREETINGS[choose(languages)].format(name=name)


def choose(languages):
    """The best language of an Accept-Language text, by its weights, then by its order."""
    wishes = []
    for place, wish in enumerate(languages.split(",")):
        tag, _, weight = wish.strip().partition(";q=")
        try:
            quality = float(weight) if weight else 1.0
        except ValueError:
            continue
        wishes.append((-quality, place, tag.split("-")[0].lower()))
    for quality, _, language in sorted(wishes):
        if quality < 0 and language in GREETINGS:
            return language
    return DEFAULT
