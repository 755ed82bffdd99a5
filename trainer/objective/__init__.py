"""What a run minimizes.

The network as the training loop sees it, the loss of a batch, and a fixed grid to measure on.
"""
