#!/usr/bin/env python3
"""Speaks to a NATS server as an app of the organisation does; needs nothing but Python 3.

    scripts/app.py [--nats URL] listen                            what the daemon says, decoded
    scripts/app.py [--nats URL] publish SUBJECT DATATYPE JSON     an envelope (create_resource, remove_resource)
    scripts/app.py [--nats URL] propagate ACTION DATATYPE JSON    a propalgation_event: create, update, delete,
                                                                  considers, planner, close_planner, search, close_search

JSON is the document or payload itself; `-` reads it from stdin. DATATYPE and ACTION are names or numbers. URL is
nats://[user:password@|token@]host:port, nats://127.0.0.1:4222 by default. `--wait`, with a search that has an id: stays
and shows its results until its end. `--print`: only shows the message, for another NATS client to publish.
Exit status: 0 done; 1 NATS is not there or refuses; 64 wrong usage.
"""

import argparse
import base64
import json
import socket
import sys
from urllib.parse import unquote, urlsplit

ACTIONS = {"search": 0, "create": 2, "update": 3, "delete": 4, "planner": 5, "close_planner": 6, "considers": 7}
ACTIONS["close_search"] = 8
DATATYPES = (
    "invalid data_resource processing_resource storage_resource compute_resource workflow_resource workflow "
    "workflow_execution workspace peer collaborative_area rule booking workflow_history workspace_history order "
    "purchase_resource"
).split()
SUBJECTS = ("propalgation_event", "create_resource", "remove_resource", "search_event", "search_end")
PATIENCE = 5  # seconds NATS may take to answer


class Nats:
    """As much of the NATS protocol as this needs."""

    def __init__(self, url):
        at = urlsplit(url if "://" in url else f"nats://{url}")
        try:
            self.socket = socket.create_connection((at.hostname, at.port or 4222), PATIENCE)
        except OSError as error:
            sys.exit(f"app.py: NATS at {at.hostname}:{at.port or 4222} does not answer: {error}")
        self.lines = self.socket.makefile("rb")
        info = json.loads(self.lines.readline().removeprefix(b"INFO "))
        if info.get("tls_required"):
            sys.exit("app.py: this NATS server wants TLS, which this script does not have; use another client")
        words = {"verbose": False, "headers": True, "no_responders": True, "echo": False, "name": "app.py"}
        if at.password is not None:
            words |= {"user": unquote(at.username), "pass": unquote(at.password)}
        elif at.username:
            words["auth_token"] = unquote(at.username)
        self.send(f"CONNECT {json.dumps(words)}\r\n".encode())
        self.round_trip()

    def send(self, data):
        self.socket.sendall(data)

    def round_trip(self):
        self.send(b"PING\r\n")
        while self.next() != "PONG":
            pass

    def subscribe(self, subjects):
        for number, subject in enumerate(subjects, 1):
            self.send(f"SUB {subject} {number}\r\n".encode())
        self.round_trip()
        self.socket.settimeout(None)

    def next(self):
        """The next (subject, headers, body), or the word PONG."""
        while True:
            try:
                line = self.lines.readline()
            except TimeoutError:
                sys.exit("app.py: NATS does not answer")
            word, *rest = line.decode().split() or ["-ERR", "nothing more: it left"]
            if word == "PONG":
                return word
            if word == "PING":
                self.send(b"PONG\r\n")
            elif word == "-ERR":
                sys.exit(f"app.py: NATS says {' '.join(rest)}")
            elif word in ("MSG", "HMSG"):
                data = self.lines.read(int(rest[-1]) + 2)[:-2]
                split = int(rest[-2]) if word == "HMSG" else 0
                headers = dict(h.split(": ", 1) for h in data[:split].decode().split("\r\n") if ": " in h)
                return rest[0], headers, data[split:]


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
    if text.isdecimal():
        return int(text)
    if text not in names:
        usage(f"there is no {what} {text}; there are {', '.join(names)}")
    return names[text]


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
        said.add_argument("--print", action="store_true")
    wanted = parser.parse_args()

    if wanted.verb == "listen":
        nats = Nats(wanted.nats)
        nats.subscribe(SUBJECTS)
        print(f"listening to {', '.join(SUBJECTS)}; Ctrl-C ends", file=sys.stderr)
        while True:
            show(*nats.next())

    try:
        payload = json.loads(sys.stdin.read() if wanted.json == "-" else wanted.json)
    except ValueError as error:
        usage(f"that is no JSON: {error}")
    datatype = number(wanted.datatype, {name: code for code, name in enumerate(DATATYPES)}, "datatype")
    subject, inner = getattr(wanted, "subject", "propalgation_event"), payload
    if wanted.verb == "propagate":
        action = number(wanted.action, ACTIONS, "action")
        inner = {"datatype": datatype, "action": action, "payload": base64_of(payload)}
    envelope = {"from_app": "app.py", "datatype": datatype, "user": "", "groups": None, "method": 0}
    body = json.dumps(envelope | {"payload": base64_of(inner)}, separators=(",", ":"))
    if wanted.print:
        return print(body)
    nats = Nats(wanted.nats)
    search = payload.get("id") if isinstance(payload, dict) else None
    if wanted.wait:
        if not search or getattr(wanted, "action", "") not in ("search", str(ACTIONS["search"])):
            usage("--wait needs a search with an id")
        nats.subscribe(("search_event", "search_end"))
    # The answers may come at once, so nothing but the message itself is waited for.
    nats.send(f"PUB {subject} {len(body.encode())}\r\n{body}\r\n".encode())
    while wanted.wait:
        heard, headers, answer = nats.next()
        message = json.loads(answer)
        if message.get("search_id") == search:
            show(heard, headers, answer)
            if heard == "search_end":
                break
    if not wanted.wait:
        nats.round_trip()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
