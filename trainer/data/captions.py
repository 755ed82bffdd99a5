"""The captions of pictures: text files beside them, and the trigger word."""

import re
from pathlib import Path

from .unreadable import reason_in_words


def read_caption(path: Path) -> str:
    """The text of a caption file as one line; empty if the file is empty or not there.

    Raises `DatasetError` with the reason alone if the file cannot be read or is not UTF-8.
    """
    with reason_in_words():
        if not path.is_file():
            return ""
        text = path.read_text(encoding="utf-8-sig")
    return " ".join(text.split())


def with_trigger(trigger_word: str, caption: str) -> str:
    """'trigger, caption', or the one of the two that is there.

    A caption that contains the trigger word already is returned as it is.
    """
    trigger_word, caption = trigger_word.strip(), caption.strip()
    if not trigger_word or re.search(rf"(?<!\w){re.escape(trigger_word)}(?!\w)", caption):
        return caption
    return f"{trigger_word}, {caption}" if caption else trigger_word
