"""A folder with several photographs of every person, named PERSON_NUMBER.jpg (or .jpeg, .png, .webp)."""

from __future__ import annotations

from pathlib import Path

from benchmarks.splits import Part, split_people

PICTURES = (".jpg", ".jpeg", ".png", ".webp")


def read_people(folder: Path) -> dict[str, list[Path]]:
    """Return the photographs of every person, people and photographs in order of names.

    Raises:
        SystemExit: There is no such folder, or fewer than two people with two photographs each in it.
    """
    people: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        person, separator, _ = path.stem.rpartition("_")
        if separator and path.suffix.lower() in PICTURES:
            people.setdefault(person, []).append(path)
    people = {person: paths for person, paths in people.items() if len(paths) > 1}
    if len(people) < 2:
        raise SystemExit(
            f"Expected a folder with two or more photographs of every person, named PERSON_NUMBER.jpg, got {folder}, where "
            f"{len(people)} people have two."
        )
    return people


def find_pairs(folder: Path, count: int, part: Part = Part.TEST) -> list[tuple[Path, Path]]:
    """List the first `count` people of a part: the photograph to protect, and another one of the person.

    Raises:
        SystemExit: The folder is none of pairs, or the part has fewer people.
    """
    people = read_people(folder)
    names = split_people(list(people), part)[:count]
    if len(names) < count:
        raise SystemExit(f"Expected {count} people of the {part.value} half of {folder}, found {len(names)}. Lower the count.")
    return [(people[name][0], people[name][1]) for name in names]
