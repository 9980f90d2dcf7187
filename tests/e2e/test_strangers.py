"""What strangers try against a server, by TCP and by UDP: little is held for them, and nothing answered that must not be."""
import contextlib
import os
import socket
import struct
import time

import pytest

from attacker import (CHANNEL, DATAGRAM, KEPT, Channel, Target, credentials, is_ended, login, open_block, plaintext,
                      request)
from harness import open_files, run, wait_for


@pytest.fixture
def target(lab):
    return Target(lab)


# --- strangers, by TCP ---

def is_closed(sock, seconds):
    """True if the server ends the connection in that time without saying anything."""
    sock.settimeout(seconds)
    try:
        return sock.recv(1) == b''
    except TimeoutError:
        return False
    except ConnectionError:
        return True


def test_connections_that_never_log_in_are_capped_and_end(lab, target, echo):
    """Per address and in all, with one deadline, however slowly bytes drip; what is there already goes on."""
    target.start('limits:\n  unauthenticated: 12\n  unauthenticated_per_address: 5\n  handshake_seconds: 3')
    session = target.channel()
    start = time.monotonic()
    idle = []
    for source in ('127.0.0.2', '127.0.0.3', '127.0.0.4'):
        for _ in range(7):
            sock = lab.open(socket.create_connection(('127.0.0.1', target.port), 5, source_address=(source, 0)))
            sock.sendall(b'\x16\3\1')
            idle.append(sock)
    wait_for(lambda: (tcp := target.status()['tcp'])['refused_caps'] + tcp['refused_displaced'] == 21 - 12, 5, 'refusals')
    assert sum(is_closed(sock, 0.02) for sock in idle) == 9
    session.say(DATAGRAM, plaintext(1, echo.address, b'goes on'))
    assert session.hear_only(DATAGRAM) == plaintext(1, echo.address, b'goes on')
    dripping = next(sock for sock in idle if not is_closed(sock, 0.02))
    while time.monotonic() < start + 10:
        try:
            dripping.sendall(b'\2')
        except ConnectionError:
            break
        if is_closed(dripping, 0.1):
            break
    assert time.monotonic() - start < 8
    wait_for(lambda: target.status()['tcp']['before_request'] == 0, 5, 'the deadline')
    assert target.status()['tcp']['refused_deadline'] == 12
    target.still_serves(echo)


def test_a_few_addresses_cannot_keep_everybody_else_out(lab, target, echo):
    """All places are taken by eight addresses: whoever comes from another one is let in, the hoarders' oldest go."""
    target.start('limits:\n  unauthenticated: 64\n  unauthenticated_per_address: 8\n  handshake_seconds: 60')
    idle = []
    for source in range(2, 10):
        for _ in range(8):
            idle.append(lab.open(socket.create_connection(('127.0.0.1', target.port), 5,
                                                          source_address=(f'127.0.0.{source}', 0))))
    wait_for(lambda: target.status()['tcp']['before_request'] == 64, 5, 'all places taken')
    start = time.monotonic()
    target.still_serves(echo)
    assert time.monotonic() - start < 2
    tcp = target.status()['tcp']
    assert tcp['refused_displaced'] >= 1 and tcp['refused_caps'] == 0
    gone = [sock for sock in idle if is_closed(sock, 0.01)]
    assert len(gone) == tcp['refused_displaced'] and all(sock in idle[:8] for sock in gone[:8])
    # one of the hoarders has its share already
    sock = lab.open(socket.create_connection(('127.0.0.1', target.port), 5, source_address=('127.0.0.9', 0)))
    assert is_closed(sock, 2)
    assert target.status()['tcp']['refused_caps'] == 1


