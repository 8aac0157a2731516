"""Pictures: reading and writing them, changing them, preparing them for a model, and sets of them."""
