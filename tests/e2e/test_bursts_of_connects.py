"""Many CONNECTs at the same moment: all succeed, whoever else is at that address."""
import contextlib
import socket

import pytest

from attacker import Target, client_hello
from harness import CONNECT, TcpServer, read_reply, receive, reset, socks_address, wait_for

HELLO = b'\5\1\0'


@pytest.fixture
def target(lab):
    return Target(lab)


def connect_at_once(lab, client, count, to):
    """The reply codes of so many CONNECTs, each of which said what it has to say before the first answer came."""
    socks = [lab.open(socket.create_connection(client.socks, 10)) for _ in range(count)]
    for sock in socks:
        sock.sendall(HELLO + b'\5\1\0' + socks_address(*to) + b'ping')
    codes = []
    for sock in socks:
        sock.settimeout(60)
        assert receive(sock, 2) == b'\5\0'
        codes.append(read_reply(sock)[0])
        if codes[-1] == 0:
            assert receive(sock, 4) == b'ping'
    return codes


def test_four_hundred_connects_at_once(lab, target, tcp_echo):
    target.start()
    client = lab.client(target.invite)
    assert connect_at_once(lab, client, 400, tcp_echo.address) == [0] * 400
    assert target.status()['tcp']['refused_caps'] == 0


def ask(lab, client, command, to):
    """An application that has made its request."""
    sock = lab.open(socket.create_connection(client.socks, 10))
    sock.sendall(HELLO)
    assert receive(sock, 2) == b'\5\0'
    sock.sendall(bytes([5, command, 0]) + socks_address(*to))
    return sock


@pytest.mark.parametrize('leave', [reset, socket.socket.close])
def test_applications_that_go_away_while_they_wait_hold_up_nobody(lab, target, tcp_echo, leave):
    """
    Ten have a place with the server in a second: 400 would take longer than anybody waits. An end may be a half-close:
    those have their turn, after the others.
    """
    target.start('workers: 1\nlimits:\n  handshakes_per_second: 10')
    client = lab.client(target.invite)
    for sock in [ask(lab, client, CONNECT, tcp_echo.address) for _ in range(400)]:
        leave(sock)
    sock = ask(lab, client, CONNECT, tcp_echo.address)
    sock.settimeout(60)
    assert read_reply(sock)[0] == 0


def test_applications_that_end_their_side_while_they_wait_hear_the_target(lab, target):
    def greet(connection):
        connection.sendall(b'heard ' + receive(connection, 5))
        assert connection.recv(1) == b''

    target.start('workers: 1\nlimits:\n  handshakes_per_second: 20')
    client, server = lab.client(target.invite), lab.open(TcpServer(greet))
    socks = [ask(lab, client, CONNECT, server.address) for _ in range(80)]
    for sock in socks:
        sock.sendall(b'early')
        sock.shutdown(socket.SHUT_WR)
    for sock in socks:
        sock.settimeout(60)
        assert read_reply(sock)[0] == 0 and receive(sock, 11) == b'heard early' and sock.recv(1) == b''


def test_applications_that_reset_while_the_server_works_for_them_leave_nothing(lab, target):
    """Neither at the client nor at the server. The listener's queue is full: to connect there takes long."""
    listener = lab.open(socket.create_server(('127.0.0.1', 0), backlog=0))
    for _ in range(8):
        sock = lab.open(socket.socket())
        sock.setblocking(False)
        sock.connect_ex(listener.getsockname())
    client = lab.client(target.start().invite)
    socks = [ask(lab, client, CONNECT, listener.getsockname()) for _ in range(10)]
    wait_for(lambda: target.status()['tcp']['relays'] == 10, 10, 'that the server works for all')
    for sock in socks:
        reset(sock)
    wait_for(lambda: client.status()['local_connections'] == 0, 10, 'the end at the client')
    wait_for(lambda: target.status()['tcp']['relays'] == 0, 10, 'the end at the server')


def test_more_connects_than_the_server_has_room_for(lab, target, tcp_echo):
    """It turns some away before it looks at who they are; they are tried again, and no application hears of it."""
    target.start('limits:\n  unauthenticated: 4\n  unauthenticated_per_address: 2')
    client = lab.client(target.invite)
    assert connect_at_once(lab, client, 60, tcp_echo.address) == [0] * 60
    assert target.status()['tcp']['refused_caps'] + target.status()['tcp']['refused_displaced'] > 0


def fill(lab, port, count, source='127.0.0.1'):
    """Strangers who hold places and say nothing."""
    return [lab.open(socket.create_connection(('127.0.0.1', port), 10, source_address=(source, 0))) for _ in range(count)]


def test_strangers_behind_the_same_address_hold_up_nobody_who_has_a_session(lab, target, tcp_echo):
    """They have all places of the address, and go on asking for more."""
    target.start('limits:\n  handshake_seconds: 60')
    client = lab.client(target.invite)
    idle = fill(lab, target.port, 64 + 200)
    wait_for(lambda: target.status()['tcp']['accepted'] >= 64 + 200, 10, 'all accepted')
    assert connect_at_once(lab, client, 200, tcp_echo.address) == [0] * 200
    assert target.status()['tcp']['before_request'] >= 64 and len(idle) == 264
    # who has none is turned away
    with socket.create_connection(('127.0.0.1', target.port), 10) as stranger:
        with contextlib.suppress(ConnectionError):
            stranger.sendall(client_hello('x25519'))
            assert stranger.recv(1) == b''


def test_a_session_is_resumed_though_strangers_have_all_places(lab, target):
    """RESUME is a connection like others, and comes while the session lives."""
    target.start('limits:\n  handshake_seconds: 60\ntimeouts:\n  renew_seconds: 2')
    client = lab.client(target.invite)
    fill(lab, target.port, 64)
    resumed = target.status()['sessions_resumed']
    wait_for(lambda: target.status()['sessions_resumed'] >= resumed + 2, 20, 'two renewals')
    client.stop()


def test_what_a_session_shows_counts_once(lab, target):
    """Whoever sees a ClientHello may repeat it, or show parts of it: that is a stranger."""
    target.start('limits:\n  handshake_seconds: 60')
    channel = target.channel()
    fill(lab, target.port, 64)
    wait_for(lambda: target.status()['tcp']['before_request'] == 64, 10, 'all places taken')

    def answer(hello):
        with socket.create_connection(('127.0.0.1', target.port), 10) as sock:
            sock.sendall(hello)
            try:
                return sock.recv(1)
            except ConnectionError:
                return b''
    shown = channel.show_pass(7)
    assert answer(client_hello('x25519', extra=shown)) == b'\x16'
    assert answer(client_hello('x25519', extra=shown)) == b''
    assert answer(client_hello('x25519', extra=shown[:-1] + bytes([shown[-1] ^ 1]))) == b''
    assert answer(client_hello('x25519', extra=channel.show_pass(3))) == b'\x16'
    channel.close()
