"""Optimizers: our D-Adaptation, and the others behind the same small interface."""
