"""The command line. Thin: each command resolves its options and hands over to the core.

Nothing heavy is imported at the top, so that --help and list are instant.
"""

from __future__ import annotations

import contextlib
import io
import sys
from typing import Any

import click

from harness import __version__
from harness.commands.authoring import check, new
from harness.commands.data import data
from harness.commands.forgetting import forget
from harness.commands.listing import list_, show
from harness.commands.reporting import compare, leaderboard, results
from harness.commands.running import plan, rescore, run
from harness.errors import HarnessError, Interrupted, one_line
from harness.streams import Forgiving


class Refusal(click.ClickException):
    """A HarnessError as the command line shows it: one line, exit code 2."""

    def __init__(self, message: str, exit_code: int = 2):
        super().__init__(message)
        self.exit_code = exit_code

    def show(self, file: Any = None) -> None:
        click.echo(f"harness: {self.message}", err=True)


class Commands(click.Group):
    """Commands in the order in which they are written, and one line for what the user got wrong."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def main(self, *args: Any, **more: Any) -> Any:
        if isinstance(sys.stdout, io.TextIOWrapper):  # a name that can't be written there is written with escapes
            sys.stdout.reconfigure(errors="backslashreplace")
        # A reader such as head has seen enough; a table for which there is no room, though, is told of.
        out = sys.stdout and Forgiving(sys.stdout, BrokenPipeError)
        err = sys.stderr and Forgiving(sys.stderr, OSError)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            return super().main(*args, **more)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        for word in args:
            if any("\ud800" <= char <= "\udfff" for char in word):  # a record with such a name could not be read again
                ctx.fail(f"{one_line(word)}: these letters are not UTF-8; write another name")
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except HarnessError as error:
            raise Refusal(str(error), error.exit_code) from None
        except click.UsageError as error:  # it quotes what was typed as it is
            error.message = one_line(error.message)
            raise
        except KeyboardInterrupt:
            raise Refusal("interrupted", Interrupted.exit_code) from None
        except OSError as error:  # a file that can't be read, a disk that is full
            raise Refusal(one_line(str(error))) from None


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="harness")
def main() -> None:
    """Compare detectors of semantic anomalies in images.

    \b
    harness run --protocol test2 --method subcluster,rotnet,ssl
    harness leaderboard --protocol test2
    """


for _command in (run, rescore, plan, list_, show, results, leaderboard, compare, forget, new, check, data):
    main.add_command(_command)
