#!/usr/bin/env python3
"""Speaks to a NATS server as an app of the organisation does; needs nothing but Python 3.

    scripts/app.py [--nats URL] listen                            what the daemon says, decoded
    scripts/app.py [--nats URL] publish SUBJECT DATATYPE JSON     an envelope (create_resource, remove_resource)
    scripts/app.py [--nats URL] propagate ACTION DATATYPE JSON    a propalgation_event: create, update, delete,
                                                                  considers, planner, close_planner, search, close_search

JSON is the document or payload itself; `-` reads it from stdin. DATATYPE and ACTION are names or numbers. URL is
nats://[user:password@|token@]host:port, nats://127.0.0.1:4222 by default. The daemon's word about the message is waited
for, 10 s at most, and told on stderr; `--no-wait` waits for NATS alone. `--wait`, with a search that has an id: stays
and shows its results until its end. `--print`: only shows the message, for another NATS client to publish.
Exit status: 0 done; 1 NATS or the daemon is not there or refuses; 64 wrong usage.
"""

import argparse
import base64
import json
import secrets
import socket
import sys
import time
from urllib.parse import unquote, urlsplit

ACTIONS = {"search": 0, "create": 2, "update": 3, "delete": 4, "planner": 5, "close_planner": 6, "considers": 7}
ACTIONS["close_search"] = 8
DATATYPES = (
    "invalid data_resource processing_resource storage_resource compute_resource workflow_resource workflow "
    "workflow_execution workspace peer collaborative_area rule booking workflow_history workspace_history order "
    "purchase_resource"
).split()
TAKEN = ("create_resource", "remove_resource", "propalgation_event")  # what a daemon listens to
SUBJECTS = TAKEN + ("search_event", "search_end")
PATIENCE = 5  # seconds NATS may take to answer
WORD = 10  # seconds a daemon may take to say what became of a message: it writes it to its disk first
QUIET = 3660  # seconds in which a search says nothing: longer than any lasts
LINE = 1 << 16  # of a NATS server's lines; its greeting is the longest


class Nats:
    """As much of the NATS protocol as this needs."""

    def __init__(self, url):
        at = urlsplit(url if "://" in url else f"nats://{url}")
        try:
            host, port = at.hostname, at.port or 4222
        except ValueError:
            host = None
        if not host or at.scheme != "nats":
            usage(f"{url} is no address of a NATS server; one is nats://127.0.0.1:4222")
        self.where = f"{host}:{port}"
        try:
            self.socket = socket.create_connection((host, port), PATIENCE)
        except OSError as error:
            failed(f"NATS at {self.where} does not answer: {error}")
        self.lines = self.socket.makefile("rb")
        try:
            greeting = self.lines.readline(LINE)
            info = json.loads(greeting.removeprefix(b"INFO ")) if greeting.startswith(b"INFO ") else None
        except (OSError, ValueError):
            info = None
        if not isinstance(info, dict):
            failed(f"what listens at {self.where} is no NATS server: it does not greet as one")
        if info.get("tls_required"):
            failed("this NATS server wants TLS, which this script does not have; use another client")
        self.max_payload = info.get("max_payload", 1 << 20)
        words = {"verbose": False, "headers": True, "no_responders": True, "echo": False, "name": "app.py"}
        if at.password is not None:
            words |= {"user": unquote(at.username), "pass": unquote(at.password)}
        elif at.username:
            words["auth_token"] = unquote(at.username)
        self.send(f"CONNECT {json.dumps(words)}\r\n".encode())
        self.round_trip()

    def send(self, data):
        try:
            self.socket.sendall(data)
        except OSError as error:
            failed(f"NATS at {self.where} has left: {error}")

    def round_trip(self):
        self.send(b"PING\r\n")
        while (said := self.next(time.monotonic() + PATIENCE)) != "PONG":
            if said is None:
                failed(f"NATS at {self.where} does not answer")

    def subscribe(self, subjects):
        for number, subject in enumerate(subjects, 1):
            self.send(f"SUB {subject} {number}\r\n".encode())
        self.round_trip()

    def publish(self, subject, body, reply=""):
        if len(body) > self.max_payload:
            failed(f"{len(body)} bytes are more than this NATS server takes ({self.max_payload}); raise its max_payload")
        self.send(f"PUB {subject} {reply} {len(body)}\r\n".encode() + body + b"\r\n")

    def next(self, until=None):
        """The next (subject, headers, body), the word PONG, or None when nothing came `until` then."""
        while until is None or time.monotonic() < until:
            try:
                self.socket.settimeout(None if until is None else max(until - time.monotonic(), 0.001))
                line = self.lines.readline(LINE)
                word, *rest = line.decode(errors="replace").split() or ["-ERR", "nothing more: it left"]
                if word == "PONG":
                    return word
                if word == "PING":
                    self.send(b"PONG\r\n")
                elif word == "-ERR":
                    failed(f"NATS says {' '.join(rest)}")
                elif word in ("MSG", "HMSG"):
                    data = self.lines.read(int(rest[-1]) + 2)[:-2]
                    split = int(rest[-2]) if word == "HMSG" else 0
                    status, *more = data[:split].decode(errors="replace").split("\r\n")
                    headers = dict(h.split(": ", 1) for h in more if ": " in h)
                    return rest[0], headers | {"Status": status.removeprefix("NATS/1.0").strip()}, data[split:]
            except TimeoutError:
                return None
            except (OSError, ValueError, IndexError) as error:
                failed(f"NATS at {self.where} has left, or is no NATS server: {error}")
        return None


def failed(why):
    sys.exit(f"app.py: {why}")


