"""Captions in ComfyUI's prompt syntax."""


def as_plain_prompt(caption: str) -> str:
    """The caption written so that ComfyUI's prompt syntax takes it literally.

    As it is, `(tag)` would be weighed and `embedding:x` read from disk. A parenthesis that is escaped
    already, as tag files have it, is the same as one that is not.
    """
    literal = caption.replace(r"\(", "(").replace(r"\)", ")").replace("embedding:", "embedding :")
    return literal.replace("(", r"\(").replace(")", r"\)")
