"""Ours against the peers on one job: all are screened, the best are measured in turns with ours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.serving.contenders import Entry, Running, entries, start_peer
from benchmarks.serving.figures import ratios
from benchmarks.serving.measuring import Ask, Bench, Result, brief, closed, opened
from benchmarks.serving.prepare import MODELS, onnx_folder
from benchmarks.serving.processes import BenchError, ending

FINALISTS = 2
LOAD = 0.7


class Contest:
    """One job for all.

    Args:
        bench: what all cells share.
        ask: what is asked of the peers, and of ours unless `ours` is given.
        start: starts our server.
        content: of the peers' requests.
        settled: a cell of the same net whose choice of settings is taken over, if it was measured.
    """

    def __init__(
        self, bench: Bench, ask: Ask, start: Callable[[], Running], content: str = "json", settled: str | None = None
    ) -> None:
        self.bench, self.ask, self.start, self.content = bench, ask, start, content
        self.settled = (bench.kept(settled) or {}).get("chosen", {}) if settled else {}
        self.failed: dict[str, str] = {}
        self.screened: list[Result] = []

    def run(self, engines: Sequence[str] | None = None, tails: bool = True) -> Result:
        """Screen, choose, measure in turns.

        Returns:
            The screening, the setting chosen of each peer and engine, and of each round ours beside each finalist.
        """
        best = self.screen(engines or self.bench.engines)
        finalists = sorted(best, key=lambda key: -best[key][1]["per_s"])[:FINALISTS]
        chosen = {key: entry.setting.title for key, (entry, _) in best.items()}
        found = {"screened": self.screened, "chosen": chosen, "failed": self.failed, "finalists": finalists}
        return found | self.duel([best[key][0] for key in finalists], tails)

    def screen(self, engines: Sequence[str]) -> dict[str, tuple[Entry, Result]]:
        """Every peer with every setting once; of each peer and engine the one with the highest throughput."""
        best: dict[str, tuple[Entry, Result]] = {}
        for entry in entries(self.bench.peers, tuple(engines), 1 if self.bench.quick else None):
            if self.content not in entry.peer.paths or self._settled_otherwise(entry):
                continue
            try:
                found = self._once(entry)
            except BenchError as error:
                self.failed[f"{entry.key}: {entry.setting.title}"] = str(error)
                self.bench.say(f"{entry.key} ({entry.setting.title}): {error}")
                continue
            self.screened.append({"peer": entry.key, "setting": entry.setting.title, **brief(found)})
            self.bench.say(f"{entry.key} ({entry.setting.title}): {found['per_s']:.0f}/s, p99 {found['p99_ms']:.1f} ms")
            if entry.key not in best or found["per_s"] > best[entry.key][1]["per_s"]:
                best[entry.key] = (entry, found)
        return best

    def _settled_otherwise(self, entry: Entry) -> bool:
        return entry.key in self.settled and self.settled[entry.key] != entry.setting.title

    def peer(self, entry: Entry) -> Running:
        models = {name: MODELS[name] for name in self.ask.models}
        nets = onnx_folder(self.bench.scratch, self.ask.net)
        return start_peer(entry, self.bench.scratch, net=self.ask.net, content=self.content, models=models, nets=nets)

    def _once(self, entry: Entry) -> Result:
        server = self.peer(entry)
        with ending([server.tree]):
            return closed(self.bench, server, self.ask, share=0.6) | {"memory": server.tree.memory()}

    def duel(self, finalists: Sequence[Entry], tails: bool) -> Result:
        """Ours, a peer, ours, the next peer, in every round; whoever is not asked is frozen."""
        ours = self.start()
        servers = [ours]
        with ending(trees := [ours.tree]):
            for entry in finalists:
                try:
                    servers.append(self.peer(entry))
                except BenchError as error:
                    self.failed[entry.key] = str(error)
                    continue
                trees.append(servers[-1].tree)
            for server in servers:
                server.freeze()
            rounds = [self._round(ours, servers[1:]) for _ in range(self.bench.rounds)]
            found: Result = {"rounds": rounds}
            if tails:
                found["tails"] = [self._tails(servers, rounds, seed) for seed in range(self.bench.rounds)]
            return found | {"memory": {server.key: server.tree.memory() for server in servers}}

    def _round(self, ours: Running, peers: Sequence[Running]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for peer in peers or [ours]:
            pair = {"ours": self._thawed(ours)}
            if peer is not ours:
                pair["peer"] = self._thawed(peer)
            found[peer.key] = pair
        said = ", ".join(
            f"ours {p['ours']['per_s']:.0f}/s, {key} {p.get('peer', p['ours'])['per_s']:.0f}/s"
            for key, p in found.items()
        )
        self.bench.say(f"round: {said}")
        return found

    def _thawed(self, server: Running) -> Result:
        server.thaw()
        try:
            return brief(closed(self.bench, server, self.ask))
        finally:
            server.freeze()

    def _tails(self, servers: Sequence[Running], rounds: Sequence[dict[str, Any]], seed: int) -> Result:
        """Each at 70 % of its own saturation, and ours at that of the best peer too."""
        found: Result = {}
        best = 0.0
        for server in servers[1:]:
            rate = LOAD * min(one[server.key]["peer"]["per_s"] for one in rounds)
            best = max(best, rate)
            found[server.key] = self._opened(server, rate, seed)
        mine = LOAD * min(pair["ours"]["per_s"] for one in rounds for pair in one.values())
        found["ours"] = self._opened(servers[0], mine, seed)
        if best:
            found["ours at the best peer's load"] = self._opened(servers[0], best, seed)
        return found

    def _opened(self, server: Running, rate: float, seed: int) -> Result:
        server.thaw()
        try:
            return brief(opened(self.bench, server, self.ask, rate, seed))
        finally:
            server.freeze()


def against(cell: Result, key: str, figure: str = "per_s") -> list[float]:
    """Ours over a finalist, of each round."""
    pairs = [one[key] for one in cell["rounds"]]
    return ratios([pair["ours"][figure] for pair in pairs], [pair["peer"][figure] for pair in pairs])
