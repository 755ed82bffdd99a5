"""Captions are words, not prompt syntax. (The prompt's own meaning of what is written here is checked in
ComfyUI: tests/host.)
"""

import pytest
from comfyui_dadapt_lora.comfy_host.prompts import as_plain_prompt


@pytest.mark.parametrize(
    "caption, prompt",
    [
        ("red apple", "red apple"),
        ("saber (fate)", r"saber \(fate\)"),
        (r"saber \(fate\)", r"saber \(fate\)"),
        ("embedding:secret", "embedding :secret"),
        ("((loud:1.5))", r"\(\(loud:1.5\)\)"),
    ],
)
def test_weights_and_embeddings_are_taken_literally(caption, prompt):
    assert as_plain_prompt(caption) == prompt
