"""Captions in the host's prompt syntax."""


def as_plain_prompt(caption: str) -> str:
    """The caption written so that the host's prompt syntax takes it literally: `(tag)` would be weighed,
    `embedding:x` read from disk.

    A parenthesis that is escaped already, as tag files have it, is the same as one that is not.
    """
    literal = caption.replace(r"\(", "(").replace(r"\)", ")").replace("embedding:", "embedding :")
    return literal.replace("(", r"\(").replace(")", r"\)")
