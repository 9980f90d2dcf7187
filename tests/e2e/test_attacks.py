"""What hostile users of a server try against it and against the others: it goes on serving, and accounts for everything."""
import contextlib
import os
import random
import re
import socket
import struct
import subprocess
import threading
import time

import pytest

from attacker import (ALIVE, CHANNEL, CLOSE, CLOSED, DATAGRAM, PING, PONG, REASONS, REFUSED, Channel, Records, Refused, Target,
                      control, is_ended, login, open_block, plaintext, request)
from harness import CONNECT, UdpEcho, run, sum_ledger, wait_for
from name_server import Dns, asking_dns, in_network_of_its_own


@pytest.fixture
def target(lab):
    return Target(lab)


def memory_of(program):
    """Its resident memory in bytes."""
    with open(f'/proc/{program.process.pid}/statm', encoding='ascii') as file:
        return int(file.read().split()[1]) * os.sysconf('SC_PAGE_SIZE')


# --- everything at once ---

def make_everything(target, dead, listening):
    """Connections in every state that the server has, and a busy session; what must be kept open meanwhile."""
    kept = []
    for text in (b'', b'\x16', b'\5', b'\5\1\x82'):
        kept.append(socket.create_connection(('127.0.0.1', target.port), 5))
        kept[-1].sendall(text)
    for text in (b'\5', b'\5\1\2', b'\5\1\2' + login('alice', 'a wrong password')):
        kept.append(target.tls())
        kept[-1].sendall(text)
    for text in (b'\5', request(CHANNEL), request(CHANNEL) + b'\0', request(CHANNEL) + open_block(), request(1, *dead),
                 request(1, 'nobody.test', 9), request(1, *listening), request(2, '0.0.0.0', 0), request(2, 'nobody.test', 0),
                 request(3, '0.0.0.0', 0), request(3, '0.0.0.0', 9999)):
        kept.append(target.tls().greet(target.invite))
        kept[-1].sendall(text)
    channel = target.channel().validate()
    for number in range(1, 20):
        channel.send_udp(plaintext(number, ('127.0.0.1', 9 + number), b'x'))
        channel.say(DATAGRAM, plaintext(100 + number, (f'n{number}.test', 9), bytes(1000)))
    channel.say(ALIVE, struct.pack('!4I', 1, 2, 3, 4000))
    return [*kept, channel]


@pytest.mark.parametrize('end', ['stop', 'revoke', 'leave'])
def test_the_end_of_everything_at_once(lab, target, tcp_echo, echo, end):
    """Whatever is under way when the server stops, the user is removed, or all connections break: nothing is left over."""
    target.start('timeouts:\n  grace_seconds: 1')
    bob = lab.invite(target.folder, 'bob')
    wait_for(lambda: 'user file read again' in target.server.err, 5, 'reload')
    full = lab.open(socket.create_server(('127.0.0.1', 0), backlog=0))  # nobody accepts: what comes after the first waits
    lab.open(socket.create_connection(full.getsockname()))
    kept = make_everything(target, full.getsockname(), tcp_echo.address)
    wait_for(lambda: target.status()['associations'] > 0, 5, 'associations')
    if end == 'stop':
        target.server.stop()
        return
    if end == 'revoke':
        revoke(target, 'alice')
    for thing in kept:
        sock = thing if isinstance(thing, socket.socket) else getattr(thing, 'tls', thing).sock
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
        sock.close()

    def is_empty():
        status = target.status()
        return not any((status['sessions'], status['associations'], status['plain_associations'], status['up']['queued'],
                        status['tcp']['relays'], status['tcp']['before_request']))
    wait_for(is_empty, 25, 'an empty server')
    target.invite = bob
    target.still_serves(echo)


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


# --- inside a session ---

def test_random_control_messages_end_their_session_only(target, echo):
    target.start('timeouts:\n  grace_seconds: 1')
    chance = random.Random(1)
    other = target.channel()
    kinds = [DATAGRAM, *range(2, 16), 0x77, 0xff]
    for _ in range(60):
        channel = target.channel()
        text = b''
        for _ in range(chance.randrange(1, 20)):
            body = chance.choice([b'', bytes(4), bytes(5), bytes(8), chance.randbytes(chance.randrange(100)), bytes(66000),
                                  plaintext(chance.randrange(5), echo.address, b'x'), struct.pack('!IB', 7, 1)])
            text += control(chance.choice(kinds), body)
        with contextlib.suppress(ConnectionError, TimeoutError):
            channel.tls.sendall(text[:chance.randrange(len(text)) + 1])
        channel.close()
    other.say(DATAGRAM, plaintext(1, echo.address, b'as before'))
    assert other.hear_only(DATAGRAM) == plaintext(1, echo.address, b'as before')
    wait_for(lambda: target.status()['sessions'] == 1, 5, 'one session')
    target.still_serves(echo)


