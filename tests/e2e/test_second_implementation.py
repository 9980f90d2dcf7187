"""The server against the second implementation of docs/protocol.md: what the document says is what the server does."""
import base64
import collections
import json
import os
import runpy
import socket

import pytest

from harness import ROOT, free_port, wait_for
from sealgram_py import messages, record
from sealgram_py.client import Client, Ended, Invite, Refused, WrongCredentials, WrongPin
from sealgram_py.messages import REASONS

pytestmark = pytest.mark.parametrize('suite', record.SUITES, ids=['xaes-256-gcm', 'xchacha20-poly1305'])


@pytest.fixture
def served(lab):
    """(server, invite)"""
    folder, _, invite = lab.init(allow=['127.0.0.0/8'])
    return lab.server(folder), invite


@pytest.fixture
def server(served):
    return served[0]


@pytest.fixture
def client(lab, served, suite):
    client = lab.open(Client(served[1], [suite]))
    assert client.suite == suite
    return client


def wait_for_drops(server, **expected):
    """Waits until the server has counted these, and no others."""
    def counted():
        return {reason: count for reason, count in server.status()['up']['drops'].items() if count}
    wait_for(lambda: sum(counted().values()) >= sum(expected.values()), 5, 'drops')
    assert counted() == expected


def ask(client, number, data, target):
    """The answer to one datagram."""
    client.send(number, data, target)
    answer = client.receive()
    assert (answer.association, answer.data) == (number, data)
    return answer


def test_a_datagram_over_the_stream_before_udp(client, echo, server):
    answer = ask(client, client.associate(), b'first', echo.address)
    assert (answer.source, answer.over) == (echo.address, 'stream')
    assert server.status()['sessions_on_udp'] == 0


def test_path_and_sealed_echo(client, echo, server):
    client.validate()
    number = client.associate()
    answer = ask(client, number, b'sealed', echo.address)
    assert (answer.source, answer.over) == (echo.address, 'udp')
    assert server.status()['sessions_on_udp'] == 1
    # what no record on this path can hold goes over the stream; the sizes that it can hold are found by probes
    client.wait(lambda: client.plpmtu == client.kernel_size)
    for size in (0, 1, client.plpmtu - 52, client.plpmtu - 51):
        answer = ask(client, number, os.urandom(size), echo.address)
        assert answer.over == ('udp' if size <= client.plpmtu - 52 else 'stream')
    client.use(messages.STREAM)
    client.ping()
    assert ask(client, number, b'back', echo.address).over == 'stream'


def test_many_datagrams_over_five_associations(client, echo, server):
    client.validate()
    numbers = [client.associate() for _ in range(5)]
    sent = {(numbers[count % 5], b'%d' % count) for count in range(200)}
    for number, data in sent:
        client.send(number, data, echo.address)
    got = [client.receive() for _ in range(200)]
    assert {(answer.association, answer.data) for answer in got} == sent
    assert {answer.over for answer in got} == {'udp'}
    assert len(echo.sources) == 5 and server.status()['associations'] == 5
    # all that the server sealed could be opened, and its counters have no gap
    assert not client.drops
    assert [window.seen == (2 << window.highest) - 1 for window in client.receiver.windows.values()] == [True]
    client.dissociate(*numbers)
    client.ping()
    assert server.status()['associations'] == 0


def test_a_target_by_name(client, echo):
    client.validate()
    answer = ask(client, client.associate(), b'by name', ('localhost', echo.address[1]))
    assert (answer.source, answer.over) == (echo.address, 'udp')
    number = client.associate()
    client.send(number, b'', ('name.invalid', 7))
    client.wait(lambda: client.refused)
    assert client.refused == [(number, 0, REASONS['resolve_failed'], 0, ('name.invalid', 7))]


def seal_datagram(client, number, data, target, counter=None):
    if counter is not None:
        client.sender.counter = counter
    return client.sender.seal(messages.Datagram(number, target, data).encode())


def test_replayed_records_are_refused(client, echo, server):
    client.validate()
    number = client.associate()
    first, again, far = (seal_datagram(client, number, data, echo.address, counter)
                         for data, counter in ((b'first', None), (b'again', None), (b'far', 100_000)))
    for sealed in (first, again, first, again, far, first, far):
        client.send_record(sealed)
    assert [client.receive().data for _ in range(3)] == [b'first', b'again', b'far']
    wait_for_drops(server, replayed=3, too_old=1)
    # the lower edge of the window of 8192 counters
    highest = client.sender.counter - 1
    for counter in (highest - 8191, highest - 8192, highest - 8191):
        client.send_record(seal_datagram(client, number, b'edge', echo.address, counter))
    assert client.receive().data == b'edge'
    wait_for_drops(server, replayed=4, too_old=2)
    assert echo.count == 4


