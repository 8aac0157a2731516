"""How Hugging Face's configs write rotary positions: `rope_parameters`, or `rope_theta` and `rope_scaling` before."""

from typing import Any

from glassformer.by_hand.parts.position import DynamicScaling, LinearScaling, Llama3Scaling, YarnScaling

_YARN = ("beta_fast", "beta_slow", "attention_factor", "truncate")


def load_rope(theirs: dict[str, Any]) -> dict[str, Any]:
    """`rope_base` and `rope_scaling`. Raises ValueError on a scaling, or a number in it, that is not implemented."""
    said, old = (dict(theirs.get(name) or {}) for name in ("rope_parameters", "rope_scaling"))
    if "type" in old:
        old.setdefault("rope_type", old.pop("type"))
    if said and {**said, **old} != said:
        raise ValueError(f"config.json has rope_scaling={old} beside rope_parameters={said}; keep one of the two")
    said = said or old
    base = said.pop("rope_theta", theirs.get("rope_theta", 10_000.0))
    kind = said.pop("rope_type", said.get("type", "default"))
    said.pop("type", None)
    longest = theirs.get("max_position_embeddings", 2048)

    def trained(default: int | None = None) -> int:
        return said.pop("original_max_position_embeddings", default)

    try:
        match kind:
            case "default":
                scaling = None
            case "linear":
                scaling = LinearScaling(factor=said.pop("factor"))
            case "dynamic":
                trained()  # they read max_position_embeddings here
                scaling = DynamicScaling(factor=said.pop("factor"), max_positions=longest)
            case "llama3":
                scaling = Llama3Scaling(
                    factor=said.pop("factor"),
                    low_frequency_factor=said.pop("low_freq_factor"),
                    high_frequency_factor=said.pop("high_freq_factor"),
                    original_max_positions=said.pop("original_max_position_embeddings"),
                )
            case "yarn":
                options = {name: said.pop(name) for name in _YARN if said.get(name) is not None}
                scaling = YarnScaling(factor=said.pop("factor"), original_max_positions=trained(longest), **options)
            case _:
                raise ValueError(f"config.json has rope_type={kind!r}, which is not implemented")
    except KeyError as error:
        raise ValueError(f"config.json's {kind!r} rope_parameters lack {error}") from None
    if said := {name: value for name, value in said.items() if value is not None}:
        raise ValueError(f"config.json's {kind!r} rope_parameters have {said}, which is not implemented")
    return {"rope_base": float(base), "rope_scaling": scaling}
