"""How Hugging Face's configs write rotary positions, for every model that has them.

Since version 5 all of it stands in `rope_parameters`; before, `rope_theta` stood alone and a scaling, if any, in
`rope_scaling`. Both are read; the new form is written.
"""

from typing import Any

from glassformer.foundation.suggest import did_you_mean
from glassformer.parts import DynamicScaling, LinearScaling, Llama3Scaling, RotaryScaling, YarnScaling

NAMES = {  # their name of each quantity -> ours, and whether it may be absent
    "linear": (LinearScaling, {"factor": "factor"}, {}),
    "dynamic": (DynamicScaling, {"factor": "factor"}, {}),
    "llama3": (
        Llama3Scaling,
        {
            "factor": "factor",
            "low_freq_factor": "low_frequency_factor",
            "high_freq_factor": "high_frequency_factor",
            "original_max_position_embeddings": "original_max_positions",
        },
        {},
    ),
    "yarn": (
        YarnScaling,
        {"factor": "factor", "original_max_position_embeddings": "original_max_positions"},
        {
            "beta_fast": "beta_fast",
            "beta_slow": "beta_slow",
            "attention_factor": "attention_factor",
            "truncate": "truncate",
        },
    ),
}


def said_of_rotation(attributes: dict[str, Any]) -> dict[str, Any]:
    """What is said of the rotation, by its new name or its old one. Raises ValueError where both say something else."""
    new, old = ({**(attributes.get(name) or {})} for name in ("rope_parameters", "rope_scaling"))
    if "type" in old:
        old.setdefault("rope_type", old.pop("type"))
    if new and {**new, **old} != new:  # their classes forget the first then, its base too
        raise ValueError(f"config.json has rope_scaling={old} beside rope_parameters={new}; keep one of the two")
    return new or old


def load_rope(attributes: dict[str, Any], *, default_base: float = 10_000.0) -> dict[str, Any]:
    """Their attributes as `max_positions`, `rope_base` and `rope_scaling`. Raises ValueError on others."""
    max_positions = attributes.get("max_position_embeddings", 2048)
    said = said_of_rotation(attributes)
    base = said.pop("rope_theta", attributes.get("rope_theta", default_base))
    if not base > 0:
        raise ValueError(f"config.json has rope_theta={base!r}; expected a number above 0")
    kind = said.pop("rope_type", said.get("type", "default"))
    said.pop("type", None)
    out = {"max_positions": max_positions, "rope_base": float(base)}
    if kind == "default":
        scaling = None
    elif kind not in NAMES:
        raise ValueError(f"config.json has rope_type={kind!r}, which is not implemented{did_you_mean(kind, NAMES)}")
    else:
        made, needed, optional = NAMES[kind]
        if kind == "yarn":
            said.setdefault("original_max_position_embeddings", max_positions)
        if missing := needed.keys() - said.keys():
            raise ValueError(f"config.json's {kind!r} rope_parameters lack {sorted(missing)}")
        names = needed | optional
        values = {ours: said.pop(theirs) for theirs, ours in names.items() if said.get(theirs) is not None}
        scaling = made(**values, **({"max_positions": max_positions} if kind == "dynamic" else {}))
        if kind == "dynamic":
            said.pop("original_max_position_embeddings", None)  # they read max_position_embeddings here
    said = {name: value for name, value in said.items() if value is not None}
    if said:
        raise ValueError(f"config.json's {kind!r} rope_parameters have {said}, which is not implemented")
    return out | {"rope_scaling": scaling}


def save_rope(config: Any) -> dict[str, Any]:
    """`rope_parameters` and `max_position_embeddings` of a config with our three fields."""
    parameters: dict[str, Any] = {"rope_theta": config.rope_base}
    scaling: RotaryScaling | None = config.rope_scaling
    if isinstance(scaling, DynamicScaling) and scaling.max_positions != config.max_positions:
        raise ValueError(
            f"rope_scaling.max_positions={scaling.max_positions} cannot be said in a config.json beside "
            f"max_positions={config.max_positions}: they are one attribute there"
        )
    for kind, (made, needed, optional) in NAMES.items():
        if type(scaling) is made:
            values = {theirs: getattr(scaling, ours) for theirs, ours in (needed | optional).items()}
            parameters |= {"rope_type": kind} | {name: value for name, value in values.items() if value is not None}
            break
    else:
        parameters["rope_type"] = "default"
    return {"max_position_embeddings": config.max_positions, "rope_parameters": parameters}
