"""Which system a command talks to: what `--data-dir` or the environment says, and with which key."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from cli.errors import UNREACHABLE, WRONG_USE, CommandError

DEFAULT_DATA_DIR = Path(".data")
STATE_FILE = "tallygate.json"


class System(msgspec.Struct, frozen=True):
    """Addresses without a slash at the end. `ingest` and `gate` None: the console tells them."""

    console: str
    key: str
    ingest: str | None = None
    gate: str | None = None


def find_system(data_dir: Path | None, environment: Mapping[str, str]) -> System:
    """An explicit `data_dir` wins, then TALLYGATE_URL, then ./.data. TALLYGATE_KEY goes before a stored key.

    A stored key never goes to an address that did not stand beside it. Raises CommandError.
    """
    url, key = environment.get("TALLYGATE_URL"), environment.get("TALLYGATE_KEY")
    if data_dir is None and url:
        if not key:
            raise CommandError(
                WRONG_USE,
                "TALLYGATE_URL is set, but TALLYGATE_KEY is not.",
                "Set TALLYGATE_KEY to a key of that system (`tallygate key create TENANT --scope …` makes one).",
            )
        return System(console=url.rstrip("/"), key=key)
    state = read_state(data_dir or DEFAULT_DATA_DIR)
    if state.get("ready") is False:
        raise CommandError(
            UNREACHABLE,
            f"The system on {data_dir or DEFAULT_DATA_DIR} is stopped, or not ready yet.",
            "`tallygate up` starts it and says when it is ready.",
        )
    try:
        return System(
            console=state["console"].rstrip("/"),
            key=key or state["admin_key"],
            ingest=state["ingest"].rstrip("/"),
            gate=state["gate"].rstrip("/"),
        )
    except KeyError as missing:
        raise CommandError(
            UNREACHABLE,
            f"{(data_dir or DEFAULT_DATA_DIR) / STATE_FILE} does not say {missing}.",
            "It is being written or was cut short: start the system anew with `tallygate up`.",
        ) from None


def read_state(data_dir: Path) -> dict[str, Any]:
    """What a running system left in its data directory: the object of `up --json`. Raises CommandError."""
    path = data_dir / STATE_FILE
    start = f"Start one with `tallygate up --data-dir {data_dir}`, or set TALLYGATE_URL and TALLYGATE_KEY."
    try:
        state = msgspec.json.decode(path.read_bytes())
    except FileNotFoundError:
        raise CommandError(UNREACHABLE, f"No system runs on {data_dir} ({path} is not there).", start) from None
    except PermissionError:
        raise CommandError(
            WRONG_USE, f"{path} may only be read by its owner.", "Run this as the user who started the system."
        ) from None
    except msgspec.DecodeError:
        raise CommandError(UNREACHABLE, f"{path} is not readable.", start) from None
    if not isinstance(state, dict):
        raise CommandError(UNREACHABLE, f"{path} is not readable.", start)
    return state