def test_bytes_that_drip_make_the_same_messages(target, echo):
    target.start()
    channel = target.channel()
    for byte in control(PING, b'12345678') + control(0x0f, b'skip') + control(DATAGRAM, plaintext(1, echo.address, b'drop')):
        channel.tls.sendall(bytes([byte]))
    assert channel.hear() == (PONG, b'12345678')
    assert channel.hear() == (DATAGRAM, plaintext(1, echo.address, b'drop'))


@pytest.mark.no_sanitize
@pytest.mark.parametrize('kind, body', [(PING, bytes(8)), (ALIVE, struct.pack('!I', 77)), (DATAGRAM, bytes(4))])
def test_a_client_that_never_reads_holds_little(target, echo, kind, body):
    """What it would have to read piles up at most to 1 MiB beyond the socket's own buffers; then the session ends."""
    target.start()
    channel = target.channel()
    text = control(kind, body if kind != DATAGRAM else plaintext(1, echo.address, bytes(1000))) * 1000
    resident = memory_of(target.server)
    channel.tls.patience(2)
    with contextlib.suppress(ConnectionError, TimeoutError):
        for _ in range(300 if kind == PING else 30):
            channel.tls.sendall(text)
    assert memory_of(target.server) - resident < 32 << 20
    channel.close()
    target.still_serves(echo)


def test_root_gives_nobody_a_file_that_poses_as_the_lock(lab, own_network):
    """The owner of the user file must not get what they put in the lock's place, when root adds a user."""
    folder, _, _ = lab.init()
    precious = lab.folder / 'precious'
    precious.write_text('of root alone')
    os.chown(folder / 'users', 65534, 65534)
    (folder / 'users.lock').unlink(missing_ok=True)
    os.link(precious, folder / 'users.lock')
    done = run('invite', folder, 'bob')
    assert (done.returncode, done.stdout) == (1, '')
    assert done.stderr == f'sealgram: {folder}/users.lock: File exists\n'
    assert precious.stat().st_uid == 0
    (folder / 'users.lock').unlink()
    assert run('invite', folder, 'bob').returncode == 0
    assert (folder / 'users.lock').stat().st_uid == (folder / 'users').stat().st_uid == 65534


# --- one user against the others ---

def test_sender_ids_of_one_user_leave_room_for_others(lab, target, echo):
    """Each id has memory for keys until the session ends: as many as the server told, and never those of somebody else."""
    target.start('limits:\n  sessions: 8\n  sessions_per_user: 4')
    mallory = lab.invite(target.folder, 'mallory')
    wait_for(lambda: 'user file read again' in target.server.err, 5, 'reload')
    for _ in range(4):
        greedy = target.channel(mallory)
        for _ in range(greedy.max_senders + 3):
            greedy.send_udp(bytes(5) + b'\0', sender=os.urandom(8), counter=0)
    wait_for(lambda: target.status()['up']['drops']['sender_limit'] == 12, 5, 'ids over the limit')
    with pytest.raises(Refused) as refused:
        target.channel(mallory)
    assert refused.value.args == (1, 'limit')
    for number in range(4):
        channel = target.channel().validate()
        channel.send_udp(plaintext(1, echo.address, b'%d' % number))
        assert channel.hear_datagram() == plaintext(1, echo.address, b'%d' % number)


@pytest.mark.parametrize('mebibytes, sessions, most', [(8, 512, (2, 8)), (8, 64, (16, 16)), (1, 512, (2, 2))])
def test_what_a_process_may_lock_sets_how_many_sender_ids_a_session_has(lab, program, mebibytes, sessions, most):
    """Keys of all sessions have room in it, also while every session has two channels: 2 ids with libipsec-mb, 8 without it."""
    folder, port, invite = lab.init()
    lab.edit_config(folder, f'limits:\n  sessions: {sessions}')
    limit = str(mebibytes << 20)
    server = lab.start('server', 'server', '-c', folder / 'server.yaml', prefix=[program('prlimit'), f'--memlock={limit}:{limit}'])
    server.ready()
    channel = lab.open(Channel(port, invite))
    assert most[0] <= channel.max_senders <= most[1]


def test_numbers_that_jump_cost_no_more_than_others(target, echo):
    """Numbers may be drawn to make the server search or clear a lot: thousands of datagrams still pass at once."""
    target.start('limits:\n  associations_per_user: 3000')
    channel = target.channel()
    start = time.monotonic()
    for number in range(1, 65536, 22):  # all equal in their low 16 bits, and each a jump across the whole window
        channel.say(DATAGRAM, plaintext(number << 16, echo.address, b''))
    channel.sync()
    assert time.monotonic() - start < 5
    assert target.status()['associations'] == len(range(1, 65536, 22))
    target.still_serves(echo)


