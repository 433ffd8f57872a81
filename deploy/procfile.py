"""Run the services of compose.yaml as plain processes: writes a Procfile and the configuration files that it needs.

    python deploy/procfile.py run --database postgresql://me@localhost/celeriac
    run/celeriac migrate                          # `celeriac` with the settings of these processes
    honcho --procfile run/Procfile start          # or overmind, foreman, goreman

For machines without containers, and for the test of compose.yaml. Names, command lines, settings, numbers of replicas
and the configurations of proxy, store and Prometheus are read from the same files, so they cannot drift apart.
The differences: host names become ports of this machine, the secrets are in the folder, PostgreSQL must already run,
and Grafana is left out.
"""

from __future__ import annotations

import argparse
import re
import secrets
import shlex
import shutil
import socket
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
#: Services that need a program which the operator installs, and the program's name.
PROGRAMS = {"proxy": "nginx", "prometheus": "prometheus"}
#: The service that runs once, before the others.
ONCE = "migrate"


@dataclass
class Topology:
    """The folder, ports and services of one run."""

    folder: Path
    database_url: str
    services: dict[str, dict[str, Any]]
    ports: dict[str, int] = field(default_factory=dict)

    def port(self, name: str) -> int:
        """Return the port that `name` listens on; it stays the same within one run."""
        if name not in self.ports:
            with socket.create_server(("127.0.0.1", 0)) as probe:
                self.ports[name] = probe.getsockname()[1]
        return self.ports[name]

    def replicas(self, service: str) -> int:
        """Return how many replicas of a service compose.yaml starts."""
        return int(self.services[service].get("deploy", {}).get("replicas", 1))

    def secret(self, name: str) -> Path:
        """Return the path of a secret."""
        return self.folder / "secrets" / name


def main() -> int:
    """Write the folder and print the next step; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where to write; it is made")
    parser.add_argument("--database", required=True, help="URL of an existing PostgreSQL database")
    arguments = parser.parse_args()
    topology = write(arguments.folder.absolute(), arguments.database)
    print(f"{topology.folder / 'Procfile'}\nHTTP http://127.0.0.1:{topology.port('proxy:8080')}")
    print(f"next: {topology.folder / 'celeriac'} {ONCE}")
    return 0


def write(folder: Path, database_url: str) -> Topology:
    """Write the Procfile and all files that its processes read; returns the topology."""
    compose = yaml.safe_load((HERE / "compose.yaml").read_text(encoding="utf-8"))
    topology = Topology(folder, database_url, compose["services"])
    for name in ("secrets", "data", "store", "metrics"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    _write_secrets(topology, list(compose["secrets"]))
    _write_configurations(topology)
    lines = []
    for service in topology.services:
        if service == ONCE:
            continue  # a Procfile runner stops everything as soon as one process ends
        for number in range(1, topology.replicas(service) + 1):
            command = command_of(topology, service, number)
            if command is not None:
                name = service if topology.replicas(service) == 1 else f"{service}-{number}"
                lines.append(f"{name}: {command}")
    (folder / "Procfile").write_text("\n".join(lines) + "\n", encoding="utf-8")
    command = command_of(topology, ONCE, 1) or ""
    script = folder / "celeriac"
    script.write_text(f'#!/bin/sh\nexec {command.removesuffix(f" {ONCE}")} "$@"\n', encoding="utf-8")
    script.chmod(0o755)
    return topology


def command_of(topology: Topology, service: str, number: int) -> str | None:
    """Return the command line of one replica, or None if the service does not run here."""
    facts = topology.services[service]
    words = [str(word) for word in facts.get("command", [])]
    if service == "valkey":
        from celeriac.up.embedded import find_server

        configuration = topology.folder / "valkey.conf"
        return shlex.join([str(find_server()), str(configuration), *_mounted(topology, words[2:])])
    if service == "proxy":
        return shlex.join([_program("proxy"), "-c", str(topology.folder / "nginx.conf"), "-g", "daemon off;"])
    if service == "prometheus":
        own = {"--config.file": topology.folder / "prometheus.yml", "--storage.tsdb.path": topology.folder / "metrics"}
        words = [f"{name}={own.get(name, value)}" for name, _, value in (word.partition("=") for word in words)]
        return shlex.join(
            [_program("prometheus"), *words, f"--web.listen-address=127.0.0.1:{topology.port('prometheus')}"]
        )
    if facts.get("image", "").split(":")[0] not in ("celeriac", "${CELERIAC_IMAGE"):
        return None
    program = {"celery": "celery"}.get(facts.get("entrypoint", ["celeriac"])[0], "celeriac")
    words = _with_ports(topology, service, number, words)
    environment = {
        **{name: str(value) for name, value in facts.get("environment", {}).items()},
        "CELERIAC_DATA_DIR": str(topology.folder / "data"),
        "LOCAL_STORAGE_PATH": str(topology.folder / "data" / "storage"),
        "CELERIAC_CONFIG": str(HERE / "celeriac.yaml"),
    }
    assignments = [f"{name}={value}" for name, value in environment.items()]
    return shlex.join(["env", *_mounted(topology, assignments), str(Path(sys.executable).parent / program), *words])


def _with_ports(topology: Topology, service: str, number: int, words: list[str]) -> list[str]:
    """Return a command line with this machine's addresses instead of those of a container."""
    replaced = []
    previous = ""
    for word in words:
        if previous in ("--port", "--grpc-port"):
            word = str(topology.port(f"{service}-{number}:{word}"))
        elif previous == "--host" or word == "--address=0.0.0.0":
            word = word.replace("0.0.0.0", "127.0.0.1")  # noqa: S104 - it is replaced here
        elif word.startswith("--conf="):
            word = f"--conf={HERE / Path(word).name}"
        elif word.startswith("--port="):
            word = f"--port={topology.port(service)}"
        replaced.append(word)
        previous = word
    return replaced


