#!/usr/bin/env python3
"""fickle: the game of examples/environments/guess.py, by a program that fails as programs do.

    fickle.py --misbehave 0.01 --seed 7 --delay 0.2

With this probability a request is not answered as it should be, each way as often: the program hangs, ends with an error,
says something that is no JSON, or answers twice. The seed and the process id choose: what replaces it does not share its
fate. With 0 it is the game itself. --delay is how long each answer takes, in seconds.
"""
import json
import os
import pathlib
import random
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "examples" / "environments"))
import guess  # noqa: E402


def option(name, otherwise):
    return sys.argv[sys.argv.index(name) + 1] if name in sys.argv else otherwise


def misbehave(chance):
    way = chance.randrange(4)
    if way == 0:
        time.sleep(3600)
    if way == 1:
        sys.exit("as told")
    if way == 2:
        print("what was the question?", flush=True)
    return way == 3  # answer twice


def main():
    probability, delay = float(option("--misbehave", "0")), float(option("--delay", "0"))
    chance = random.Random(f"{option('--seed', '0')} {os.getpid()}")
    game = None
    for line in sys.stdin:
        request = json.loads(line)
        if request["op"] == "close":
            return
        twice = misbehave(chance) if chance.random() < probability else False
        if request["op"] == "reset":
            game = guess.Guess(request)
            reply = game.reply(game.text)
        else:
            reply = game.step(request["action"])
        time.sleep(delay)
        for _ in range(2 if twice else 1):
            print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    main()
