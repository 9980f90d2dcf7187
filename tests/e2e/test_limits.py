"""Limits: of a key, lowered in the test build; of users and groups: datagrams dropped, streams shaped, requests refused."""
import contextlib
import os
import re
import socket
import threading
import time

import pytest

from attacker import REFUSED, REASONS, Refused, Target, is_ended, plaintext, request
from harness import (CONNECT, Lab, SocksUdp, TcpServer, UdpEcho, echo_stream, receive, run, socks_request,
                     sum_ledger, wait_for)

SEALGRAM_LIMITS = os.environ.get('SEALGRAM_LIMITS')


@pytest.fixture
def limited(monkeypatch):
    """A lab whose programs are of the test build, with 100 records for each of 3 sender ids."""
    if not SEALGRAM_LIMITS:
        pytest.skip('SEALGRAM_LIMITS names no test build')
    monkeypatch.setattr('harness.SEALGRAM', SEALGRAM_LIMITS)
    monkeypatch.setenv('SEALGRAM_TEST_LIMITS', '100 100000 50 3')
    lab = Lab()
    yield lab
    lab.close()


def test_a_used_up_key_hands_over_to_the_stream(limited):
    echo = limited.open(UdpEcho())
    # never renewed: the keys are used to their end
    server, client = limited.pair('--forward', f'udp:127.0.0.1:0=127.0.0.1:{echo.address[1]}',
                                  config='timeouts:\n  renew_seconds: 0')
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        for number in range(500):
            sock.sendto(b'%d' % number, client.forwards[0])
            assert sock.recv(100) == b'%d' % number
    status = server.status()
    assert status['sessions'] == 1 and status['sessions_opened'] == 1
    for ledger in (status['up'], status['down'], client.status()['up'], client.status()['down']):
        assert ledger['received'] == sum_ledger(ledger)
        assert sum(ledger['drops'].values()) == 0
    assert status['up']['forwarded'] == 500
    # with 100 records for each of 3 ids the client could seal 300: the others came inside TLS
    assert status['up']['received'] - status['up']['session'] == 500
    assert status['up']['streamed'] >= 200 and status['down']['streamed'] >= 200


# --- users ---

@pytest.fixture
def target(lab):
    return Target(lab)


def limits_of(user, **values):
    lines = ''.join(f'    {name}: {value}\n' for name, value in values.items())
    return f'user_limits:\n  {user}:\n{lines}'


def test_more_datagrams_than_a_user_may_have_are_dropped_by_name(lab, echo):
    server, client = lab.pair(config=limits_of('alice', datagrams_per_second=20))
    udp = lab.open(SocksUdp(client.socks))
    assert udp.ask(b'first', echo.address)[0] == b'first'
    for number in range(300):
        udp.send(b'%d' % number, echo.address)
    wait_for(lambda: server.status()['up']['received'] - server.status()['up']['session'] == 301, 5, 'all to arrive')
    up = server.status()['up']
    assert up['received'] == sum_ledger(up)
    # five are in the bucket, and one more every 50 ms
    assert 200 < up['drops']['rate'] == 301 - echo.count < 300
    told = [line for line in client.err.splitlines() if 'refused' in line]
    assert told and len(told) <= 20
    line = f'server refused a datagram to 127.0.0.1:{echo.address[1]}: more in a second than the user may have'
    assert all(text.endswith(line) for text in told)
    # the association lives, and has its rate again
    answers = wait_for(lambda: udp.send(b'last', echo.address) or udp.receive()[0] == b'last', 5, 'an answer')
    assert answers
    assert server.status()['associations'] == 1


def test_bits_down_are_policed_and_those_of_others_are_not(lab, echo):
    folder, _, alice = lab.init()
    bob = lab.invite(folder, 'bob')
    lab.edit_config(folder, limits_of('alice', down_bits_per_second='800k'))
    server = lab.server(folder)
    received = {}
    for name, invite in (('alice', alice), ('bob', bob)):
        client = lab.client(invite)
        udp = lab.open(SocksUdp(client.socks, timeout=1))
        before = server.status()['up']['forwarded']
        for _ in range(200):
            udp.send(bytes(1000), echo.address)
            time.sleep(0.001)
        wait_for(lambda: server.status()['up']['forwarded'] == before + 200, 5, 'what goes up')  # noqa: B023
        received[name] = 0
        with contextlib.suppress(TimeoutError):
            while udp.receive():
                received[name] += 1
    # 65 535 bytes are in the bucket, and 100 a millisecond come back
    assert 60 < received['alice'] < 130 and received['bob'] == 200
    down = server.status()['down']
    assert down['received'] == sum_ledger(down) and down['drops']['rate'] == 200 - received['alice']


