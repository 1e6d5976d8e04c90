"""Apache Kafka without Docker: jars from Maven, one KRaft node on the loopback address, data kept.

`python -m local.apache_kafka fetch` gets the jars into `.kafka/jars` of the checkout; `run --port P --data DIR` also
starts the broker.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

from local.ports import HOST, free_ports
from local.probes import kafka_answers
from metering.errors import TallygateError

VERSION = "4.3.1"
_HOME = Path(__file__).resolve().parents[1] / ".kafka"
_MAVEN_SECONDS = 600
_FORMAT_SECONDS = 60
_NODE = 1

_POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>tallygate</groupId>
  <artifactId>local-kafka</artifactId>
  <version>1</version>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId>
      <version>{VERSION}</version></dependency>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId>
      <version>{VERSION}</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId>
      <version>1.7.36</version></dependency>
  </dependencies>
</project>
"""


class MavenUnavailable(TallygateError):
    """Apache Kafka cannot be had here: no Java, no Maven, or no Maven repository in reach."""


class KafkaFailed(TallygateError):
    """The broker's storage could not be prepared."""


def fetch(home: Path = _HOME) -> Path:
    """The folder with the broker's jars, fetched once per version. Raises MavenUnavailable."""
    jars = home / "jars"
    complete = jars / f".complete-{VERSION}"
    if complete.exists():
        return jars
    for program in ("java", "mvn"):
        if shutil.which(program) is None:
            raise MavenUnavailable(
                f"Apache Kafka needs `{program}`, which is not installed (Java 17 or newer and Maven; "
                "on Debian: apt-get install default-jre-headless maven). The embedded broker needs neither."
            )
    home.mkdir(parents=True, exist_ok=True)
    with (home / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not complete.exists():
            _copy_dependencies(home, jars)
            complete.touch()
    return jars


def _copy_dependencies(home: Path, jars: Path) -> None:
    shutil.rmtree(jars, ignore_errors=True)
    pom = home / "pom.xml"
    pom.write_text(_POM)
    maven = ["mvn", "--batch-mode", "--quiet", "-f", str(pom), "dependency:copy-dependencies"]
    try:
        done = subprocess.run(
            [*maven, f"-DoutputDirectory={jars}"], capture_output=True, text=True, timeout=_MAVEN_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise MavenUnavailable(f"Maven did not fetch Apache Kafka within {_MAVEN_SECONDS} s") from None
    if done.returncode != 0:
        reasons = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("[ERROR]")]
        reason = reasons[0].removeprefix("[ERROR] ") if reasons else f"exit code {done.returncode}"
        raise MavenUnavailable(f"Maven could not fetch Apache Kafka {VERSION}: {reason}")


def command(port: int, data_dir: Path) -> list[str]:
    """What to run. Fetches the jars and formats `data_dir` when that was not done yet, so it takes seconds then.

    Raises MavenUnavailable or KafkaFailed.
    """
    java = _java(fetch())
    data_dir.mkdir(parents=True, exist_ok=True)
    properties = data_dir / "server.properties"
    properties.write_text(_properties(port, free_ports(1)[0], data_dir.resolve() / "log"))
    if not (data_dir / "log" / "meta.properties").exists():
        cluster = _tool(java, "random-uuid").split()[-1]
        _tool(java, "format", "--cluster-id", cluster, "--config", str(properties))
    return [*java, "kafka.Kafka", str(properties)]


async def ready(port: int) -> bool:
    """Whether it serves. Raises OSError when nobody listens yet."""
    return await kafka_answers(HOST, port)


def _java(jars: Path) -> list[str]:
    """One broker on a small machine: threads that collect garbage and compile beside it take cores from the rest."""
    logging = ["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dorg.slf4j.simpleLogger.showDateTime=true"]
    return ["java", "-Xms256m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", *logging, "-cp", f"{jars}/*"]


def _tool(java: list[str], *arguments: str) -> str:
    done = subprocess.run(
        [*java, "kafka.tools.StorageTool", *arguments], capture_output=True, text=True, timeout=_FORMAT_SECONDS
    )
    if done.returncode != 0:
        raise KafkaFailed(f"Kafka's StorageTool {arguments[0]} failed: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def _properties(port: int, controller_port: int, log_dir: Path) -> str:
    settings = {
        "process.roles": "broker,controller",
        "node.id": _NODE,
        "controller.quorum.voters": f"{_NODE}@{HOST}:{controller_port}",
        "listeners": f"PLAINTEXT://{HOST}:{port},CONTROLLER://{HOST}:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{port}",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": log_dir,
        "offsets.topic.replication.factor": 1,
        "offsets.topic.num.partitions": 8,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        "group.initial.rebalance.delay.ms": 0,
        # A killed broker is let in again once its old session has expired: 6 s to come back instead of 13.
        "broker.session.timeout.ms": 4000,
        "broker.heartbeat.interval.ms": 500,
        "group.min.session.timeout.ms": 1000,
        "auto.create.topics.enable": "false",
        "log.message.timestamp.type": "LogAppendTime",
    }
    return "".join(f"{name}={value}\n" for name, value in settings.items())


def main() -> int:
    """The command line. Exit code 3: Apache Kafka cannot be had here."""
    parser = argparse.ArgumentParser(prog="python -m local.apache_kafka", description=(__doc__ or "").splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("fetch", help="get the jars")
    run = verbs.add_parser("run", help="start the broker and keep it running until Ctrl-C")
    run.add_argument("--port", type=int, default=9092)
    run.add_argument("--data", type=Path, required=True, help="where the broker's log is kept")
    options = parser.parse_args()
    try:
        jars = fetch()
        program = command(options.port, options.data) if options.verb == "run" else None
    except TallygateError as error:
        print(error, file=sys.stderr)
        return 3
    if program is None:
        print(jars)
        return 0
    print(f"Apache Kafka {VERSION} on {HOST}:{options.port}, data in {options.data} (Ctrl-C stops it)", flush=True)
    return os.execvp(program[0], program)  # noqa: S606 (no shell is wanted)


if __name__ == "__main__":
    sys.exit(main())
