#!/usr/bin/env python3
"""Checks the foreign peers against each other, so that a test of the daemon that fails with one of
them is not chasing a mistake of the peer. Prints a PASS or FAIL line each; exit status 1 on a FAIL.

    tests/foreign/selfcheck.py [go|js|cross ...]      default: all that can run here
"""

import json
import queue
import re
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from base64 import b64decode, b64encode
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 30  # seconds a condition may take before it counts as failed

# Everything that Go's JSON escapes in its own way, and what it leaves alone.
NASTY = 'a<b>&"\\/\b\f\n\r\t\x01\x1f\x7f\u2028\u2029é😀'


class Failed(Exception):
    pass


class Peer:
    """A foreign peer as a process: commands in, events out."""

    def __init__(self, program, *flags):
        self.process = subprocess.Popen(
            [*program, *flags], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )
        self.lines = queue.Queue()
        self.log = []
        self.refs = 0
        threading.Thread(target=self._read, daemon=True).start()
        ready = self.wait("ready")
        self.id, self.did = ready["peer_id"], ready["did"]
        self.addr = ready["addrs"][0]
        self.public_key = ready["public_key"]

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(json.loads(line))
        self.lines.put(None)

    def wait(self, event, seconds=PATIENCE, **want):
        """The first event of that name with those fields that no earlier wait has taken."""

        def fits(e):
            return e["event"] == event and all(e.get(k) == v for k, v in want.items())

        for i, seen in enumerate(self.log):
            if fits(seen):
                return self.log.pop(i)
        until = time.monotonic() + seconds
        while True:
            try:
                e = self.lines.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                raise Failed(f"no {event} {want} within {seconds} s; seen: {self.log[-5:]}") from None
            if e is None:
                raise Failed(f"the peer ended before {event} {want}")
            if fits(e):
                return e
            self.log.append(e)

    def tell(self, cmd, **more):
        self.refs += 1
        line = json.dumps({"cmd": cmd, "ref": self.refs, **more})
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.refs

    def ask(self, cmd, **more):
        ref = self.tell(cmd, **more)
        while True:
            for i, e in enumerate(self.log):
                if e["event"] in ("ok", "error") and e.get("ref") == ref:
                    return self.log.pop(i)
            e = self.lines.get(timeout=PATIENCE)
            if e is None:
                raise Failed(f"the peer ended during {cmd}")
            self.log.append(e)

    def do(self, cmd, **more):
        answer = self.ask(cmd, **more)
        if answer["event"] != "ok":
            raise Failed(f"{cmd}: {answer.get('message')}")
        return answer

    def end(self):
        self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def same(got, want, what):
    if got != want:
        raise Failed(f"{what}: {got!r} instead of {want!r}")


def psk_file(folder, name):
    path = folder / name
    path.write_text(f"/key/swarm/psk/1.0.0/\n/base16/\n{secrets.token_hex(32)}\n")
    return str(path)


class Lab:
    """The programs, two pre-shared keys, and the peers started so far."""

    def __init__(self, folder, programs):
        self.folder, self.programs, self.peers = folder, programs, []
        self.psk, self.other_psk = psk_file(folder, "a.psk"), psk_file(folder, "b.psk")

    def peer(self, kind, *flags, psk=None):
        made = Peer(self.programs[kind], "--psk", psk or self.psk, *flags)
        self.peers.append(made)
        return made

    def end(self):
        for made in self.peers:
            made.end()
        self.peers = []


# --- go ---------------------------------------------------------------------------------------


def go_keys(lab):
    key = lab.folder / "node.key"
    first = lab.peer("go", "--key", str(key))
    same(key.stat().st_mode & 0o777, 0o600, "mode of the key made")
    again = lab.peer("go", "--key", str(key))
    same(again.id, first.id, "PeerId of the same key")
    same(len(b64decode(first.public_key)), 36, "bytes of the protobuf key")


