"""Transforms of single images on the host, in uint8."""
