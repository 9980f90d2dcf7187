"""The channels of a session: pending, newest, old, gone, and what a user may try with RESUME."""
import os
import pathlib
import re
import socket
import struct
import time

import pytest

from attacker import (CLOSE, CONFIRM, DATAGRAM, KEPT, LOST, PING, Refused, Target, is_ended, plaintext)
from harness import UdpEcho, open_files, run, sum_ledger, wait_for
from test_nat import peer

RENEWED = 1.05  # a session is resumed once a second


@pytest.fixture
def target(lab):
    return Target(lab).start('timeouts:\n  grace_seconds: 2\n')


class Session:
    """A session of the target on UDP with one association, and its channels, oldest first."""

    def __init__(self, target, echo, invite=None):
        self.target, self.echo, self.invite, self.count = target, echo, invite, 0
        self.channels = [target.channel(invite).validate()]
        assert self.works()

    @property
    def newest(self):
        return self.channels[-1]

    def ask(self, up, down=None, number=1):
        """Whether a record of channel `up` comes back in a record of `down`."""
        self.count += 1
        data = b'%d' % self.count
        up.send_udp(plaintext(number, self.echo.address, data))
        return (down or up).hear_datagram() == plaintext(number, self.echo.address, data)

    def works(self):
        return self.ask(self.newest)

    def opens(self, channel):
        """Whether the server opens records of a channel: if so, they bring a datagram to the echo."""
        count = self.echo.count
        channel.send_udp(plaintext(1, self.echo.address, os.urandom(8)))
        self.newest.sync()
        self.newest.say(DATAGRAM, plaintext(1, self.echo.address, b'behind it'))
        wait_for(lambda: self.echo.count > count and self.target.status()['up']['queued'] == 0, 5, 'the second one')
        time.sleep(0.05)
        self.drain()
        return self.echo.count == count + 2

    def drain(self):
        sock = self.newest.udp
        sock.setblocking(False)
        try:
            while True:
                sock.recv(65536)
        except BlockingIOError:
            sock.settimeout(5)

    def resume(self):
        """A pending channel."""
        channel = self.target.channel(self.invite, handle=self.newest.handle, udp=self.newest.udp)
        assert channel.resumed == KEPT and channel.handle == self.newest.handle and channel.id != self.newest.id
        return channel

    def renew(self):
        """A channel that is the newest."""
        channel = self.resume()
        channel.say(CONFIRM)
        channel.sync()
        self.channels.append(channel)
        return channel

    def is_alone(self):
        """Nothing but the newest channel is left of it, and it works."""
        return self.works() and self.target.status()['sessions'] == 1 and len(self.echo.sources) == 1


@pytest.fixture
def session(target, echo):
    return Session(target, echo)


# --- the table of docs/protocol.md section 5.2, row by row ---

def open_is_newest(session):
    assert session.works()


def resume_is_pending(session):
    pending = session.resume()
    assert session.works() and pending.id != session.newest.id  # what comes back is sealed with the one before


def confirm_makes_newest(session):
    before = session.newest
    session.renew()
    assert session.works() and session.ask(before, down=session.newest)


def record_makes_newest(session):
    pending = session.resume()
    assert session.ask(pending)
    session.channels.append(pending)
    assert session.ask(session.channels[0], down=pending)


def other_message_ends_pending(session):
    pending = session.resume()
    pending.say(PING, bytes(8))
    assert is_ended(pending.tls) and not session.opens(pending)


def stream_end_ends_pending(session):
    server = session.target.server
    before = open_files(server)
    pending = session.resume()
    pending.tls.close()
    wait_for(lambda: open_files(server) == before, 5, 'the end of the connection')  # a record would confirm it
    assert not session.opens(pending)


def further_resume_ends_pending(session):
    pending = session.resume()
    time.sleep(RENEWED)
    session.renew()
    assert is_ended(pending.tls) and not session.opens(pending)


def pending_has_10_s(session):
    pending = session.resume()
    start = time.monotonic()
    pending.tls.patience(15)
    assert is_ended(pending.tls) and 9 < time.monotonic() - start < 12
    assert not session.opens(pending)


