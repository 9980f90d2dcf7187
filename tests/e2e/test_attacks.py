"""What strangers and hostile users try against a server: it goes on serving others, and accounts for everything."""
import pathlib
import socket
import struct
import time

import pytest

from attacker import (ALIVE, CHANNEL, CLOSED, DATAGRAM, PING, PONG, REASONS, REFUSED, Channel, Refused, Tls, control,
                      credentials, login, open_block, plaintext, request)
from harness import run, sum_ledger, wait_for


@pytest.fixture
def target(lab):
    """A server with a user; its folder, port and invite."""
    class Target:
        def start(self, config=None, **options):
            self.folder, self.port, self.invite = lab.init(**options)
            if config:
                lab.edit_config(self.folder, config)
            self.server = lab.server(self.folder)
            return self

        def channel(self, invite=None, **options):
            return lab.open(Channel(self.port, invite or self.invite, **options))

        def tls(self, **options):
            return lab.open(Tls(self.port, **options))

        def status(self):
            return self.server.status()

        def still_serves(self, echo):
            """A well-behaved session works, and both ledgers add up."""
            channel = self.channel()
            channel.say(DATAGRAM, plaintext(1, echo.address, b'still here'))
            assert channel.hear_only(DATAGRAM) == plaintext(1, echo.address, b'still here')
            channel.close()
            status = self.status()
            for ledger in (status['up'], status['down']):
                assert ledger['received'] == sum_ledger(ledger)
    return Target()


def is_ended(tls):
    """True once the server ended the connection."""
    try:
        while tls.recv(65536):
            pass
    except TimeoutError:
        return False
    except ConnectionError:
        pass
    return True


# --- before the channel is open ---

def test_channels_that_never_open_are_bounded(target):
    """A request without its block counts among the user's connections, and has one deadline, however slowly it drips."""
    target.start('limits:\n  connections_per_user: 3\n  handshake_seconds: 2')
    waiting = [target.tls().greet(target.invite) for _ in range(3)]
    for tls in waiting:
        tls.sendall(request(CHANNEL))
    wait_for(lambda: target.status()['tcp']['before_request'] == 0, 5, 'requests')
    further = target.tls().greet(target.invite)
    further.sendall(request(CHANNEL) + open_block())
    assert further.reply()[0] == 1
    assert REASONS[struct.unpack('!H', further.block()[13])[0]] == 'limit'
    assert is_ended(further)
    start = time.monotonic()
    dripping = waiting[0]
    dripping.patience(0.2)
    for byte in struct.pack('!H', 4096) + bytes(4096):
        try:
            dripping.sendall(bytes([byte]))
        except ConnectionError:
            break
        if is_ended(dripping):
            break
    assert time.monotonic() - start < 6
    assert wait_for(lambda: target.channel(), 5, 'room for a channel')


def test_the_largest_block_is_read(target):
    """4096 bytes of fields, most of them of a type that nobody knows."""
    target.start()
    tls = target.tls().greet(target.invite)
    block = open_block(extra=struct.pack('!HH', 0x100, 4096 - 15) + bytes(4096 - 15))
    assert len(block) == 4098
    tls.sendall(request(CHANNEL) + block)
    assert tls.reply()[0] == 0


# --- a removed user ---

def set_password(folder, user, password):
    done = run('passwd', folder, user, stdin=password + '\n')
    assert done.returncode == 0, done.stderr


def revoke(target, user):
    """Removes a user and waits until the server knows."""
    before = target.server.err.count('user file read again')
    done = run('revoke', target.folder, user)
    assert done.returncode == 0, done.stderr
    wait_for(lambda: target.server.err.count('user file read again') > before, 5, 'reload')


def test_a_login_from_before_the_revocation_gets_no_session(lab, target):
    """Authenticated connections whose request is yet to come, and channels whose block is, end with the user."""
    target.start()
    mallory = lab.invite(target.folder, 'mallory')
    wait_for(lambda: 'user file read again' in target.server.err, 5, 'reload')
    idle = target.tls().greet(mallory)
    asked = target.tls().greet(mallory)
    asked.sendall(request(CHANNEL))
    running = target.channel(mallory)
    revoke(target, 'mallory')
    assert is_ended(running.tls)
    for tls, rest in ((idle, request(CHANNEL) + open_block()), (asked, open_block())):
        try:
            tls.sendall(rest)
        except ConnectionError:
            continue
        assert is_ended(tls)
    wait_for(lambda: target.status()['sessions'] == 0, 5, 'no session')


def test_a_password_in_the_queue_does_not_outlive_its_user(lab, target):
    """It was right when it was given, and wrong when its turn came: neither let in, nor remembered."""
    target.start('limits:\n  password_threads: 1')
    set_password(target.folder, 'mallory', 'a password of some length')
    wait_for(lambda: 'user file read again' in target.server.err, 5, 'reload')
    crowd = [target.tls(source=f'127.0.0.{2 + number % 3}') for number in range(50)]
    for tls in crowd:
        tls.sendall(b'\5\1\2' + login('mallory', 'wrong'))
    late = target.tls()
    late.sendall(b'\5\1\2' + login('mallory', 'a password of some length'))
    revoke(target, 'mallory')
    assert late.recv(2) in (b'\5\2', b'')
    assert late.recv(2) in (b'\1\1', b'')
    again = target.tls(source='127.0.0.9', timeout=20)
    again.sendall(b'\5\1\2' + login('mallory', 'a password of some length'))
    assert again.receive(2) == b'\5\2'
    assert again.recv(2) in (b'\1\1', b'')
