"""The servers that race: each by its configuration file in `configurations/`, each in front of the same upstream.

Invariant: a server that was started answers, on one worker, on the core that was given.
"""

import os
import resource
import shutil
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

from processes import Failed, Process, find

CONFIGURATIONS = Path(__file__).parent / "configurations"


@dataclass
class Ground:
    """What all of them stand on."""

    binary: str
    place: Path
    core: int
    upstream: str = ""
    prefetch: str = "all"

    def fill_in(self, name, folder, **more):
        """A configuration with this server's values in it, written to its folder."""
        text = (CONFIGURATIONS / name).read_text()
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        values = {
            "PLACE": folder,
            "UPSTREAM": self.upstream,
            "UPSTREAM_PORT": self.upstream.rpartition(":")[2],
            "CERTIFICATES": self.place / "certificates",
            "VIEWS": self.place / "views",
            "PREFETCH": self.prefetch,
            "USER": "user root;" if os.geteuid() == 0 else "",
            "FILES": files,
            "CONNECTIONS": files // 2 + 1000,
            **more,
        }
        for key, value in values.items():
            text = text.replace(f"@{key}@", str(value))
        (folder / name).write_text(text)
        return folder / name


@dataclass
class Server:
    """One that runs."""

    name: str
    process: Process
    port: int
    tls_port: int | None


# The bare hyper loop: no server, but what one on hyper cannot go below.
BARE = "bare"


def free_port():
    """A port that nobody has at the moment, for servers that cannot say which one they took."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def new_folder(ground, name):
    folder = ground.place / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def start_forebay(ground, name):
    folder = new_folder(ground, name)
    mode = name.partition("=")[2]
    config = ground.fill_in("forebay.toml", folder, SENDFILE=f'sendfile = "{mode}"' if mode else "")
    process = Process([ground.binary, "serve", "--config", str(config)], ground.core, log=folder / "log")
    try:
        port = int(process.wait_line(r"agents +http://127\.0\.0\.1:(\d+)/")[1])
        tls_port = int(process.wait_line(r"agents, TLS +https://127\.0\.0\.1:(\d+)/")[1])
        process.wait_line("^try: ")
        token = process.wait_line(r"^([a-z]+~[0-9a-f]{64})$")[1]
        # It waits until the trees have what they are to have.
        environment = {**os.environ, "FOREBAY_TOKEN": token}
        asked = subprocess.run(
            [ground.binary, "refresh", "--config", config], capture_output=True, text=True, env=environment
        )
        if asked.returncode != 0:
            raise Failed(f"forebay refresh: {asked.stderr}")
    except BaseException:
        process.stop()
        raise
    return Server(name, process, port, tls_port)


def start_nginx(ground, name):
    folder = new_folder(ground, name)
    port, tls_port = free_port(), free_port()
    config = ground.fill_in("nginx.conf", folder, PORT=port, TLS_PORT=tls_port)
    argv = [find("nginx"), "-p", str(folder), "-c", str(config), "-e", "stderr"]
    return ready(Server(name, Process(argv, ground.core), port, tls_port), "start worker process ")


def bare_program(binary):
    """The bare hyper loop, where it was built beside the binary."""
    return Path(binary).parent / "examples/bare"


def start_bare(ground, name):
    process = Process([str(bare_program(ground.binary)), str(ground.place / "tree")], ground.core)
    server = Server(name, process, 0, None)
    try:
        server.port = int(process.wait_line(r"listening on (\d+)")[1])
    except BaseException:
        process.stop()
        raise
    return server


def start_varnish(ground, name):
    folder = new_folder(ground, name)
    port = free_port()
    config = ground.fill_in("varnish.vcl", folder)
    argv = [find("varnishd"), "-F", "-n", str(folder / "n"), "-a", f"127.0.0.1:{port}", "-f", str(config)]
    argv += ["-s", "malloc,2g", "-p", "thread_pools=1"] + (["-j", "none"] if os.geteuid() == 0 else [])
    return ready(Server(name, Process(argv, ground.core), port, None), "Child .* said Child starts")


def start_squid(ground, name):
    folder = new_folder(ground, name)
    port = free_port()
    # As root it becomes another user, who has to write here.
    folder.chmod(0o777)
    config = ground.fill_in("squid.conf", folder, PORT=port)
    process = Process([find("squid"), "-N", "-d", "1", "-f", str(config)], ground.core)
    return ready(Server(name, process, port, None), "Accepting reverse-proxy HTTP Socket")


def start_trafficserver(ground, name):
    folder = new_folder(ground, name)
    port = free_port()
    for kind in ("etc", "log", "run", "cache"):
        (folder / kind).mkdir()
    shutil.copytree("/etc/trafficserver", folder / "etc", dirs_exist_ok=True)
    for config in ("records.config", "remap.config", "storage.config"):
        shutil.move(ground.fill_in(config, folder, PORT=port), folder / "etc" / config)
    layout = f"prefix: {folder}\nsysconfdir: {folder}/etc\nlogdir: {folder}/log\nruntimedir: {folder}/run\n"
    layout += f"localstatedir: {folder}/run\ncachedir: {folder}/cache\n"
    (folder / "runroot.yaml").write_text(layout)
    process = Process([find("traffic_server"), f"--run-root={folder}/runroot.yaml"], ground.core)
    return ready(Server(name, process, port, None), "Traffic Server is fully initialized")


def ready(server, pattern):
    """Waits for the line by which a server says that it listens."""
    try:
        server.process.wait_line(pattern)
    except BaseException:
        server.process.stop()
        raise
    return server


@dataclass
class Kind:
    """A server that can race: its program, the Debian package that brings it, how it is started."""

    program: str
    package: str
    start: callable
    asked_version: tuple
    configurations: tuple


KINDS = {
    "forebay": Kind("forebay", "", start_forebay, ("--version",), ("forebay.toml",)),
    "nginx": Kind("nginx", "nginx-light", start_nginx, ("-v",), ("nginx.conf",)),
    "trafficserver": Kind(
        "traffic_server",
        "trafficserver",
        start_trafficserver,
        ("--version",),
        ("records.config", "remap.config", "storage.config"),
    ),
    "varnish": Kind("varnishd", "varnish", start_varnish, ("-V",), ("varnish.vcl",)),
    "squid": Kind("squid", "squid", start_squid, ("-v",), ("squid.conf",)),
    BARE: Kind("", "", start_bare, (), ()),
}


def version(kind, binary):
    """The first line that a server says of itself."""
    if kind == BARE:
        return "bare: hyper alone, from memory, with neither decision nor log (bare.rs)"
    program = binary if kind == "forebay" else find(KINDS[kind].program)
    said = subprocess.run([program, *KINDS[kind].asked_version], capture_output=True, text=True)
    return (said.stdout + said.stderr).strip().splitlines()[0]


def has_sendfile(ground):
    """Whether the program knows the setting `sendfile`, by which it would race three times."""
    folder = new_folder(ground, "settings")
    config = ground.fill_in("forebay.toml", folder, SENDFILE='sendfile = "on"', UPSTREAM="http://127.0.0.1:1")
    return subprocess.run([ground.binary, "check", "config", config], capture_output=True).returncode == 0