def test_connections_that_were_refused_count_until_they_are_gone(lab, target, echo):
    """The server waits for the peer's end for 2 s: whoever lets it wait must not get further connections for that."""
    target.start('limits:\n  unauthenticated: 30\n  unauthenticated_per_address: 10\n  handshake_seconds: 2')
    before = open_files(target.server)
    for number in range(200):
        source = (f'127.0.0.{2 + number % 5}', 0)
        sock = lab.open(socket.create_connection(('127.0.0.1', target.port), 5, source_address=source))
        with contextlib.suppress(ConnectionError):
            sock.sendall(b'\5\1\xff')
    wait_for(lambda: target.status()['tcp']['accepted'] == 200, 5, 'all accepted')
    assert open_files(target.server) <= before + 30 + 2
    wait_for(lambda: target.status()['tcp']['before_request'] == 0, 5, 'all gone')
    target.still_serves(echo)


def test_all_but_two_first_bytes_end_the_connection(target, echo):
    target.start()
    for byte in set(range(256)) - {0x05, 0x16}:
        with socket.create_connection(('127.0.0.1', target.port), 5) as sock:
            sock.sendall(bytes([byte]) + b'GET / HTTP/1.1\r\n\r\n')
            assert is_closed(sock, 5), byte
    assert target.status()['tcp']['refused_first_byte'] == 254
    target.still_serves(echo)


BROKEN = [
    b'', b'\4', b'\5', b'\5\0', b'\5\1\xff', b'\5\xff' + bytes(255), b'\5\1\2\1', b'\5\1\2\2\1a\1b', b'\5\1\2\1\0\1b',
    b'\5\1\2\1\1a\0', b'\5\1\2' + login(b'u' * 255, b'p' * 255), b'\5\1\2' + login(b'alice\0x', b'\0' * 255),
    b'\5\1\0' + request(1, '127.0.0.1', 9), b'\5\1\2' + request(1, '127.0.0.1', 9), b'\5\2\0\2' * 4000, os.urandom(20000),
]
BROKEN_REQUESTS = [
    b'\5', b'\4\1\0', b'\5\1\1\1' + bytes(6), b'\5\1\0\2' + bytes(6), b'\5\1\0\3\0\0\1', b'\5\1\0\3\xff' + b'x' * 257,
    b'\5\1\0\3\4a\0b\n\0\1', request(0), request(4), request(255), request(2, '127.0.0.1', 0)[:-1], request(3, '0.0.0.0', 0)[:4],
    request(CHANNEL), request(CHANNEL) + b'\0', request(CHANNEL) + b'\xff\xff' + bytes(70000), request(CHANNEL) + b'\0\0',
    request(CHANNEL) + open_block(verb=2), request(CHANNEL) + open_block(verb=9), request(CHANNEL) + open_block(suites=()),
    request(CHANNEL) + open_block(suites=(0, 99, 0xffff)), request(CHANNEL) + open_block(suites=(1,) * 17),
    request(CHANNEL) + open_block(extra=struct.pack('!HH', 0x8333, 0)), request(CHANNEL) + open_block(extra=b'\0'),
    request(CHANNEL) + open_block(extra=struct.pack('!HH', 0x8001, 1) + b'\1'), os.urandom(30000),
]


@pytest.mark.parametrize('alpn', [(b'sealgram/1',), (b'socks5',), ()])
def test_broken_socks_inside_tls(target, echo, alpn):
    target.start()
    for text in BROKEN:
        tls = target.tls(alpn=alpn)
        tls.sendall(text)
        tls.close()
    for text in BROKEN_REQUESTS:
        tls = target.tls(alpn=alpn).greet(target.invite)
        tls.sendall(text)
        tls.patience(0.05)
        is_ended(tls)
        tls.close()
    wait_for(lambda: target.status()['tcp']['before_request'] == 0, 12, 'all gone')
    assert target.status()['sessions'] == 0
    target.still_serves(echo)


def test_a_flood_of_wrong_credentials_fills_no_log(target, echo):
    """Each is counted; a hundred lines at most are written at once, and five a second."""
    target.start(config='limits:\n  unauthenticated_per_address: 256')
    start = time.monotonic()
    for number in range(200):
        tls = target.tls(source=f'127.0.0.{2 + number % 40}')
        tls.sendall(b'\5\1\2' + login('alice', 'sgt1_' + 'A' * 43))
        tls.close()
    wait_for(lambda: target.status()['tcp']['refused_credentials'] == 200, 5, 'refusals')
    lines = target.server.err.count('credentials refused from')
    assert 90 <= lines <= 100 + 5 * (time.monotonic() - start) + 1
    target.still_serves(echo)


