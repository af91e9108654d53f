"""A real Slurm on this machine, two nodes of one core each: slurmctld, slurmd, munge.

To try things by hand: `python -m tests.slurm COMMAND …` runs a command with it.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DAEMONS = ("slurmctld", "slurmd", "munged", "sbatch")

# both nodes are this machine
CONFIG = """\
ClusterName=local
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
CryptoType=crypto/munge
SlurmctldPort={port}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=2,batch_sched_delay=1
OverTimeLimit=0
KillWait=20
ReturnToService=2
MpiDefault=none
JobRequeue=1
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={port1} CPUs=2 RealMemory=8000 State=UNKNOWN
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={port2} CPUs=2 RealMemory=8000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> list[str]:
    """What of Slurm is not installed here, or why it cannot be started."""
    lacking = [name for name in DAEMONS if not shutil.which(name, path=search_path())]
    return lacking or ([] if os.geteuid() == 0 else ["root"])


def search_path() -> str:
    return f"{os.environ['PATH']}:/usr/sbin:/sbin"


@contextmanager
def cluster() -> Iterator[dict[str, str]]:
    """Start it; yields what its commands need in their environment."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    for part in ("state", "spool/n1", "spool/n2"):
        (folder / part).mkdir(parents=True)
    host = socket.gethostname().partition(".")[0]
    port, port1, port2 = (_free_port() for _ in range(3))
    config = folder / "slurm.conf"
    config.write_text(CONFIG.format(host=host, folder=folder, port=port, port1=port1, port2=port2))
    environment = {"SLURM_CONF": str(config), "PATH": search_path()}
    inherited = os.environ | environment
    munge = Path("/run/munge")
    munge.mkdir(exist_ok=True)
    shutil.chown(munge, "munge", "munge")
    subprocess.run(
        ["su", "-s", "/bin/sh", "munge", "-c", "/usr/sbin/munged --force"],
        capture_output=True,
        check=False,  # one may be running already
    )
    daemons = [["slurmctld", "-D"], ["slurmd", "-D", "-N", "n1"], ["slurmd", "-D", "-N", "n2"]]
    running = [
        subprocess.Popen(
            [*command, "-f", str(config)],
            env=inherited,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for command in daemons
    ]
    ended = threading.Event()
    try:
        _wait_until_idle(inherited)
        threading.Thread(target=_hurry, args=(inherited, ended), daemon=True).start()
        yield environment
    finally:
        ended.set()
        subprocess.run(["scancel", "--me"], env=inherited, capture_output=True, check=False)
        for process in reversed(running):
            process.terminate()
        for process in running:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:  # it waits for its jobs
                process.kill()
                process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _hurry(environment: dict[str, str], ended: threading.Event) -> None:
    """Start requeued jobs at once: by itself, Slurm lets two minutes go by."""
    command = ["squeue", "--noheader", "--array", "--states=PENDING", "--format=%i %r"]
    seen: Counter[str] = Counter()
    while not ended.wait(0.5):
        listed = subprocess.run(command, env=environment, capture_output=True, text=True).stdout
        for job, reason in (line.split(maxsplit=1) for line in listed.splitlines()):
            seen[job] += 1 if reason == "BeginTime" else -seen[job]
            if seen[job] >= 5:  # sooner, what it ran before may still be ending
                update = ["scontrol", "update", f"JobId={job}", "StartTime=now"]
                subprocess.run(update, env=environment, capture_output=True, check=False)
                seen[job] = 0


def _wait_until_idle(environment: dict[str, str]) -> None:
    for _ in range(150):
        command = ["sinfo", "--noheader", "--Node", "--format=%T"]
        states = subprocess.run(command, env=environment, capture_output=True, text=True)
        if states.stdout.split() == ["idle", "idle"]:
            return
        time.sleep(0.2)
    raise RuntimeError(f"Slurm does not start: {states.stdout}{states.stderr}")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


if __name__ == "__main__":
    with cluster() as made:
        sys.exit(subprocess.run(sys.argv[1:], env=os.environ | made).returncode)
