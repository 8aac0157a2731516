"""The kinds of places where models differ, in the order in which they are looked at."""

from collections.abc import Callable

from glassformer.tracing.hypotheses import Finding
from glassformer.tracing.place import Place
from glassformer.tracing.sites_attention import attention_findings

SITES: tuple[Callable[[Place], tuple[list[Finding], list[str]]], ...] = (attention_findings,)
