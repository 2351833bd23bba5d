"""One address floods the hub with TLS handshakes, in a network of our own where addresses other than loopback exist."""

import multiprocessing
import os
import socket
import subprocess
import time

from attacks import Certificate, client_hello
from hub import Hub

HUB, ATTACKER, NEWCOMER = "198.51.100.1", "198.51.100.2", "198.51.100.3"
SOCKETS = 3000
TRIES = 12
# A newcomer's handshake must not wait for those of the attacker.
LIMIT_SECONDS = 1


def flood(hub):
    """Sends as many handshakes at once as it can, and waits for no answer."""
    hello = client_hello()
    while True:
        sockets = [socket.socket() for _ in range(SOCKETS)]
        for sock in sockets:
            sock.setblocking(False)
            sock.bind((ATTACKER, 0))
            sock.connect_ex((HUB, hub.port))
        for sock in sockets:
            try:
                sock.send(hello)
                sock.shutdown(socket.SHUT_WR)
            except OSError:
                pass
        time.sleep(0.05)
        for sock in sockets:
            sock.close()


def newcomer(hub):
    """How long a handshake from another address takes, in seconds; infinite if it fails."""
    begun = time.monotonic()
    try:
        sock = socket.create_connection((HUB, hub.port), timeout=10, source_address=(NEWCOMER, 0))
        with hub.tls().wrap_socket(sock):
            return time.monotonic() - begun
    except OSError:
        return float("inf")


def handshakes(binary):
    """Runs in a network namespace that the caller has made."""
    for command in ["link set lo up", *(f"address add {address}/24 dev lo" for address in (HUB, ATTACKER, NEWCOMER))]:
        subprocess.run(["ip", *command.split()], check=True)
    hub = Hub(binary, {}, Certificate(), host=HUB)
    attacker = multiprocessing.Process(target=flood, args=(hub,))
    try:
        attacker.start()
        time.sleep(3)
        times = []
        for _ in range(TRIES):
            times.append(newcomer(hub))
            time.sleep(0.3)
        middle, longest = sorted(times)[TRIES // 2], max(times)
        print(f"handshakes: a newcomer's takes {middle:.2f} s, at most {longest:.2f} s, while one address sends "
              f"{SOCKETS:,} at once", flush=True)
        return longest <= LIMIT_SECONDS
    finally:
        attacker.kill()
        hub.stop()


def in_a_network_of_its_own(script, binary):
    """Runs the attack in a new network namespace; only root may make one."""
    if os.geteuid() != 0:
        print("handshakes: did not run: it needs root, for a network of its own")
        return False
    return subprocess.run(["unshare", "--net", script, "--hub", binary, "--inside", "handshakes"]).returncode == 0