def go_partner(lab):
    a, b = lab.peer("go", "--did", "did-a", "--name", "A"), lab.peer("go", "--did", "did-b")
    for x, y in ((a, b), (b, a)):
        x.do("partner", addr=y.addr, period_ms=200)
        up = y.wait("partner_up", dir="in", remote=x.id)
        same(up["did"], x.did, "DID in the heartbeat")
        same(x.wait("probed", mode="echo")["bytes"], 32768, "bytes echoed")
        for n in (1, 2, 3):
            y.wait("heartbeat", remote=x.id, n=n)
    a.do("stop_partner", addr=b.addr)
    same(b.wait("partner_down", dir="in", remote=a.id)["reason"], "closed", "end of a stopped partner")
    a.do("partner", addr=b.addr, beats=1)
    b.wait("partner_up", dir="in", remote=a.id)
    same(b.wait("partner_down", dir="in", remote=a.id)["reason"], "expired", "end of a silent partner")
    same(a.wait("partner_down", dir="out", reason="reset")["remote"], b.id, "who reset")


def go_challenge(lab):
    a, b = lab.peer("go"), lab.peer("go")
    for mode in ("corrupt", "short", "long", "endless", "reset"):
        a.do("configure", probe=mode)
        a.do("partner", addr=b.addr)
        b.wait("partner_refused", remote=a.id)
        a.wait("partner_down", dir="out", reason="reset")
    a.do("configure", probe="echo")
    a.do("partner", addr=b.addr, peer_id="12D3KooWNobody")
    if "names peer" not in b.wait("partner_refused")["reason"]:
        raise Failed("a heartbeat with another's PeerId was refused for another reason")


def go_events(lab):
    a, b = lab.peer("go", "--security", "noise"), lab.peer("go", "--security", "both")
    payload = {"id": "r1", "name": NASTY, "big": 12345678901234567890, "nested": [{"x": None}]}
    for x, y in ((a, b), (b, a)):
        for kind in ("create", "update", "delete", "considers", "planner"):
            x.do("send", addr=y.addr, protocol=kind, datatype=4, user=NASTY, payload=payload)
            got = y.wait("received", protocol=kind, remote=x.id)
            same((got["type"], got["from"], got["user"], got["datatype"]), (kind, x.did, NASTY, 4), "event")
            same(json.loads(b64decode(got["payload_b64"])), payload, "payload")
            same((got["signed"], got["verified"]), (True, True), "signature")
    a.do("send", addr=b.addr, protocol="create", payload={}, sign=False)
    same(b.wait("received", protocol="create")["signed"], False, "an event not signed")
    a.do("send", addr=b.addr, protocol="create", payload={}, forge=True)
    got = b.wait("received", protocol="create")
    same((got["signed"], got["verified"]), (True, False), "a forged signature")
    a.do("send", addr=b.addr, protocol="create", payload={}, **{"from": "someone"})
    same(b.wait("received", protocol="create")["from"], "someone", "a claimed sender")
    a.do("close_stream", addr=b.addr, protocol="planner")
    same(b.wait("stream_end", protocol="planner", dir="in")["how"], "eof", "end of the planner stream")


def go_burst(lab):
    a, b = lab.peer("go"), lab.peer("go")
    a.do("burst", addr=b.addr, protocol="create", count=1000, size=1024, datatype=1)
    names = [b.wait("received", protocol="create") for _ in range(1000)]
    same([e["payload"]["n"] for e in names], list(range(1000)), "order of the burst")
    same(all(e["verified"] for e in names), True, "signatures of the burst")
    same({len(b64decode(e["payload_b64"])) for e in names}, {1024}, "size of the payloads")
    b.do("configure", quiet=True)
    a.do("burst", addr=b.addr, protocol="update", count=1000, size=300, new_streams=True)
    until = time.monotonic() + PATIENCE
    while b.do("counts")["counts"].get("update", {}).get("verified") != 1000:
        if time.monotonic() > until:
            raise Failed(f"1000 new streams: {b.do('counts')}")
        time.sleep(0.05)


def go_search(lab):
    a, b = lab.peer("go"), lab.peer("go")
    b.do("resources", match=True, list=[
        {"datatype": 4, "resource": {"id": "1", "name": "big GPU"}},
        {"datatype": 3, "resource": {"id": "2", "name": "disk"}},
        {"datatype": 1, "resource": {"id": "3", "description": "made on a gpu"}},
    ])
    a.do("send", addr=b.addr, protocol="search", user="u", payload={"search": "gpu"})
    same(b.wait("received", protocol="search")["payload"], {"search": "gpu"}, "question")
    got = [a.wait("received", protocol="search") for _ in range(2)]
    same([(e["datatype"], e["payload"]["id"], e["user"]) for e in got], [(4, "1", "u"), (1, "3", "u")], "answers")
    a.wait("stream_end", protocol="search", dir="in", how="eof")


