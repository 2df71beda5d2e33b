"""Print the oldest version of each package that setup.cfg allows for the tests, one a line.

`pip install ".[test]" -c floors.txt` with these lines in the file installs them and nothing older
or newer, so that each floor is one that can be installed and that the tests have run on.
"""

import re
from configparser import ConfigParser
from pathlib import Path


def floors(text: str) -> dict[str, str]:
    """Return the floor of each package that the tests need, by its name."""
    config = ConfigParser()
    config.read_string(text)
    extras = config["options.extras_require"]
    waiting, found = [config["options"]["install_requires"], extras["test"]], {}
    for lines in waiting:
        for line in filter(None, map(str.strip, lines.splitlines())):
            if own := re.fullmatch(r"minigd\[(.+)\]", line):
                waiting += [extras[name] for name in own[1].split(",")]
                continue
            one = re.fullmatch(r"([\w-]+) >= ([\w.]+)(; .+)?", line)
            if one is None:
                raise SystemExit(f"setup.cfg: {line!r} has no floor of the form 'name >= version'")
            found[one[1]] = one[2]
    return found


if __name__ == "__main__":
    path = Path(__file__).parents[1] / "setup.cfg"
    for name, version in sorted(floors(path.read_text(encoding="utf-8")).items()):
        print(f"{name}=={version}")
