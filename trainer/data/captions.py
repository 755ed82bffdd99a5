"""What is said of a picture."""

import re


def with_trigger(trigger_word: str, caption: str) -> str:
    """'trigger, caption', or whichever there is; a caption that holds the trigger word already stays as it
    is.
    """
    trigger_word, caption = trigger_word.strip(), caption.strip()
    if not trigger_word or re.search(rf"(?<!\w){re.escape(trigger_word)}(?!\w)", caption):
        return caption
    return f"{trigger_word}, {caption}" if caption else trigger_word