def test_a_record_with_one_bit_flipped_is_refused(client, echo, server):
    client.validate()
    number = client.associate()
    client.sender.renew()  # an id without a window: a flipped counter is not one that was seen
    sealed = seal_datagram(client, number, b'flipped', echo.address)
    wrong = [sealed[:-1], sealed + b'\0', record.INDICATOR + bytes(8) + sealed[9:], sealed[:record.SHORTEST - 1], b'',
             client.sender.seal(bytes(4))]
    for bit in range(8 * len(sealed)):
        forged = bytearray(sealed)
        forged[bit // 8] ^= 1 << bit % 8
        wrong.append(bytes(forged))
    judge, expected = record.Receiver(client.suite, client.sender.key, client.channel), collections.Counter()
    for forged in wrong:
        client.send_record(forged)
        expected['plain_refused' if record.detect(forged) == 'plain' else judge.open(forged)[1]] += 1
    wait_for_drops(server, **expected)
    client.send_record(sealed)
    assert client.receive().data == b'flipped' and echo.count == 1


def test_sender_ids_beyond_the_limit_are_refused(client, echo, server):
    client.validate()
    number = client.associate()
    client.sender.ids_left = 100
    ids = client.fields[messages.Field.MAX_SENDERS]
    for _ in range(ids - 1):
        client.sender.renew()
        ask(client, number, b'new id', echo.address)
    client.sender.renew()
    client.send(number, b'one too many', echo.address)
    wait_for_drops(server, sender_limit=1)
    assert echo.count == ids - 1


def test_plaintexts_that_do_not_parse_are_dropped(client, echo, server):
    client.validate()
    for text in (bytes(5), bytes(4) + b'\x15', bytes(4) + b'\x12' + bytes(8), bytes(4) + b'\x13' + bytes(7),
                 b'\0\0\0\1\2\x7f\0\0\1\0\7', b'\0\0\0\1\3\0\0\7', b'\0\0\0\1\1\x7f\0\0\1\0', b'\0\0\0\1\3\xff\0\7'):
        client.send_record(client.sender.seal(text))
        client.say(messages.control(messages.Control.DATAGRAM, text))
    client.say(messages.control(0x7f, b'a type that nobody knows'))
    client.ping()
    wait_for_drops(server, malformed=16)
    assert ask(client, client.associate(), b'still here', echo.address).over == 'udp'


def test_a_target_that_policy_refuses(client, echo, server):
    client.validate()
    number = client.associate()
    client.send(number, b'metadata, please', ('169.254.169.254', 80))
    client.wait(lambda: client.refused)
    assert client.refused == [(number, 0, REASONS['policy'], 0, ('169.254.169.254', 80))]
    assert server.status()['associations'] == 0
    ask(client, number, b'allowed', echo.address)
    wait_for_drops(server, policy=1)


@pytest.mark.parametrize('size', [65508, 65535])
def test_what_no_datagram_can_hold_is_refused(client, echo, server, size):
    number = client.associate()
    client.send(number, bytes(size), echo.address)
    client.wait(lambda: client.refused)
    assert client.refused == [(number, 0, REASONS['too_big'], 0, echo.address)]
    assert ask(client, number, b'smaller', echo.address).source == echo.address


def test_a_closed_association_stays_closed(client, echo, server):
    client.validate()
    number = client.associate()
    ask(client, number, b'open', echo.address)
    client.dissociate(number)
    client.ping()
    client.send(number, b'closed', echo.address)
    client.wait(lambda: client.closed)
    assert client.closed == [(REASONS['assoc_closed'], [number])]
    ask(client, client.associate(), b'open', echo.address)
    wait_for_drops(server, assoc_closed=1)
    # ALIVE creates nothing
    client.say(messages.alive(77))
    client.wait(lambda: (REASONS['assoc_closed'], [77]) in client.closed)
    assert server.status()['associations'] == 1


def test_the_session_ends_with_its_channel(client, echo, server):
    client.validate()
    ask(client, client.associate(), b'open', echo.address)
    client.say(messages.close(REASONS['normal']))
    with pytest.raises(Ended) as ended:
        client.wait(lambda: False)
    assert ended.value.reason == REASONS['normal']
    wait_for(lambda: server.status()['sessions'] == 0, what='end of the session')
    before = server.status()['up']['drops']['unknown_channel']  # answers to probes may have been late too
    client.send_record(seal_datagram(client, 1, b'late', echo.address))
    wait_for(lambda: server.status()['up']['drops']['unknown_channel'] > before, what='the drop')
    assert echo.count == 1


def test_messages_that_end_the_session(lab, served, suite):
    control, kinds = messages.control, messages.Control
    for wrong in (bytes([kinds.DATAGRAM]) + (messages.BODY_MAX + 1).to_bytes(3, 'big'),
                  control(kinds.PATH, b'\0\0\0\1\3'), control(kinds.PATH, b'\0\0\0\1'), control(kinds.PING, bytes(7)),
                  control(kinds.CLOSE, b'\1'), messages.closed(1), messages.alive(), messages.alive(*range(1, 1026)),
                  messages.refused(1, 0, 8, 0, ('192.0.2.1', 7))):
        client = lab.open(Client(served[1], [suite]))
        client.say(wrong)
        with pytest.raises(Ended) as ended:
            client.wait(lambda: False)
        assert ended.value.reason == REASONS['protocol'], wrong[:20]


def test_blocks_that_are_refused(served, suite):
    field, kinds = messages.field, messages.Field
    verb, resume, handle = field(kinds.VERB, b'\1'), field(kinds.VERB, b'\2'), field(kinds.HANDLE, bytes(16))
    suites = field(kinds.SUITES, suite.to_bytes(2, 'big'))
    protocol = 1, REASONS['protocol']
    for fields, reply in (((verb, suites, field(99, b'new')), None), ((resume, suites, handle), None),
                          ((resume, suites), protocol), ((verb, suites, handle), protocol), ((verb,), protocol),
                          ((suites,), protocol), ((verb, suites, verb), protocol),
                          ((verb, suites, field(99, b'new', critical=True)), protocol),
                          ((verb, field(kinds.SUITES, bytes(34))), protocol),
                          ((verb, suites, field(kinds.AGENT, b'a' * 65)), protocol),
                          ((verb, suites[:-1]), protocol)):
        try:
            Client(served[1], [suite], block=messages.block(*fields)).close()
            refused = None
        except Refused as error:
            refused = error.code, error.reason
        assert refused == reply, fields


def test_over_ipv6(lab, echo6, suite):
    port = free_port(socket.AF_INET6)
    folder, _, invite = lab.init(host='::1', listen=[f'[::1]:{port}'], port=port)
    lab.server(folder)
    client = lab.open(Client(invite, [suite])).validate()
    answer = ask(client, client.associate(), b'six', echo6.address)
    assert (answer.source, answer.over) == (echo6.address, 'udp')


def test_wrong_token_and_wrong_pin(served, suite):
    server, text = served
    invite = Invite.parse(text)
    wrong_token = 'sgt1_' + base64.urlsafe_b64encode(os.urandom(32)).decode().rstrip('=')
    for user, token in (('alice', wrong_token), ('nobody', invite.token), ('alice', 'swordfish')):
        with pytest.raises(WrongCredentials):
            Client(Invite(user, token, invite.host, invite.port, invite.pin), [suite])
    assert server.status()['tcp']['refused_credentials'] == 3
    with pytest.raises(WrongPin):
        Client(Invite(invite.user, invite.token, invite.host, invite.port, os.urandom(32)), [suite])
    assert server.status()['sessions_opened'] == 0


def test_the_first_suite_that_the_server_has(lab, served, suite):
    other = next(known for known in record.SUITES if known != suite)
    assert lab.open(Client(served[1], [0x7777, suite, other])).suite == suite
    with pytest.raises(Refused) as refused:
        Client(served[1], [0x7777])
    assert (refused.value.code, refused.value.reason) == (1, REASONS['suite'])


def test_the_published_records_are_those_that_this_implementation_makes(suite):
    """What tests/vectors/records.json has of this suite; the unit test test_record_vectors.c reads it."""
    folder = ROOT / 'tests' / 'vectors'
    made = runpy.run_path(str(folder / 'make_records.py'))['make'](suite)
    published = json.loads((folder / 'records.json').read_text())
    for kind, entries in published.items():
        assert made[kind] == [entry for entry in entries if entry['suite'] == suite]
