"""The small model, the pictures, and what `run.py demo` does with them. README.md says what they are."""
