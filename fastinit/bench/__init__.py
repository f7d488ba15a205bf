"""`python -m fastinit bench`: models and functions, by torch.nn.init and by fastinit. Needs the extra [bench]."""