GUESSER = '127.0.0.2'


def log_in(target, user, password, source=GUESSER):
    """True or False as the server says; None if it closes without a word on the credentials."""
    tls = target.tls(source=source)
    try:
        tls.sendall(b'\5\1\2' + login(user, password))
        answer = b''
        while len(answer) < 4 and (more := tls.recv(4 - len(answer))):
            answer += more
    except ConnectionError:
        answer = b''
    tls.close()
    return {b'\5\2\1\0': True, b'\5\2\1\1': False}.get(answer)


def guess_until_nobody_listens(target):
    """How many guesses were looked at, all from one address."""
    start, looked_at = time.monotonic(), 0
    while log_in(target, 'alice', f'guess {looked_at}') is not None:
        looked_at += 1
        assert looked_at <= 20 + (time.monotonic() - start) / 3 + 1
    return looked_at


def set_password(folder, user, password):
    assert run('passwd', folder, user, stdin=password + '\n').returncode == 0


def test_guessing_does_not_make_others_believe_that_they_are_wrong(target, echo):
    """After 20 wrong ones an address is not answered any more: who has the right password tries again later."""
    target.start()
    set_password(target.folder, 'carol', 'the right one')
    wait_for(lambda: log_in(target, 'carol', 'the right one', '127.0.0.3'), 10, 'the password')
    assert guess_until_nobody_listens(target) >= 19
    assert log_in(target, 'carol', 'the right one') is None
    assert log_in(target, 'carol', 'the right one', '127.0.0.3') is True
    assert target.status()['tcp']['refused_busy'] == 2
    target.still_serves(echo)


def test_guessing_shuts_out_nobody_who_needs_no_guess(lab, target, echo):
    """From the same address: tokens, passwords that were right a short while ago, and sessions that live."""
    target.start()
    set_password(target.folder, 'carol', 'the right one')
    wait_for(lambda: log_in(target, 'carol', 'the right one'), 10, 'the password')
    by_token = target.channel(source=GUESSER)
    by_password = Channel(target.port, 'sealgram://carol:the right one@', source=GUESSER)
    guess_until_nobody_listens(target)
    assert log_in(target, *credentials(target.invite)) is True
    assert log_in(target, 'alice', 'sgt1_' + 'A' * 43) is False  # a wrong token costs nothing: it is told so
    assert log_in(target, 'carol', 'the right one') is True
    for invite, channel in (target.invite, by_token), ('sealgram://carol:the right one@', by_password):
        channel.tls.close()
        again = lab.open(Channel(target.port, invite, source=GUESSER, handle=channel.handle, udp=channel.udp))
        assert again.resumed == KEPT
    target.still_serves(echo)


def test_a_session_goes_on_by_its_password_though_others_guess(lab, target):
    """From this address its password was never right without a session: what its connections show (their pass) counts."""
    target.start(config='timeouts:\n  renew_seconds: 3')
    set_password(target.folder, 'carol', 'the-right-one')
    wait_for(lambda: log_in(target, 'carol', 'the-right-one', '127.0.0.9'), 10, 'the password')
    client = lab.client(target.invite.replace(':'.join(credentials(target.invite)), 'carol:the-right-one'))
    while log_in(target, 'alice', 'a guess', '127.0.0.1') is not None:
        pass
    resumed = target.status()['sessions_resumed']
    wait_for(lambda: target.status()['sessions_resumed'] > resumed + 1, 20, 'renewals')
    client.stop()


def test_guesses_that_begin_at_once_count_at_once(lab, target):
    """Sixty that are all sent before the first is checked: no more than 20 are looked at."""
    target.start(config='limits:\n  password_queue: 200\n  unauthenticated_per_address: 200\n  handshake_seconds: 120')
    guesses = [target.tls(source=GUESSER) for _ in range(60)]
    start = time.monotonic()
    for number, tls in enumerate(guesses):
        tls.sendall(b'\5\1\2' + login('alice', f'guess {number}'))
    wait_for(lambda: (tcp := target.status()['tcp'])['refused_credentials'] + tcp['refused_busy'] == 60, 60, 'verdicts')
    assert 20 <= target.status()['tcp']['refused_credentials'] <= 21 + (time.monotonic() - start) / 3


