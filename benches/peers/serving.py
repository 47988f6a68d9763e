"""Habitus over a store beside the least that a tonic server costs, and what users have today.

    python benches/peers/serving.py [floor|habitus|batch|open|ready|ingest|peers|all ...]
        [--customers 1000000] [--rounds 3] [--seconds 5] [--directory DIR] [--target DIR]
        [--cache-mb 256] [--also NAME=PATH ...] [--python PYTHON] [--mlserver-python PYTHON]

floor    an empty tonic server with the messages of habitus.v1: one multi-thread runtime, and one
         current-thread runtime per core on SO_REUSEPORT, each with and without mimalloc
habitus  GetPrediction of random customers from a store, and the memory that a million of them take
batch    BatchPredict of 1,000 random customers
open     an open loop at half of the calls that habitus answered, on habitus and on the floor
ready    from the start of the process until the first answer, also after kill -9 while events came
ingest   `habitus ingest`, and IngestEvents: callers with one event each, and streams of many
peers    a grpcio server, and MLServer with a KMeans of scikit-learn, where they can be had

Servers run side by side and are asked in turns, round by round; figures are medians of the rounds.
Load and servers share the cores, so that calls per second say little of either. What survives other
work on the machine is the server's processor time per call, out of /proc, which is what the last
column divides by that of the best floor. Where the cache is smaller than the store, the rest of the
store's file is read into the system's memory before each turn, so that no figure is the disk's. A
load of CxI is C connections with I calls on each. In an open loop the time of an answer counts from
the instant at which its question was to leave.

The log, the model and the store are made in DIR where they are not there yet, and kept if it was
given. The log ends today, since a store answers as of now. HABITUS is the binary, --also further
ones to compare it with, each over a store of its own. PYTHON is one with grpcio and grpcio-tools,
and one with mlserver and mlserver-sklearn. What serves the floor and makes the load is built into
--target by cargo.
"""
import argparse, datetime, glob, json, os, shutil, signal, socket, statistics, subprocess, sys
import tempfile, time

HERE = os.path.dirname(os.path.abspath(__file__))
CRATE = os.path.join(HERE, "serving")
HABITUS = os.environ.get("HABITUS", os.path.join(HERE, "../../target/release/habitus"))
PARTS = ["floor", "habitus", "batch", "open", "ready", "ingest", "peers"]
CONFIG = """
[data.columns]
customer = "customer_id"
time = "time"
amount = "amount"
quantity = "quantity"
order_id = "order_id"
event_id = "event_id"
[model]
name = "serving"
[store]
cache_mb = {cache}
[registry]
path = "{models}"
"""
FLOORS = {
    "floor, multi-thread": ("floor", "multi"),
    "floor, multi-thread, mimalloc": ("floor_mimalloc", "multi"),
    "floor, one runtime a core": ("floor", "reuseport"),
    "floor, one runtime a core, mimalloc": ("floor_mimalloc", "reuseport"),
}
BEST = "floor, one runtime a core, mimalloc"


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Server:
    """A process that answers on a port of its own."""

    running = []

    def __init__(self, name, command, port, **how):
        self.name, self.address, self.store = name, f"http://127.0.0.1:{port}", None
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log, **how)
        self.pid = self.process.pid
        Server.running.append(self)

    def said(self):
        self.log.seek(0)
        return self.log.read().decode(errors="replace")[-2000:]

    def memory_mb(self):
        lines = open(f"/proc/{self.pid}/status").read().splitlines()
        fields = dict(line.split(":", 1) for line in lines)
        return tuple(int(fields[key].split()[0]) / 1024 for key in ("VmRSS", "VmHWM"))

    def kill(self, how=signal.SIGKILL):
        self.process.send_signal(how)
        self.process.wait()
        Server.running.remove(self)


