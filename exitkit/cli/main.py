"""The command `exitkit`: a table of commands, and the one place where errors become exit codes."""

import errno
import importlib
import logging
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Any

import click

import exitkit
from exitkit.errors import ConfigError, ExitkitError, unknown

# The modules are imported when their command is asked for, so that help answers at once.
COMMANDS = {
    "demo": "the whole line on real images, in about two minutes",
    "train": "train a network with exits",
    "evaluate": "accuracy and calibration of every exit",
    "prune": "cut channels out of a run's network, and train what is left",
    "export": "write a run as a bundle: ONNX per exit, checked for parity",
    "inspect": "what a bundle holds",
    "bench": "measure a bundle on this machine",
    "serve": "answer images over HTTP",
    "predict": "classify a folder of images without a server",
    "report": "one HTML page: what early exit saves and costs",
    "methods": "training objectives",
    "models": "networks, and what each of their exits costs",
    "runs": "what has been trained here",
    "doctor": "what is installed, what works, how to mend the rest",
}
# What an installation may lack, and the extra that brings it.
EXTRAS = {
    **dict.fromkeys(("torch", "torchvision", "sklearn", "jaxtyping"), '"exitkit[train]"'),
    **dict.fromkeys(("onnx", "onnxscript"), '"exitkit[export]"'),
    **dict.fromkeys(
        ("onnxruntime", "fastapi", "uvicorn", "prometheus_client", "orjson"), '"exitkit[serve]"'
    ),
    "matplotlib": '"exitkit[report]"',
    "torch_pruning": '"exitkit[prune]"',
}
# The system refuses what was asked, and nothing of ours is wrong.
REFUSALS = (
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EEXIST,
    errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG,
)  # fmt: skip
LOG = logging.getLogger(__name__)
TERMINATED = 128 + signal.SIGTERM


class Terminated(SystemExit):
    """The process was told to end: what is half done is undone on the way out."""


class Commands(click.Group):
    """Commands by name; a command's module is imported when it is needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order in which people meet them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of a command."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"exitkit.cli.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that was typed; name the choices where there is none."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise unknown("command", args[0], COMMANDS)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table of commands without importing any of them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(
    cls=Commands,
    epilog="""\b
Start here:
  exitkit train --method mate --arch mobilenetv2
  exitkit export --exits 2,4
  exitkit serve --threshold 0.9
  curl -F file=@image.png localhost:8000/predict""",
)
@click.version_option(exitkit.__version__, message="exitkit %(version)s")
@click.option("-v", "--verbose", is_flag=True, help="log what happens, on stderr")
def group(verbose: bool) -> None:
    """Train networks with exits, export them, serve each image from its earliest good exit."""
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO if verbose else logging.WARNING,
        format="%(levelname)s %(name)s: %(message)s",
    )


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code: 0, 1 our failure, 2 the request, 130, 143 stopped."""
    try:
        result: Any = group.main(  # Any: click returns a command's value or its exit code
            args=None if arguments is None else list(arguments),
            prog_name="exitkit",
            standalone_mode=False,
        )
        return result if isinstance(result, int) else 0
    except ExitkitError as error:
        return _fail(str(error), error.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return 0
    except click.UsageError as error:
        return _fail(str(_refused(error)), ConfigError.exit_code)
    except click.ClickException as error:
        return _fail(error.format_message(), error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        return _fail("stopped: interrupted; nothing that was finished is lost", 130)
    except Terminated:
        return _fail("stopped: told to end; nothing that was finished is lost", TERMINATED)
    except ModuleNotFoundError as error:
        extra = EXTRAS.get((error.name or "").split(".")[0])
        if extra is None:
            return _bug(error)
        return _fail(f"{_asked(arguments)}: {error.name} is not installed; pip install {extra}", 2)
    except OSError as error:
        return _system(error, _asked(arguments))
    except Exception as error:
        return _bug(error)


def main() -> None:
    """Run the command line and leave with its exit code."""
    _spin_briefly()
    _unwind_when_terminated()
    sys.exit(run())


def _unwind_when_terminated() -> None:
    """Let SIGTERM end a command as Ctrl-C does, so that temporary files and folders are removed.

    A server has a handler of its own while it serves. A process that was started deaf to the
    signal stays so.
    """
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _terminated)


def _terminated(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one would stop the tidying
    raise Terminated(TERMINATED)


def _spin_briefly() -> None:
    """Let OpenMP's waiting threads sleep after a moment; results are the same either way.

    Threads that spin starve each other as soon as anything else runs: with one busy neighbour on
    two cores a training step took 10.5 s by default and 0.79 s so; alone, 0.37 s either way.
    GNU's OpenMP reads the count once, before torch is loaded.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def _asked(arguments: Sequence[str] | None) -> str:
    """Return the command that was asked for."""
    words = sys.argv[1:] if arguments is None else arguments
    return " ".join(["exitkit", *(word for word in words[:1] if word in COMMANDS)])


def _system(error: OSError, asked: str) -> int:
    """Say what the system refused: a folder that cannot be written, a full disk."""
    if error.errno not in REFUSALS:
        return _bug(error)
    where = "" if error.filename is None else f"{error.filename}: "
    found = f"{where}{error.strerror}"
    return _fail(f"{asked}: {found}; check that it is free, may be written and has room", 2)


def _bug(error: Exception) -> int:
    LOG.error("unexpected %s", type(error).__name__, exc_info=error)
    return _fail(
        f"this is a bug: {type(error).__name__}: {error}; "
        "please report it with the traceback above and the output of exitkit doctor",
        1,
    )


def _fail(message: str, code: int) -> int:
    click.echo(f"error: {message}", err=True)
    return code


def _refused(error: click.UsageError) -> ConfigError:
    """Say a usage error of click in our three parts."""
    path = error.ctx.command_path if error.ctx is not None else "exitkit"
    return ConfigError(path, error.format_message().rstrip("."), f"see {path} --help")
