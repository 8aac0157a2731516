"""The models that declare themselves: add one to its list, and every property and mutation test runs over it."""

from declaration import Declared
from declared_decoders import DECODERS

DECLARED: list[Declared] = [*DECODERS]
