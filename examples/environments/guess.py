#!/usr/bin/env python3
"""guess: find a hidden number with few tries, as an environment that is a program of its own.

The first observation is `1-9 4`: the range and the tries. An action is a number; the answer is `>` (the hidden number is
greater), `<` (it is less) or `=` (found: reward 1). Anything else costs a try and is answered with `?`. Halving what is
left always finds it; the hint is the number. Nothing in the first observation tells it, so held-out tasks test the way of
searching.
The protocol is described in README.md beside this file; `guess.py --tasks` prints all tasks.
"""
import json
import random
import sys


LOW, HIGH, TRIES = 1, 9, 4
ROUNDS = 24  # of each number: tells tasks apart that play alike


class Guess:
    def __init__(self, request):
        task = request["task"]
        self.low, self.high, self.secret = LOW, HIGH, task["secret"]
        if not LOW <= self.secret <= HIGH:
            raise ValueError(f"secret: {LOW} to {HIGH}")
        self.tries = TRIES
        self.text = f"{LOW}-{HIGH} {TRIES}"
        self.wants_expert = request.get("expert", False)
        self.wants_hint = request.get("hint", False)
        self.noise = request.get("noise", 0.0)
        self.random = random.Random(request.get("noise_seed", 0))

    def expert(self):
        """The middle of what is left, or with probability noise any number of the range."""
        if self.random.random() < self.noise:
            return str(self.random.randint(LOW, HIGH))
        return str((self.low + self.high) // 2)

    def reply(self, text, reward=0, terminated=False):
        reply = {"text": text, "reward": reward, "terminated": terminated}
        if self.wants_expert and not terminated:
            reply["expert"] = self.expert()
        return reply

    def step(self, action):
        self.tries -= 1
        action = action.strip()
        guess = int(action) if action.isdecimal() and len(action) < 3 else None
        if guess == self.secret:
            return self.reply("=", 1, True)
        if guess is None:
            text = "?"
        elif guess < self.secret:
            text, self.low = ">", max(self.low, guess + 1)
        else:
            text, self.high = "<", min(self.high, guess - 1)
        return self.reply(text, 0, self.tries == 0)


def all_tasks():
    for turn in range(ROUNDS):
        for secret in range(LOW, HIGH + 1):
            yield {"task": {"secret": secret, "round": turn}, "level": 1, "hint": "{environment}"}


def main():
    if sys.argv[1:] == ["--tasks"]:
        for task in all_tasks():
            print(json.dumps(task, separators=(",", ":")))
        return
    game = None
    for line in sys.stdin:
        request = json.loads(line)
        if request["op"] == "close":
            return
        try:
            if request["op"] == "reset":
                game = Guess(request)
                reply = game.reply(game.text)
                if game.wants_hint:
                    reply["hint"] = str(game.secret)
            else:
                reply = game.step(request["action"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    main()
