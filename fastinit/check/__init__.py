"""Whether tensors hold what a recipe says: `check_model`, and the same for a folder of safetensors files."""
