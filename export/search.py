"""`export --search`: every plan is written, proven and measured here, the best one exported.

What plans share is done once: the checkpoint is loaded, the calibration set made and each module
traced one time, and parts are written, proven and measured one by one, since the proof of a part
and its speed do not depend on the scheme of the others. On disk are the best way of keeping a part
so far and the one that is tried, which is measured in turn with it.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import cast

from ..calibration.parity import Check
from ..quant.schemes import PART_NAMES, SCHEMES, PartName, scheme_named
from ..runtime.errors import EngineError, ParityFailed, SchemeUnknown
from ..runtime.file_names import MANIFEST_FILE
from ..runtime.whole_folder import check_place
from .build import ExportChoice, Exported, Loaded, Tell, export_loaded, loaded
from .graphs import Graph, Schemes, write_graphs
from .onnx_from_torch import traced_once
from .plan_choice import Part, Workload, chosen_plan, plan_rows
from .plan_speed import Stopwatch, answer_ms, frame_ms
from .plans import checked_plans
from .proof_data import ProofData, proof_data
from .prove import prove
from .searched import Searched

SEEING, SPEAKING = ("vision", "connector"), ("decoder",)
# What the proof calls those of its figures that are at most 1, and 1 for full precision.
LIKENESS = frozenset({"mean cosine per token", "teacher-forced agreement"})
# Read by us, and 21 to 41 times slower than int4 in ONNX Runtime: for checks of fidelity alone.
FOR_CHECKS = frozenset({"nf4"})


@dataclass(frozen=True, slots=True)
class SearchChoice:
    """How a plan is looked for.

    Attributes:
        tokens_per_s: said in a second of the stream; 2 are a sentence of 24 tokens in 12 s.
        frames_per_s: encoded in it; None for the rate of the model.
        rounds: in which every part is measured once.
        vision, llm: words of the schemes that are tried; empty for all.
    """

    tokens_per_s: float = 2.0
    frames_per_s: float | None = None
    rounds: int = 7
    vision: tuple[str, ...] = ()
    llm: tuple[str, ...] = ()


@dataclass(slots=True)
class _Candidate:
    """One way of keeping some parts. State: what is known of it so far, and its files."""

    part: PartName
    word: str
    place: Path
    graphs: tuple[Graph, ...] = ()
    why_not: str = ""
    n_bytes: int = 0
    likeness: float = 0.0
    ms: dict[str, list[float]] = field(default_factory=dict)

    def measured(self) -> Part:
        """What the choice reads."""
        times = {name: tuple(rounds) for name, rounds in self.ms.items()}
        return Part(self.word, self.why_not, self.n_bytes, times, self.likeness)

    def busy_ms(self, workload: Workload) -> float:
        """Its share of what a plan is compared by."""
        zeros = dict.fromkeys(("frame", "prompt", "token"), 0.0)
        of = zeros | {name: median(rounds) for name, rounds in self.ms.items()}
        return workload.busy_ms(of["frame"], of["prompt"], of["token"])

    def remove(self) -> None:
        """Its files go; what is known of it stays."""
        shutil.rmtree(self.place, ignore_errors=True)


def search_bundle(
    folder: Path, target: Path, choice: ExportChoice, search: SearchChoice, tell: Tell
) -> Exported:
    """Find the fastest plan that passes its proof on this machine, and export it.

    Args:
        folder, target, tell: as for `export_bundle`.
        choice: its schemes are not read; its threads are those of each engine.
        search: for which workload, and how carefully.

    Raises:
        ParityFailed: no plan passes.
        as `export_bundle`.

    Cost: that of one export and, for each way of keeping a part, of its writing, its proof and its
    measuring; the graphs of two of them lie in the folder for temporary files meanwhile.
    """
    check_place(target, replaces=MANIFEST_FILE if choice.force else None)
    with traced_once():
        model = loaded(folder, choice, tell)
        with tempfile.TemporaryDirectory(prefix="edgestream-search-") as work:
            found = _Search(model, choice, search, tell, Path(work)).found()
        best = found.choice.chosen
        chosen = replace(choice, schemes=Schemes.named(best.vision, best.llm), searched=found)
        return export_loaded(model, target, chosen, tell)


def words_of(part: PartName) -> tuple[str, ...]:
    """Every scheme that a part may have, each by one word of the command line."""
    words: dict[str, str] = {}
    for word, name in PART_NAMES[part].items():
        if word == name or name not in words:
            words[name] = word
    return tuple(words[name] for name in SCHEMES if name in words)


def words_among(words: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Those of `SearchChoice.vision` and `.llm` that these words name.

    Raises:
        SchemeUnknown: one of them is of neither part, or a part has none.
    """
    found: dict[str, tuple[str, ...]] = {}
    for name, part in (("vision", "vision"), ("llm", "decoder")):
        known = PART_NAMES[cast(PartName, part)]
        found[name] = tuple(word for word in dict.fromkeys(words) if word in known)
        if not found[name]:
            raise SchemeUnknown(
                f"got --among {','.join(words)}, which names no scheme for --{name}; there are "
                f"{', '.join(known)}",
                hint="fp32 and int8 are of both parts",
            )
    for word in words:
        if not any(word in one for one in found.values()):
            scheme_named(word)  # of no part at all: says what there is
            raise SchemeUnknown(f"got --among {word}, which neither part can have")
    return found


