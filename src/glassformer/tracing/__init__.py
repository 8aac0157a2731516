"""Look inside a model: what it computes on its way to the answer.

    xray(model, *inputs)               everything that happens in a call: modules, operators, FLOPs, bytes, time
    record(model, names, *inputs)      activations by name
    patch(model, {name: change})       a model some of whose activations are replaced
    logit_lens(model, ids)             what each layer would predict already
    attention_weights(model, *inputs)  where each head looks
    attention_maps(model, pictures)    the same as maps over the picture; attention_rollout: through all blocks;
                                       cross_attention_maps: what the queries of a detector read
    compare(a, b, inputs)              where two models first differ, and what it looks like
    cost(config, batch_size, length)   parameters, FLOPs, memory by kind, time on a machine, before anything is built
    plan(recipe, gpus, machine)        whether and how a training run fits, and what it takes; `hardware` has machines
    saved_for_backward(model, *inputs) what autograd keeps of a forward pass
    side_by_side({name: matrix})       small matrices printed beside each other, to follow with a pencil

Nothing is attached to a model before one of these is called, and nothing is left on it afterwards: a model that nobody
looks into pays nothing and compiles whole.

**Names of activations.** `PATH` is what the module at that path of the model gives, `PATH.input` what it is given
first; `*` stands for one part of a path, `**` for any number. `activation_names(model)` lists those of a model, of ours
or another's. Our text models share the words of `CANONICAL`, below the encoder's and decoder's `encoder.` and
`decoder.` where a model has both, and below `encoder.` in an encoder with a head. Words that are no activation's name
in a model (a rotation is no tensor) are refused when asked for.
"""

from glassformer.tracing.attention import attention_weights, listening_to_attention
from glassformer.tracing.compare import compare
from glassformer.tracing.cost import Cost, Memory, cost
from glassformer.tracing.divergence import Divergence
from glassformer.tracing.failure import Failure
from glassformer.tracing.hardware import HARDWARE, Hardware, hardware
from glassformer.tracing.intervene import logit_lens, patch, record
from glassformer.tracing.looking import attention_maps, attention_rollout, cross_attention_maps
from glassformer.tracing.patterns import CANONICAL, activation_names
from glassformer.tracing.plan import Plan, plan
from glassformer.tracing.saved import SavedTensor, saved_for_backward
from glassformer.tracing.side_by_side import differences, side_by_side
from glassformer.tracing.statistics import Statistics
from glassformer.tracing.trace import Trace
from glassformer.tracing.tree import ModuleCall, Operation
from glassformer.tracing.values import TensorInfo
from glassformer.tracing.xray import xray

__all__ = [
    "CANONICAL",
    "HARDWARE",
    "Cost",
    "Divergence",
    "Failure",
    "Hardware",
    "Memory",
    "ModuleCall",
    "Operation",
    "Plan",
    "SavedTensor",
    "Statistics",
    "TensorInfo",
    "Trace",
    "activation_names",
    "attention_maps",
    "attention_rollout",
    "attention_weights",
    "compare",
    "cost",
    "cross_attention_maps",
    "differences",
    "hardware",
    "listening_to_attention",
    "logit_lens",
    "patch",
    "plan",
    "record",
    "saved_for_backward",
    "side_by_side",
    "xray",
]
