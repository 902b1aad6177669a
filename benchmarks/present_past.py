"""How well the rule of `runtime/tense.py` tells questions about now from questions about the past.

    python benchmarks/present_past.py --annotations ovo_bench_new.json [--errors] [--json]

OVO-Bench's realtime questions are about now and its backward questions about the past. The rule was
written with one half of the questions in sight (even SHA-256 of the text); the other half is new
to it. Its forward questions are about what is still to come; what the rule says of them is shown
and not judged. The file may also be named by EDGESTREAM_OVO_BENCH. No videos are needed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgestream.runtime.tense import OUT_OF_SIGHT, cue_of

REALTIME = ("OCR", "ACR", "ATR", "STU", "FPD", "OJR")
BACKWARD = ("EPM", "ASI", "HLD")
TENSE_OF_TASK = {**dict.fromkeys(REALTIME, "present"), **dict.fromkeys(BACKWARD, "past")}
FLOOR = 0.9


@dataclass(frozen=True, slots=True)
class Judged:
    """One question: what it is about by its task, what the rule says, and which rule it was."""

    task: str
    question: str
    true: str | None
    said: str
    cue: str

    @property
    def is_held_out(self) -> bool:
        """Whether the rule was written without it."""
        return hashlib.sha256(self.question.encode()).digest()[0] % 2 == 1


def main() -> int:
    """Print the figures; 1 where the rule is right less often than FLOOR, 0 else."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--annotations", type=Path, default=os.environ.get("EDGESTREAM_OVO_BENCH"))
    parser.add_argument("--errors", action="store_true", help="print the misjudged ones in sight")
    parser.add_argument("--json", action="store_true", help="one JSON line, on stdout")
    given = parser.parse_args()
    if given.annotations is None or not Path(given.annotations).is_file():
        print(
            f"skipped: no annotations of OVO-Bench at {given.annotations}; name ovo_bench_new.json "
            "by --annotations or EDGESTREAM_OVO_BENCH",
            file=sys.stderr,
        )
        return 0
    judged = judged_questions(json.loads(Path(given.annotations).read_text(encoding="utf-8")))
    known = [one for one in judged if one.true is not None]
    parts = {
        "all": known,
        "in sight": [one for one in known if not one.is_held_out],
        "held out": [one for one in known if one.is_held_out],
        "held out, each text once": unique([one for one in known if one.is_held_out]),
        "held out, tense alone": [by_tense_alone(one) for one in known if one.is_held_out],
    }
    results = {name: figures(part) for name, part in parts.items()}
    if given.json:
        print(json.dumps({"parts": results, "tasks": by_task(judged), "cues": by_cue(known)}))
    else:
        show(results, judged)
    if given.errors:
        for one in known:
            if one.said != one.true and not one.is_held_out:
                print(f"{one.task} is {one.true}, said {one.said} ({one.cue}): {one.question}")
    judged_parts = ("all", "in sight", "held out")
    return 0 if all(results[part]["accuracy"] >= FLOOR for part in judged_parts) else 1


def judged_questions(annotations: Sequence[dict[str, Any]]) -> list[Judged]:
    """What the rule says of every entry that has a question."""
    judged = []
    for entry in annotations:
        if "question" in entry:
            task, question = entry["task"], entry["question"]
            judged.append(Judged(task, question, TENSE_OF_TASK.get(task), *cue_of(question)))
    return judged


def unique(judged: Sequence[Judged]) -> list[Judged]:
    """Without the texts that were there before with the same truth."""
    return list({(one.true, one.question): one for one in judged}.values())


def by_tense_alone(judged: Judged) -> Judged:
    """As if the rules about things out of sight were not there; for comparison."""
    return replace(judged, said="present") if judged.cue in OUT_OF_SIGHT else judged


def figures(judged: Sequence[Judged]) -> dict[str, Any]:
    """Accuracy, its mean over both classes, and the confusion {true: {said: count}}."""
    counts = Counter((one.true, one.said) for one in judged)
    classes = ("present", "past")
    confusion = {true: {said: counts[true, said] for said in classes} for true in classes}
    right = [confusion[one][one] / max(1, sum(confusion[one].values())) for one in classes]
    hits = sum(confusion[one][one] for one in classes)
    return {
        "questions": len(judged),
        "accuracy": round(hits / max(1, len(judged)), 4),
        "balanced_accuracy": round(sum(right) / 2, 4),
        "confusion": confusion,
    }


def by_task(judged: Sequence[Judged]) -> dict[str, dict[str, int]]:
    """Questions and those of them that the rule calls past, per task."""
    total = Counter(one.task for one in judged)
    past = Counter(one.task for one in judged if one.said == "past")
    return {task: {"questions": total[task], "past": past[task]} for task in total}


def by_cue(judged: Sequence[Judged]) -> dict[str, dict[str, int]]:
    """Decisions and wrong ones, per rule."""
    total = Counter(one.cue for one in judged)
    wrong = Counter(one.cue for one in judged if one.said != one.true)
    return {cue: {"decided": count, "wrong": wrong[cue]} for cue, count in total.most_common()}


def show(results: dict[str, dict[str, Any]], judged: Sequence[Judged]) -> None:
    """The tables for a person."""
    for name, result in results.items():
        print(
            f"{name}: {result['questions']} questions, accuracy {result['accuracy']:.3f}, "
            f"balanced {result['balanced_accuracy']:.3f}"
        )
        for true, said in result["confusion"].items():
            print(f"    is {true:<8} said present {said['present']:5}   said past {said['past']:5}")
    print("task   group     questions  said past")
    groups = {"present": "realtime", "past": "backward", None: "forward"}
    for task, counts in by_task(judged).items():
        group = groups[TENSE_OF_TASK.get(task)]
        print(f"{task:<6} {group:<10}{counts['questions']:9}{counts['past']:11}")
    print("rule                      decided  wrong")
    for cue, counts in by_cue([one for one in judged if one.true is not None]).items():
        print(f"{cue:<26}{counts['decided']:7}{counts['wrong']:7}")


if __name__ == "__main__":
    sys.exit(main())
