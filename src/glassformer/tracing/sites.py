"""The kinds of places where models differ, in the order in which they are looked at."""

from collections.abc import Callable

from glassformer.tracing.hypotheses import Finding
from glassformer.tracing.place import Place
from glassformer.tracing.sites_attention import attention_findings
from glassformer.tracing.sites_glue import activation_findings, index_findings, sum_findings
from glassformer.tracing.sites_layers import layer_findings
from glassformer.tracing.sites_patches import patch_findings
from glassformer.tracing.sites_whole import dropout_findings, value_findings
from glassformer.tracing.sites_windows import window_findings

SITES: tuple[Callable[[Place], tuple[list[Finding], list[str]]], ...] = (
    dropout_findings,
    index_findings,
    patch_findings,
    layer_findings,
    window_findings,
    attention_findings,
    activation_findings,
    sum_findings,
    value_findings,
)
"""Each gives what it confirmed, and the keys of what it tried; nothing of a place that is not of its kind."""
