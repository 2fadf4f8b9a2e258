"""Stands for the Python package where it is not installed: its command `segment` is the program of the same name."""
