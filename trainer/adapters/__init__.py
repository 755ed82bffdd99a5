"""The LoRA itself: its mathematics, its hooks on a model, its file."""
