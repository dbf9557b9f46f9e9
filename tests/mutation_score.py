"""What `make mutate` prints: the mutants of health/ that lived, and how many the tests killed."""

from __future__ import annotations

import sys
from collections import Counter

from mutmut.mutation.data import SourceFileMutationData
from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.stats import status_by_exit_code
from mutmut.utils.file_utils import walk_mutatable_files

_NOTICED = ("killed", "timeout", "segfault")
"""A mutant that never ends is one that the tests notice."""
_UNTRIED = ("not checked", "check was interrupted by user")


def main() -> None:
    total: Counter[str] = Counter()
    untried = 0
    killed: Counter[str] = Counter()
    for path in sorted(walk_mutatable_files()):
        data = SourceFileMutationData(path=path)
        data.load()
        for name, exit_code in data.exit_code_by_key.items():
            status = status_by_exit_code[exit_code]
            if status in _UNTRIED:
                untried += 1
                continue
            total[str(path)] += 1
            if status in _NOTICED:
                killed[str(path)] += 1
                continue
            diff = get_diff_for_mutant(name, path=path).splitlines()[2:]
            changed = [line for line in diff if line.startswith(("+", "-"))]
            sys.stdout.write("\n".join([f"{name}: {status}", *changed, ""]) + "\n")
    for module, number in total.items():
        sys.stdout.write(f"{module:24} {killed[module]:5} of {number:5}\n")
    everything, noticed = total.total(), killed.total()
    sys.stdout.write(
        f"score {noticed / max(everything, 1):.1%}: killed {noticed} of {everything}, {untried} not tried\n"
    )


if __name__ == "__main__":
    main()
