"""What is studied, as data: Hydra groups study/, scale/, data/, launcher/ and the paper's numbers."""