class Sender:
    """Sends from a thread, then ends the stream."""

    def __init__(self, sock, data):
        self.thread = threading.Thread(target=self.run, args=(sock, data), daemon=True)
        self.thread.start()

    @staticmethod
    def run(sock, data):
        with contextlib.suppress(OSError):
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)

    def close(self):
        self.thread.join(5)


@pytest.mark.parametrize('way', ['up', 'down'])
def test_streams_are_shaped_and_lose_nothing(lab, way):
    _, client = lab.pair(config=limits_of('alice', **{f'{way}_bits_per_second': '8M'}))
    target = lab.open(TcpServer(echo_stream))
    data = os.urandom(1_500_000)
    sock, code, _ = socks_request(client.socks, CONNECT, *target.address)
    assert code == 0
    lab.open(sock)
    start = time.monotonic()
    sender = lab.open(Sender(sock, data))
    assert receive(sock, len(data)) == data
    took = time.monotonic() - start
    sender.thread.join(10)
    # 1000 bytes a millisecond; an eighth of a second is there at once
    assert 1.2 < took < 6, took


def test_a_day_s_bytes_end_datagrams_connects_and_relays(lab, echo, tcp_echo):
    folder, _, invite = lab.init()
    lab.edit_config(folder, limits_of('alice', bytes_per_day=100_000))
    server, client = lab.server(folder), lab.client(invite)
    udp = lab.open(SocksUdp(client.socks, timeout=1))
    running, code, _ = socks_request(client.socks, CONNECT, *tcp_echo.address)
    lab.open(running)
    assert code == 0
    running.sendall(b'x')
    assert receive(running, 1) == b'x'
    for _ in range(60):
        udp.send(bytes(1000), echo.address)
        with contextlib.suppress(TimeoutError):
            udp.receive()
    status = server.status()
    drops = status['up']['drops']['quota'] + status['down']['drops']['quota']
    assert drops > 0 and status['up']['received'] == sum_ledger(status['up'])
    assert 99_000 <= status['up']['forwarded_bytes'] + status['down']['forwarded_bytes'] + 2 <= 101_000
    late, code, _ = socks_request(client.socks, CONNECT, *tcp_echo.address)
    late.close()
    assert code == 2
    with contextlib.suppress(OSError):
        running.sendall(b'y')
        assert running.recv(1) == b''
    status = wait_for(lambda: (now := server.status()) and now['tcp']['relays'] == 0 and now, 5, 'the relay to end')
    assert status['refused_limits'] == {'sessions': 0, 'associations': 0, 'connections': 0, 'memory': 0, 'bytes_per_day': 2}
    assert "the user's bytes for this day are used up" in client.err
    # who comes again on the same day has no more
    client.stop()
    again = lab.client(invite)
    late, code, _ = socks_request(again.socks, CONNECT, *tcp_echo.address)
    late.close()
    assert code == 2


def test_numbers_of_one_user_are_not_those_of_others(target, tcp_echo):
    """The user's own setting wins over the default; what is refused has its code, its reason and its counter."""
    target.start('limits:\n  sessions_per_user: 5\n  connections_per_user: 5\n'
                 + limits_of('bob', sessions=1, associations=1, connections=1))
    bob = target.lab.invite(target.folder, 'bob')
    wait_for(lambda: target.status()['users'] == 2, 5, 'bob')
    session = target.channel(bob)
    with pytest.raises(Refused) as refused:
        target.channel(bob)
    assert refused.value.args == (1, 'limit')
    assert target.channel() and target.channel()
    echo = target.lab.open(UdpEcho())
    session.say(1, plaintext(1, echo.address, b'a'))
    assert session.hear_only(1) == plaintext(1, echo.address, b'a')
    session.say(1, plaintext(2, echo.address, b'b'))
    assert session.hear_only(REFUSED)[:7] == b'\0\0\0\2\1\0\7' and REASONS[7] == 'limit'
    tunnels = []
    for code in (0, 1):
        tls = target.tls().greet(bob)
        tls.sendall(request(CONNECT, *tcp_echo.address))
        assert tls.reply()[0] == code
        tunnels.append(tls)
    assert is_ended(tunnels[1])
    assert target.status()['refused_limits'] == {'sessions': 1, 'associations': 1, 'connections': 1, 'memory': 0,
                                                 'bytes_per_day': 0}
    for tls in tunnels:
        tls.close()
    target.lab.open(session)


