"""Beam search."""


def beam_search(*args):
    raise NotImplementedError
