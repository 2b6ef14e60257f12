"""Devices, training, files: what every stage runs on."""
