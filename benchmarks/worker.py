"""The process of one competitor: prepares it, then runs one sample for each line that arrives."""

import importlib
import json
import os
import resource
import sys
import time


def main() -> None:
    """Answer on the pipe that was standard output; whatever the competitor prints goes to standard error."""
    pipe = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    sample = None
    for line in sys.stdin:
        message = json.loads(line)
        if sample is None:
            module = importlib.import_module(f"benchmarks.{message['module']}")
            sample = getattr(module, message["make"])(**message["arguments"])
            answer = {"ready": True}
        else:
            wall, cpu = time.perf_counter(), time.process_time()
            result = sample()
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            answer = {"wall": wall, "cpu": cpu, "result": result, "peak_bytes": peak}
        pipe.write(json.dumps(answer) + "\n")
        pipe.flush()


if __name__ == "__main__":
    main()
