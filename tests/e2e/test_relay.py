"""The relay of CONNECT under what a peer may do: keys that change in mid-stream, many at once, readers that pause."""
import concurrent.futures
import hashlib
import os
import random
import socket
import threading
import time

import pytest

from attacker import Records, Target, credentials, login, request, update_keys
from harness import CONNECT, TcpServer, echo_stream, receive, socks_request, wait_for


def test_keys_that_change_in_mid_stream(lab, tcp_echo):
    """After each chunk, both ways, while the other way is full of data too."""
    target = Target(lab).start()
    tls = target.tls().greet(target.invite)
    tls.sendall(request(CONNECT, *tcp_echo.address))
    assert tls.reply()[0] == 0
    sent = [os.urandom(random.randrange(1, 60_000)) for _ in range(60)]
    for chunk in sent:
        tls.sendall(chunk)
        update_keys(tls)
        assert tls.receive(len(chunk)) == chunk
    # nothing is read meanwhile, so that both ways hold data when the keys change
    for chunk in sent[:20]:
        tls.sendall(chunk[:16_000])
        update_keys(tls)
    expected = b''.join(chunk[:16_000] for chunk in sent[:20])
    assert tls.receive(len(expected)) == expected


def exchange(proxy, target, size, seed):
    """Sends random bytes in pieces of random sizes, reads them back with pauses; whether they are the same."""
    chance = random.Random(seed)
    data = chance.randbytes(size)
    sock, code, _ = socks_request(proxy, CONNECT, *target)
    assert code == 0
    digest = hashlib.sha256()
    with sock:
        sock.settimeout(30)

        def write(at=0):
            while at < len(data):
                step = random.choice([1, 100, 1400, 16_384, 100_000])
                sock.sendall(data[at:at + step])
                at += step
            sock.shutdown(socket.SHUT_WR)
        writer = threading.Thread(target=write)
        writer.start()
        while piece := sock.recv(chance.choice([1000, 30_000, 200_000])):
            digest.update(piece)
            if chance.random() < 0.02:
                time.sleep(0.02)
        writer.join()
    return digest.digest() == hashlib.sha256(data).digest()


@pytest.mark.slow
def test_many_at_once_with_pauses(lab, tcp_echo):
    _, client = lab.pair()
    with concurrent.futures.ThreadPoolExecutor(40) as pool:
        done = list(pool.map(lambda seed: exchange(client.socks, tcp_echo.address, random.Random(seed).randrange(1, 600_000), seed),
                             range(120)))
    assert all(done) and len(done) == 120