def newest_outlives_its_stream(session):
    session.newest.tls.close()
    wait_for(lambda: session.target.status()['sessions_without_stream'] == 1, 5, 'the end of the stream')
    assert session.works()
    session.renew()


def newest_becomes_old(session):
    before = session.newest
    session.renew()
    before.say(DATAGRAM, plaintext(1, session.echo.address, b'on its stream'))
    assert session.newest.hear_datagram() == plaintext(1, session.echo.address, b'on its stream')
    assert session.opens(before)


def close_ends_the_session(session):
    session.newest.say(CLOSE, struct.pack('!H', 1))
    assert session.newest.hear() == (CLOSE, struct.pack('!H', 1))
    wait_for(lambda: session.target.status()['sessions'] == 0, 5, 'the end of the session')


def grace_ends_the_session(session):
    session.newest.tls.close()
    wait_for(lambda: session.target.status()['sessions_without_stream'] == 1, 5, 'the end of the stream')
    start = time.monotonic()
    wait_for(lambda: session.target.status()['sessions'] == 0, 5, 'the end of the session')
    assert time.monotonic() - start > 1


def close_of_an_old_one_is_its_streams(session):
    before = session.newest
    session.renew()
    before.say(CLOSE, struct.pack('!H', 1))
    assert is_ended(before.tls) and session.opens(before)


def further_resume_ends_old(session):
    before = session.newest
    session.renew()
    time.sleep(RENEWED)
    session.resume()
    assert is_ended(before.tls) and not session.opens(before)


def old_has_10_s(session):
    before = session.newest
    start = time.monotonic()
    session.renew()
    before.tls.patience(15)
    while time.monotonic() - start < 8.5:
        assert session.opens(before)
        time.sleep(0.5)
    assert is_ended(before.tls) and 9 < time.monotonic() - start < 12
    assert not session.opens(before)


GONE = close_ends_the_session, grace_ends_the_session
WALKS = {
    '- | OPEN | newest': open_is_newest,
    '- | RESUME | pending': resume_is_pending,
    'pending | CONFIRM | newest': confirm_makes_newest,
    'pending | a record of it opens | newest': record_makes_newest,
    'pending | another known first message | gone': other_message_ends_pending,
    'pending | its stream ends | gone': stream_end_ends_pending,
    'pending | a further RESUME | gone': further_resume_ends_pending,
    'pending | 10 s | gone': pending_has_10_s,
    'newest | its stream ends | newest': newest_outlives_its_stream,
    'newest | another is confirmed | old': newest_becomes_old,
    'newest | CLOSE | gone': close_ends_the_session,
    'newest | GRACE after its stream ended | gone': grace_ends_the_session,
    'old | CLOSE, its stream ends | old': close_of_an_old_one_is_its_streams,
    'old | a further RESUME | gone': further_resume_ends_old,
    'old | 10 s | gone': old_has_10_s,
}


@pytest.mark.parametrize('walk', WALKS.values(), ids=[walk.__name__ for walk in WALKS.values()])
def test_each_transition_of_a_channel(session, walk):
    walk(session)
    if walk not in GONE:
        assert session.is_alone()
    for ledger in (session.target.status()[way] for way in ('up', 'down')):
        assert ledger['received'] == sum_ledger(ledger)


def test_the_specification_has_the_same_table():
    text = (pathlib.Path(__file__).parents[2] / 'docs/protocol.md').read_text()
    assert re.findall(r'^\| channel \| (.*) \|$', text, re.MULTILINE) == list(WALKS)


def test_ids_and_handles_do_not_count(target):
    """Of sessions that are opened one after the other no number on the wire, or in the reply, is the next one."""
    channels = [target.channel() for _ in range(12)]
    for words in ([int.from_bytes(channel.id[:4], 'big') for channel in channels],
                  [int.from_bytes(channel.handle[:4], 'big') for channel in channels]):
        assert len(set(words)) == len(words)
        steps = [after - before for before, after in zip(words, words[1:], strict=False)]
        assert sum(0 < step < 4 for step in steps) < len(steps) // 2, words


