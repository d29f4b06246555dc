"""Reads the JSON that `go test -json` writes (go doc test2json) on stdin.

With --live it prints each package as it ends, and the output of what failed.
Without, it prints what was skipped, the slowest tests, and in the last line the
numbers. It fails where a test failed or was skipped, or a data race was seen.
"""

import collections
import json
import sys


def events():
    """Yields the events; any other line, make's or a linker's, is printed."""
    for line in sys.stdin:
        try:
            event = json.loads(line)
        except ValueError:
            event = None
        if isinstance(event, dict) and "Action" in event:
            yield event
        elif LIVE:
            print(line, end="")


def live():
    output = collections.defaultdict(list)
    for e in events():
        key = e.get("Package"), e.get("Test")
        match e["Action"]:
            case "output":
                output[key].append(e["Output"])
            case "build-output":
                print(e["Output"], end="")
            case "fail":
                print("".join(output.pop(key, [])), end="", flush=True)
            case "skip" | "pass":
                lines = output.pop(key, [])
                if key[1] is None and lines:
                    print(lines[-1], end="", flush=True)


def summary():
    counts = collections.Counter()
    durations, skipped, races = [], [], set()
    failing = set()  # packages in which a test failed
    for e in events():
        package, test, action = e.get("Package"), e.get("Test"), e["Action"]
        if "WARNING: DATA RACE" in e.get("Output", ""):
            races.add(f"{package} {test or ''}")
        if action not in ("pass", "fail", "skip"):
            continue
        if test is None:
            # A package that fails without a failing test did not build or crashed.
            if action == "fail" and package not in failing:
                counts["fail"] += 1
                print(f"failed as a whole: {package}")
            continue
        counts[action] += 1
        if action == "fail":
            failing.add(package)
        if action == "skip":
            skipped.append(f"{package} {test}")
        if "/" not in test:
            durations.append((e.get("Elapsed", 0), f"{package} {test}"))

    for name in skipped:
        print(f"skipped: {name}")
    for name in sorted(races):
        print(f"data race: {name}")
    print("slowest tests:")
    for seconds, name in sorted(durations, reverse=True)[:10]:
        print(f"{seconds:8.2f} s  {name}")
    print(f"{counts['pass']} passed, {counts['fail']} failed, {counts['skip']} skipped")
    return counts["pass"] > 0 and not (counts["fail"] or skipped or races)


LIVE = "--live" in sys.argv[1:]
if LIVE:
    live()
else:
    sys.exit(0 if summary() else 1)
