"""One run: its plan, its state, its loop, and the events that it tells."""
