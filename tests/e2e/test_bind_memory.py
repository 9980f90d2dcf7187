"""What one user's connections cost the server that wait for a target and have sent much already."""
import contextlib
import socket

import pytest

from attacker import Target, request
from harness import BIND, CONNECT, receive, socks_request, wait_for

COUNT, EARLY = 60, 300_000


def resident(program):
    with open(f'/proc/{program.process.pid}/statm', encoding='ascii') as file:
        return int(file.read().split()[1]) * 4096


@pytest.fixture
def unanswering(lab):
    """The address of a listener whose queue is full: who connects waits."""
    listener = lab.open(socket.create_server(('127.0.0.1', 0), backlog=0))
    for _ in range(8):
        sock = lab.open(socket.socket())
        sock.setblocking(False)
        sock.connect_ex(listener.getsockname())
    return listener.getsockname()


@pytest.mark.no_sanitize
@pytest.mark.parametrize('command', [BIND, CONNECT])
def test_nothing_is_read_from_who_waits(lab, unanswering, command):
    """Each would have 240 kB of what it sent kept in the server."""
    target = Target(lab).start('workers: 1\n')
    streams = [target.tls().greet(target.invite) for _ in range(COUNT)]
    before = resident(target.server)
    for tls in streams:
        tls.sendall(request(command, *(('0.0.0.0', 0) if command == BIND else unanswering)))
    if command == BIND:
        for tls in streams:
            assert tls.reply()[0] == 0
    for tls in streams:
        tls.patience(0.05)
        with contextlib.suppress(TimeoutError):
            tls.sendall(bytes(EARLY))
    grown = (resident(target.server) - before) // COUNT
    assert grown < 80_000, f'{grown} bytes for each'


@pytest.mark.parametrize('abort', [False, True])
def test_a_bind_ends_with_its_user(lab, abort):
    """Though nothing of what it sent is read: its port is free again, and its place."""
    target = Target(lab).start()
    tls = target.tls().greet(target.invite)
    tls.sendall(request(BIND))
    code, (_, port) = tls.reply()
    assert code == 0
    tls.sendall(bytes(1000))
    if abort:
        tls.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b'\1\0\0\0\0\0\0\0')
    tls.sock.close()

    def is_closed():
        with socket.socket() as sock:
            return sock.connect_ex(('127.0.0.1', port)) != 0
    wait_for(is_closed, what='the end of listening')


def test_what_was_sent_while_it_waited_reaches_the_peer(lab):
    target = Target(lab).start()
    tls = target.tls().greet(target.invite)
    tls.sendall(request(BIND))
    code, at = tls.reply()
    assert code == 0
    tls.sendall(b'early' * 5000)
    with socket.create_connection(('127.0.0.1', at[1]), 5) as peer:
        assert tls.reply()[0] == 0
        assert receive(peer, 25_000) == b'early' * 5000


def test_a_bind_ends_with_an_application_that_resets(lab):
    _, client = lab.pair()
    app, code, _ = socks_request(client.socks, BIND, '0.0.0.0', 0)
    assert code == 0
    app.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b'\1\0\0\0\0\0\0\0')
    app.close()
    wait_for(lambda: client.status()['tunnels'] == 0, what='the end of the tunnel')
