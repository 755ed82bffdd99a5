"""Tiny models of every family that ComfyUI makes pictures with: real architectures, random weights.

table.py            the families, and what is left out            plain data, importable anywhere
configs.py          how wide and deep each is                     plain data, importable anywhere
models.py           MODEL, latents and conditioning of a family   in ComfyUI's Python, once it has started
text_encoders.py    CLIP of a family                              in ComfyUI's Python, once it has started
tokenizers.py       for those whose tokenizer is in a checkpoint
detection.py        makes ComfyUI's loader take them for what they are, also from files
nodes.py            the same in a ComfyUI server, whose custom node `detection.add_custom_node` makes
"""
