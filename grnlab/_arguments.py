"""Types of command-line arguments, with errors that say what was expected."""

import argparse


def whole_number(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        msg = f"{text!r} is not a whole number of at least 0"
        raise argparse.ArgumentTypeError(msg)
    return int(text)


def at_least_one(text: str) -> int:
    if whole_number(text) < 1:
        msg = f"{text!r} must be at least 1"
        raise argparse.ArgumentTypeError(msg)
    return int(text)


def positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        msg = f"{text!r} is not a number above 0"
        raise argparse.ArgumentTypeError(msg)
    return number


def gene_number(text: str) -> int | str:
    if text == "all":
        return text
    if not (text.isascii() and text.isdecimal()) or int(text) < 2:
        msg = f"{text!r} is neither a whole number of at least 2 nor 'all'"
        raise argparse.ArgumentTypeError(msg)
    return int(text)