# --- strangers, by UDP ---

def heard_on(sock, seconds=0.4):
    """All datagrams that arrive on a socket in a while."""
    sock.settimeout(seconds)
    heard = []
    try:
        while True:
            heard.append(sock.recv(65536))
    except TimeoutError:
        return heard


def stranger(lab, port, source='127.0.0.7'):
    sock = lab.open(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    sock.bind((source, 0))
    sock.connect(('127.0.0.1', port))
    return sock


def test_nothing_that_does_not_open_is_answered(lab, target, echo):
    """Junk of all kinds, and records of a known channel with anything wrong: in silence, each under its reason."""
    target.start()
    channel = target.channel().validate()
    sock = stranger(lab, target.port)
    good = channel.seal(plaintext(1, echo.address, b'once'))
    channel.udp.send(good)
    assert channel.hear_datagram() == plaintext(1, echo.address, b'once')
    before = target.status()['up']['drops']
    sent = [good]  # a replay from another address
    good = channel.seal(plaintext(1, echo.address, b'never'))
    sent += [b'', b'\x08', b'\x08' * 45, b'\x09' + good[1:], b'\0' + good[1:], b'\0\0\0\1\x7f\0\0\1\0\x07x', bytes(20),
             b'\x16\3\1', os.urandom(1200), b'\x08' + os.urandom(65506)]
    for bit in range(8 * len(good)):  # every bit
        sent.append(good[:bit // 8] + bytes([good[bit // 8] ^ 1 << bit % 8]) + good[bit // 8 + 1:])
    for end in range(len(good)):
        sent.append(good[:end])
    for _ in range(100):
        sent.append(good[:9] + os.urandom(16) + good[25:])
    for number, text in enumerate(sent):
        sock.send(text)
        if number % 200 == 199:
            target.status()  # so that no buffer overflows
    wait_for(lambda: sum(target.status()['up']['drops'].values()) - sum(before.values()) == len(sent), 10, 'all dropped')
    assert heard_on(sock) == []
    drops = target.status()['up']['drops']
    assert drops['replayed'] - before['replayed'] == 3  # the replay, and two bits that make the counter one of the past
    assert drops['unknown_channel'] == 64 + 1
    channel.send_udp(plaintext(1, echo.address, b'twice'))
    assert channel.hear_datagram() == plaintext(1, echo.address, b'twice')
    assert echo.count == 2
    target.still_serves(echo)


def test_a_stolen_copy_makes_no_more_than_two_small_challenges(lab, target, echo):
    """A record that arrives from another address first: at most 64 bytes twice, no data (the stream has it); the path stays."""
    target.start()
    channel = target.channel().validate()
    victim = stranger(lab, target.port)
    time.sleep(0.15)  # candidates are 100 ms apart
    start = time.monotonic()
    while time.monotonic() < start + 0.5:
        victim.send(channel.seal(plaintext(1, echo.address, bytes(300))))
        assert channel.hear_only(DATAGRAM) == plaintext(1, echo.address, bytes(300))
    challenges = heard_on(victim, 0.6)
    assert 1 <= len(challenges) <= 12 and all(len(challenge) <= 64 for challenge in challenges)
    victim.send(channel.seal(bytes(4) + b'\x13' + bytes(8)))  # RESPONSE with a wrong token
    victim.send(channel.seal(bytes(4) + b'\x10' + struct.pack('!IBIH', 0, 2, 1, 0) + bytes(1000)))  # PROBE
    assert all(len(challenge) <= 64 for challenge in heard_on(victim, 0.6))
    assert target.status()['up']['drops']['challenge'] == 1
    channel.send_udp(plaintext(1, echo.address, b'mine'))
    assert channel.hear_datagram() == plaintext(1, echo.address, b'mine')
    target.still_serves(echo)