def _mounted(topology: Topology, words: list[str]) -> list[str]:
    return [word.replace("/run/secrets/", f"{topology.folder / 'secrets'}/") for word in words]


def _program(service: str) -> str:
    """Return the path of a service's program; exits with a clear message if it is not installed."""
    name = PROGRAMS[service]
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise SystemExit(
            f"{name} is not installed (Debian: apt-get install {'nginx-light' if name == 'nginx' else name})"
        )
    return found


def _write_secrets(topology: Topology, names: list[str]) -> None:
    password = secrets.token_hex(24)
    values = {
        "valkey_auth": f"requirepass {password}\n",
        "redis_url": f"redis://:{password}@127.0.0.1:{topology.port('valkey')}/0",
        "database_url": topology.database_url,
        "jwt_secret": secrets.token_hex(32),
    }
    for name in names:
        path = topology.secret(name)
        path.touch(mode=0o600)
        if not path.stat().st_size:
            path.write_text(values.get(name, secrets.token_hex(16)), encoding="utf-8")


def _write_configurations(topology: Topology) -> None:
    folder = topology.folder
    store = (HERE / "valkey" / "valkey.conf").read_text(encoding="utf-8")
    store = re.sub(r"(?m)^dir .*$", f"dir {folder / 'store'}", store)
    (folder / "valkey.conf").write_text(f"{store}port {topology.port('valkey')}\nbind 127.0.0.1\n", encoding="utf-8")

    proxy = (HERE / "nginx" / "nginx.conf").read_text(encoding="utf-8")
    proxy = re.sub(r"(?m)^ *resolver .*\n", "", proxy).replace("/var/run/nginx.pid", str(folder / "nginx.pid"))
    for port in ("8000", "50050"):
        servers = "\n".join(
            f"    server 127.0.0.1:{topology.port(f'api-{number}:{port}')} max_fails=0;"
            for number in range(1, topology.replicas("api") + 1)
        )
        proxy, found = re.subn(rf"(?m)^ *server api:{port} .*$", servers, proxy)
        if found != 1:
            raise SystemExit(f"nginx.conf: no upstream of api:{port}")
    for port in ("8080", "50051"):
        proxy = proxy.replace(f"listen {port}", f"listen 127.0.0.1:{topology.port(f'proxy:{port}')}")
    temporary = "".join(
        f"  {kind}_temp_path {folder / f'nginx-{kind}'};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(proxy.replace("http {\n", "http {\n" + temporary, 1), encoding="utf-8")

    watch = yaml.safe_load((HERE / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    watch["rule_files"] = [str(HERE / "prometheus" / "alerts.yml")]
    watch["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    replicas = [f"127.0.0.1:{topology.port(f'api-{number}:8000')}" for number in range(1, topology.replicas("api") + 1)]
    for job in watch["scrape_configs"]:
        job["authorization"] = {"credentials_file": str(topology.secret("metrics_key"))}
        found_by_name = job.pop("dns_sd_configs", None)
        if found_by_name:
            job["static_configs"] = [{"targets": replicas}]
        else:
            job["static_configs"][0]["targets"] = replicas[:1]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(watch), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
