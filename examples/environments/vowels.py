#!/usr/bin/env python3
"""vowels: say something, and be rewarded by its share of vowels. Dense rewards, so that any model learns from its first group.

An episode has two turns. The observation names a word; the action is any text; the reward at the end is the mean over both
turns of vowels / letters (0 without letters; white space, digits and signs count as letters that are no vowels). The
protocol is described in README.md beside this file; `vowels.py --tasks` prints all tasks.
"""
import json
import sys

WORDS = """apple river stone cloud eagle house music ocean tiger audio queue radio piano opera koala media adieu oasis
idea area aura euro iota urea aeon unit zebra llama mango grape lemon olive onion pasta bread cheese butter sugar""".split()
VOWELS = set("aeiouAEIOU")
TURNS = 2


def share(text):
    text = text.strip()
    return sum(c in VOWELS for c in text) / len(text) if text else 0.0


class Vowels:
    def __init__(self, request):
        self.word = str(request["task"]["word"])
        self.rewards = []
        self.wants_expert = request.get("expert", False)

    def reply(self, text, reward=0.0, terminated=False):
        reply = {"text": text, "reward": reward, "terminated": terminated}
        if self.wants_expert and not terminated:
            reply["expert"] = "aeiou"
        return reply

    def reset(self):
        return self.reply(f"Say it in vowels: {self.word}")

    def step(self, action):
        self.rewards.append(share(action))
        if len(self.rewards) < TURNS:
            return self.reply(f"{self.rewards[-1]:.2f} of it. Again: {self.word}")
        return self.reply("Done.", sum(self.rewards) / TURNS, True)


def main():
    if sys.argv[1:] == ["--tasks"]:
        for word in WORDS:
            print(json.dumps({"task": {"word": word}, "level": 1}, separators=(",", ":")))
        return
    game = None
    for line in sys.stdin:
        request = json.loads(line)
        if request["op"] == "close":
            return
        try:
            if request["op"] == "reset":
                game = Vowels(request)
                reply = game.reset()
            else:
                reply = game.step(request["action"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    main()
