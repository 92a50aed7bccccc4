"""One run: train one encoder from a typed config into a run directory, and evaluate it.

Knows no Hydra, no MLflow, no submitit and no study. Modules that only name, plan or read runs
(config, identity, errors, rundir, journal, lease) do not import torch, so that planning stays quick.
"""
