"""A command that decides who is let in: what it is asked, what it is given, and what happens when it fails."""
import contextlib
import json
import os
import re
import socket
import sys
import time

import pytest

from attacker import Tls, credentials, is_ended, login, request
from harness import CONNECT, TcpServer, echo_stream, run, wait_for

PROGRAM = r'''#!/usr/bin/python3
import json, os, sys, time
log = open({log!r}, 'a', buffering=1)
log.write(json.dumps({{'start': os.getpid(), 'argv': sys.argv[1:], 'environment': sorted(os.environ)}}) + '\n')
for line in sys.stdin:
    log.write(json.dumps({{'asked': line, 'by': os.getpid()}}) + '\n')
    question = json.loads(line)
    secret = question.get('password') or question.get('token')
    if secret == 'die':
        os._exit(3)
    if secret == 'slow':
        time.sleep(60)
    answer = {answers!r}.get(secret, '{{"ok": false}}')
    sys.stdout.write(answer + '\n')
    sys.stdout.flush()
'''
ANSWERS = {
    'right': '{"ok": true}',
    'named': '{"ok": true, "user": "bob", "groups": ["staff"]}',
    'nonsense': '{"ok": "perhaps"}',
    'garbage': 'what?',
    'two': '{"ok": true}\n{"ok": true}',
    'sgt1_' + 43 * 'A': '{"ok": true}',
    'long': 5000 * 'x',
}


class Gate:
    """A server with an authenticator."""

    def __init__(self, lab, **options):
        self.lab = lab
        self.log = lab.folder / 'asked'
        program = lab.folder / 'check'
        program.write_text(PROGRAM.format(log=str(self.log), answers=ANSWERS))
        program.chmod(0o755)
        self.folder, self.port, self.invite = lab.init()
        settings = {'timeout_seconds': 2, 'processes': 2, **options}
        extra = settings.pop('extra', '')
        lab.edit_config(self.folder, f'authenticator:\n  command: ["{program}", "an argument"]\n'
                        + ''.join(f'  {key}: {value}\n' for key, value in settings.items()) + extra)
        self.server = lab.server(self.folder)
        self.echo = lab.open(TcpServer(echo_stream))

    def records(self, key):
        if not self.log.exists():  # nobody has been asked yet
            return []
        return [record for record in map(json.loads, self.log.read_text().splitlines()) if key in record]

    def questions(self):
        return [json.loads(record['asked']) for record in self.records('asked')]

    def say(self, user, password):
        """A connection whose login was sent."""
        tls = self.lab.open(Tls(self.port))
        tls.sendall(b'\5\1\2' + login(user, password))
        return tls

    def verdict(self, user, password):
        """True: let in; False: wrong; None: closed without a word."""
        tls = self.say(user, password)
        try:
            answer = tls.receive(4)
        except EOFError:
            return None
        assert answer[:2] == b'\5\2'
        return answer[2:] == b'\1\0'


@pytest.fixture
def gate(lab):
    return Gate(lab)


def test_what_is_asked_and_what_is_not(gate):
    assert gate.verdict('carol', 'right') is True
    assert gate.verdict('carol', 'wrong') is False
    assert gate.verdict('carol', 'sgt1_' + 43 * 'A') is True
    assert gate.questions() == [
        {'user': 'carol', 'password': 'right', 'address': '127.0.0.1'},
        {'user': 'carol', 'password': 'wrong', 'address': '127.0.0.1'},
        {'user': 'carol', 'token': 'sgt1_' + 43 * 'A', 'address': '127.0.0.1'},
    ]
    # who is good by the user file is let in by it, and what no text can be is wrong
    assert gate.verdict(*credentials(gate.invite)) is True
    run('passwd', gate.folder, 'dora', stdin='long enough\n')
    wait_for(lambda: 'user file read again: 2 users' in gate.server.err, 5, 'dora')
    assert gate.verdict('dora', 'long enough') is True
    assert gate.verdict('carol', b'\xff\xfe') is False
    assert len(gate.questions()) == 3
    # the answer is kept for a while, for a right one alone
    assert gate.verdict('carol', 'wrong') is False
    before = len(gate.questions())
    run('revoke', gate.folder, 'dora')
    wait_for(lambda: 'user file read again: 1 users' in gate.server.err, 5, 'the file')
    assert gate.verdict('carol', 'right') is True and len(gate.questions()) == before + 1
    assert gate.verdict('carol', 'right') is True and len(gate.questions()) == before + 1


def test_nothing_secret_is_where_others_can_see_it(gate):
    assert gate.verdict('carol', 'right') is True
    starts = gate.records('start')
    assert all(start['argv'] == ['an argument'] for start in starts)
    assert all(set(start['environment']) <= {'PATH', 'HOME', 'LANG', 'TZ', 'LC_CTYPE'} for start in starts)
    for start in starts:
        files = os.listdir(f'/proc/{start["start"]}/fd')
        targets = [os.readlink(f'/proc/{start["start"]}/fd/{number}') for number in files]
        assert not any('key.pem' in target or 'socket:' in target for target in targets), targets


def test_the_answer_names_user_and_groups(lab):
    gate = Gate(lab, extra='groups:\n  staff: []\ngroup_limits:\n  staff: {connections: 1}\n')
    codes = []
    for _ in range(2):
        tls = gate.say('someone', 'named')
        assert tls.receive(4) == b'\5\2\1\0'
        tls.sendall(request(CONNECT, *gate.echo.address))
        codes.append(tls.reply()[0])
    assert codes == [0, 1]
    # without the group there is no such limit
    for _ in range(2):
        tls = gate.say('bobby', 'right')
        assert tls.receive(4) == b'\5\2\1\0'
        tls.sendall(request(CONNECT, *gate.echo.address))
        assert tls.reply()[0] == 0
    # a change of the user file does not end who is not of it
    tls.sendall(b'before')
    assert tls.receive(6) == b'before'
    lab.invite(gate.folder, 'erin')
    wait_for(lambda: 'user file read again' in gate.server.err, 5, 'the file')
    tls.sendall(b'after')
    assert tls.receive(5) == b'after'


