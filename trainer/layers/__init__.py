"""What makes a frozen network cheap to train through: fewer tensors saved for backward, faster layers."""