def channel_or_none(target):
    try:
        return target.channel()
    except Refused:
        return None


def test_places_of_channels_are_used_again(lab, echo):
    """A place that is drawn is free, to the last one, and free again when its session has ended."""
    target = Target(lab).start('workers: 1\nlimits:\n  sessions: 5\n  sessions_per_user: 5')
    for _ in range(4):
        channels = [wait_for(lambda: channel_or_none(target), 10, 'a place') for _ in range(5)]
        assert len({channel.id for channel in channels}) == 5 and channel_or_none(target) is None
        for channel in channels:
            channel.say(CLOSE, struct.pack('!H', 1))
            assert is_ended(channel.tls)
            channel.close()
    wait_for(lambda: target.status()['sessions'] == 0, 10, 'the end of the sessions')
    target.still_serves(echo)


# --- what may be tried ---

@pytest.mark.parametrize('malformed, code', [(b'\5\xe8\1', 1), (b'\5\xe8\0\x09', 8), (b'\5\xe8\0\3\0', 1),
                                             (b'\5\xe8\0\3\1\0\0\0', 1)], ids=['RSV', 'ATYP', 'empty name', 'NUL in a name'])
def test_a_malformed_request_for_a_channel_gets_a_block_too(target, malformed, code):
    tls = target.tls().greet(target.invite)
    tls.sendall(malformed)
    assert tls.reply() == (code, ('0.0.0.0', 0))
    assert tls.block()[13] == struct.pack('!H', 4)
    assert is_ended(tls)


def test_unknown_first_messages_are_skipped_on_a_pending_channel(session):
    pending = session.resume()
    pending.say(0x7f, b'of a later version')
    pending.say(0x0c)
    pending.say(CONFIRM)
    pending.sync()
    assert session.ask(pending)



def test_a_second_resume_within_a_second_is_refused(session):
    session.renew()
    with pytest.raises(Refused) as refused:
        session.resume()
    assert refused.value.args == (1, 'busy')
    assert session.is_alone()


def test_a_handle_that_is_not_ones_own_finds_nothing(target, session, echo):
    """Another user's, one bit of it, or any: a new session of one's own, and the other's is as it was."""
    bob = target.lab.invite(target.folder, 'bob')
    wait_for(lambda: 'user file read again' in target.server.err, 5, 'reload')
    handle = session.newest.handle
    flipped = [handle[:at] + bytes([handle[at] ^ bit]) + handle[at + 1:] for at, bit in ((0, 1), (3, 1), (4, 128), (15, 1))]
    for invite, tried in [(bob, handle), *((target.invite, other) for other in (*flipped, bytes(16), os.urandom(16)))]:
        stranger = target.channel(invite, handle=tried)
        assert stranger.resumed == LOST and stranger.handle not in (handle, tried)
        stranger.say(CLOSE, struct.pack('!H', 1))
        wait_for(lambda: target.status()['sessions'] == 1, 5, 'the end of the stranger')
    assert session.is_alone()


def test_a_credential_that_was_issued_anew_ends_the_session(target, session):
    handle = session.newest.handle
    again = target.lab.invite(target.folder, 'alice', '--replace')
    wait_for(lambda: target.status()['sessions'] == 0, 5, 'the end of the session')
    assert target.channel(again, handle=handle).resumed == LOST


def test_records_of_one_channel_are_nothing_to_another(target, session):
    """Replayed after the renewal, under the other's id, or sent back to where they came from."""
    before = session.newest
    record = before.seal(plaintext(1, session.echo.address, b'captured'))
    before.udp.send(record)
    before.hear_datagram()
    answer_before = target.status()['up']['drops']
    session.renew()
    count = session.echo.count
    before.udp.send(record)  # the same once more
    before.udp.send(record[:1] + session.newest.id + record[9:])  # as if it were of the newest
    sealed = session.newest.seal(plaintext(1, session.echo.address, b'other way'))
    before.udp.send(sealed[:1] + before.id + sealed[9:])
    assert session.works() and session.echo.count == count + 1
    drops = target.status()['up']['drops']
    assert drops['replayed'] == answer_before.get('replayed', 0) + 1
    assert drops['forged'] == 2


