"""Putting a bundle to work: engines proven on this device, and the stages that run on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .bundle import Bundle
from .connector import EngineConnector
from .decoder_rungs import DecoderRungs
from .engine import Engine
from .engine_pool import EnginePool, EngineRules, LeasedEngine, engine_pool
from .engines.ladder import Refusal, Rung
from .engines.lane import Lanes
from .errors import BundleFileRefused
from .gate_network import GateNetwork, has_learned_gate
from .gate_query import check_query, check_words, gate_query
from .keeping import memory_of, view_of
from .manifest import Variant
from .memory.keyframes import KeyFrameMemory
from .part_rungs import PartRungs, RungsInUse
from .prompt_layout import PromptLayout, check_layout, ids_of
from .recall import RecallRules
from .recent import RecentMemory
from .records import Record
from .routers import indexer_missing
from .session import LanguageSession
from .speaking import SpeakingRules, context_of, token_gate_of
from .stages import Memory, NoMemory
from .trained import check_trained, notes_of
from .values import Features, GateDecision
from .vision import VisionEncoder

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TOKENIZER_FILE = "tokenizer.json"
HOST = "cpu"
"""Provider that works in the computer's memory."""


@dataclass(frozen=True, slots=True)
class Attached:
    """A bundle at work.

    Attributes:
        encoder, connector, memory, session: stages of a run.
        lane: who runs when.
        passes_frames: every frame goes to the session.
        notes: what the user should know of the engines, as `warning` records.
        layout, tokenizer: how the model reads and writes.
        rungs: what runs each part, and what does not run here and why; follows the stream.
        gate: the network of the model's own gate; None where it has none.
    """

    encoder: VisionEncoder
    connector: EngineConnector
    memory: Memory
    session: LanguageSession
    lane: Lanes
    passes_frames: bool
    notes: tuple[Record, ...]
    layout: PromptLayout
    tokenizer: Tokenizer
    rungs: RungsInUse
    gate: GateNetwork | None = None

    @property
    def variants(self) -> Mapping[str, Variant]:
        """Role → what runs it now."""
        return self.rungs.variants

    @property
    def refusals(self) -> tuple[Refusal, ...]:
        """Variants above these on the ladder, and why they are not used."""
        return tuple(self.rungs.refusals)

    def quiet(self, features: Features, dt_s: float | None = None) -> GateDecision:
        """A decision that opens nothing, with what the connector reads of the gate."""
        state = None if self.gate is None else self.gate.step(features, dt_s).state_summary
        return GateDecision(features.time_s, state_summary=state)

    def gauges(self) -> dict[str, Callable[[], Any]]:
        """What it adds to a `stats` record."""
        return {
            "bytes_kept": self.n_bytes,
            "bytes_budget": lambda: getattr(self.memory, "budget_bytes", None),
            "lane": self.lane.stats,
            "engines": self.rungs.as_json,
        }

    def n_bytes(self) -> int:
        """Bytes that memory keeps."""
        return int(getattr(self.memory, "n_bytes", 0))


@dataclass(slots=True)
class _Opener:
    """Takes engines out of a pool for one stream. State: what runs and what was refused."""

    pool: EnginePool
    leases: ExitStack
    in_use: RungsInUse = field(default_factory=RungsInUse)

    def open(
        self, role: str, failed: Sequence[str] = (), providers: Sequence[str] | None = None
    ) -> Rung:
        """The highest rung of a part that stands, but for those that failed."""
        rung = self.pool.lease(role, failed, providers)
        assert isinstance(rung.engine, LeasedEngine)
        self.leases.callback(rung.engine.give_back)
        for refusal in rung.refusals:
            if refusal.variant not in failed:  # who heard it break off says more
                self.in_use.refuse(refusal)
        self.in_use.variants[role] = rung.variant
        return rung

    def part(self, role: str) -> PartRungs:
        """An engine of a part that goes on with the next rung where one breaks off."""
        return PartRungs(role, lambda failed: self.open(role, failed), self.in_use)

    def turn(self) -> Engine | None:
        """The evict graph for a cache in the computer's memory; None where no CPU may be used."""
        allowed = HOST in self.pool.rules.providers
        return self.open("evict", providers=(HOST,)).engine if allowed else None

    def turn_of(self, provider: str) -> Engine:
        """The evict graph for a cache in the memory of a provider."""
        return self.open("evict", providers=(provider,)).engine

    def indexer(self, recall: RecallRules) -> Engine | None:
        """The bundle's indexer, where the rules route by it.

        Raises:
            SettingsInvalid: the bundle has none.
        """
        if recall.router != "indexer" or recall.mode == "recent":
            return None
        if "indexer" not in [part.role for part in self.pool.bundle.manifest.parts]:
            raise indexer_missing()
        return self.part("indexer")


