"""Trains LoRAs with D-Adaptation. Pure PyTorch: knows nothing of ComfyUI, runs on a CPU."""
