"""Seconds and memory to trace published models from their configs, without weights: bench_trace.py.

Each is traced in a process of its own. The peak is the whole process's resident memory, torch and transformers
included; what a bare process with both takes is printed beside it.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

# Sizes as published: Llama 3 (arXiv:2407.21783, table 3), Mixtral 8x7B (arXiv:2401.04088, table 1).
MODELS: dict[str, dict[str, Any]] = {
    "llama 3 8B": {
        "model_type": "llama",
        "vocab_size": 128256,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
    },
    "llama 3 70B": {
        "model_type": "llama",
        "vocab_size": 128256,
        "hidden_size": 8192,
        "intermediate_size": 28672,
        "num_hidden_layers": 80,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
    },
    "mixtral 8x7B": {
        "model_type": "mixtral",
        "vocab_size": 32000,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "num_local_experts": 8,
        "num_experts_per_tok": 2,
    },
}
SEQUENCE = 4096


def traced(folder: str) -> dict[str, Any]:
    """Trace the config in a folder in this process; without one, import what tracing needs."""
    import transformers

    from loadahead.executor.model.spec import ModelSpec
    from loadahead.executor.trace import trace_module

    began, out = time.perf_counter(), {"transformers": transformers.__version__}
    if folder:
        spec = ModelSpec(
            python="transformers",
            config=folder,
            input_shape=(1, SEQUENCE),
            input_dtype="int64",
            loss="cross_entropy",
            dtype="bfloat16",
        )
        layers = trace_module(spec, numbers=False).layers
        out |= {"layers": len(layers), "parameters": sum(layer.parameters for layer in layers)}
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return out | {"seconds": time.perf_counter() - began, "bytes": used}


def measured(folder: str) -> dict[str, Any]:
    """What a process of its own says of a config."""
    done = subprocess.run([sys.executable, __file__, "--child", folder], capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Print a line for each model."""
    print(f"a process with torch and transformers: {measured('')['bytes'] / 2**30:.2f} GiB")
    for name, config in MODELS.items():
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "config.json").write_text(json.dumps(config))
            one = measured(folder)
        print(
            f"{name}: {one['layers']} layers, {one['parameters'] / 1e9:.1f} billion parameters beside tied ones, "
            f"{one['seconds']:.1f} s, {one['bytes'] / 2**30:.2f} GiB"
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(traced(sys.argv[2])))
    else:
        main()
