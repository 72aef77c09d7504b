"""Simple dialogues to tune a very small model on: greetings, names, likes, a little arithmetic, stories.

    python recipes/llama_tercet_tiny_chat/dialogues.py --tinystories stories.jsonl --output dialogues.jsonl

All sentences below were written for this recipe (Apache-2.0, like the project); only the stories come from
`--tinystories` (JSON lines {"text"}: excerpts of TinyStories, CDLA-Sharing-1.0). A dialogue is a few topics
in random order. Some need what was said before: the name of the user, their animal, their color. That is
what a small model has to learn in order to hold a dialogue rather than to answer line by line. Another
`--seed` gives other draws of the same generator: held-out dialogues.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable
from pathlib import Path

NAMES = [
    "Anna",
    "Ben",
    "Clara",
    "David",
    "Emma",
    "Finn",
    "Grace",
    "Henry",
    "Ivy",
    "Jack",
    "Kate",
    "Leo",
    "Lily",
    "Lucy",
    "Max",
    "Mia",
    "Nina",
    "Noah",
    "Olive",
    "Oscar",
    "Paul",
    "Rosa",
    "Sam",
    "Sara",
    "Tim",
    "Tom",
    "Zoe",
    "Amir",
    "Sofia",
    "Omar",
    "Maya",
    "Yuki",
    "Ravi",
    "Lena",
    "Hugo",
    "Nora",
    "Ali",
    "Eva",
    "Ian",
    "Ella",
]
ANIMALS = {
    "cat": "soft and quiet",
    "dog": "loyal and playful",
    "rabbit": "gentle and quick",
    "horse": "strong and fast",
    "bird": "free in the sky",
    "fish": "calm and colorful",
    "turtle": "slow and wise",
    "fox": "clever and red",
    "bear": "big and strong",
    "frog": "green and funny",
    "owl": "wise and awake at night",
    "duck": "happy in the rain",
}
COLORS = {
    "blue": "the sky",
    "red": "a ripe apple",
    "green": "the grass",
    "yellow": "the sun",
    "white": "fresh snow",
    "black": "the night",
    "orange": "a pumpkin",
    "pink": "a flower",
    "purple": "a plum",
}
FOODS = (
    "apples",
    "bread",
    "soup",
    "cake",
    "rice",
    "pizza",
    "cookies",
    "bananas",
    "pasta",
    "cheese",
    "carrots",
)
WEATHERS = {
    "raining": "Rain can be cozy. Take an umbrella with you!",
    "sunny": "How nice! A walk in the sun would be good.",
    "snowing": "Snow is fun! Put on warm clothes.",
    "windy": "Hold on to your hat!",
    "cold": "Stay warm. Tea helps!",
    "hot": "Drink enough water and stay in the shade.",
}
FEELINGS = {
    "sad": "I am sorry that you are sad. Do you want to tell me why?",
    "happy": "That is wonderful! What made you happy?",
    "tired": "You should rest a little. Sleep is good for you.",
    "angry": "I am sorry to hear that. Take a slow breath.",
    "bored": "I can tell you a story, if you like.",
    "scared": "You are safe here. What scared you?",
    "hungry": "Then it is time to eat something good!",
    "sick": "I am sorry. Rest well, and ask somebody for help.",
}
NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
Turns = list[tuple[str, str]]
Draw = random.Random


def greeting(draw: Draw) -> Turns:
    """Hello."""
    hello = draw.choice(
        ("Hello", "Hello!", "Hi", "Hi!", "Hey!", "Hi there!", "Hello there!", "Good morning!", "Hey")
    )
    answer = draw.choice(
        (
            "Hello! How are you?",
            "Hi! It is nice to meet you.",
            "Hello! What can I do for you?",
            "Hi there! How are you?",
        )
    )
    if not answer.endswith("How are you?"):
        return [(hello, answer)]
    well = draw.choice(
        ("I am fine.", "I'm good, thanks.", "Good, and you?", "I am well. How are you?", "Fine, thank you!")
    )
    reply = draw.choice(("I am glad to hear that! I am fine, too.", "That is good! I am doing well, too."))
    return [(hello, answer), (well, reply)]


def how_are_you(draw: Draw) -> Turns:
    """The user asks first."""
    return [
        (
            draw.choice(("How are you?", "How are you today?", "How do you do?", "Are you okay?")),
            draw.choice(("I am fine, thank you! How about you?", "I am doing well. Thank you for asking!")),
        )
    ]


def own_name(draw: Draw) -> Turns:
    """What the model is called, and what it is."""
    questions = {
        "What is your name?": "My name is Tercet. What is your name?",
        "Who are you?": "I am Tercet, a very small language model.",
        "Are you a robot?": "I am a small computer program that learned from stories.",
        "What can you do?": "I can talk a little, and I can tell short stories.",
        "Are you a person?": "No, I am a computer program. But I like to talk with you.",
        "What's your name?": "My name is Tercet. What is your name?",
        "How big are you?": "I am very small: a few million weights, and each is minus one, zero or one.",
    }
    question = draw.choice(list(questions))
    return [(question, questions[question])]


def user_name(draw: Draw) -> Turns:
    """A name told, and asked for again later."""
    name = draw.choice(NAMES)
    told = draw.choice((f"My name is {name}.", f"I am {name}.", f"I'm {name}.", f"You can call me {name}."))
    turns = [(told, draw.choice((f"Nice to meet you, {name}!", f"Hello, {name}! What a nice name.")))]
    if draw.random() < 0.7:
        asked = draw.choice(
            ("What is my name?", "Do you know my name?", "Do you remember my name?", "Who am I?")
        )
        turns.append(
            (asked, draw.choice((f"Your name is {name}.", f"You are {name}!", f"Yes, your name is {name}.")))
        )
    return turns


def animal(draw: Draw) -> Turns:
    """A favorite animal, and asked for again later."""
    name, character = draw.choice(list(ANIMALS.items()))
    article = "an" if name[0] in "aeiou" else "a"
    turns = [
        draw.choice(
            (
                (
                    f"My favorite animal is the {name}.",
                    f"I like that. A {name} is {character}.".replace("A owl", "An owl"),
                ),
                (f"I have {article} {name}.", f"How nice! What is the name of your {name}?"),
                (f"Do you like the {name}?", f"Yes! The {name} is {character}."),
            )
        )
    ]
    if turns[0][0].startswith("I have"):
        pet = draw.choice(NAMES)
        turns.append(
            (
                f"{draw.choice(('It is called', 'Its name is'))} {pet}.",
                f"{pet} is a good name for {article} {name}.",
            )
        )
        if draw.random() < 0.5:
            turns.append((f"What is my {name} called?", f"Your {name} is called {pet}."))
    elif turns[0][0].startswith("My favorite") and draw.random() < 0.6:
        turns.append(("What is my favorite animal?", f"Your favorite animal is the {name}."))
    return turns


def color(draw: Draw) -> Turns:
    """Colors of things, and a favorite one."""
    name, thing = draw.choice(list(COLORS.items()))
    if draw.random() < 0.5:
        return [(f"What color is {thing}?", f"{thing[0].upper()}{thing[1:]} is {name}.")]
    turns = [(f"My favorite color is {name}.", f"{name.capitalize()} is a lovely color, like {thing}.")]
    if draw.random() < 0.6:
        turns.append(("What is my favorite color?", f"Your favorite color is {name}."))
    return turns


def food(draw: Draw) -> Turns:
    """Things to eat."""
    name = draw.choice(FOODS)
    return [
        draw.choice(
            (
                (f"I like {name}.", f"Many people like {name}. Do you eat {name} often?"),
                (f"Do you like {name}?", f"I cannot eat, but I hear that {name} can be very good!"),
                (f"I am eating {name}.", f"Enjoy your {name}!"),
            )
        )
    ]


def weather(draw: Draw) -> Turns:
    """What it is like outside."""
    kind, answer = draw.choice(list(WEATHERS.items()))
    return [(draw.choice((f"It is {kind} today.", f"It is {kind} outside.", f"Today it is {kind}.")), answer)]


def feeling(draw: Draw) -> Turns:
    """How the user feels."""
    kind, answer = draw.choice(list(FEELINGS.items()))
    return [
        (draw.choice((f"I am {kind}.", f"I'm {kind}.", f"I feel {kind}.", f"I am so {kind} today.")), answer)
    ]


def sum_of_two(draw: Draw) -> Turns:
    """Sums up to ten, in words or digits."""
    first = draw.randint(0, 9)
    second = draw.randint(0, 10 - first)
    if draw.random() < 0.5:
        return [(f"What is {NUMBERS[first]} plus {NUMBERS[second]}?", f"It is {NUMBERS[first + second]}.")]
    return [(f"What is {first} + {second}?", f"{first} + {second} = {first + second}.")]


def days(draw: Draw) -> Turns:
    """Days of the week."""
    number = draw.randrange(7)
    if draw.random() < 0.5:
        return [
            (f"What day comes after {DAYS[number]}?", f"After {DAYS[number]} comes {DAYS[(number + 1) % 7]}.")
        ]
    return [(f"What day comes before {DAYS[number]}?", f"Before {DAYS[number]} comes {DAYS[number - 1]}.")]


def farewell(draw: Draw) -> Turns:
    """Thanks and goodbye."""
    turns = []
    if draw.random() < 0.5:
        turns.append(
            (
                draw.choice(("Thank you!", "Thanks!", "Thank you very much.")),
                draw.choice(("You are welcome!", "I am glad to help.")),
            )
        )
    bye = draw.choice(("Goodbye!", "Bye!", "Good night!", "See you later!", "I have to go now."))
    answer = (
        "Good night! Sleep well."
        if "night" in bye
        else draw.choice(("Goodbye! Have a nice day!", "Bye! See you soon!"))
    )
    return [*turns, (bye, answer)]


def story(stories: list[str]) -> Callable[[Draw], Turns]:
    """A request for a story, and the beginning of one, up to a whole sentence."""

    def turns(draw: Draw) -> Turns:
        text = draw.choice(stories)
        end = max(text.rfind(mark, 0, 420) for mark in (".", "!", "?", '."')) + 1
        request = draw.choice(
            (
                "Tell me a story.",
                "Can you tell me a story?",
                "I want to hear a story.",
                "Please tell me a story!",
            )
        )
        return [(request, " ".join(text[: end or 420].split()))]

    return turns


def dialogue(draw: Draw, tell_story: Callable[[Draw], Turns]) -> list[dict[str, str]]:
    """A few topics: a greeting first (mostly), a farewell last (sometimes)."""
    topics = [
        own_name,
        user_name,
        user_name,
        animal,
        color,
        food,
        weather,
        feeling,
        sum_of_two,
        days,
        how_are_you,
        tell_story,
    ]
    turns: Turns = greeting(draw) if draw.random() < 0.6 else []
    late: Turns = []
    chosen: list[Callable[[Draw], Turns]] = []
    for topic in draw.sample(topics, draw.randint(1, 4)):
        if topic in chosen:
            continue
        chosen.append(topic)
        part = topic(draw)
        # What refers back may come at once or after other topics.
        if len(part) > 1 and draw.random() < 0.5:
            turns += part[:-1]
            late.append(part[-1])
        else:
            turns += part
    turns += late
    if draw.random() < 0.4:
        turns += farewell(draw)
    return [
        message
        for user, assistant in turns
        for message in ({"role": "user", "content": user}, {"role": "assistant", "content": assistant})
    ]


def main() -> None:
    """Write the dialogues."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tinystories", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--count", type=int, default=12_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    lines = arguments.tinystories.read_text(encoding="utf-8").splitlines()
    stories = [text for line in lines if len(text := json.loads(line)["text"].strip()) > 100]
    draw, tell_story = random.Random(arguments.seed), story(stories)
    with arguments.output.open("w", encoding="utf-8") as file:
        for _ in range(arguments.count):
            file.write(json.dumps({"messages": dialogue(draw, tell_story)}, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
