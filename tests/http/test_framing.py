"""A request ends where RFC 9112 says, and no byte after its end is taken for part of it."""

import itertools
import json
import os
import random
import re
import select
import socket
from dataclasses import dataclass

import h11
import pytest

REQUESTS = int(os.environ.get("FRAMING_REQUESTS", "300"))  # that are made up

FIRST = b'{"name": "first"}'
SECOND = (
    b"POST /api/groups HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 18\r\n\r\n"
    b'{"name": "second"}'
)

LAST = b"GET /api/health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
QUIET = 0.2  # seconds without an answer after which a client that made something up takes the rest for missing


def post(*fields: bytes, line: bytes = b"POST /api/groups HTTP/1.1", body: bytes = FIRST, host: bytes = b"localhost"):
    """A request with these fields in addition to Host and Content-Type."""
    lines = [line, b"Host: " + host, b"Content-Type: application/json", *fields]
    return b"\r\n".join([*lines, b"", body])


LENGTH = b"Content-Length: %d" % len(FIRST)
CHUNKED = b"Transfer-Encoding: chunked"


def chunked(size: bytes = b"11", data: bytes = FIRST, rest: bytes = b"\r\n0\r\n\r\n", field: bytes = CHUNKED) -> bytes:
    return post(field, body=size + b"\r\n" + data + rest)


