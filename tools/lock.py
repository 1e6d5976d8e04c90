"""Print the exact versions of all that Tallygate with its extras needs, as installed here: `make lock`."""

from __future__ import annotations

from importlib import metadata

from packaging.requirements import Requirement

EXTRAS = ("embedded", "dev")


def closure(name: str, extras: tuple[str, ...], found: dict[str, str], done: set[tuple[str, str]]) -> None:
    """Collect the installed versions of `name` and all it requires."""
    try:
        distribution = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return  # required on another platform only
    found[distribution.metadata["Name"]] = distribution.version
    for text in distribution.requires or []:
        requirement = Requirement(text)
        for extra in ("", *extras):
            step = (f"{name}[{extra}]", text)
            wanted = requirement.marker is None or requirement.marker.evaluate({"extra": extra})
            if wanted and step not in done:
                done.add(step)
                closure(requirement.name, tuple(requirement.extras), found, done)


def main() -> None:
    """Write the constraints to standard output."""
    found: dict[str, str] = {}
    closure("tallygate", EXTRAS, found, set())
    print("# Exact versions for repeatable installs, made by `make lock`.")
    for name, version in sorted(found.items(), key=lambda item: item[0].lower()):
        if name != "tallygate":
            print(f"{name}=={version}")


if __name__ == "__main__":
    main()
