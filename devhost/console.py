"""The only place of run.py, devhost/ and demo/ that writes to the person.

Everything for reading goes to stderr, so that stdout carries results and nothing else.
"""

import sys


def say(text: str = "") -> None:
    print(text, file=sys.stderr, flush=True)


def give_result(text: str) -> None:
    print(text, flush=True)
