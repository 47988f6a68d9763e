"""How long training takes for the heads of many customers, and the memory it takes.

    python benches/peers/heads.py [CUSTOMERS] [ORDERS] [DIRECTORY]

Simulates a log, trains with `model.max_customers` = CUSTOMERS (1,000,000 where left out), so that heads
are learned from everybody, and prints the seconds between the stages that `train` tells of. "heads"
begins with looking at everybody at three cut-offs and ends before the profiles. Needs a release build;
HABITUS names another one.
"""
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time


def main():
    customers = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    orders = sys.argv[2] if len(sys.argv) > 2 else "20"
    directory = pathlib.Path(sys.argv[3] if len(sys.argv) > 3 else tempfile.mkdtemp())
    here = pathlib.Path(__file__).parent
    habitus = os.environ.get("HABITUS", here / "../../target/release/habitus")
    log, config = directory / "log.parquet", here / "simulated.toml"
    if not log.exists():
        simulate = ["--customers", str(customers), "--orders", orders, "--purchases-only"]
        subprocess.run([habitus, "--quiet", "simulate", *simulate, "--out", log], check=True)
    train = [habitus, "train", "--config", config, "--events", log, "--models", directory / "models"]
    train += ["--name", "heads", "--incumbent", "none"]
    settings = os.environ | {"HABITUS_MODEL__MAX_CUSTOMERS": str(customers)}
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    run = subprocess.Popen(train, env=settings, text=True, **pipes)
    stages = []
    for line in run.stderr:
        if " INFO " in line:
            stages.append((line.split(" INFO ")[1].strip(), time.monotonic()))
    ended = time.monotonic()
    if run.wait() != 0:
        sys.exit(f"train ended with {run.returncode}")
    begins = [begin for _, begin in stages] + [ended]
    seconds = {}
    for (name, begin), end in zip(stages, begins[1:]):
        key = "heads" if name.startswith("heads") else name
        seconds[key] = seconds.get(key, 0.0) + end - begin
    for name, taken in seconds.items():
        print(f"{name}: {taken:.1f} s")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    print(f"largest resident set: {peak / 1024:.0f} MB")


main()
