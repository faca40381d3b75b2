"""Errors that end a command with a sentence for a person."""


class CommandError(Exception):
    """What is wrong, and what to do about it."""
