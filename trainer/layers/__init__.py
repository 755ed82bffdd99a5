"""What makes a frozen network cheap to train through: how its layers compute, and what they save for the
backward pass.
"""