LINES = {
    "bare LF after the request line": post(LENGTH).replace(b"HTTP/1.1\r\n", b"HTTP/1.1\n"),
    "bare LF everywhere": post(LENGTH).replace(b"\r\n", b"\n"),
    "bare LF after a field": post(b"X: y\nZ: 1", LENGTH),
    "bare CR in a value": post(b"X: y\rZ: 1", LENGTH),
    "NUL in a value": post(b"X: y\x00z", LENGTH),
    "control character in a value": post(b"X: y\x07z", LENGTH),
    "DEL in a value": post(b"X: y\x7fz", LENGTH),
    "space before the colon": post(LENGTH.replace(b":", b" :")),
    "tab before the colon": post(LENGTH.replace(b":", b"\t:")),
    "space before a name": post(b" X: y", LENGTH),
    "folded value": post(b"X: y\r\n z", LENGTH),
    "folded length": post(b"Content-Length:\r\n 17"),
    "no colon": post(b"X", LENGTH),
    "no name": post(b": y", LENGTH),
    "name with a space": post(b"X Y: z", LENGTH),
    "name with another letter": post("X-é: z".encode(), LENGTH),
    "NUL in a name": post(b"Content\x00-Length: 17"),
    "space after the version": post(LENGTH, line=b"POST /api/groups HTTP/1.1 "),
    "two spaces in the request line": post(LENGTH, line=b"POST  /api/groups HTTP/1.1"),
    "tab in the request line": post(LENGTH, line=b"POST\t/api/groups HTTP/1.1"),
    "space in the target": post(LENGTH, line=b"POST /api/gro ups HTTP/1.1"),
    "control character in the target": post(LENGTH, line=b"POST /api/groups\x01 HTTP/1.1"),
    "other letter in the target": post(LENGTH, line="POST /api/groups?é HTTP/1.1".encode()),
    "target without a slash": post(LENGTH, line=b"POST api/groups HTTP/1.1"),
    "target of another scheme": post(LENGTH, line=b"POST ftp://localhost/api/groups HTTP/1.1"),
    "target without a host": post(LENGTH, line=b"POST http:///api/groups HTTP/1.1"),
    "target with a user": post(LENGTH, line=b"POST http://me@localhost/api/groups HTTP/1.1"),
    "asterisk": post(LENGTH, line=b"POST * HTTP/1.1"),
    "CONNECT": post(LENGTH, line=b"CONNECT localhost:80 HTTP/1.1"),
    "method with a colon": post(LENGTH, line=b"PO:ST /api/groups HTTP/1.1"),
    "method with another letter": post(LENGTH, line="PÖST /api/groups HTTP/1.1".encode()),
    "no method": post(LENGTH, line=b" /api/groups HTTP/1.1"),
    "no version": post(LENGTH, line=b"POST /api/groups"),
    "version in lower case": post(LENGTH, line=b"POST /api/groups http/1.1"),
    "version 1.2": post(LENGTH, line=b"POST /api/groups HTTP/1.2"),
    "version 2.0": post(LENGTH, line=b"POST /api/groups HTTP/2.0"),
    "version 01.1": post(LENGTH, line=b"POST /api/groups HTTP/01.1"),
    "beginning of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "two empty lines before": b"\r\n\r\n" + post(LENGTH),
    "bare LF before": b"\n" + post(LENGTH),
    "bare CR before": b"\r" + post(LENGTH),
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(32)),
}
HOSTS = {
    "no Host": post(LENGTH).replace(b"Host: localhost\r\n", b""),
    "two Hosts": post(b"Host: localhost", LENGTH),
    "two Hosts of HTTP/1.0": post(b"Host: localhost", LENGTH, line=b"POST /api/groups HTTP/1.0"),
    "two different Hosts": post(b"Host: elsewhere", LENGTH),
    "Host with a space": post(LENGTH, host=b"local host"),
    "Host with a path": post(LENGTH, host=b"localhost/x"),
    "Host with a user": post(LENGTH, host=b"me@localhost"),
    "Host with a bad port": post(LENGTH, host=b"localhost:x"),
    "list of Hosts": post(LENGTH, host=b"localhost, elsewhere:80"),
    "Host with other letters": post(LENGTH, host="löcalhost".encode()),
    "no Host beside an absolute target": post(LENGTH, line=b"POST http://localhost/api/groups HTTP/1.1").replace(
        b"Host: localhost\r\n", b""
    ),
}
LENGTHS = {
    f"Content-Length {value!r}": post(b"Content-Length: " + value)
    for value in (
        *(b"+17", b"-17", b"17, 17", b"17,18", b"0x11", b"1_7", b"17 ", b"", b" ", b"17.0", b"1 7", b"x", b"17;"),
        *("١٧".encode(), b"\xb2", b"9" * 19, b"9" * 5000, b"00017x"),
    )
    if value != b"17 "  # white space after a value is none of it
} | {
    "two lengths": post(LENGTH, LENGTH),
    "two different lengths": post(LENGTH, b"Content-Length: 0"),
    "length and coding": post(LENGTH, CHUNKED, body=b"11\r\n" + FIRST + b"\r\n0\r\n\r\n"),
    "coding and length": post(CHUNKED, b"Content-Length: 0", body=b"11\r\n" + FIRST + b"\r\n0\r\n\r\n"),
    "coding of HTTP/1.0": chunked().replace(b"HTTP/1.1", b"HTTP/1.0"),
}
CODINGS = {
    f"Transfer-Encoding {value!r}": chunked(field=b"Transfer-Encoding: " + value)
    for value in (
        *(
            b"",
            b"identity",
            b"gzip",
            b"gzip, chunked",
            b"chunked, gzip",
            b"chunked, chunked",
            b"chunked;q=1",
            b"xchunked",
        ),
        *(b"chunked,", b'"chunked"', b"chunked x", b"\x0bchunked", "chunKed".replace("K", "\u212a").encode()),
    )
} | {
    "two codings": chunked(field=CHUNKED + b"\r\n" + CHUNKED),
    "coding with a space": chunked(field=b"Transfer-Encoding : chunked"),
}
CHUNKS = {
    f"chunk size {size!r}": chunked(size)
    for size in (
        *(b"0x11", b"+11", b"-11", b"1_1", b" 11", b"11 ", b"\t11", b"00000000000000011", b"", b"g", b"1.1", b"11,"),
        *(
            "١١".encode(),
            b"11;\x00",
            b"11;a\nb",
            b"11;a\rb",
            b"11;",
            b"11;=x",
            b'11;a="b',
            b"11;a=b c",
            b"\x0011",
            b"11h",
        ),
    )
} | {
    "chunk line without CR": chunked().replace(b"11\r\n", b"11\n"),
    "chunk line with CR alone": chunked().replace(b"11\r\n", b"11\r"),
    "chunk data longer than its size": chunked(b"10"),
    "chunk data without an end": chunked(rest=b"0\r\n\r\n"),
    "chunk data that ends with LF": chunked(rest=b"\n0\r\n\r\n"),
    "last chunk without CR": chunked(rest=b"\r\n0\n\r\n"),
    "bare LF at the end": chunked(rest=b"\r\n0\r\n\n"),
    "trailer without a colon": chunked(rest=b"\r\n0\r\nX\r\n\r\n"),
    "trailer with a bare LF": chunked(rest=b"\r\n0\r\nX: y\nZ: z\r\n\r\n"),
    "folded trailer": chunked(rest=b"\r\n0\r\nX: y\r\n z\r\n\r\n"),
    "space before a trailer's colon": chunked(rest=b"\r\n0\r\nX : y\r\n\r\n"),
    "request for a trailer": chunked(rest=b"\r\n0\r\n" + SECOND),
    "long extension": chunked(b"11;a=" + b"x" * 2000),
    "long trailers": chunked(rest=b"\r\n0\r\n" + b"X: y\r\n" * 5000 + b"\r\n"),
}
MALFORMED = LINES | HOSTS | LENGTHS | CODINGS | CHUNKS


@dataclass(frozen=True)
class Answered:
    """An answer as it came: its status, whether the connection was closed after it, and its body."""

    status: int
    closes: bool
    body: bytes


