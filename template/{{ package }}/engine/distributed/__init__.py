"""Devices, processes and nodes."""
