"""The forms that XLA compiles, for any device."""
