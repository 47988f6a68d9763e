"""kill -9 at random moments of `habitus score`, again and again.

    python benches/peers/kill.py [KILLS] [CUSTOMERS]

Every run is killed at a random moment; then one runs to its end. The finished file must have the
bytes of a run that nobody disturbed, nothing may ever stand under the final name before, and
nothing may be left beside it. The log is simulated and larger than the memory bound, so that rows
and scored parts wait on disk.
"""
import hashlib, os, random, shutil, signal, subprocess, sys, tempfile, time

HERE = os.path.dirname(os.path.abspath(__file__))
HABITUS = os.environ.get("HABITUS", os.path.join(HERE, "../../target/release/habitus"))
CONFIG = """
[data.columns]
customer = "customer_id"
time = "time"
amount = "amount"
[model]
name = "kill"
[segments]
family = "kmeans"
k = 4
n_init = 1
"""


def main():
    kills, customers = (list(map(int, sys.argv[1:])) + [100, 300_000][len(sys.argv) - 1:])
    folder = tempfile.mkdtemp()
    at = lambda name: os.path.join(folder, name)
    run = lambda *arguments: subprocess.run([HABITUS, "--quiet", *arguments], check=True,
                                            stdout=subprocess.DEVNULL)
    with open(at("kill.toml"), "w") as file:
        file.write(CONFIG)
    run("simulate", "--customers", str(customers), "--orders", "10", "--purchases-only",
        "--out", at("log.parquet"))
    run("train", "--config", at("kill.toml"), "--events", at("log.parquet"), "--models", at("m"))
    os.mkdir(at("out"))
    out = at("out/scores.csv")
    score = ["score", "--events", at("log.parquet"), "--models", at("m"), "--memory-mb", "50"]
    start = time.perf_counter()
    run(*score, "--out", at("undisturbed.csv"))
    whole = time.perf_counter() - start
    digest = lambda path: hashlib.sha256(open(path, "rb").read()).hexdigest()
    expected = digest(at("undisturbed.csv"))
    random.seed(1)
    killed, finished = 0, 0
    while killed < kills:
        process = subprocess.Popen([HABITUS, "--quiet", *score, "--out", out],
                                   stdout=subprocess.DEVNULL)
        deadline = time.perf_counter() + random.uniform(0, 1.1 * whole)
        while time.perf_counter() < deadline and process.poll() is None:
            assert not os.path.exists(out) or digest(out) == expected, "a partial file is visible"
            time.sleep(0.005)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait()
            killed += 1
            assert not os.path.exists(out) or digest(out) == expected, "a partial file is visible"
        # Some are killed again while they go on; the others may end.
        if killed == kills or random.random() < 0.3:
            run(*score, "--out", out)
            assert digest(out) == expected, "other bytes"
            assert os.listdir(at("out")) == ["scores.csv"], os.listdir(at("out"))
            os.remove(out)
            finished += 1
        elif os.path.exists(out):
            # It was whole when the kill came; what the run kept for a next one may still stand.
            os.remove(out)
    print(f"{killed} kills of a run of {whole:.1f} s; {finished} finished files, "
          f"all with the same bytes; no partial file was visible")
    shutil.rmtree(folder)


main()
