"""Diffusion mathematics: schedule, training objective, DDIM, classifier guidance. No config, no IO, no devices."""