@pytest.mark.no_sanitize
def test_what_the_associations_of_one_user_remember_is_bounded(target, echo):
    """Each has sent to more addresses than it must remember; they share what a user may have, and still get answers."""
    target.start('limits:\n  associations: 512\n  associations_per_user: 64')
    channel = target.channel()
    before = memory_of(target.server)
    for number in range(1, 49):
        messages = [control(DATAGRAM, plaintext(number, (f'127.{1 + number}.{i >> 8}.{i & 255}', 9), b'')) for i in range(4096)]
        channel.tls.sendall(b''.join(messages))
        channel.sync()
    grown = memory_of(target.server) - before
    assert grown < 4 << 20, f'{grown} bytes for 48 associations'
    status = target.status()
    assert status['associations'] == 48 and 256 << 10 < status['remembered_bytes'] <= 576 << 10
    for number in range(1, 49):
        channel.say(DATAGRAM, plaintext(number, echo.address, b'%d' % number))
        assert channel.hear_only(DATAGRAM) == plaintext(number, echo.address, b'%d' % number)
    channel.say(CLOSE, struct.pack('!H', 1))
    wait_for(lambda: target.status()['remembered_bytes'] == 0, 10, 'all to be given back')
    target.still_serves(echo)


def test_one_user_has_an_eighth_of_what_there_is(lab):
    """By the limits that a server has if nothing else is said."""
    folder, _, _ = lab.init()
    text = (folder / 'server.yaml').read_text().partition('\n# limits:\n')[2].partition('\n\n')[0]
    limits = {name: int(value) for name, value in re.findall(r'^#   (\w+): (\d+)$', text, re.MULTILINE)}
    for kind in ('sessions', 'associations', 'connections'):
        assert 0 < limits[f'{kind}_per_user'] <= limits[kind] // 8, kind
    assert 0 < limits['unauthenticated_per_address'] <= limits['unauthenticated'] // 8


def test_a_flood_about_closed_associations_is_answered_in_small_numbers(target, echo):
    target.start()
    channel = target.channel()
    numbers = [2 * number + 1 for number in range(1024)]
    body = b''.join(struct.pack('!I', number) for number in numbers)
    for _ in range(300):
        channel.say(ALIVE, body)
    channel.say(PING, bytes(8))
    answers, told = 0, set()
    while True:
        kind, body = channel.hear()
        if kind == PONG:
            break
        assert kind == CLOSED and body[:2] == b'\0\x0f'
        told.update(struct.unpack(f'!{len(body) // 4}I', body[2:]))
        answers += 1
    assert told <= set(numbers) and len(told) >= 512
    assert answers <= 100
    target.still_serves(echo)


# --- targets ---

@pytest.mark.netns
def test_own_addresses_that_come_later_and_the_advertised_one_are_refused(target, own_network):
    def body():
        target.start('advertise: "8.7.6.5:1443"', allow=())
        channel = target.channel()
        subprocess.run(['ip', 'address', 'add', '11.22.33.44/32', 'dev', 'lo'], check=True)
        channel.say(DATAGRAM, plaintext(1, ('8.7.6.5', 9), b''))
        assert channel.hear_only(REFUSED)[5:7] == b'\0\x08'

        def is_refused():
            before = target.status()['up']['drops']['policy']
            channel.say(DATAGRAM, plaintext(2, ('11.22.33.44', 9), b''))
            channel.sync()
            return target.status()['up']['drops']['policy'] > before
        wait_for(is_refused, 8, 'the new address is guarded')
    in_network_of_its_own(body)


@pytest.fixture
def with_dns(lab, target, program, own_network):
    """Runs body(echo) with a server that asks Dns, and may reach nothing but an echo at 127.0.0.2."""
    prefix = asking_dns(lab, program)

    def run_it(body, **options):
        def inside():
            lab.open(Dns(**options))
            target.folder, target.port, target.invite = lab.init(allow=('127.0.0.2/32',))
            target.server = lab.start('server', 'server', '-c', target.folder / 'server.yaml', '-v', prefix=prefix)
            target.server.ready()
            body(lab.open(UdpEcho('127.0.0.2')))
        in_network_of_its_own(inside)
    return run_it


