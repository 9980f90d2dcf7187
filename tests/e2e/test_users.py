"""Invites with an end and with a number of devices: who is let in, what is said to whom, and what outlives a restart."""
import datetime
import re
import time

import pytest

from attacker import CHANNEL, Tls, credentials, is_ended, login, open_block, request
from harness import CONNECT, run, socks_request, wait_for


def home(lab, name):
    """The environment of a device of its own."""
    folder = lab.folder / name
    folder.mkdir(exist_ok=True)
    return {'XDG_STATE_HOME': str(folder)}


def date(seconds):
    when = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds)
    return when.strftime('%Y-%m-%dT%H:%M:%SZ')


def fails(client, server, line):
    """A client that the server does not let in, for the reason in the server's log."""
    wait_for(lambda: client.process.poll() is not None, 20, f'the end of the client: {client.err}')
    assert client.process.returncode == 1, client.err
    wait_for(lambda: re.search(line, server.err), 5, f'{line} in {server.err}')
    told = client.err
    client.process.returncode = -9  # its end was expected
    return told


def test_an_invite_ends_at_its_time_and_what_it_let_in(lab, tcp_echo):
    folder, port, _ = lab.init(user=None)
    end = time.time() + 6
    invite = lab.invite(folder, 'bob', '--expires', date(6))
    users = run('users', folder).stdout
    assert re.fullmatch(r'bob +token +\S+ expires \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\n', users)
    lab.invite(folder, 'alice')
    server = lab.server(folder)
    client = lab.client(invite)
    relay, code, _ = socks_request(client.socks, CONNECT, *tcp_echo.address)
    lab.open(relay)
    assert code == 0 and server.status()['sessions'] == 1
    wait_for(lambda: server.status()['sessions'] == 0, 15, 'the end of the session')
    assert end - 2 < time.time() < end + 3
    wait_for(lambda: server.status()['tcp']['relays'] == 0, 5, 'the end of the relay')
    assert 'sealgram: info: a credential has expired' in server.err
    assert re.fullmatch(r'alice +token +\S+\nbob +token +\S+ expired \S+\n', run('users', folder).stdout)
    user, token = credentials(invite)
    answers = []
    for password in (token, token[:-1] + ('A' if token[-1] != 'A' else 'B')):
        tls = lab.open(Tls(port))
        tls.sendall(b'\5\1\2' + login(user, password))
        answers.append(tls.receive(4))
        assert is_ended(tls)
    assert answers[0] == answers[1] and answers[0][2:] != b'\1\0'
    wait_for(lambda: re.search(r'credentials of bob refused from 127\.0\.0\.1:\d+: the invite has expired\n', server.err),
             5, 'the line')
    assert re.search(r'credentials refused from 127\.0\.0\.1:\d+\n', server.err)
    client.kill()


def test_so_many_devices_join_and_come_back(lab, echo):
    folder, _, _ = lab.init(user=None)
    invite = lab.invite(folder, 'bob', '--uses', '2')
    assert '/?pin=' in invite and ':sgd1_' in invite
    assert re.fullmatch(r'bob +token +\S+ devices 0/2\n', run('users', folder).stdout)
    server = lab.server(folder)
    first = lab.client(invite, env=home(lab, 'one'))
    assert 'a device of bob joined: 1 of 2' in server.err
    # more connections of a device, and the same one again, are no further use
    for _ in range(3):
        lab.client(invite, env=home(lab, 'one')).stop()
    assert re.fullmatch(r'bob +token +\S+ devices 1/2\n', run('users', folder).stdout)
    lab.client(invite, env=home(lab, 'two'))
    assert re.fullmatch(r'bob +token +\S+ devices 2/2\n', run('users', folder).stdout)
    third = lab.client(invite, env=home(lab, 'three'), ready=False)
    told = fails(third, server, r'credentials of bob refused from 127\.0\.0\.1:\d+: '
                                r'as many devices as may have joined by this invite\n')
    assert 'devices' not in told
    # a restart counts on
    first.stop()
    server.stop()
    server = lab.server(folder)
    lab.client(invite, env=home(lab, 'one'))
    third = lab.client(invite, env=home(lab, 'three'), ready=False)
    fails(third, server, 'as many devices as may have joined by this invite')
    key = lab.folder / 'one' / 'sealgram' / 'device.key'
    assert key.stat().st_mode & 0o777 == 0o600 and key.stat().st_size == 32
    listed = (folder / 'users.devices').read_text()
    assert listed.count('\nbob ') == 2 and key.read_bytes().hex() not in listed
    # a new invite begins anew
    fresh = lab.invite(folder, 'bob', '--replace', '--uses', '1')
    wait_for(lambda: 'user file read again: 1 users' in server.err, 5, 'the new invite')
    lab.client(fresh, env=home(lab, 'three'))
    assert re.fullmatch(r'bob +token +\S+ devices 1/1\n', run('users', folder).stdout)
    assert (folder / 'users.devices').read_text().count('\nbob ') == 1


