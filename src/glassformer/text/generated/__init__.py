"""Examples that are made on the spot, from grammars and from the reference inside Python, each from a seed."""