def judge(headers, answer):
    """Tells what became of a message, by the word that came to its reply subject; ends the script when it is a refusal."""
    if headers["Status"] == "503":
        failed("nobody listens on that subject: no daemon is on this NATS server, or not yet (`oc-discovery health --ready`)")
    try:
        said = json.loads(answer)
    except ValueError:
        said = None
    said = said if isinstance(said, dict) else {}
    if said.get("ok") is False:
        why = f": {said['why']}" if said.get("why") else ""
        failed(f"the daemon refuses it ({said.get('error')}){why}")
    if said.get("ok") is True:
        print("taken: it is on the daemon's disk", file=sys.stderr)
    elif isinstance(said.get("error"), dict):
        failed(f"the stream of this NATS server does not take it: {said['error'].get('description', said['error'])}")
    elif "stream" in said:
        print(
            f"taken: it waits for the daemon in the stream {said['stream']}; should the daemon refuse it, "
            "`oc-discovery outbox intake` says why",
            file=sys.stderr,
        )
    else:
        failed(f"somebody else than a daemon answers: {answer[:200].decode(errors='replace')}")


def opened(text):
    """A payload: base64 of JSON is that JSON, anything else is itself."""
    try:
        return json.loads(base64.b64decode(text, validate=True))
    except (TypeError, ValueError):
        return text


def show(subject, headers, body):
    try:
        message = json.loads(body)
    except ValueError:
        message = body.decode(errors="replace")
    if isinstance(message, dict) and "payload" in message:
        message["payload"] = opened(message["payload"])
        if isinstance(message["payload"], dict) and subject == "propalgation_event":
            message["payload"]["payload"] = opened(message["payload"].get("payload"))
    origin = f"  (Oc-Origin: {headers['Oc-Origin']})" if "Oc-Origin" in headers else ""
    print(f"{subject}{origin}\n  {json.dumps(message, ensure_ascii=False)}", flush=True)
    return message


def number(text, names, what):
    if text in names:
        return names[text]
    if text.isdecimal() and int(text) in names.values():
        return int(text)
    usage(f"there is no {what} {text}; there are {', '.join(f'{name} {code}' for name, code in names.items())}")


def usage(why):
    print(f"app.py: {why}", file=sys.stderr)
    sys.exit(64)


def base64_of(value):
    return base64.b64encode(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()).decode()


class Parser(argparse.ArgumentParser):
    def error(self, why):
        usage(f"{why}\n{__doc__}")


def main():
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nats", default="nats://127.0.0.1:4222", metavar="URL")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("listen")
    for verb, first in (("publish", "subject"), ("propagate", "action")):
        said = verbs.add_parser(verb)
        said.add_argument(first)
        said.add_argument("datatype")
        said.add_argument("json")
        said.add_argument("--wait", action="store_true")
        said.add_argument("--no-wait", action="store_true")
        said.add_argument("--print", action="store_true")
    wanted = parser.parse_args()

    if wanted.verb == "listen":
        nats = Nats(wanted.nats)
        nats.subscribe(SUBJECTS)
        print(f"listening to {', '.join(SUBJECTS)}; Ctrl-C ends", file=sys.stderr)
        while True:
            if (said := nats.next()) != "PONG":
                show(*said)

    subject = getattr(wanted, "subject", "propalgation_event")
    if subject not in TAKEN:
        usage(
            f"no daemon listens to {subject}; it listens to {', '.join(TAKEN)} "
            "(where nats.subjects says otherwise, use --print and another NATS client)"
        )
    action = number(wanted.action, ACTIONS, "action") if wanted.verb == "propagate" else None
    datatype = number(wanted.datatype, {name: code for code, name in enumerate(DATATYPES)}, "datatype")
    try:
        inner = payload = json.loads(sys.stdin.read() if wanted.json == "-" else wanted.json)
    except ValueError as error:
        usage(f"that is no JSON: {error}")
    if action is not None:
        inner = {"datatype": datatype, "action": action, "payload": base64_of(payload)}
    envelope = {"from_app": "app.py", "datatype": datatype, "user": "", "groups": None, "method": 0}
    body = json.dumps(envelope | {"payload": base64_of(inner)}, separators=(",", ":"))
    search = payload.get("id") if isinstance(payload, dict) else None
    if wanted.wait and (not search or action != ACTIONS["search"]):
        usage("--wait needs a search with an id")
    if wanted.wait and wanted.no_wait:
        usage("--wait and --no-wait are opposites")
    if wanted.print:
        return print(body)
    nats = Nats(wanted.nats)
    if wanted.no_wait:
        nats.publish(subject, body.encode())
        return nats.round_trip()
    inbox = f"_INBOX.{secrets.token_hex(11)}"
    nats.subscribe((inbox, "search_event", "search_end") if wanted.wait else (inbox,))
    nats.publish(subject, body.encode(), inbox)
    speak(nats, inbox, search if wanted.wait else None)


def speak(nats, inbox, search):
    """Hears what became of a message, and of the search that it is: its results may come before the daemon's word."""
    until, judged, over = time.monotonic() + WORD, False, search is None
    while not (judged and over):
        said = nats.next(until)
        if said is None and judged:
            failed(f"the search has no end after {QUIET} s: the daemon has left, or refused it")
        if said is None:
            failed(
                f"no daemon has said within {WORD} s what became of it: it waits for its disk, store or partners, or has left "
                "(`oc-discovery status`); it may still take it"
            )
        if said == "PONG":
            continue
        heard, headers, answer = said
        if heard == inbox:
            if not judged:
                judge(headers, answer)
            judged, until = True, time.monotonic() + QUIET
        elif search is not None:
            try:
                message = json.loads(answer)
            except ValueError:
                continue
            if isinstance(message, dict) and message.get("search_id") == search:
                show(heard, headers, answer)
                over = over or heard == "search_end"


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