@pytest.mark.netns
def test_names_that_nobody_answers_hold_little_memory(target, with_dns):
    """64 look-ups at a time, 256 KiB that wait for them; all of it is accounted for."""
    def body(echo):
        channel = target.channel()
        for number in range(1, 201):
            channel.say(DATAGRAM, plaintext(number, (f'n{number}.test', 9), bytes(60000)))
        channel.sync()
        up = target.status()['up']
        assert up['queued'] == 4 and up['drops']['resolve_wait'] == 196
        assert up['received'] == sum_ledger(up)
        channel.say(CLOSE, struct.pack("!H", 1))
        wait_for(lambda: target.status()['up']['queued'] == 0, 5, 'an empty queue')
        assert target.status()['up']['drops']['assoc_closed'] == 4
        target.still_serves(echo)
    with_dns(body, silent=True)


@pytest.mark.netns
def test_a_name_that_changes_its_address_reaches_nothing_more(target, with_dns):
    """DNS rebinding: an association keeps the address that was checked, the next one is checked anew."""
    def body(echo):
        channel, port = target.channel(), echo.address[1]
        for text in (b'one', b'two'):
            channel.say(DATAGRAM, plaintext(1, ('flip', port), text))
            assert channel.hear_only(DATAGRAM) == plaintext(1, echo.address, text)
        channel.say(DATAGRAM, plaintext(2, ('flip', port), b''))
        assert channel.hear_only(REFUSED)[:7] == b'\0\0\0\2\0\0\x08'
        channel.say(DATAGRAM, plaintext(3, ('both', port), b'three'))
        assert channel.hear_only(DATAGRAM) == plaintext(3, echo.address, b'three')
        target.still_serves(echo)
    with_dns(body, flip=[['127.0.0.2'], ['127.0.0.3']], both=[['127.0.0.3', '127.0.0.2']])


FORBIDDEN = ['127.0.0.3', '0.0.0.0', '10.0.0.1', '169.254.169.254', '224.0.0.1', '255.255.255.255', '::', '::1',
             '::ffff:127.0.0.3', '::127.0.0.3', '::ffff:0:127.0.0.3', '64:ff9b::127.0.0.3', '64:ff9b:1::127.0.0.3',
             '2002:7f00:3::1', '2001:0:102:304::80ff:fffc', 'fe80::1', 'fd00::1', 'ff02::1', 'loop', 'LocalHost', 'localhost.',
             '127.3', '0x7f000003', '2130706435', '127.0.0.3.', '::FFFF:127.0.0.3']


@pytest.mark.netns
def test_no_spelling_of_a_forbidden_target_passes(target, with_dns):
    """Over UDP associations and over CONNECT: refused by policy, or no name at all; nothing is created or sent."""
    def body(echo):
        channel, port = target.channel(), echo.address[1]
        for number, host in enumerate(FORBIDDEN, 1):
            channel.say(DATAGRAM, plaintext(number, (host, port), b''))

        def dropped():
            drops = target.status()['up']['drops']
            return drops['policy'] + drops['resolve_failed'] == len(FORBIDDEN)
        wait_for(dropped, 10, 'all dropped')
        status = target.status()
        assert status['associations'] == 0 and status['up']['forwarded'] == 0
        for host in FORBIDDEN:
            tls = target.tls().greet(target.invite)
            tls.sendall(request(CONNECT, host, port))
            assert tls.reply()[0] in (2, 4), host
            tls.close()
        assert echo.count == 0
        target.still_serves(echo)
    with_dns(body, loop=[['127.0.0.3']])


ODD_RECORDS = [  # what a client of TLS 1.3 never says, or not so often
    (b'', Records.APPLICATION), (b'\x63\0\0\0', Records.HANDSHAKE), (b'\4\0\0\0', Records.HANDSHAKE),
    (b'\x18\0\0\1\7', Records.HANDSHAKE), (b'\x18\0\0\1', Records.HANDSHAKE), (b'\x18\xff\xff\xff' + bytes(100), Records.HANDSHAKE),
    (b'\1\x5a', Records.ALERT), (bytes(16384), Records.APPLICATION),
]


@pytest.mark.parametrize('content, kind', ODD_RECORDS)
def test_odd_records_of_tls_on_the_control_stream_end_no_other_session(lab, echo, content, kind):
    target = Target(lab).start('workers: 1')
    channel = target.channel()
    records = Records(channel.tls, sent=2)
    with contextlib.suppress(OSError):
        channel.tls.sock.sendall(b''.join(records.make(content, kind) for _ in range(100)))
    target.still_serves(echo)


def test_keys_that_change_all_the_time_on_the_control_stream(lab, echo):
    target = Target(lab).start('workers: 1')
    channel = target.channel()
    records = Records(channel.tls, sent=2)
    flood = b''.join(records.make_key_update() for _ in range(20_000))
    sender = threading.Thread(target=channel.tls.sock.sendall, args=[flood])
    sender.start()
    target.still_serves(echo)
    sender.join()
    records.sendall(control(PING, bytes(8)))
    assert channel.hear_only(PONG) == bytes(8)
