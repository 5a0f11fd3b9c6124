"""Training images that stay on the devices (`config.input.on_device`)."""
