"""Models as files: Hugging Face folders read and written, strictly and atomically.

table       their parameter names <-> ours        config   their config.json <-> our dataclass
files       one safetensors file                  folders  a folder's weights, single or sharded
hub         a hub id -> a folder on this machine
pretrained  `from_pretrained`, `save_pretrained`  skeleton a model without its weights
"""