def answers(received: bytes) -> list[Answered]:
    """All answers that a connection brought, none of them to HEAD."""
    found = []
    while received:
        head, _, received = received.partition(b"\r\n\r\n")
        if head.startswith(b"HTTP/1.1 100 "):
            continue
        length = re.search(rb"\r\ncontent-length: (\d+)", head, re.IGNORECASE)
        size = int(length[1]) if length else 0
        closes = b"\r\nconnection: close" in head.lower()
        found.append(Answered(int(head.split(b" ")[1]), closes, received[:size]))
        received = received[size:]
    return found


def exchange(api, sent: bytes, quiet: float | None = None) -> list[Answered]:
    """Send bytes; the answers up to the end of the connection, or until there is nothing for `quiet` seconds."""
    received = b""
    with socket.create_connection(("127.0.0.1", api.port), timeout=60) as client:
        client.sendall(sent)
        while select.select([client], [], [], quiet)[0] and (read := client.recv(65536)):
            received += read
    return answers(received)


@pytest.mark.parametrize("sent", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_framing_is_refused_and_nothing_is_done(api, unchanged, sent):
    (answer,) = exchange(api, sent + SECOND + LAST)
    assert (answer.status, answer.closes) == (400, True)
    assert json.loads(answer.body)["code"] == "bad_request"


@pytest.mark.parametrize(
    "sent", [b"\x16\x03\x01", b"GET / HTTP/1.1\nHost: x\n\n", b"\x00", b"GET /\r\nHost: x\r\nX\x00"]
)
def test_bytes_that_cannot_become_a_request_are_refused_at_once(api, sent):
    """The client leaves its side open, as one does that waits for an answer."""
    with socket.create_connection(("127.0.0.1", api.port), timeout=20) as client:
        client.sendall(sent)
        assert client.recv(65536).startswith(b"HTTP/1.1 400")


NUMBERS = itertools.count()

WELL_FORMED = {
    "length": post(LENGTH),
    "white space around a value": post(b"Content-Length: \t 17 \t"),
    "no space before a value": post(b"Content-Length:17"),
    "leading zeros": post(b"Content-Length: 0017"),
    "chunks": chunked(),
    "chunks in any case": chunked(field=b"TRANSFER-encoding: Chunked"),
    "two chunks": chunked(b"1", b"{", b"\r\n10\r\n" + FIRST[1:] + b"\r\n0\r\n\r\n"),
    "leading zeros of a chunk": chunked(b"0000000000000011"),
    "several zeros at the end": chunked(rest=b"\r\n000\r\n\r\n"),
    "extensions": chunked(b'11 ; a ;b=c; d = "e\\";f"', rest=b"\r\n0;x\r\n\r\n"),
    "trailers": chunked(rest=b"\r\n0\r\nX: y\r\nContent-Length: 5\r\nZ:\r\n\r\n"),
    "empty line before": b"\r\n" + post(LENGTH),
    "other bytes in a value": post(b"X: \xe9\xff \t(y)", LENGTH),
    "empty value": post(b"X:", LENGTH),
    "absolute target": post(LENGTH, line=b"POST http://localhost/api/groups HTTP/1.1"),
    "absolute target in another case": post(LENGTH, line=b"POST HTTP://LOCALHOST:80/api/groups HTTP/1.1"),
    "Upgrade": post(b"Connection: Upgrade, keep-alive", b"Upgrade: websocket", LENGTH),
    "several options": post(b"Connection: TE, x", b"Connection: keep-alive", LENGTH),
    "expectation": post(b"Expect: 100-CONTINUE", LENGTH),
    "expectation without a body": b"GET /api/health HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n\r\n"
    + post(LENGTH),
    "Host with a port": post(LENGTH, host=b"LocalHost.:80"),
    "HTTP/1.0": post(b"Connection: Keep-Alive", LENGTH, line=b"POST /api/groups HTTP/1.0"),
    "HTTP/1.0 without Host": post(b"Connection: keep-alive", LENGTH, line=b"POST /api/groups HTTP/1.0").replace(
        b"Host: localhost\r\n", b""
    ),
}


@pytest.mark.parametrize("form", WELL_FORMED)
def test_a_well_formed_request_is_done_and_so_is_the_next(api, form):
    name = f"{next(NUMBERS):05}"
    sent = WELL_FORMED[form].replace(b"first", name.encode())
    *_, first, second, _ = exchange(api, sent + SECOND.replace(b"second", f"{name}b".encode()) + LAST)
    assert (first.status, first.closes, json.loads(first.body)["data"]["name"]) == (201, False, name)
    assert (second.status, json.loads(second.body)["data"]["name"]) == (201, f"{name}b")


@pytest.mark.parametrize(
    "sent", [post(b"Connection: close", LENGTH), post(b"Connection: x, CLOSE", LENGTH),
             post(LENGTH, line=b"POST /api/groups HTTP/1.0")]
)  # fmt: skip
def test_nothing_is_done_after_the_last_request_of_a_connection(api, sent):
    name = f"last {next(NUMBERS)}"
    sent = sent.replace(FIRST, b'{"name": "%s"}' % name.encode()).replace(
        LENGTH, b"Content-Length: %d" % (12 + len(name))
    )
    (answer,) = exchange(api, sent + SECOND + LAST)
    assert (answer.status, answer.closes) == (201, True)
    assert "second" not in {group["name"] for group in api("GET", "/api/groups").data}


PIECES = [
    *(
        b"\r",
        b"\n",
        b"\r\n",
        b" ",
        b"\t",
        b"\x00",
        b":",
        b",",
        b";",
        b"0",
        b"1",
        b"+",
        b"-",
        b"_",
        b"0x",
        b"\xff",
        b'"',
    ),
    *(b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Host: x\r\n", b"\r\n\r\n", b"0\r\n\r\n"),
    *(b"Connection: close\r\n", b"Upgrade: websocket\r\n", b"Expect: 100-continue\r\n", b"HTTP/1.0", b"X: y\r\n z\r\n"),
]


def mutated(source: random.Random, sent: bytes) -> bytes:
    """A request with one to three changes to its framing."""
    for _ in range(source.choice((1, 1, 2, 3))):
        place, until = sorted(source.randrange(len(sent) + 1) for _ in range(2))
        match source.randrange(5):
            case 0:
                sent = sent[:place] + source.choice(PIECES) + sent[place:]
            case 1:
                sent = sent[:place] + sent[min(until, place + source.randrange(1, 9)) :]
            case 2:
                sent = sent[:place] + bytes([source.randrange(256)]) + sent[place + 1 :]
            case 3:
                lines = sent.split(b"\r\n")
                source.shuffle(lines)
                sent = b"\r\n".join(lines)
            case 4:
                ends = [match.start() for match in re.finditer(rb"\r\n", sent)]
                place = source.choice(ends) if ends else 0
                sent = sent[:place] + source.choice(PIECES) + sent[place + 2 * source.randrange(2) :]
    return sent


def announced(sent: bytes) -> list[bytes]:
    """The bodies of the requests that another strict parser finds in these bytes.

    h11 knows neither an empty line before a request, nor HTTP/1.0's keep-alive, nor white space before a chunk's
    extension. So each request has a parser of its own, and the white space is left out.
    """
    found: list[bytes] = []
    sent = re.sub(rb"[ \t]+;", b";", sent)
    goes_on = True
    while goes_on and sent:
        parser = h11.Connection(h11.SERVER)
        parser.receive_data(sent.removeprefix(b"\r\n"))
        body = b""
        try:
            while not isinstance(event := parser.next_event(), h11.EndOfMessage):
                if event is h11.NEED_DATA:
                    return found
                if isinstance(event, h11.Request):
                    options = b",".join(value for name, value in event.headers if name == b"connection").lower()
                    wanted = {option.strip() for option in options.split(b",")}
                    goes_on = b"close" not in wanted and (event.http_version == b"1.1" or b"keep-alive" in wanted)
                elif isinstance(event, h11.Data):
                    body += bytes(event.data)
        except h11.RemoteProtocolError:
            return found
        found.append(body)
        sent = parser.trailing_data[0]
    return found


def test_random_requests_do_only_what_another_parser_finds_in_them(api):
    """Each request has its own names, so that the changes show which requests were done."""
    source = random.Random(20)
    valid = [*WELL_FORMED.values(), post(LENGTH, line=b"POST /api/nothing HTTP/1.1"), post(CHUNKED, body=b"0\r\n\r\n")]
    done = refused = 0
    expected: dict[str, bytes] = {}
    for number in range(REQUESTS):
        name = f"{number:05}"
        sent = mutated(source, source.choice(valid).replace(b"first", name.encode()))
        sent += SECOND.replace(b"second", f"{name}b".encode())
        found = exchange(api, sent + LAST, QUIET)
        assert all(answer.status < 500 for answer in found), (sent, found)
        made = [answer for answer in found if answer.status == 201]
        bodies = announced(sent)
        for answer in made:
            name = json.loads(answer.body)["data"]["name"]
            assert any(name in json.loads(body).values() for body in bodies if is_object(body)), (sent, found, bodies)
            assert name not in expected, sent
            expected[name] = sent
        done += bool(made)
        refused += not made
    assert done > REQUESTS // 10
    assert refused > REQUESTS // 10
    groups = set()
    path = "/api/groups"
    while path:
        page = api("GET", path).json
        groups |= {group["name"] for group in page["data"]}
        path = page.get("next")
    assert expected.keys() <= groups


def is_object(body: bytes) -> bool:
    try:
        return isinstance(json.loads(body), dict)
    except ValueError:
        return False
