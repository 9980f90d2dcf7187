"""What TLS handshakes may cost the server, and who begins how many."""
import contextlib
import os
import select
import socket
import struct
import subprocess
import time

import pytest

from attacker import Target, client_hello, plaintext
from harness import receive, reset, wait_for
from tcp_proxy import TcpProxy

X25519, HYBRID = 29, 0x11ec  # X25519MLKEM768
HELLO_RETRY = bytes.fromhex('cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c')  # RFC 8446 section 4.1.3


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
    """At once, though the server would rather have the hybrid where it has that."""
    target.start()
    kind, body = answer_to(target.port, client_hello(group))
    assert kind == 22 and body[0] == 2 and body[6:38] != HELLO_RETRY  # ServerHello


def test_an_expensive_share_beside_a_cheap_one_is_not_looked_at(target, echo):
    target.start()
    hello = client_hello('ffdhe8192', 'x25519')
    before = cpu_seconds(target.server)
    for _ in range(40):
        kind, body = answer_to(target.port, hello)
        assert kind == 22 and body[0] == 2
    assert cpu_seconds(target.server) - before < 1
    target.still_serves(echo)


class Wire(TcpProxy):
    """Keeps what passes: sent[0] goes to the server, sent[1] comes from it."""

    def __init__(self, port):
        self.sent = (bytearray(), bytearray())
        super().__init__(('127.0.0.1', port))

    def pump(self, source, sink):
        kept = self.sent[source.getsockname()[1] != self.address[1]]
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                kept.extend(data)
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


def handshake_messages(stream):
    """(type, body) of those that went in the clear and are whole."""
    text, at, found = b'', 0, []
    while at < len(stream) and stream[at] in (20, 22):
        size = int.from_bytes(stream[at + 3:at + 5], 'big')
        if stream[at] == 22:
            text += stream[at + 5:at + 5 + size]
        at += 5 + size
    while len(text) >= (end := 4 + int.from_bytes(text[1:4], 'big')):
        found.append((text[0], text[4:end]))
        text = text[end:]
    return found


def shared_groups(kind, body):
    """Of which groups a ClientHello (1) or ServerHello (2) has key shares, in their order."""
    at = 35 + body[34]  # behind version, random and session
    if kind == 1:
        at += 2 + int.from_bytes(body[at:at + 2], 'big')  # cipher suites
        at += 1 + body[at]  # compression methods
    else:
        at += 3
    share = extensions(body[at + 2:])[51]
    return [int.from_bytes(share[:2], 'big')] if kind == 2 else list(extensions(share[2:]))


def extensions(data):
    """Those of a message, or its key shares: they are written alike."""
    found = {}
    while data:
        number, size = struct.unpack('!HH', data[:4])
        found[number], data = data[4:4 + size], data[4 + size:]
    return found


def assert_agreed(wire, offered, chosen):
    """In one round: with these key shares of the client and the server's of that group."""
    (hello,), (answer,) = (handshake_messages(bytes(sent)) for sent in wire.sent)
    assert hello[0] == 1 and answer[0] == 2
    assert shared_groups(*hello) == offered
    assert answer[1][2:34] != HELLO_RETRY and shared_groups(*answer) == [chosen]


@pytest.fixture
def has_hybrid(program):
    """Whether the OpenSSL of this machine has X25519MLKEM768: 3.5 and later do; before it none could list groups of TLS."""
    done = subprocess.run([program('openssl'), 'list', '-tls-groups'], capture_output=True, text=True, check=False)
    return 'X25519MLKEM768' in done.stdout.split(':')


def test_client_and_server_agree_on_the_best_group(lab, target, has_hybrid):
    """The hybrid of X25519 and ML-KEM where both have it; a share of X25519 lies beside it."""
    target.start()
    wire = lab.open(Wire(target.port))
    lab.client(target.invite.replace(f':{target.port}', f':{wire.address[1]}'))
    assert_agreed(wire, [HYBRID, X25519] if has_hybrid else [X25519], HYBRID if has_hybrid else X25519)


def test_a_server_without_the_hybrid_takes_the_share_beside_it(lab, program, has_hybrid):
    """As one with an older OpenSSL: it needs no second ClientHello."""
    folder, port, invite = lab.init()
    with subprocess.Popen([program('openssl'), 's_server', '-accept', f'127.0.0.1:{port}', '-groups', 'X25519', '-alpn', 'sealgram/1',
                           '-cert', folder / 'cert.pem', '-key', folder / 'key.pem'],
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        try:
            assert any(line == b'ACCEPT\n' for line in server.stdout)
            wire = lab.open(Wire(port))
            lab.client(invite.replace(f':{port}', f':{wire.address[1]}'), ready=False)
            wait_for(lambda: handshake_messages(bytes(wire.sent[1])), 20, 'a ServerHello')
            assert_agreed(wire, [HYBRID, X25519] if has_hybrid else [X25519], X25519)
        finally:
            server.kill()


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


def test_who_resets_while_it_waits_is_gone_at_once(lab, target):
    """Thirty at one a second: without the news of the reset their places are taken for half a minute."""
    target.start('limits:\n  handshakes_per_second_per_address: 1\n  handshake_seconds: 120')
    waiting = [say_hello(lab, target.port, '127.0.0.2') for _ in range(30)]
    wait_for(lambda: target.status()['tcp']['before_request'] == 30, 10, 'all of them wait')
    before = cpu_seconds(target.server)
    for sock in waiting:
        reset(sock)
    wait_for(lambda: target.status()['tcp']['before_request'] == 0, 10, 'their end')
    assert cpu_seconds(target.server) - before < 1, 'nothing spins'


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