@contextmanager
def attached(
    bundle: Bundle, engines: EngineRules | None = None, speaking: SpeakingRules | None = None
) -> Iterator[Attached]:
    """The stages of a bundle for one stream, for as long as the block lasts.

    Args:
        bundle: opened with check="all".
        engines: what it runs on.
        speaking: what the language model sees, when and how it speaks.

    Raises:
        as `attached_to`.

    Cost: every engine is opened and runs its golden calls.
    """
    speaking = speaking or SpeakingRules()
    check_trained(bundle, speaking)  # before anything is opened
    with engine_pool(bundle, engines) as pool, attached_to(pool, speaking) as model:
        yield model


@contextmanager
def attached_to(pool: EnginePool, speaking: SpeakingRules) -> Iterator[Attached]:
    """The stages of one stream on the engines of a pool, for as long as the block lasts.

    State, memory and cache are this stream's own; weights and lane are the pool's.

    Raises:
        UntrainedModel: its weights look random, and nobody said that it may speak all the same.
        EngineUnusable: a part is missing, or nothing here runs it.
        SettingsInvalid: the rules do not fit the model.
        PromptInvalid: the tokenizer is not the layout's.
    """
    bundle, engines = pool.bundle, pool.rules
    check_trained(bundle, speaking)
    check_query(speaking.gate_query, bundle.manifest)
    layout, tokenizer = _language(bundle)
    gate = token_gate_of(speaking, layout)  # before anything is opened: it may be refused
    memory = memory_of(speaking.memory, bundle.manifest.memory)
    with ExitStack() as leases:
        opener = _Opener(pool, leases)
        encoder = VisionEncoder(
            opener.part("vision"),
            bundle.manifest.input,
            pool.lane,
            heartbeat_s=engines.heartbeat_s,
            settle_s=engines.settle_s,
        )
        connector = EngineConnector(opener.part("connector"))
        network = _gate_network(opener, speaking.gate_query, tokenizer)
        session = _session(opener, speaking, layout, tokenizer, memory)
        session.gate = gate
        yield Attached(
            encoder,
            connector,
            memory if speaking.context != "continuous" else NoMemory(),
            session,
            pool.lane,
            speaking.context == "continuous",
            notes_of(bundle, opener.in_use.refusals),
            layout,
            tokenizer,
            opener.in_use,
            network,
        )


def _gate_network(opener: _Opener, query: str, tokenizer: Tokenizer) -> GateNetwork | None:
    """The network of the model's own gate; None where the bundle has none."""
    manifest = opener.pool.bundle.manifest
    if not has_learned_gate(manifest) or manifest.gate is None:
        return None
    check_words(query, tokenizer)
    asked = gate_query(query, lambda text: ids_of(tokenizer, text), opener.pool.rows)
    return GateNetwork(opener.part("gate"), manifest.gate, manifest.input.fps, asked)


def _session(
    opener: _Opener,
    speaking: SpeakingRules,
    layout: PromptLayout,
    tokenizer: Tokenizer,
    memory: KeyFrameMemory | RecentMemory,
) -> LanguageSession:
    pool = opener.pool
    rungs = DecoderRungs(
        lambda failed: opener.open("decoder", failed), opener.in_use.refuse, opener.turn_of
    )
    model = rungs.model(
        pool.bundle.manifest,
        pool.rows,
        pool.lane,
        opener.turn(),
        cache_slots=speaking.cache_slots,
        chunk_tokens=pool.rules.chunk_tokens,
    )
    context = context_of(
        speaking,
        model,
        pool.bundle.manifest,
        layout,
        lambda text: ids_of(tokenizer, text),
        view_of(memory),
        plain_text(tokenizer),
        opener.indexer(speaking.recall),
    )
    adapters = pool.adapters
    return LanguageSession(
        model,
        context,
        layout,
        lambda ids: str(tokenizer.decode(list(ids))),
        speaking.decoding,
        next_rung=lambda fault, tell: rungs.next_rung(model, fault, context.reset, tell),
        partials_every_s=speaking.partials_every_s,
        adapters=adapters,
        adapter=adapters.checked(speaking.adapter),
    )


def plain_text(tokenizer: Tokenizer) -> Callable[[str], str]:
    """A text of the user → the same with a space in every special token's text.

    A tokenizer makes the stop token of "</s>" whoever wrote it; a question must not end a turn.
    """
    known = tokenizer.get_added_tokens_decoder().values()
    special = [token.content for token in known if token.special and len(token.content) > 1]

    def plain(text: str) -> str:
        for content in special:
            text = text.replace(content, f"{content[0]} {content[1:]}")
        return text

    return plain


def _language(bundle: Bundle) -> tuple[PromptLayout, Tokenizer]:
    """How the model reads and writes, checked against each other."""
    from tokenizers import Tokenizer

    layout = bundle.manifest.layout()
    try:
        tokenizer = Tokenizer.from_file(str(bundle.path(TOKENIZER_FILE)))
    except Exception as error:  # the library raises nothing narrower
        raise BundleFileRefused(
            f"{bundle.folder.name}/{TOKENIZER_FILE} is no tokenizer: {error}",
            hint="export the bundle again",
        ) from error
    tokenizer.no_truncation()  # its file may keep the length that it was last used with
    tokenizer.no_padding()
    check_layout(layout, tokenizer)
    return layout, tokenizer