def go_hostile(lab):
    a, b = lab.peer("go", "--limits", "none"), lab.peer("go")
    a.do("connect", addr=b.addr)
    a.do("raw", protocol="create", text="this is no JSON\n")
    same(b.wait("stream_end", protocol="create", dir="in")["how"], "error", "end of a stream with no JSON")
    same(a.wait("raw_end")["how"], "reset", "what the writer sees")
    event = json.dumps({"type": "create", "from": "x", "User": "", "datatype": 1,
                        "ts": "2024-01-01T00:00:00Z", "payload": b64encode(b"{}").decode(), "sig": None})
    a.do("raw", protocol="create", text=event, delay_ms_per_byte=1, close=True)
    b.wait("received", protocol="create", **{"from": "x"})
    b.wait("stream_end", protocol="create", dir="in", how="eof")
    first = a.do("raw", protocol="probe", base64=b64encode(b"\x00\x01\x02").decode())["stream"]
    a.do("raw", protocol="probe", stream=first, text="more", close=True)
    read = b""
    while len(read) < 7:
        read += b64decode(a.wait("raw_read", stream=first)["base64"])
    same(read, b"\x00\x01\x02more", "echo of the probe")
    a.wait("raw_end", stream=first, how="eof")
    many = a.do("open_many", protocol="create", count=600)
    same(many["opened"] + many["refused"], 600, "streams tried")
    a.wait("many_end", how="reset")  # beyond the far side's limit a stream is reset
    a.do("disconnect", addr=b.addr)
    b.wait("disconnected", remote=a.id)


def go_wrong_network(lab):
    a = lab.peer("go")
    stranger = lab.peer("go", psk=lab.other_psk)
    same(stranger.ask("connect", addr=a.addr)["event"], "error", "dial with another key")
    naked = Peer(lab.programs["go"], "--no-psk")
    lab.peers.append(naked)
    same(naked.ask("connect", addr=a.addr)["event"], "error", "dial without a key")
    tls, noise = lab.peer("go", "--security", "tls"), lab.peer("go", "--security", "noise")
    same(tls.ask("connect", addr=noise.addr)["event"], "error", "tls against noise")
    tls.do("connect", addr=a.addr)
    noise.do("connect", addr=a.addr)


# --- js ---------------------------------------------------------------------------------------


def mesh(*peers):
    """Connects the peers to the first one and waits until both topics have their mesh."""
    for peer in peers[1:]:
        peer.do("connect", addr=peers[0].addr)
        for topic in ("search", "search#"):
            peer.wait("graft", remote=peers[0].id, topic=topic)


def js_gossip(lab):
    a, b, c = lab.peer("js", "--did", "did-a"), lab.peer("js"), lab.peer("js")
    mesh(a, b, c)
    for topic in ("search", "search#"):
        b.do("publish", topic=topic, payload={"search": "gpu"}, user=NASTY)
        for peer in (a, c):
            got = peer.wait("gossip", topic=topic)
            same((got["source"], got["via"]), (b.id, b.id if peer is a else a.id), "the way it came")
            same((got["type"], got["from"], got["user"]), ("search", b.did, NASTY), "event")
            same((got["payload"], got["verified"]), ({"search": "gpu"}, True), "payload and signature")


def js_forged(lab):
    a, b = lab.peer("js"), lab.peer("js")
    mesh(a, b)
    for more, want in (
        ({"forge": "sig"}, (True, False)), ({"forge": "payload"}, (True, False)), ({"sign": False}, (False, False)),
        ({"from": "another"}, (True, True)), ({"age_ms": 3_600_000}, (True, True)),
    ):
        sent = b.do("publish", payload={"search": "x"}, **more)
        got = a.wait("gossip", source=b.id)
        same((got["signed"], got["verified"]), want, f"{more}")
        same(got["raw_b64"], sent["raw_b64"], "bytes")
    sent = b.do("publish", replay=sent["publication"])
    same(a.wait("gossip", source=b.id)["raw_b64"], sent["raw_b64"], "bytes of the replay")
    b.do("publish", raw_b64=b64encode(b"no JSON").decode())
    if "message" not in a.wait("gossip", source=b.id):
        raise Failed("bytes that are no JSON were taken for an event")