@pytest.mark.parametrize('secret, line', [
    ('nonsense', r'''the authenticator's answer cannot be used: it is {"ok": true or false, "user": NAME, '''
                 r'''"groups": [NAME, at most 8]}, the last two if it likes'''),
    ('garbage', r'''the authenticator's answer cannot be used: it is {"ok": true or false, "user": NAME, '''
                r'''"groups": [NAME, at most 8]}, the last two if it likes'''),
    ('two', 'authenticator PROGRAM says what was not asked for, or too much: it is started again in 100 ms'),
    ('long', 'authenticator PROGRAM says what was not asked for, or too much: it is started again in 100 ms'),
    ('die', 'authenticator PROGRAM has ended: it is started again in 100 ms'),
    ('slow', 'authenticator PROGRAM gives no answer in its time: it is started again in 100 ms'),
])
def test_what_is_no_answer_lets_nobody_in(gate, secret, line):
    start = time.monotonic()
    verdict = gate.verdict('carol', secret)
    assert verdict is None, 'nobody knows, so "wrong" is not said'
    assert time.monotonic() - start < 6
    line = line.replace('PROGRAM', str(gate.lab.folder / 'check'))
    wait_for(lambda: re.search(rf'^sealgram: (error|warning): {re.escape(line)}$', gate.server.err, re.M), 5, gate.server.err)
    # it goes on, by the other process or by a new one
    assert gate.verdict('carol', 'right') is True
    assert gate.server.status()['tcp']['refused_busy'] == 1


def test_a_slow_command_delays_nobody_else(gate):
    slow = [gate.say('carol', 'slow') for _ in range(2)]
    wait_for(lambda: len(gate.questions()) == 2, 5, 'both are busy')
    start = time.monotonic()
    assert gate.verdict(*credentials(gate.invite)) is True
    assert gate.server.status()['tcp']['before_request'] >= 2
    assert time.monotonic() - start < 1
    # further questions wait for a process, at most their time
    assert gate.verdict('carol', 'other') in (False, None)
    assert time.monotonic() - start < 6
    for tls in slow:
        assert is_ended(tls)


def test_the_queue_is_bounded(lab):
    gate = Gate(lab, extra='limits:\n  password_queue: 4\n', processes=1, timeout_seconds=5)
    waiting = [gate.say('carol', 'slow') for _ in range(4)]
    wait_for(lambda: len(gate.questions()) == 1, 5, 'the question')
    start = time.monotonic()
    assert gate.verdict('carol', 'right') is None
    assert time.monotonic() - start < 2
    for tls in waiting:
        tls.sock.close()


def test_helper_and_commands_end_with_the_server(gate):
    assert gate.verdict('carol', 'right') is True
    pids = [start['start'] for start in gate.records('start')]
    assert len(pids) == 2
    gate.server.kill()
    wait_for(lambda: not any(os.path.exists(f'/proc/{pid}/cmdline') and b'check' in
                             open(f'/proc/{pid}/cmdline', 'rb').read() for pid in pids), 5, 'the end of the commands')


def test_a_helper_that_is_gone_lets_nobody_in_and_ends_nothing(gate):
    assert gate.verdict('carol', 'right') is True
    helper = next(int(pid) for pid in os.listdir('/proc') if pid.isdigit() and parent_of(pid) == gate.server.process.pid)
    os.kill(helper, 9)
    line = "sealgram: error: the authenticator's helper process is gone: nobody logs in by it until the server is started again"
    wait_for(lambda: line in gate.server.err, 5, 'the complaint')
    assert gate.verdict('carol', 'other') is None
    assert gate.verdict(*credentials(gate.invite)) is True


def parent_of(pid):
    with contextlib.suppress(OSError):
        return int(re.search(r'PPid:\s(\d+)', open(f'/proc/{pid}/status').read()).group(1))
    return None


@pytest.mark.parametrize('text, complaint', [
    ('command: [check]', "command: 'check' is not an absolute path"),
    ('command: [/no/such/program]', 'command: /no/such/program: No such file or directory'),
    ('command: []', 'command: must be a list of 1 to 64 texts'),
    ('command: /bin/true', 'command: must be a list of 1 to 64 texts'),
    ('command: [/bin/true]\n  processes: 65', 'processes: must be from 1 to 64'),
    ('command: [/bin/true]\n  timeout_seconds: 0', 'timeout_seconds: must be from 1 to 60'),
])
def test_settings_that_make_no_sense_are_refused(lab, text, complaint):
    folder, _, _ = lab.init()
    lab.edit_config(folder, f'authenticator:\n  {text}')
    done = run('server', '-c', folder / 'server.yaml', '--check')
    assert done.returncode == 3 and done.stderr.rstrip('\n').endswith(complaint), done.stderr


def test_a_command_that_cannot_stay_is_started_ever_more_slowly(lab):
    folder, port, _ = lab.init(user=None)
    lab.edit_config(folder, 'authenticator:\n  command: [/bin/true]\n  processes: 1\n')
    server = lab.server(folder)
    for pause in (100, 200, 400, 800):
        wait_for(lambda: f'authenticator /bin/true has ended: it is started again in {pause} ms' in server.err,  # noqa: B023
                 5, f'the pause of {pause} ms')
    assert sys.maxsize and socket.create_connection(('127.0.0.1', port), 5).close() is None
