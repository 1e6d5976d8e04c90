"""The `tallygate` command: puts the verbs together and turns errors into exit codes."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

import typer

from cli import (
    alerts,
    catalog,
    check,
    dead,
    decisions,
    demo,
    grant,
    key,
    migrate,
    output,
    rebuild,
    reconcile,
    replay,
    send,
    settings,
    status,
    tenant,
    trace,
    up,
    usage,
    void,
)
from cli.errors import BUG, INTERRUPTED, WRONG_USE, CommandError
from cli.options import examples

app = typer.Typer(
    name="tallygate",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Counts what the tenants of a SaaS use, answers “may they?” before they use more, and bills what was counted.",
    epilog=examples(
        "tallygate demo                          # see it all work",
        "tallygate up                            # start everything here and keep it running",
        "tallygate catalog apply catalog.yaml    # say what is counted and what plans grant",
        "tallygate tenant create hotel-adler --plan starter",
        "tallygate key create hotel-adler --scope ingest,check,read",
        "tallygate send events.ndjson --wait 30",
        "tallygate usage hotel-adler",
        "tallygate check hotel-adler voice --amount 300",
    )
    + "\n\nExit codes: 0 yes; 1 the answer is no (denied, rejected events); 2 wrong use; 3 not reachable.",
)

_RUN, _USE, _MANAGE, _PROVE = "Run", "Use", "Manage", "Prove and mend"
app.command(epilog=up.EXAMPLES, rich_help_panel=_RUN)(up.up)
app.command(epilog=status.EXAMPLES, rich_help_panel=_RUN)(status.status)
app.command(epilog=demo.EXAMPLES, rich_help_panel=_RUN)(demo.demo)
app.command(epilog=migrate.EXAMPLES, rich_help_panel=_RUN)(migrate.migrate)
app.command(epilog=settings.EXAMPLES, rich_help_panel=_RUN)(settings.settings)
app.command(epilog=send.EXAMPLES, rich_help_panel=_USE)(send.send)
app.command(epilog=usage.EXAMPLES, rich_help_panel=_USE)(usage.usage)
app.command(epilog=check.EXAMPLES, rich_help_panel=_USE)(check.check)
app.command(epilog=alerts.EXAMPLES, rich_help_panel=_USE)(alerts.alerts)
app.command(epilog=decisions.EXAMPLES, rich_help_panel=_USE)(decisions.decisions)
app.command(epilog=void.EXAMPLES, rich_help_panel=_USE)(void.void)
app.command(epilog=trace.EXAMPLES, rich_help_panel=_PROVE)(trace.trace)
app.command(epilog=reconcile.EXAMPLES, rich_help_panel=_PROVE)(reconcile.reconcile)
app.command(epilog=replay.EXAMPLES, rich_help_panel=_PROVE)(replay.replay)
app.add_typer(dead.app, name="dead", rich_help_panel=_PROVE)
app.add_typer(rebuild.app, name="rebuild", rich_help_panel=_PROVE)
app.add_typer(tenant.app, name="tenant", rich_help_panel=_MANAGE)
app.add_typer(grant.app, name="grant", rich_help_panel=_MANAGE)
app.add_typer(key.app, name="key", rich_help_panel=_MANAGE)
app.add_typer(catalog.app, name="catalog", rich_help_panel=_MANAGE)


def run(arguments: Sequence[str]) -> int:
    """Run one command and answer its exit code."""
    try:
        app(args=list(arguments), prog_name="tallygate")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else WRONG_USE if end.code else 0
    except CommandError as error:
        output.show_error(error, as_json="--json" in arguments)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception:
        traceback.print_exc()
        return BUG
    return 0


def main() -> NoReturn:
    """Entry point."""
    sys.exit(run(sys.argv[1:]))