def js_search(lab):
    a, b = lab.peer("js"), lab.peer("js")
    mesh(a, b)
    b.do("resources", match=True, list=[
        {"datatype": 4, "resource": {"id": "1", "name": "GPU"}}, {"datatype": 4, "resource": {"id": "2", "name": "no"}}])
    a.do("publish", payload={"search": "gpu"})
    same(b.wait("answered")["count"], 1, "answers")
    got = a.wait("received", protocol="search")
    same((got["payload"]["id"], got["verified"], got["remote"]), ("1", True, b.id), "answer")


def js_wrong_network(lab):
    a, stranger = lab.peer("js"), lab.peer("js", psk=lab.other_psk)
    same(stranger.ask("connect", addr=a.addr)["event"], "error", "dial with another key")


# --- both -------------------------------------------------------------------------------------


def cross_streams(lab):
    go, js = lab.peer("go"), lab.peer("js")
    for x, y in ((go, js), (js, go)):
        for kind in ("create", "search"):
            payload = {"id": "r", "name": NASTY}
            x.do("send", addr=y.addr, protocol=kind, datatype=2, user=NASTY, payload=payload)
            got = y.wait("received", protocol=kind, remote=x.id)
            same((got["payload"], got["user"], got["verified"]), (payload, NASTY, True), f"event on {kind}")
    js.do("resources", list=[{"datatype": 4, "resource": {"id": "1", "name": "GPU"}}])
    go.do("send", addr=js.addr, protocol="search", payload={"search": "gpu"})
    same(go.wait("received", protocol="search", datatype=4)["verified"], True, "answer of js")


def cross_timestamps(lab):
    """Go signs and verifies what it re-marshals: every fraction of a second must survive that."""
    go, js = lab.peer("go"), lab.peer("js")
    for ts in ("2024-01-01T00:00:00Z", "2024-01-01T00:00:00.5Z", "2024-01-01T00:00:00.123456789Z"):
        js.do("send", addr=go.addr, protocol="create", payload={}, ts=ts)
        got = go.wait("received", protocol="create")
        same((got["ts"], got["verified"]), (ts, True), "time")


CHECKS = {
    "go": [go_keys, go_partner, go_challenge, go_events, go_burst, go_search, go_hostile, go_wrong_network],
    "js": [js_gossip, js_forged, js_search, js_wrong_network],
    "cross": [cross_streams, cross_timestamps],
}
NEEDS = {"go": ["go"], "js": ["js"], "cross": ["go", "js"]}


def program(kind):
    done = subprocess.run([str(ROOT / "scripts/tools.sh"), f"foreign-{kind}"], stdout=subprocess.PIPE, text=True)
    if done.returncode == 3:
        return None
    if done.returncode != 0:
        sys.exit(1)
    path = done.stdout.strip()
    return [path] if kind == "go" else ["node", path]


def main():
    groups = sys.argv[1:] or list(CHECKS)
    if any(g not in CHECKS for g in groups):
        sys.exit(f"usage: selfcheck.py [{'|'.join(CHECKS)} ...]")
    programs = {kind: program(kind) for kind in sorted({k for g in groups for k in NEEDS[g]})}
    failed = 0
    for group in groups:
        if any(programs[kind] is None for kind in NEEDS[group]):
            print(f"SKIP {group}: its peer cannot run here")
            continue
        for check in CHECKS[group]:
            name = re.sub("_", " ", check.__name__)
            with tempfile.TemporaryDirectory() as folder:
                lab = Lab(Path(folder), programs)
                started = time.monotonic()
                try:
                    check(lab)
                    print(f"PASS {name} ({time.monotonic() - started:.1f} s)", flush=True)
                except (Failed, queue.Empty) as problem:
                    failed += 1
                    print(f"FAIL {name}: {problem}", flush=True)
                finally:
                    lab.end()
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