def test_devices_that_have_joined_outlive_their_invite(lab):
    folder, _, _ = lab.init(user=None)
    made = run('invite', folder, 'bob', '--uses', '5', '--expires', date(6))
    assert re.search(r'^sealgram: 5 devices may join by this invite until \S+Z, and may come back as long as bob is a user$',
                     made.stderr, re.M)
    invite, end = made.stdout.strip(), time.time() + 6
    server = lab.server(folder)
    client = lab.client(invite, env=home(lab, 'one'))
    wait_for(lambda: time.time() > end, 10, 'the end')
    late = lab.client(invite, env=home(lab, 'two'), ready=False)
    fails(late, server, r'credentials of bob refused from 127\.0\.0\.1:\d+: the invite has expired\n')
    assert server.status()['sessions'] == 1
    client.stop()
    lab.client(invite, env=home(lab, 'one'))
    run('revoke', folder, 'bob')
    wait_for(lambda: server.status()['sessions'] == 0, 5, 'the end of the user')
    lab.programs[-1].kill()


def test_a_counting_token_without_a_device_opens_nothing(lab):
    folder, port, _ = lab.init(user=None)
    invite = lab.invite(folder, 'bob', '--uses', '2')
    server = lab.server(folder)
    tls = lab.open(Tls(port))
    tls.sendall(b'\5\1\2' + login(*credentials(invite)))
    assert tls.receive(4)[2:] != b'\1\0' and is_ended(tls)
    assert re.search(r'credentials of bob refused from 127\.0\.0\.1:\d+: the invite counts devices, and the client names '
                     r'none\n', server.err)
    user, token = credentials(invite)
    tls = lab.open(Tls(port))
    tls.sendall(b'\5\1\2' + login(user, f'{token}.{22 * "x"}') + request(CHANNEL) + open_block())
    assert tls.receive(4) == b'\5\2\1\0'
    assert tls.reply()[0] == 0


def test_a_list_of_devices_that_cannot_be_written_lets_nobody_join(lab):
    folder, _, _ = lab.init(user=None)
    invite = lab.invite(folder, 'bob', '--uses', '2')
    lab.edit_config(folder, 'devices: no/such/folder/devices')
    server = lab.server(folder)
    client = lab.client(invite, env=home(lab, 'one'), ready=False)
    fails(client, server, r'sealgram: error: a device of bob cannot join, the list of devices cannot be written: '
                          r'No such file or directory\n')


def test_a_client_that_cannot_keep_its_key_says_so(lab):
    folder, _, _ = lab.init(user=None)
    invite = lab.invite(folder, 'bob', '--uses', '2')
    (lab.folder / 'file').write_text('')
    client = lab.client(invite, ready=False, env={'XDG_STATE_HOME': str(lab.folder / 'file')})
    wait_for(lambda: client.process.poll() is not None, 10, 'its end')
    assert re.search(rf'invite\d+:1: the invite counts devices, and this one\'s key cannot be kept in '
                     rf'{re.escape(str(lab.folder))}/file/sealgram/device.key: Not a directory\n', client.err), client.err
    client.process.returncode = -9


@pytest.mark.parametrize('option, value, complaint', [
    ('--expires', '0d', '--expires 0d: not a time to come: 12h, 7d, 2026-12-24 or 2026-12-24T18:00:00Z'),
    ('--expires', '2001-01-01', '--expires 2001-01-01: not a time to come: 12h, 7d, 2026-12-24 or 2026-12-24T18:00:00Z'),
    ('--expires', '2100-02-30', '--expires 2100-02-30: not a time to come: 12h, 7d, 2026-12-24 or 2026-12-24T18:00:00Z'),
    ('--uses', '0', '--uses 0: not a number from 1 to 10000'),
    ('--uses', '10001', '--uses 10001: not a number from 1 to 10000'),
])
def test_terms_that_make_no_sense_are_refused(lab, option, value, complaint):
    folder, _, _ = lab.init(user=None)
    done = run('invite', folder, 'bob', option, value)
    assert done.returncode == 2 and done.stderr.splitlines()[0].endswith(complaint)
    assert run('users', folder).stdout == ''


@pytest.mark.parametrize('value, seconds', [('90s', 90), ('5m', 300), ('12h', 43200), ('7d', 604800)])
def test_times_are_counted_from_now(lab, value, seconds):
    folder, _, _ = lab.init(user=None)
    lab.invite(folder, 'bob', '--expires', value)
    text = re.search(r'expires=(\S+)\n', (folder / 'users').read_text()).group(1)
    left = datetime.datetime.fromisoformat(text).timestamp() - time.time()
    assert seconds - 20 < left <= seconds
