"""Fuzzing of every message type that the nodes take in: how many were tried, and how many escaped or crashed.

Mutated messages go through the nodes' own reception, without DDS. A process tries CHUNK of them, for
a reader that reads outside its message may end it; the edits of a chunk follow from its number.

    python benchmarks/fuzz_messages.py --messages 200000
"""

import argparse
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

CHUNK = 10_000


def try_chunk(chunk: int, size: int) -> int:
    """Try `size` messages; print how many of each input, and whatever escapes with its edits. Return 1 if one did."""
    from support.hostile import Vehicle, mutated, random_edits  # pyright: ignore[reportMissingImports]

    rng, vehicle, tried, escaped = np.random.default_rng(chunk), Vehicle(), Counter[str](), 0
    names = list(vehicle.seeds)
    for _ in range(size):
        name, edits = names[rng.integers(len(names))], random_edits(rng)
        tried[name] += 1
        try:
            vehicle.take(name, mutated(vehicle.seeds[name], edits))
        except Exception as error:
            escaped += 1
            print(f"escaped: {name} {edits}: {type(error).__name__}: {error}", file=sys.stderr)
    vehicle.close()
    print(";".join(f"{name}={count}" for name, count in tried.items()))
    print(f"refused={len(vehicle.refused)}")
    return 1 if escaped else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=200_000)
    parser.add_argument("--first-chunk", type=int, default=0, help="goes on where another run ended")
    parser.add_argument("--chunk", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.chunk is not None:
        return try_chunk(arguments.chunk, min(CHUNK, arguments.messages))
    begun, tried, faults, refused = time.monotonic(), Counter[str](), 0, 0
    for number in range(-(-arguments.messages // CHUNK)):
        chunk, size = arguments.first_chunk + number, min(CHUNK, arguments.messages - number * CHUNK)
        done = subprocess.run(
            [sys.executable, "-X", "faulthandler", __file__, "--chunk", str(chunk), "--messages", str(size)],
            capture_output=True,
            text=True,
        )
        if done.returncode:
            faults += 1
            said = [line for line in done.stderr.splitlines() if "sequence size" not in line and "libpng" not in line]
            print(f"chunk {chunk}: exit code {done.returncode}", *said[-20:], sep="\n", flush=True)
            continue
        counts, refusals = done.stdout.splitlines()[-2:]
        tried.update({name: int(count) for name, count in (pair.split("=") for pair in counts.split(";"))})
        refused += int(refusals.split("=")[1])
        seconds = time.monotonic() - begun
        print(f"{sum(tried.values())} messages, {faults} chunks with faults, {seconds:.0f} s", flush=True)
    for name, count in sorted(tried.items()):
        print(f"{name:16} {count}")
    print(f"{sum(tried.values())} messages tried, {refused} refusals, {faults} chunks with an escape or a crash")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
