"""Several machines, the same command on each: they meet at node 0, which says what is run."""

import json
import os
import shutil
import socket
import subprocess
import time
from datetime import timedelta
from pathlib import Path

from torch.distributed import DistError, TCPStore  # type: ignore[attr-defined]

from ..config import Config
from .devices import batch_problem
from .errors import UserError


def meet(cfg: Config, run_dir: Path, count: int) -> tuple[Config, Path, TCPStore]:
    """Wait for every node; return node 0's config and directory, and the store to hold on to.

    `count` is the number of processes on this one. Raises UserError that names who did not come.
    """
    processes = cfg.training.processes
    store = _open(cfg)
    store.set(f"node {processes.node}", json.dumps([socket.gethostname(), count]))
    if processes.node:
        try:
            # longer than node 0 waits: it knows who is missing
            store.set_timeout(timedelta(seconds=2 * processes.join_seconds))
            agreed = json.loads(store.get("agreed"))
        except DistError:
            raise UserError(f"node 0 on {processes.first_node} ended before all had met") from None
        config = agreed["config"]
        config["training"]["processes"]["node"] = processes.node
        return Config.model_validate(config), Path(agreed["run_dir"]), store
    if problem := batch_problem(cfg.training, _wait_for_all(cfg, store)):
        raise UserError(problem)
    agreed = {"config": cfg.model_dump(mode="json"), "run_dir": str(run_dir.absolute())}
    store.set("agreed", json.dumps(agreed))
    return cfg, run_dir, store


def _open(cfg: Config) -> TCPStore:
    processes = cfg.training.processes
    host, port, seconds = processes.first_node, processes.port, processes.join_seconds
    if processes.node:
        _reach(host, port, seconds)
    try:
        return TCPStore(
            host,
            port,
            is_master=processes.node == 0,
            timeout=timedelta(seconds=seconds),
            wait_for_workers=False,
            multi_tenant=True,  # the elastic agent opens its own at the same port
        )
    except DistError as error:
        in_use = "EADDRINUSE" in str(error)
        reason = "the port is in use" if in_use else str(error).splitlines()[0]
        raise UserError(
            f"training.processes.port = {port}: cannot listen there ({reason})\n"
            "often another run has it: choose another, or set RUN_PORT on every node"
        ) from None


def _reach(host: str, port: int, seconds: int) -> None:
    """Wait until node 0 listens; torch would wait as well, but fill the screen meanwhile."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            with socket.create_connection((host, port), timeout=seconds):
                return
        except OSError as error:
            reason = error.strerror or str(error)
            time.sleep(0.5)
    raise UserError(
        f"training.processes.first_node = {host}: not reached at port {port} within {seconds} s "
        f"({reason})\nexpected the host of node 0; RUN_FIRST_NODE sets it, on every node, and "
        "training.processes.join_seconds how long to wait"
    )


def _wait_for_all(cfg: Config, store: TCPStore) -> int:
    """How many processes there are, on all nodes."""
    processes = cfg.training.processes
    until = time.monotonic() + processes.join_seconds
    keys = [f"node {node}" for node in range(processes.nodes)]
    while missing := [node for node, key in enumerate(keys) if not store.check([key])]:
        if time.monotonic() > until:
            names = node_names(processes.nodes)
            raise UserError(
                f"training.processes.nodes = {processes.nodes}: after {processes.join_seconds} s "
                f"(training.processes.join_seconds) missing: {', '.join(names[n] for n in missing)}"
                f"\nlook at its output and whether it reaches "
                f"{processes.first_node}:{processes.port}"
            )
        time.sleep(0.1)
    return sum(json.loads(store.get(key))[1] for key in keys)


def node_names(nodes: int) -> list[str]:
    """What to call them: by their hosts, where Slurm knows them."""
    hosts = []
    if "SLURM_JOB_NODELIST" in os.environ and shutil.which("scontrol"):
        command = ["scontrol", "show", "hostnames", os.environ["SLURM_JOB_NODELIST"]]
        hosts = subprocess.run(command, capture_output=True, text=True).stdout.split()
    named = [f"node {node} ({host})" for node, host in enumerate(hosts)]
    return named or [f"node {node}" for node in range(nodes)]
