"""The small model, the pictures, and what `run.py demo` does with them. README.md says what they are."""

from devhost.pack import load_pack

load_pack()  # so that the modules here find the trainer under the pack's own name