def test_a_group_s_limits_are_those_of_its_members(target, tcp_echo):
    """The largest of several groups; the user's own setting wins over all of them."""
    target.start('groups:\n  few: [alice, bob, carol]\n  more: [bob, carol]\n'
                 'group_limits:\n  few: {connections: 1}\n  more: {connections: 2}\n' + limits_of('carol', connections=3))
    invites = {'alice': target.invite, **{user: target.lab.invite(target.folder, user) for user in ('bob', 'carol')}}
    wait_for(lambda: target.status()['users'] == 3, 5, 'all users')
    for user, may in (('alice', 1), ('bob', 2), ('carol', 3)):
        codes = []
        for _ in range(may + 1):
            tls = target.tls().greet(invites[user])
            tls.sendall(request(CONNECT, *tcp_echo.address))
            codes.append(tls.reply()[0])
            target.lab.open(tls)
        assert codes == may * [0] + [1], user


def test_a_slot_is_held_until_its_socket_is_closed(target):
    """Requests that failed are answered, and waited for: who lets the server wait gets no further ones meanwhile."""
    target.start(limits_of('alice', connections=3), allow=())
    refused = []
    for _ in range(3):
        tls = target.tls().greet(target.invite)
        tls.sendall(request(CONNECT, '10.1.2.3', 80))
        assert tls.reply()[0] == 2
        refused.append(tls)
    tls = target.tls().greet(target.invite)
    tls.sendall(request(CONNECT, '10.1.2.3', 80))
    assert tls.reply()[0] == 1
    assert target.status()['refused_limits']['connections'] == 1
    assert target.status()['tcp']['before_request'] == 1, 'one that found no slot counts among the unauthenticated'
    for one in (*refused, tls):
        one.sock.close()
    again = target.tls().greet(target.invite)
    again.sendall(request(CONNECT, '10.1.2.3', 80))
    assert again.reply()[0] == 2


def test_sessions_are_told_how_many_associations_their_user_may_have(lab, echo):
    _, client = lab.pair(config=limits_of('alice', associations=3))
    udps = [lab.open(SocksUdp(client.socks, timeout=1)) for _ in range(4)]
    answered = 0
    for udp in udps:
        with contextlib.suppress(TimeoutError):
            answered += udp.ask(b'?', echo.address)[0] == b'?'
    assert answered == 3


@pytest.mark.parametrize('text, complaint', [
    ('user_limits: 5', 'user_limits: must be a mapping of names to limits'),
    ('user_limits:\n  alice: 5', 'user_limits: alice: must be a mapping of keys to values'),
    ('user_limits:\n  "a b": {sessions: 5}',
     "user_limits: 'a b' is no name: 1 to 64 of letters, digits and . _ - @"),
    ('user_limits:\n  alice:\n    speed: 5', 'speed: unknown key'),
    ('user_limits:\n  alice:\n    up_bits_per_second: 10m',
     'up_bits_per_second: must be a whole number, which may end in k, M, G or T'),
    ('user_limits:\n  alice:\n    up_bits_per_second: 1k',
     'up_bits_per_second: must be from 8000 to 1000000000000'),
    ('user_limits:\n  alice:\n    bytes_per_day: 99999999999999999999',
     'bytes_per_day: must be a whole number, which may end in k, M, G or T'),
    ('group_limits:\n  staff:\n    sessions: 0', 'sessions: must be from 1 to 65536'),
    ('group_limits:\n  staff:\n    sessions: 5', 'group_limits: there is no group staff'),
])
def test_limits_that_make_no_sense_are_refused_by_line(lab, text, complaint):
    folder, _, _ = lab.init()
    lab.edit_config(folder, text)
    path = folder / 'server.yaml'
    last = len(path.read_text().rstrip().splitlines())
    done = run('server', '-c', path, '--check')
    assert done.returncode == 3
    found = re.search(rf'{re.escape(str(path))}:(\d+): (.*)', done.stderr)
    assert found and found.group(2) == complaint
    assert int(found.group(1)) in (last, last - 1)
