"""What TLS handshakes may cost the server, and who begins how many."""
import contextlib
import os
import select
import socket
import time

import pytest

from attacker import Target, client_hello, plaintext
from harness import receive, wait_for


@pytest.fixture
def target(lab):
    return Target(lab)


def cpu_seconds(program):
    with open(f'/proc/{program.process.pid}/stat', encoding='ascii') as file:
        fields = file.read().rpartition(')')[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


def answer_to(port, hello):
    """(content type, body) of the first TLS record that comes back."""
    with socket.create_connection(('127.0.0.1', port), 10) as sock:
        sock.sendall(hello)
        head = receive(sock, 5)
        return head[0], receive(sock, int.from_bytes(head[3:], 'big'))


@pytest.mark.parametrize('group', ['ffdhe8192', 'P-521', 'P-384', 'x448'])
def test_groups_that_cost_much_are_refused_at_once(target, echo, group):
    """With handshake_failure, and without computing: one key share of ffdhe8192 took 100 ms and more."""
    target.start()
    hello = client_hello(group)
    before = cpu_seconds(target.server)
    for _ in range(40):
        assert answer_to(target.port, hello) == (21, b'\2\x28')
    assert cpu_seconds(target.server) - before < 1
    target.still_serves(echo)


@pytest.mark.parametrize('group', ['x25519', 'P-256'])
def test_groups_that_are_cheap_are_served(target, group):
    target.start()
    kind, body = answer_to(target.port, client_hello(group))
    assert kind == 22 and body[0] == 2  # ServerHello


def test_an_expensive_share_beside_a_cheap_one_is_not_looked_at(target, echo):
    target.start()
    hello = client_hello('ffdhe8192', 'x25519')
    before = cpu_seconds(target.server)
    for _ in range(40):
        kind, body = answer_to(target.port, hello)
        assert kind == 22 and body[0] == 2
    assert cpu_seconds(target.server) - before < 1
    target.still_serves(echo)


def say_hello(lab, port, source):
    sock = lab.open(socket.create_connection(('127.0.0.1', port), 10, source_address=(source, 0)))
    sock.sendall(client_hello('x25519'))
    return sock


def answered(socks, seconds=0.0):
    """Those that the server answered by a ServerHello, or by anything."""
    ready, _, _ = select.select(socks, [], [], seconds)
    return ready


def test_an_address_begins_so_many_handshakes_and_others_go_before_them(lab, target, echo):
    """Three a second: those of a crowd at one address wait, whoever comes from another does not, and none is refused."""
    target.start('limits:\n  handshakes_per_second_per_address: 3\n  handshake_seconds: 60')
    start = time.monotonic()
    crowd = [say_hello(lab, target.port, '127.0.0.2') for _ in range(30)]
    wait_for(lambda: len(answered(crowd)) >= 6, 10, 'those that may come at once')
    other = say_hello(lab, target.port, '127.0.0.3')
    assert answered([other], 10) == [other]
    came = len(answered(crowd))
    assert came <= 7 + 3 * (time.monotonic() - start)
    wait_for(lambda: len(answered(crowd)) == 30, 30, 'all of them')
    assert time.monotonic() - start >= (30 - 7) / 3
    assert all(sock.recv(1) == b'\x16' for sock in crowd)
    target.still_serves(echo)


def test_an_address_is_not_locked_out_by_those_that_hang_up(lab, target):
    """Handshakes that waited and were given up cost their address nothing: 120 of them at one a second would be two minutes."""
    target.start('limits:\n  handshakes_per_second_per_address: 1\n  handshake_seconds: 120')
    for _ in range(12):
        for sock in [say_hello(lab, target.port, '127.0.0.2') for _ in range(10)]:
            sock.close()
    wait_for(lambda: target.status()['tcp']['before_request'] == 0, 60, 'their end')
    last = say_hello(lab, target.port, '127.0.0.2')
    assert answered([last], 60) == [last]


def test_the_server_begins_so_many_handshakes(lab, target):
    """From however many addresses."""
    target.start('workers: 1\nlimits:\n  handshakes_per_second: 4\n  handshake_seconds: 60')
    start = time.monotonic()
    crowd = [say_hello(lab, target.port, f'127.0.0.{2 + number}') for number in range(20)]
    wait_for(lambda: len(answered(crowd)) == 20, 30, 'all of them')
    assert time.monotonic() - start >= (20 - 3) / 4


def test_users_go_on_and_come_in_while_hellos_flood(lab, target, echo):
    """From twelve addresses, without end: each datagram of a user is answered, and newcomers get their session."""
    target.start('workers: 1')
    session = target.channel().validate()
    end = time.monotonic() + 6
    hello, flood, sent, newcomers = client_hello('x25519'), [], 0, 0
    while time.monotonic() < end:
        for number in range(12):
            sock = socket.socket()
            sock.setblocking(False)
            sock.bind((f'127.0.0.{2 + number}', 0))
            sock.connect_ex(('127.0.0.1', target.port))
            flood.append(sock)
        for sock in flood[-24:-12]:
            with contextlib.suppress(OSError):
                sock.send(hello)
        for sock in flood[:-600]:
            sock.close()
        del flood[:-600]
        session.send_udp(plaintext(1, echo.address, b'%d' % sent))
        assert session.hear_datagram() == plaintext(1, echo.address, b'%d' % sent)
        sent += 1
        if sent % 20 == 0 and newcomers < 20:
            target.channel(source='127.0.0.99').close()
            newcomers += 1
    for sock in flood:
        sock.close()
    assert sent >= 20 and newcomers >= 1
    target.still_serves(echo)
