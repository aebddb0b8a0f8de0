"""Peers that say what a test tells them to, on a port of this machine; and the bytes that an honest one says."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping

from listener.network import pdu
from listener.network.fragments import Content

#: What a peer does with its one connection; it is closed afterwards.
Script = Callable[[socket.socket], None]


@contextlib.contextmanager
def peer(*scripts: Script) -> Iterator[int]:
    """A peer that serves one connection after the other, each with a script; gives its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        thread = threading.Thread(target=_serve, args=(server, scripts))
        thread.start()
        try:
            yield int(server.getsockname()[1])
        finally:
            with contextlib.suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            thread.join(120)


def _serve(server: socket.socket, scripts: tuple[Script, ...]) -> None:
    for script in scripts:
        with contextlib.suppress(OSError):
            connection = server.accept()[0]
            with connection:
                connection.settimeout(60)
                script(connection)


def read_pdu(connection: socket.socket) -> tuple[int, bytes]:
    """Type and body of the next PDU; ConnectionError at the end."""
    kind, length = struct.unpack(">BxL", _exactly(connection, 6))
    return kind, _exactly(connection, length)


def _exactly(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = connection.recv(count - len(data))
        if not more:
            raise ConnectionError
        data += more
    return data


def read_message(connection: socket.socket, *, has_dataset: bool) -> tuple[bytes, bytes]:
    """Command set and data set of the next message; ConnectionError for anything else."""
    contents = {True: b"", False: b""}
    ended: set[bool] = set()
    while ended < ({True, False} if has_dataset else {True}):
        kind, body = read_pdu(connection)
        if kind != pdu.DATA:
            raise ConnectionError
        pos = 0
        while pos < len(body):
            length, _, control = struct.unpack_from(">LBB", body, pos)
            is_command = bool(control & 1)
            contents[is_command] += body[pos + 6 : pos + 4 + length]
            if control & 2:
                ended.add(is_command)
            pos += 4 + length
    return contents[True], contents[False]


def item(kind: int, content: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(content)) + content


def proposed(request: bytes) -> dict[int, tuple[str, str]]:
    """Abstract and transfer syntax of each presentation context in the body of an A-ASSOCIATE-RQ."""
    found, pos = {}, 68
    while pos < len(request):
        kind, length = struct.unpack_from(">BxH", request, pos)
        if kind == 0x20:
            content = request[pos + 8 : pos + 4 + length]
            size = int.from_bytes(content[2:4], "big")
            found[request[pos + 4]] = (content[4 : 4 + size].decode(), content[8 + size :].decode())
        pos += 4 + length
    return found


def accepting(contexts: Mapping[int, str], longest: int = 16384) -> bytes:
    """An A-ASSOCIATE-AC: these contexts with these transfer syntaxes; "" refuses one."""
    items = item(0x10, b"1.2.840.10008.3.1.1.1")
    for number, syntax in contexts.items():
        items += item(0x21, bytes((number, 0, 0 if syntax else 4, 0)) + item(0x40, syntax.encode()))
    items += item(0x50, item(0x51, longest.to_bytes(4, "big")) + item(0x52, b"1.2.3") + item(0x55, b"PEER"))
    body = struct.pack(">HH16s16s32x", 1, 0, b"CALLED".ljust(16), b"CALLING".ljust(16)) + items
    return struct.pack(">BxL", pdu.ACCEPT, len(body)) + body


def accept(connection: socket.socket, longest: int = 16384) -> None:
    """Accept all that is proposed."""
    _, request = read_pdu(connection)
    contexts = {number: syntax for number, (_, syntax) in proposed(request).items()}
    connection.sendall(accepting(contexts, longest))


def command(**elements: int) -> bytes:
    """The command set of a C-STORE-RSP to message 1 with success; `elements` replace: `e0900=0xA700`."""
    values = {"e0100": 0x8001, "e0120": 1, "e0800": 0x0101, "e0900": 0} | elements
    return b"".join(struct.pack("<HHLH", 0, int(name[1:], 16), 2, value) for name, value in sorted(values.items()))


def data(context: int, content: bytes, control: int = 3) -> bytes:
    """A P-DATA-TF of one fragment; control 3: the last of a command set."""
    return struct.pack(">BxLLBB", pdu.DATA, len(content) + 6, len(content) + 2, context, control) + content


def content_of(content: Content, size: int = 1000) -> bytes:
    """What would be sent, read into slots of `size` bytes."""
    whole = memoryview(bytearray(content.size))
    content.read([whole[start : start + size] for start in range(0, len(whole), size)], 0)
    return bytes(whole)
