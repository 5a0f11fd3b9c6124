"""Transforms of one image on the host, in uint8."""
