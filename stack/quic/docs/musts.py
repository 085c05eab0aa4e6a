#!/usr/bin/env python3
"""Lists the MUSTs of RFC 9000, 9001 and 9002 that no citation in the code covers, and why.

    docs/musts.py [--rfc DIR] [--all] [--check] [--write]

A section is covered if the code under ../src cites it, written as "RFC 9000 §8.1.2" (more of the same RFC may follow:
"RFC 9000 §5.2.2, §6.1"). What is not covered is expected in uncited.txt, a line each: RFC, section, reason. Sections
in neither place are open.

--rfc DIR   where rfc9000.txt, rfc9001.txt and rfc9002.txt are, or are put from www.rfc-editor.org (../../../target/rfc)
--all       show the sentences of sections with a reason too
--check     fail if sections are open, or reasons no longer needed: by musts.txt alone, which tells how many MUSTs each
            section has; `.ci/lint` does this
--write     write musts.txt from the RFCs

A citation says that the section was read where it was written, not that each of its MUSTs holds: that is what tests
are for.
"""

import argparse
import pathlib
import re
import sys
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
SOURCE = HERE.parent / "src"
REASONS = HERE / "uncited.txt"
COUNTS = HERE / "musts.txt"
RFCS = ("9000", "9001", "9002")

HEADING = re.compile(r"^(?:Appendix )?((?:\d+|[A-Z])(?:\.\d+)*)\.  \S")
KEYWORD = re.compile(r"\b(?:MUST|SHALL|REQUIRED)\b")
COMMENT_BREAK = re.compile(r"\n\s*//[/!]?\s*")
CITATION = re.compile(r"RFC (\d{4})((?:,?\s+(?:and\s+)?§[0-9A-Z]+(?:\.\d+)*)+)")
SECTION = re.compile(r"§([0-9A-Z]+(?:\.\d+)*)")
SENTENCE_END = re.compile(r"(?<=[.:])\s+(?=[A-Z*])")


def read_rfc(number, folder):
    """The text of an RFC, from the folder or the RFC editor."""
    path = folder / f"rfc{number}.txt"
    if not path.exists():
        url = f"https://www.rfc-editor.org/rfc/rfc{number}.txt"
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                path.write_bytes(answer.read())
        except OSError as error:
            sys.exit(f"{path} is not there, and {url} gives: {error}")
    return path.read_text(encoding="utf-8")


def requirements(text):
    """Sentences with a MUST, by section."""
    found, section, paragraph = {}, None, []

    def end_paragraph():
        sentences = SENTENCE_END.split(" ".join(paragraph))
        paragraph.clear()
        for sentence in sentences:
            # The paragraph that explains the key words is none.
            if section and KEYWORD.search(sentence) and '"MUST"' not in sentence:
                found.setdefault(section, []).append(sentence.strip())

    for line in text.splitlines():
        heading = HEADING.match(line)
        if heading or not line.strip():
            end_paragraph()
        if heading:
            section = heading.group(1)
        elif line.strip():
            paragraph.append(line.strip())
    end_paragraph()
    return found


def counts():
    """How many sentences with a MUST there are, as (RFC, section), without the sentences."""
    found = {}
    for line in COUNTS.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            rfc, section, count = line.split()
            found[rfc, section] = ["…"] * int(count)
    return found


def write_counts(musts):
    lines = ["# Sections of the RFCs with MUSTs, and how many sentences: made by `musts.py --write`."]
    lines += [f"{rfc} {section} {len(musts[rfc, section])}" for rfc, section in sorted(musts, key=order)]
    COUNTS.write_text("\n".join(lines) + "\n", encoding="utf-8")


def citations():
    """Sections cited, as (RFC, section), with one of the files."""
    cited = {}
    for path in sorted(SOURCE.rglob("*.rs")):
        text = COMMENT_BREAK.sub(" ", path.read_text(encoding="utf-8"))
        for citation in CITATION.finditer(text):
            for section in SECTION.findall(citation.group(2)):
                cited.setdefault((citation.group(1), section), path.relative_to(SOURCE))
    return cited


def reasons():
    """Why sections are not cited, as (RFC, section)."""
    known = {}
    if REASONS.exists():
        for line in REASONS.read_text(encoding="utf-8").splitlines():
            if line.strip() and not line.startswith("#"):
                rfc, section, reason = line.split(maxsplit=2)
                known[rfc, section] = reason
    return known


def order(key):
    return key[0], [(part.isdigit(), int(part) if part.isdigit() else part) for part in key[1].split(".")]


def show(title, sections, musts, notes=None):
    total = sum(len(musts[key]) for key in sections)
    print(f"\n{title}: {len(sections)} sections, {total} sentences")
    for key in sorted(sections, key=order):
        note = f": {notes[key]}" if notes else ""
        print(f"\n  RFC {key[0]} §{key[1]}{note}")
        for sentence in musts[key]:
            print(f"    - {sentence}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rfc", type=pathlib.Path, default=HERE.parents[2] / "target" / "rfc")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()

    musts = counts() if arguments.check else {}
    for rfc in () if arguments.check else RFCS:
        for section, sentences in requirements(read_rfc(rfc, arguments.rfc)).items():
            musts[rfc, section] = sentences
    if arguments.write:
        write_counts(musts)
    cited, known = citations(), reasons()

    covered = [key for key in musts if key in cited]
    explained = [key for key in musts if key not in cited and key in known]
    unexplained = [key for key in musts if key not in cited and key not in known]
    stale = [key for key in known if key in cited or key not in musts]

    count = sum(len(sentences) for sentences in musts.values())
    print(f"{count} sentences with a MUST in {len(musts)} sections of RFC {', '.join(RFCS)}")
    print(f"cited: {len(covered)} sections, {sum(len(musts[key]) for key in covered)} sentences")
    if arguments.all:
        show("not cited, for a reason", explained, musts, known)
    else:
        total = sum(len(musts[key]) for key in explained)
        print(f"not cited, for a reason: {len(explained)} sections, {total} sentences")
    if unexplained:
        show("open", unexplained, musts)
    for key in sorted(stale, key=order):
        print(f"\nno longer needed in {REASONS.name}: RFC {key[0]} §{key[1]}")
    if arguments.check and (unexplained or stale):
        sys.exit(1)


if __name__ == "__main__":
    main()
