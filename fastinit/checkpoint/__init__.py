"""Checkpoints as safetensors files: written from a recipe, larger than memory, and read as a rule's initialiser."""