@pytest.mark.slow
def test_all_sessions_at_the_limit_can_renew(lab, echo):
    """At once: each has a place for its second channel that nobody else can take."""
    target = Target(lab).start('limits:\n  sessions: 8\n')
    sessions = [Session(target, echo) for _ in range(8)]
    for session in sessions:
        session.renew()
    assert all(session.works() for session in sessions) and len(echo.sources) == 8
    with pytest.raises(Refused):
        target.channel()
    time.sleep(10.5)  # the old channels are gone
    late = sessions[-1]
    late.renew()
    assert late.works() and target.status()['sessions'] == 8


def test_sender_ids_keep_nobody_from_renewing(lab, echo):
    """All sessions that a server may have use all the sender ids that they may, on both channels, and renew all the same."""
    target = Target(lab).start('limits:\n  sessions: 8\n')
    sessions = [Session(target, echo) for _ in range(8)]
    silent = lab.open(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    silent.bind(('127.0.0.1', 0))

    def use_ids(channel):
        for _ in range(channel.max_senders):
            channel.send_udp(plaintext(1, silent.getsockname(), b'of another sender'), sender=os.urandom(8), counter=0)
    for session in sessions:
        use_ids(session.newest)
    for session in sessions:
        use_ids(session.renew())
    time.sleep(RENEWED)
    for session in sessions:
        session.renew()
    assert all(session.works() for session in sessions)
    assert target.status()['sessions_resumed'] == 16 and target.status()['sessions'] == 8


def test_many_renewals_leave_nothing_behind(target, echo):
    sessions = [Session(target, UdpEcho()) for _ in range(8)]
    for session in sessions:
        session.renew()
    before = open_files(target.server)
    for _ in range(6):
        time.sleep(RENEWED)
        for session in sessions:
            session.renew()
    wait_for(lambda: open_files(target.server) <= before, 5, 'the end of the oldest connections')
    assert all(session.works() for session in sessions)
    for session in sessions:
        session.newest.say(CLOSE, struct.pack('!H', 1))
        session.echo.close()
    wait_for(lambda: target.status()['sessions'] == 0, 5, 'the end of the sessions')
    target.still_serves(echo)


def test_resumed_on_another_worker(lab, echo):
    target = Target(lab).start('workers: 4\nplain_udp:\n  from: []\n')
    session = Session(target, echo)
    for _ in range(5):
        time.sleep(RENEWED)
        session.renew()
        assert session.works()
    assert session.is_alone()


def test_a_user_is_removed_while_a_channel_is_pending(target, session):
    pending = session.resume()
    assert run('revoke', target.folder, 'alice').returncode == 0
    wait_for(lambda: target.status()['sessions'] == 0, 5, 'the end of the session')
    assert is_ended(pending.tls)


def test_what_no_stream_takes_waits_half_a_second(lab):
    """Answers too long for a record, of a session that has lost its connection and of which nothing else comes."""
    target = Target(lab).start()
    channel, sock = target.channel().validate(), peer(lab)
    channel.send_udp(plaintext(1, sock.getsockname(), b'question'))
    mapping = sock.recvfrom(100)[1]
    channel.tls.close()
    wait_for(lambda: target.status()['sessions_without_stream'] == 1, 5, 'the loss of the connection')
    time.sleep(1)  # the search for longer records has ended
    for _ in range(2):
        before = target.status()['down']['drops'].get('stream_full', 0)
        sock.sendto(bytes(9000), mapping)
        sent = time.monotonic()
        wait_for(lambda: target.status()['down']['drops'].get('stream_full', 0) == before + 1, 5, 'drop stream_full')
        assert 0.4 < time.monotonic() - sent < 3
    assert target.status()['down']['queued'] == 0
