"""A client of the hub's protocol that may misbehave, and the well-behaved one whose waiting is measured."""

import asyncio
import json
import socket
import time


def frame(payload, first=0x81):
    """A frame with the mask zero (RFC 6455, section 5.2)."""
    size = len(payload)
    if size < 126:
        head = bytes([first, 0x80 | size])
    elif size < 65536:
        head = bytes([first, 0x80 | 126]) + size.to_bytes(2)
    else:
        head = bytes([first, 0x80 | 127]) + size.to_bytes(8)
    return head + bytes(4) + payload


def text(message):
    return frame(json.dumps(message).encode())


UPGRADE = (b"GET /ws HTTP/1.1\r\nHost: hub\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
           b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")


async def connect(hub, buffer=None):
    sock = socket.socket()
    if buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, (hub.host, hub.port))
    tls = hub.tls()
    return await asyncio.open_connection(sock=sock, limit=2**16, ssl=tls, server_hostname=tls and "hub")


async def upgrade(hub, buffer=None):
    reader, writer = await connect(hub, buffer)
    writer.write(UPGRADE)
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 101"):
        writer.close()
        raise ConnectionError(head.split(b"\r\n")[0].decode())
    return reader, writer


async def receive(reader):
    first, size = await reader.readexactly(2)
    size &= 0x7F
    if size == 126:
        size = int.from_bytes(await reader.readexactly(2))
    elif size == 127:
        size = int.from_bytes(await reader.readexactly(8))
    return first, await reader.readexactly(size)


def login_with(token, device):
    return text({"type": "login", "id": 1, "token": token, "platform": "linux", "device": device})


async def login(hub, user, buffer=None, device=None):
    reader, writer = await upgrade(hub, buffer)
    writer.write(login_with(hub.signer.token(user), device or user))
    first, answer = await receive(reader)
    if first != 0x81 or b'"ok"' not in answer:
        writer.close()
        raise ConnectionError(answer.decode(errors="replace"))
    return reader, writer


async def drain(reader):
    while await reader.read(65536):
        pass


async def probe(hub, seconds):
    """Sends a ping every 20 ms; returns how long each answer took, in milliseconds."""
    times = []
    reader, writer = await login(hub, f"probe-{time.time()}")
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        begun = time.monotonic()
        writer.write(text({"type": "ping", "id": 2}))
        while (await receive(reader))[0] != 0x81:
            pass
        times.append((time.monotonic() - begun) * 1000)
        hub.look()
        await asyncio.sleep(0.02)
    writer.close()
    return times


def percentile(times, share):
    return sorted(times)[min(len(times) - 1, int(len(times) * share))] if times else float("nan")