class Bench:
    def __init__(self, options):
        self.options = options
        self.directory = options.directory or tempfile.mkdtemp()
        self.target = options.target or os.path.join(self.directory, "target")
        os.makedirs(self.directory, exist_ok=True)
        self.rows, self.binaries = {}, {"habitus": HABITUS}
        self.binaries.update(one.split("=", 1) for one in options.also)
        subprocess.run(["cargo", "build", "--release", "--quiet", "--target-dir", self.target],
                       cwd=CRATE, check=True)

    def at(self, name):
        return os.path.join(self.directory, name)

    def tool(self, name):
        return os.path.join(self.target, "release", name)

    def habitus(self, *arguments, binary=HABITUS):
        done = subprocess.run([*binary.split(), "--quiet", *map(str, arguments)],
                              stdout=subprocess.PIPE, check=True)
        return done.stdout

    def config(self, cache_mb):
        path = self.at(f"serving-{cache_mb}.toml")
        with open(path, "w") as file:
            file.write(CONFIG.format(cache=cache_mb, models=self.at("models")))
        return path

    def prepare(self):
        """The log, the model and the store; the model learns from fewer customers."""
        start = datetime.date.today() - datetime.timedelta(days=731)
        for name, customers in [("log", self.options.customers),
                                ("few", min(self.options.customers, 100_000))]:
            if not os.path.exists(self.at(name + ".parquet")):
                self.habitus("simulate", "--customers", customers, "--orders", 20, "--start", start,
                             "--purchases-only", "--out", self.at("part.parquet"))
                os.rename(self.at("part.parquet"), self.at(name + ".parquet"))
        if not os.path.exists(self.at("models")):
            self.habitus("train", "--config", self.config(256), "--events", self.at("few.parquet"),
                         "--models", self.at("models"))
        if not os.path.exists(self.at("store")) or "ingest" in self.options.parts:
            start = time.perf_counter()
            told = self.fill(self.at("part"), HABITUS)
            took = time.perf_counter() - start
            rows = json.loads(told)["account"]["accepted"]
            print(f"`habitus ingest`: {rows} events in {took:.1f} s, {rows / took:,.0f} a second",
                  flush=True)
            shutil.rmtree(self.at("store"), ignore_errors=True)
            os.rename(self.at("part"), self.at("store"))
        stats = json.loads(self.habitus("store", "stats", "--store", self.at("store"), "--format",
                                        "json"))
        print(f"store: {stats['customers']} customers, {stats['lines']} events, "
              f"{stats['file_bytes'] / 2**20:.0f} MB in a file, of them "
              f"{stats['stored_bytes'] / 2**20:.0f} MB in use", flush=True)
        self.store_mb = stats["file_bytes"] >> 20

    def fill(self, store, binary):
        shutil.rmtree(store, ignore_errors=True)
        return self.habitus("ingest", "--config", self.config(self.options.cache_mb), "--events",
                            self.at("log.parquet"), "--store", store, "--format", "json",
                            binary=binary)

    def serve(self, name="habitus", cache_mb=None, store=None, binary=None, port=None):
        port = port or free_port()
        # One PATH may carry arguments of its own, such as --threads.
        binary = (binary or HABITUS).split()
        command = [*binary, "--quiet", "serve", "--store", store or self.at("store"), "--model",
                   "serving", "--config", self.config(cache_mb or self.options.cache_mb),
                   "--listen", f"127.0.0.1:{port}"]
        return Server(name, command, port)

    def check(self, server):
        """One whole answer before any load; its size, and the answer itself in a file."""
        path = self.at("answer.bin" if server.name == "habitus" else "other.bin")
        try:
            done = subprocess.run([self.tool("load"), "check", server.address, "c0000001", path],
                                  capture_output=True, text=True, timeout=60, check=True)
        except subprocess.SubprocessError as error:
            sys.exit(f"{server.name}: no whole answer: {error} {error.stderr}; the process ended "
                     f"with {server.process.poll()} and said: {server.said()}")
        return done.stdout.split("\n", 1)

    def load(self, server, **keys):
        keys = {"address": server.address, "pid": server.pid, "seconds": self.options.seconds,
                "customers": self.options.customers, **keys}
        command = [self.tool("load"), "run", *(f"{key}={value}" for key, value in keys.items())]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{server.name}: {done.stderr}\n{server.said()}")
        return json.loads(done.stdout)

    def measure(self, shape, server, **keys):
        told = self.load(server, **keys)
        self.rows.setdefault((shape, server.name), []).append(told)
        if told["errors"] or told["rejected"]:
            print(f"  {shape}, {server.name}: {told['errors']} errors, "
                  f"{told['rejected']} rejected: {told['first_error']}", flush=True)
        return told

    def median(self, shape, name, key):
        return statistics.median(told[key] for told in self.rows[shape, name])

    def table(self):
        print(f"\n{'load':32} {'server':36} {'CPU us':>8} {'spread':>13} {'calls/s':>9} "
              f"{'p50 us':>7} {'p99 us':>8} {'max us':>8} {'errors':>6} {'x floor':>7}")
        last = None
        for shape, name in sorted(self.rows, key=lambda row: list(self.rows).index(
                next(one for one in self.rows if one[0] == row[0]))):
            if last not in (None, shape):
                print()
            last = shape
            figure = lambda key: self.median(shape, name, key)
            all_cpu = [told["cpu_us"] for told in self.rows[shape, name]]
            spread = f"{min(all_cpu):.1f}-{max(all_cpu):.1f}"
            floors = [self.median(shape, one, "cpu_us") for one in FLOORS
                      if (shape, one) in self.rows]
            times = f"{figure('cpu_us') / min(floors):7.2f}" if floors else ""
            errors = sum(told["errors"] + told["rejected"] for told in self.rows[shape, name])
            print(f"{shape:32} {name:36} {figure('cpu_us'):8.1f} {spread:>13} "
                  f"{figure('calls_per_s'):9,.0f} {figure('p50_us'):7.0f} {figure('p99_us'):8.0f} "
                  f"{figure('max_us'):8.0f} {errors:6} {times:>7}")
        for (shape, name) in self.rows:
            if shape.startswith("batch"):
                each = self.median(shape, name, "cpu_us") / 1000
                print(f"{name}: {self.median(shape, name, 'calls_per_s') * 1000:,.0f} answers a "
                      f"second beside the load, {each:.3f} us of CPU each "
                      f"({os.cpu_count() / each * 1e6:,.0f} a second on {os.cpu_count()} cores)")

    def closed_and_open(self, parts):
        """Floors and habitus side by side, in turns."""
        servers = []
        answer = []
        if parts & {"habitus", "batch", "open"}:
            for name, binary in self.binaries.items():
                store = self.at("store")
                if name != "habitus":
                    # One process at a time holds a store, and builds may differ in its format.
                    store = self.at("store-of-" + name)
                    self.fill(store, binary)
                servers.append(self.serve(name, binary=binary, store=store))
                servers[-1].store = store
            servers.append(self.serve("habitus, all in memory", store=self.copy("store-cached"),
                                      cache_mb=2 * self.store_mb + 64))
        for server in servers:
            size, shown = self.check(server)
            if server.name == "habitus":
                print(f"an answer of habitus: {size} bytes\n  {shown.strip()}", flush=True)
                answer = [self.at("answer.bin")]
            if server.store:
                # Often enough that few histories were asked for less than twice.
                self.load(server, method="batch", connections=2, rows=1000, calls=max(
                    20, 8 * self.options.customers // 1000))
        for name, (tool, mode) in FLOORS.items():
            if "floor" in parts or name == BEST:
                port = free_port()
                server = Server(name, [self.tool(tool), mode, str(port), *answer], port)
                size = self.check(server)[0]
                servers.append(server)
        print(f"an answer of the floors: {size} bytes", flush=True)
        for round in range(self.options.rounds):
            for server in servers[::1 if round % 2 else -1]:
                if server.store:
                    self.in_memory(server.store)
                if parts & {"floor", "habitus", "open"}:
                    self.measure("get 16x16", server, method="get", connections=16, inflight=16)
                if parts & {"floor", "habitus"}:
                    self.measure("get 16x1", server, method="get", connections=16, inflight=1)
                if parts & {"floor", "batch"}:
                    self.measure("batch of 1,000, 4x1", server, method="batch", connections=4,
                                 inflight=1, rows=1000)
        if "open" in parts:
            rate = self.median("get 16x16", "habitus", "calls_per_s") / 2
            for _ in range(self.options.rounds):
                for server in servers:
                    if server.store:
                        self.in_memory(server.store)
                    self.measure(f"open, {rate:,.0f} a s", server, method="get", connections=16,
                                 rate=rate)
        for server in servers:
            server.kill()

    def copy(self, name):
        shutil.rmtree(self.at(name), ignore_errors=True)
        shutil.copytree(self.at("store"), self.at(name))
        # Else what follows would pay for writing the copy.
        os.sync()
        return self.at(name)

    def in_memory(self, store):
        """Has the system hold the store's file, as far as it wants to; it may have let go of it."""
        for path in glob.glob(os.path.join(store, "*")):
            with open(path, "rb", buffering=0) as file:
                while file.read(1 << 24):
                    pass

    def memory(self):
        """What a million random reads leave in memory."""
        server = self.serve()
        self.check(server)
        idle = server.memory_mb()[0]
        seen = []
        for method, keys in [("get", dict(connections=16, inflight=16, calls=1_000_000)),
                             ("batch", dict(connections=4, rows=1000, calls=1_000))]:
            if self.options.customers < 1_000_000:
                keys["calls"] = max(10, keys["calls"] * self.options.customers // 1_000_000)
            told = self.load(server, method=method, **keys)
            resident, peak = server.memory_mb()
            seen.append(f"after {told['calls']:,} {method} {resident:.0f} MB (peak {peak:.0f})")
        print(f"memory: started {idle:.0f} MB, {', '.join(seen)}; {self.bound()}", flush=True)
        server.kill()

    def bound(self):
        bound = self.options.cache_mb + 64 * self.options.customers / 2**20
        return f"bound: cache {self.options.cache_mb} MB + 64 bytes a customer = {bound:.0f} MB"

    def time_to_ready(self, store):
        port = free_port()
        asking = subprocess.Popen([self.tool("load"), "ready", f"http://127.0.0.1:{port}",
                                   "c0000001"], stdout=subprocess.PIPE, text=True)
        time.sleep(0.2)
        start = time.time_ns()
        server = self.serve(store=store, port=port)
        try:
            told, _ = asking.communicate(timeout=600)
        except subprocess.TimeoutExpired:
            asking.kill()
            sys.exit(f"the server is not ready: {server.said()}")
        return (int(told) - start) / 1e6, server

    def ready(self):
        def cold(store):
            # What is clean can be dropped from memory without asking for all files of the machine.
            for path in glob.glob(os.path.join(store, "*")):
                with open(path) as file:
                    os.fsync(file.fileno())
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

        times = {"after a shutdown": [], "the same, file not in memory": [],
                 "after kill -9 while idle": [], "after kill -9 while events came": [],
                 "the same, file not in memory ": []}
        store = self.copy("store-ready")
        self.time_to_ready(store)[1].kill(signal.SIGTERM)
        for round in range(self.options.rounds):
            for name, before in zip(list(times)[:2], [lambda: None, lambda: cold(store)]):
                before()
                took, server = self.time_to_ready(store)
                times[name].append(took)
                server.kill(signal.SIGTERM)
            _, server = self.time_to_ready(store)
            server.kill()
            took, server = self.time_to_ready(store)
            times[list(times)[2]].append(took)
            for name, before in zip(list(times)[3:], [lambda: None, lambda: cold(store)]):
                keys = dict(address=server.address, method="ingest", connections=8, rows=1000,
                            window=2, seconds=600, customers=self.options.customers)
                load = subprocess.Popen([self.tool("load"), "run", *(
                    f"{key}={value}" for key, value in keys.items())],
                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                time.sleep(2 + 0.37 * round)
                server.kill()
                load.kill()
                load.wait()
                before()
                took, server = self.time_to_ready(store)
                times[name].append(took)
            server.kill()
        for name, took in times.items():
            print(f"ready {name.strip()}: {statistics.median(took):.0f} ms "
                  f"({', '.join(f'{one:.0f}' for one in took)})", flush=True)

    def ingest(self):
        took = []
        with open(self.at("probe"), "wb") as file:
            for _ in range(200):
                file.write(bytes(4096))
                file.flush()
                start = time.perf_counter()
                os.fdatasync(file.fileno())
                took.append(time.perf_counter() - start)
        print(f"the disk makes 4 KB durable in {statistics.median(took) * 1e3:.2f} ms", flush=True)
        server = self.serve(store=self.copy("store-ingest"))
        self.check(server)
        told = {}
        # Most histories are in memory when the first events come, which then have to give way.
        self.load(server, method="batch", connections=2, rows=1000,
                  calls=max(20, 5 * self.options.customers // 1000))
        # Until as much is merged as comes, and the server knows which ids are new.
        self.load(server, method="ingest", connections=4, rows=5000, window=2,
                  seconds=12 * self.options.seconds)
        for _ in range(self.options.rounds):
            for name, keys in {
                "64 callers, 1 event each": dict(connections=16, inflight=4, rows=1),
                "4 streams of 1,000 x 4": dict(connections=4, rows=1000, window=4),
                "4 streams of 5,000 x 2": dict(connections=4, rows=5000, window=2),
            }.items():
                told.setdefault(name, []).append(
                    self.measure("ingest, " + name, server, method="ingest", **keys)
                    ["calls_per_s"] * keys["rows"])
        for name, rates in told.items():
            print(f"ingest, {name}: {statistics.median(rates):,.0f} durable events a second "
                  f"({min(rates):,.0f} to {max(rates):,.0f})", flush=True)
        # Whether what was written made reading dearer.
        self.measure("get 16x16", self.named(server, "habitus, after these events"), method="get",
                     connections=16, inflight=16)
        resident, peak = server.memory_mb()
        print(f"memory after ingest: {resident:.0f} MB (peak {peak:.0f}; {self.bound()})", flush=True)
        server.kill()

    def named(self, server, name):
        server.name = name
        return server

    def peers(self):
        servers = [(self.grpcio, {"method": "get"}), (self.mlserver, {
            "method": "raw", "path": "/inference.GRPCInferenceService/ModelInfer",
            "body": self.at("mlserver/question.bin")})]
        started = []
        for start, keys in servers:
            try:
                started.append((start(), keys))
            except (OSError, subprocess.CalledProcessError, TimeoutError) as error:
                print(f"{start.__name__}: not measured, it cannot be had here: {error}", flush=True)
        for round in range(self.options.rounds):
            for server, keys in started:
                self.measure("get 16x1", server, connections=16, inflight=1, **keys)
        for server, _ in started:
            server.kill()

    def grpcio(self):
        python, out = self.options.python, self.at("grpcio")
        os.makedirs(out, exist_ok=True)
        proto = os.path.join(HERE, "../../proto")
        files = [f"{proto}/habitus/v1/{name}.proto" for name in ("types", "prediction_service")]
        subprocess.run([python, "-m", "grpc_tools.protoc", "-I", proto, "--python_out", out,
                        "--grpc_python_out", out, *files], check=True, stderr=subprocess.PIPE)
        port = free_port()
        server = Server("grpcio, 8 threads", [
            python, os.path.join(CRATE, "grpcio_server.py"), str(port),
            str(self.options.customers), out], port)
        self.check(server)
        return server

    def mlserver(self):
        python, out = self.options.mlserver_python or self.options.python, self.at("mlserver")
        os.makedirs(out, exist_ok=True)
        ports = [free_port() for _ in range(3)]
        subprocess.run([python, os.path.join(CRATE, "mlserver_model.py"), out, *map(str, ports)],
                       check=True, stderr=subprocess.PIPE)
        server = Server("MLServer, KMeans of scikit-learn", [
            python, "-c", "from mlserver.cli import main; main()", "start", out], ports[0])
        deadline = time.time() + 60
        while time.time() < deadline and server.process.poll() is None:
            with socket.socket() as one:
                if one.connect_ex(("127.0.0.1", ports[0])) == 0:
                    time.sleep(3)  # The model is loaded after the port is open.
                    return server
            time.sleep(0.2)
        raise TimeoutError(server.said())

    def run(self, parts):
        print(f"{datetime.date.today()}, {os.cpu_count()} cores, load average "
              f"{os.getloadavg()[0]:.2f}; {self.options.customers:,} customers, "
              f"{self.options.rounds} rounds of {self.options.seconds} s, cache "
              f"{self.options.cache_mb} MB", flush=True)
        if parts - {"floor", "peers"}:
            self.prepare()
        if parts & {"floor", "habitus", "batch", "open"}:
            self.closed_and_open(parts)
        if "habitus" in parts:
            self.memory()
        if "ready" in parts:
            self.ready()
        if "ingest" in parts:
            self.ingest()
        if "peers" in parts:
            self.peers()
        self.table()
        print(f"load average {os.getloadavg()[0]:.2f}")


def main():
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("parts", nargs="*", default=["all"], choices=[*PARTS, "all"])
    arguments.add_argument("--customers", type=int, default=1_000_000)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--seconds", type=float, default=5)
    arguments.add_argument("--cache-mb", type=int, default=256)
    arguments.add_argument("--directory")
    arguments.add_argument("--target", default=os.environ.get("CARGO_TARGET_DIR"))
    arguments.add_argument("--also", action="append", default=[], metavar="NAME=PATH")
    arguments.add_argument("--python", default=sys.executable)
    arguments.add_argument("--mlserver-python")
    options = arguments.parse_args()
    options.parts = set(PARTS if "all" in options.parts else options.parts)
    bench = Bench(options)
    try:
        bench.run(options.parts)
    finally:
        for server in list(Server.running):
            server.kill()
        if not options.directory:
            shutil.rmtree(bench.directory)


main()
