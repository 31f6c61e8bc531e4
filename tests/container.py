"""What the Containerfile says, and its steps done without an engine.

A stage gets a folder for its files and an empty virtual environment for its Python; its RUN lines
run there. That says nothing of the base image, of users or of the file system's layers.
"""

import json
import os
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILE, IGNORE = ROOT / "Containerfile", ROOT / ".containerignore"


def read(text: str) -> list[tuple[str, str]]:
    """Return a container file's instructions and what follows each, lines joined."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [
        (word, rest.strip()) for word, _, rest in (s.partition(" ") for s in joined.split("\n"))
    ]


@dataclass
class Stage:
    """One stage while it is built.

    Attributes:
        folder: of its files, as if it were /.
        said: the last of every instruction that does nothing while it is built.
        place: the working directory, inside `folder`.
    """

    folder: Path
    said: dict[str, str] = field(default_factory=dict)
    place: Path = Path()

    def __post_init__(self) -> None:
        self.place = self.folder
        venv.create(self.folder / "venv", with_pip=True, clear=True)

    @property
    def environment(self) -> dict[str, str]:
        """What a process in it would see, and what pip needs of this machine."""
        path = f"{self.folder / 'venv' / 'bin'}:/usr/bin:/bin"
        passed = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
        said = dict(pair.split("=", 1) for pair in self.said.get("ENV", "").split())
        return {"PATH": path, "HOME": str(Path.home()), **passed, **said}

    def inside(self, path: str) -> Path:
        """Return where a path of the container lies."""
        return self.folder / path[1:] if path.startswith("/") else self.place / path

    @property
    def command(self) -> list[str]:
        """What a container of it runs."""
        return [*json.loads(self.said["ENTRYPOINT"]), *json.loads(self.said["CMD"])]

    @property
    def check(self) -> list[str]:
        """The command that tells whether it is healthy."""
        return list(json.loads(self.said["HEALTHCHECK"].partition("CMD")[2]))


def build(folder: Path) -> Stage:
    """Do the steps of the Containerfile in `folder`; return its last stage.

    Raises:
        ValueError: a step that is not known here, or one copies what the context leaves out.
    """
    stages: dict[str, Stage] = {}
    stage = Stage(folder / "none")
    for word, rest in read(FILE.read_text()):
        if word == "FROM":
            name = rest.partition(" AS ")[2] or "last"
            stage = stages[name] = Stage(folder / name)
        elif word == "WORKDIR":
            stage.place = stage.inside(rest)
            stage.place.mkdir(parents=True, exist_ok=True)
        elif word == "COPY":
            _copy(stages, stage, rest.split())
        elif word == "RUN":
            _run(stage, rest)
        elif word in ("USER", "ENV", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT", "CMD"):
            stage.said[word] = rest
        else:
            raise ValueError(f"{word} is not known here")
    return stage


def _copy(stages: dict[str, Stage], stage: Stage, words: list[str]) -> None:
    *sources, target = words
    given = IGNORE.read_text().splitlines()
    for source in sources:
        if source.startswith("--from="):
            continue
        if sources[0].startswith("--from="):
            path = stages[sources[0].removeprefix("--from=")].inside(source)
        else:
            path = ROOT / source
            if f"!{source}" not in given:
                raise ValueError(f"{IGNORE.name} keeps {source} from the build")
        into = stage.inside(target)
        if path.is_dir():
            shutil.copytree(path, into, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, into)


def _run(stage: Stage, line: str) -> None:
    sys.stderr.write(f"RUN {line}\n")
    done = subprocess.run(
        ["sh", "-c", line], cwd=stage.place, env=stage.environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"{done.stdout}\n{done.stderr}\nfailed: RUN {line}")
