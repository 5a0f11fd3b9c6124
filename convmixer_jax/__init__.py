"""ConvMixer in JAX: train, study and use ConvMixers."""