@dataclass(slots=True)
class _Search:
    """One search. State: none but what the stopwatch counts."""

    model: Loaded
    choice: ExportChoice
    search: SearchChoice
    tell: Tell
    work: Path

    def found(self) -> Searched:
        """Everything that was tried, and what is chosen."""
        checkpoint = self.model.checkpoint
        self.tell("proving", "reference")
        data = proof_data(checkpoint, self.model.calibration)
        examples = self._examples()
        watch = Stopwatch(self.choice.threads)
        workload = self._workload()
        seen, spoken = (
            self._tried(part, asked or words_of(part), (data, examples), watch, workload)
            for part, asked in self._asked()
        )
        rows = plan_rows(
            [one.measured() for one in seen], [one.measured() for one in spoken], workload
        )
        chosen = chosen_plan(rows)
        if chosen is None:
            raise ParityFailed(
                f"none of {len(rows)} plans passes the proof; the last one: {rows[-1].why_not}",
                hint="--report FILE.html with --vision and --llm writes down every check of one",
            )
        return Searched(
            rows,
            chosen,
            workload,
            self.choice.threads,
            self.search.rounds,
            watch.cpu_share,
            watch.clock,
        )

    def _workload(self) -> Workload:
        asked = self.search.frames_per_s
        frames_per_s = self.model.checkpoint.frame_input.fps if asked is None else asked
        return Workload(frames_per_s, self.search.tokens_per_s)

    def _asked(self) -> tuple[tuple[PartName, tuple[str, ...]], ...]:
        return ("vision", self.search.vision), ("decoder", self.search.llm)

    def _examples(self) -> ProofData | None:
        """What calibrated schemes are fitted to, for all of them."""
        tried = ((part, word) for part, asked in self._asked() for word in asked or words_of(part))
        if not any(scheme_named(word, part).is_calibrated for part, word in tried):
            return None
        self.tell("calibrating", "reference")
        return proof_data(self.model.checkpoint, self.model.calibration, is_for_fitting=True)

    def _tried(
        self,
        part: PartName,
        words: Sequence[str],
        given: tuple[ProofData, ProofData | None],
        watch: Stopwatch,
        workload: Workload,
    ) -> list[_Candidate]:
        """Each way of keeping a part; on disk stays the best of them, until the next is better."""
        tried: list[_Candidate] = []
        best: _Candidate | None = None
        for word in words:
            one = self._candidate(part, word, *given)
            tried.append(one)
            if one.why_not:
                one.remove()
                continue
            self._measure(one, best, given[0], watch)
            if best is None:
                best = one
            elif one.busy_ms(workload) < best.busy_ms(workload):
                best.remove()
                best = one
            else:
                one.remove()
        if best is not None:
            best.remove()
        return tried

    def _candidate(
        self, part: PartName, word: str, data: ProofData, examples: ProofData | None
    ) -> _Candidate:
        """Written and proven, or why not."""
        place = self.work / f"{part}-{word}"
        found = _Candidate(part, word, place)
        roles = SEEING if part == "vision" else SPEAKING
        schemes = Schemes.named(word, "fp32") if part == "vision" else Schemes.named("fp32", word)
        if scheme_named(word, part).weights in FOR_CHECKS:
            found.why_not = f"{word} is for checks of fidelity alone"
            return found
        self.tell("trying", f"{part} {word}")
        place.mkdir()
        checkpoint, threads = self.model.checkpoint, self.choice.threads
        try:
            checked_plans(checkpoint, schemes)
            found.graphs = write_graphs(
                checkpoint,
                schemes,
                self.model.tokenizer_file(place),
                place,
                _silent,
                examples,
                roles=roles,
            )
            checks = prove(checkpoint, found.graphs, data, threads, _silent).checks
        except (SchemeUnknown, EngineError) as error:
            found.why_not = error.message
            return found
        found.n_bytes = sum(graph.n_bytes() for graph in found.graphs)
        found.likeness = _likeness(checks)
        failed = [one for one in checks if not one.passed and not one.is_advisory]
        if failed:
            found.why_not = min(failed, key=lambda one: one.margin).sentence()
        return found

    def _measure(
        self, one: _Candidate, best: _Candidate | None, data: ProofData, watch: Stopwatch
    ) -> None:
        """Its times, at the pace that the machine had when the best one was measured.

        Both are measured in turn, so that a busy moment of the machine hits both, and what the best
        one takes now by what it took then tells how much slower the machine has become.
        """
        self.tell("measuring", f"{one.part} {one.word}")
        for number in range(self.search.rounds):
            now = {} if best is None else self._times(best, data, watch)
            for name, ms in self._times(one, data, watch).items():
                pace = 1.0 if best is None else best.ms[name][number] / now[name]
                one.ms.setdefault(name, []).append(ms * pace)

    def _times(self, one: _Candidate, data: ProofData, watch: Stopwatch) -> dict[str, float]:
        if one.part == "vision":
            return {"frame": frame_ms(one.graphs, data, watch)}
        decoder = next(graph for graph in one.graphs if graph.role == "decoder")
        prompt_ms, token_ms = answer_ms(decoder, self.model.checkpoint, data, watch)
        return {"prompt": prompt_ms, "token": token_ms}


def _likeness(checks: Sequence[Check]) -> float:
    """How near to full precision a part is: its worst figure of likeness."""
    return min((one.value for one in checks if one.name in LIKENESS), default=1.0)


def _silent(part: str) -> None:
    """The steps of one part are not told."""
