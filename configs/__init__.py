"""Configs: one file per data set; docs/configuration.md explains each key."""
