#!/usr/bin/env python3
"""An agent with a command line that does well or badly as its first argument says. The others: its session, whether that is an old
one, and the prompt. What it heard stands in ~/heard, a JSON object a line."""

import json
import os
import signal
import sys
import time

how, session, age, prompt = sys.argv[1:5]


def hear(**what):
    with open(os.path.expanduser("~/heard"), "a") as heard:
        heard.write(json.dumps(what) + "\n")


def tell(**event):
    print(json.dumps(event), flush=True)


def work_until_killed():
    with open("pid", "w") as pid:
        pid.write(str(os.getpid()))
    open("working", "w").close()
    while True:
        time.sleep(1000)


def interrupted(*_):
    hear(interrupted=True)
    sys.exit(0)


hear(session=session, age=age, prompt=prompt)
if how == "silent":
    sys.exit(0)
if how == "broken":
    print("no such library", file=sys.stderr)
    sys.exit(3)
if how == "garbage":
    for number in range(3000):
        print("what", number)
    time.sleep(1000)
if how == "garbled":
    print("a warning")
    print("[1, 2]")

tell(type="begin", text="Looking around.")
if how == "refused":
    tell(type="end", error={"message": "the key is refused"})
elif how == "unfinished":
    tell(type="end")
elif how == "flood":
    for _ in range(100):
        tell(text="x" * (1 << 20))
    tell(type="done", result="Flooded.")
elif how == "stubborn":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    work_until_killed()
elif how == "forks":
    if os.fork() == 0:
        work_until_killed()
    while not os.path.exists("working"):
        pass
    tell(type="done", result="Left a child.")
elif how == "works" and age == "new":
    signal.signal(signal.SIGINT, interrupted)
    work_until_killed()
elif how == "asks":
    tell(type="done", result="I cannot tell.\n[QUESTION] Two or three?\n[CHOICE] two\n[CHOICE] three\n[DEFAULT] two")
else:
    open("made", "w").close()
    tell(type="done", result="All done.")