@pytest.mark.slow
@pytest.mark.no_sanitize
@pytest.mark.parametrize('way', ['up', 'down'])
def test_who_does_not_read_holds_little(lab, way):
    """A sender of 64 MB whose receiver pauses: neither program grows by what it may not pass on; then all of it arrives."""
    size, gate = 64 << 20, threading.Event()
    digests = []

    def serve(connection):
        if way == 'down':
            block = bytes(range(256)) * 256
            for _ in range(size // len(block)):
                connection.sendall(block)
            return
        gate.wait(20)
        digest = hashlib.sha256()
        while piece := connection.recv(1 << 20):
            digest.update(piece)
        digests.append(digest.digest())
        connection.sendall(b'end')
    server, client = lab.pair()
    target = lab.open(TcpServer(serve))
    sock, code, _ = socks_request(client.socks, CONNECT, *target.address)
    assert code == 0

    def resident(program):
        with open(f'/proc/{program.process.pid}/statm', encoding='ascii') as file:
            return int(file.read().split()[1]) * 4096
    before = [resident(program) for program in (server, client)]
    block = bytes(range(256)) * 256
    with sock:
        sock.settimeout(30)
        writer = threading.Thread(target=lambda: [sock.sendall(block) for _ in range(size // len(block))])
        if way == 'up':
            writer.start()
        time.sleep(1.5)  # long enough to fill whatever there is to fill
        grown = [resident(program) - old for program, old in zip((server, client), before)]
        gate.set()
        if way == 'up':
            writer.join()
            sock.shutdown(socket.SHUT_WR)
            assert sock.recv(3) == b'end' and digests == [hashlib.sha256(block * (size // len(block))).digest()]
        else:
            got = hashlib.sha256()
            while piece := sock.recv(1 << 20):
                got.update(piece)
            assert got.digest() == hashlib.sha256(block * (size // len(block))).digest()
    assert max(grown) < 4 << 20, grown


def test_an_echo_that_never_stops_is_reset_with_its_application(lab):
    """The application is killed in mid-stream: the target hears a reset, and nothing of the relay is left."""
    seen = []

    def serve(connection):
        try:
            echo_stream(connection)
        except OSError as error:
            seen.append(type(error).__name__)
            raise
    server, client = lab.pair()
    target = lab.open(TcpServer(serve))
    sock, code, _ = socks_request(client.socks, CONNECT, *target.address)
    assert code == 0
    sock.sendall(bytes(200_000))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b'\1\0\0\0\0\0\0\0')
    sock.close()
    end = time.monotonic() + 5
    while server.status()['tcp']['relays'] or client.status()['tunnels']:
        assert time.monotonic() < end, 'the relay is left'
        time.sleep(0.05)


def test_keys_that_change_all_the_time_hold_up_nobody_else(lab):
    """5 MB of nothing but key updates, before any request: each costs the server far more than its 27 bytes."""
    target = Target(lab).start('workers: 1\n')
    tls = target.tls()
    records = Records(tls)
    flood = b''.join(records.make_key_update() for _ in range(200_000))

    def send():
        try:
            tls.sock.sendall(flood)
        except OSError:
            pass  # the server may have had enough
    sender = threading.Thread(target=send)
    sender.start()
    time.sleep(0.05)
    begin = time.monotonic()
    target.tls().greet(target.invite)
    taken = time.monotonic() - begin
    sender.join()
    assert taken < 1


@pytest.fixture
def half_a_message(lab):
    """(server, its TLS connection, the writer of its records, the target's end) of a relay whose user sent the header of
    a handshake message, after which OpenSSL writes nothing until it has the rest."""
    ends = []
    server = Target(lab).start()
    far = lab.open(TcpServer(lambda connection: (ends.append(connection), time.sleep(20))))
    tls = server.tls()
    records = Records(tls)
    records.sendall(b'\5\1\2' + login(*credentials(server.invite)))
    assert tls.receive(4) == b'\5\2\1\0'
    records.sendall(request(CONNECT, *far.address))
    assert tls.reply()[0] == 0
    wait_for(lambda: ends, what='the target\'s connection')
    records.sendall(b'\x18\0\0\1', Records.HANDSHAKE)
    time.sleep(0.2)
    return server, tls, records, ends[0]


def cpu_seconds(program):
    with open(f'/proc/{program.process.pid}/stat', encoding='ascii') as file:
        fields = file.read().rpartition(')')[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


def test_half_a_message_of_tls_is_waited_for_at_no_cost(half_a_message):
    server, tls, records, far = half_a_message
    far.sendall(b'x' * 100)
    time.sleep(0.2)
    before = cpu_seconds(server.server)
    time.sleep(1.5)
    assert cpu_seconds(server.server) - before < 0.4
    records.sendall(b'\0', Records.HANDSHAKE)
    records.use(records.expand(b'traffic upd', 48))
    assert tls.receive(100) == b'x' * 100
    records.sendall(b'and back')
    assert far.recv(100) == b'and back'


def test_half_a_message_of_tls_and_the_end(half_a_message):
    """What the target sent can never be written: the relay ends."""
    server, _, records, far = half_a_message
    far.sendall(b'x' * 100)
    time.sleep(0.2)
    records.sendall(b'\1\0', Records.ALERT)
    wait_for(lambda: not server.status()['tcp']['relays'], 5, 'the end of the relay')


@pytest.mark.parametrize('ends', [False, True])
def test_a_refusal_reaches_who_has_sent_all(lab, ends):
    """An application that ends its side after the request still hears why nothing came of it."""
    _, client = lab.pair()
    for _ in range(10):
        with socket.create_connection(client.socks, 5) as app:
            app.sendall(b'\5\1\0')
            assert receive(app, 2) == b'\5\0'
            app.sendall(request(CONNECT, '127.0.0.1', 1))
            if ends:
                app.shutdown(socket.SHUT_WR)
            assert receive(app, 10)[:2] == b'\5\5'
            assert app.recv(1) == b''
