"""Draw firmware/imprint/onboarding.py's table as a Mermaid state diagram, on stdout."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

ONBOARDING = Path(__file__).resolve().parent.parent / "firmware/imprint/onboarding.py"


def diagram() -> str:
    """One arrow for each pair of states, labelled with the events that take it."""
    names: dict[str, str] = {}
    arrows: dict[tuple[str, str], list[str]] = defaultdict(list)
    for node in ast.parse(ONBOARDING.read_text()).body:
        if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Name):
            continue
        if isinstance(node.value, ast.Constant):
            names[node.targets[0].id] = str(node.value.value)
        elif isinstance(node.value, ast.Dict):
            for key, after in zip(node.value.keys, node.value.values, strict=True):
                state, event = ast.unparse(key or after).strip("()").split(", ")
                arrows[names[state], names[ast.unparse(after)]].append(names[event])
    lines = ["stateDiagram-v2", f"    [*] --> {names['IDENTITY']}"]
    lines += [
        f"    {before} --> {after}: {', '.join(events)}"
        for (before, after), events in arrows.items()
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    print(diagram())
