"""The log: text or JSON, one line per event, addresses masked or in full, and what a session's two lines say."""
import json
import re
import socket
import time
from datetime import UTC, datetime, timedelta

import pytest

from harness import SocksUdp, run, socks_request, wait_for

LOOPBACK = re.compile(r'127\.0\.0\.[1-9]')


def events(program, name):
    """The JSON lines of an event; every line of the log must be one."""
    lines = [json.loads(line) for line in program.err.splitlines()]
    for line in lines:
        assert list(line)[:4] == ['ts', 'level', 'event', 'message'], line
    return [line for line in lines if line['event'] == name]


def first(program, name):
    return wait_for(lambda: events(program, name), 5, name)[0]


def carry(client, echo, count, size):
    """So many datagrams of one association there and back; then the association's application ends."""
    app = SocksUdp(client.socks)
    for _ in range(count):
        assert app.ask(b'x' * size, echo.address)[0] == b'x' * size
    app.close()


def test_a_session_is_two_lines_with_its_counts(lab, echo):
    folder, _, invite = lab.init()
    server = lab.server(folder, '--log-addresses', 'full')
    client = lab.client(invite)
    carry(client, echo, 5, 100)
    refused = SocksUdp(client.socks)
    refused.send(b'no', ('10.0.0.1', 9))
    wait_for(lambda: server.status()['up']['drops']['policy'] == 1, 5, 'the drop')
    client.stop()
    text = wait_for(lambda: re.search(r'^sealgram: info: session of alice ended: .*$', server.err, re.M), 5, 'the line')[0]
    opened = re.search(r'^sealgram: info: session of alice opened: (\S+), from (127\.0\.0\.1:\d+)$', server.err, re.M)
    suite, peer = opened.groups()
    line = re.fullmatch(rf'sealgram: info: session of alice ended: closed in good order; from {peer}, {suite}, '
                        r'(\d+\.\d{3}) s, up 6 datagrams 502 bytes, down 5 datagrams 500 bytes, 1 dropped', text)
    assert line, text
    assert 0 < float(line[1]) < 60


def test_json_has_an_object_for_each_line(lab, echo):
    folder, port, invite = lab.init()
    lab.edit_config(folder, 'log: {format: json, level: debug, addresses: full}')
    server = lab.start('server', 'server', '-c', folder / 'server.yaml')
    server.ready()
    client = lab.client(invite, '--log-format', 'json')
    carry(client, echo, 3, 10)
    client.stop()
    end = first(server, 'session_end')
    server.stop()
    start = first(server, 'session_start')
    assert list(start) == ['ts', 'level', 'event', 'message', 'user', 'client', 'suite']
    assert list(end) == [*start, 'duration_ms', 'up_datagrams', 'up_bytes', 'down_datagrams', 'down_bytes', 'dropped',
                         'reason']
    assert start['client'] == end['client'] and re.fullmatch(r'127\.0\.0\.1:\d+', end['client'])
    assert start['user'] == 'alice' and start['suite'] == end['suite'] and start['level'] == 'info'
    assert [end[key] for key in list(end)[8:]] == [3, 30, 3, 30, 0, 'normal']
    assert 0 <= end['duration_ms'] < 60_000
    times = [datetime.strptime(line['ts'], '%Y-%m-%dT%H:%M:%S.%fZ').replace(tzinfo=UTC) for line in (start, end)]
    assert all(re.fullmatch(r'[-\dT:]{19}\.\d{3}Z', line['ts']) for line in (start, end))
    assert times[0] <= times[1] and abs(datetime.now(UTC) - times[1]) < timedelta(minutes=1)
    assert first(server, 'listening')['address'] == f'127.0.0.1:{port}'
    assert first(server, 'stopping')['message'] == 'SIGTERM: ending'
    assert first(server, 'path_change')['path'] == 'udp'
    assert first(client, 'session_start')['suite'] == start['suite']
    assert first(client, 'path_change')['path'] == 'udp'
    assert first(client, 'listening')['for'] == 'socks'


@pytest.mark.parametrize('form', ['text', 'json'])
def test_the_server_masks_addresses_unless_asked(lab, echo, form):
    folder, port, invite = lab.init()
    server = lab.server(folder, '--log-format', form)
    client = lab.client(invite)
    carry(client, echo, 1, 10)
    sock = socket.create_connection(('127.0.0.1', port))
    sock.sendall(b'\x16\x03\x01\x00\x05hello')
    sock.close()
    wait_for(lambda: 'connection from' in server.err, 5, 'the failed handshake')
    client.stop()
    wait_for(lambda: ' ended: ' in server.err, 5, 'the end of the session')
    lines = [line for line in server.err.splitlines() if 'listening on' not in line]
    assert any('from 127.0.0.0:' in line for line in lines) and any('path udp 127.0.0.0:' in line for line in lines)
    assert any('connection from 127.0.0.0:' in line for line in lines)
    assert not [line for line in lines if LOOPBACK.search(line)]


@pytest.mark.parametrize(('how', 'shown'), [('full', '10.0.0.77:9'), ('masked', '10.0.0.0:9')])
def test_targets_in_the_clients_log(lab, how, shown):
    _, client = lab.pair('--log-addresses', how)
    app = SocksUdp(client.socks)
    app.send(b'no', ('10.0.0.77', 9))
    wait_for(lambda: f'sealgram: info: server refused a datagram to {shown}: target not allowed\n' in client.err, 5, 'it')


def test_wrong_credentials_are_an_event(lab):
    folder, port, _ = lab.init()
    lab.edit_config(folder, 'plain_socks: {from: ["127.0.0.0/8"]}\nlog: {format: json}')
    server = lab.start('server', 'server', '-c', folder / 'server.yaml')
    server.ready()
    with socket.create_connection(('127.0.0.1', port)) as sock:
        sock.sendall(b'\5\1\2')
        assert sock.recv(2) == b'\5\2'
        sock.sendall(b'\1\5al"\nx\6secret')
        assert sock.recv(2)[1] != 0
    line = first(server, 'auth_failed')
    assert line['level'] == 'warning' and re.fullmatch(r'127\.0\.0\.0:\d+', line['client'])
    assert line['cause'] == 'no such user, or another password' and 'user' not in line
    assert line['message'] == f'credentials refused from {line["client"]}: {line["cause"]}'
    assert 'secret' not in server.err and 'al"' not in line['message']


def test_bytes_from_the_network_stay_in_their_line(lab):
    """The name in a request is written with its strange bytes replaced, whatever they are."""
    _, client = lab.pair('--log-format', 'json')
    name = b'a"\n\xff\x1b[31m\\x'
    app = SocksUdp(client.socks)
    app.udp.send(b'\0\0\0\3' + bytes([len(name)]) + name + b'\0\x09data')
    line = first(client, 'datagram_refused')
    assert line['target'] == 'a"???[31m\\\\x:9', line  # a backslash is written as two
    assert line['message'].startswith(f'server refused a datagram to {line["target"]}: ')


def test_the_reason_of_a_refused_configuration_comes_in_the_chosen_format(lab):
    folder, _, _ = lab.init()
    lab.edit_config(folder, 'log: {format: xml}')
    number = len((folder / 'server.yaml').read_text().splitlines())
    done = run('server', '-c', folder / 'server.yaml', '--log-format', 'json')
    line = json.loads(done.stderr)
    assert done.returncode == 3 and line['event'] == 'config_refused' and line['level'] == 'error'
    assert line['message'] == f'{folder}/server.yaml:{number}: format: must be text or json'


@pytest.mark.parametrize(('option', 'value', 'text'), [
    ('--log-format', 'xml', '--log-format xml: must be text or json'),
    ('--log-addresses', 'none', '--log-addresses none: must be masked or full'),
])
@pytest.mark.parametrize('command', ['server', 'client'])
def test_wrong_options_are_refused(command, option, value, text):
    done = run(command, option, value)
    assert done.returncode == 2 and done.stderr.splitlines()[0] == f'sealgram {command}: {text}'


def test_the_level_of_the_configuration_and_the_command_line_before_it(lab):
    folder, _, _ = lab.init()
    lab.edit_config(folder, 'log: {level: error}')
    quiet = lab.start('server', 'server', '-c', folder / 'server.yaml')
    quiet.ready()
    quiet.stop()
    assert quiet.err == ''
    loud = lab.server(folder)  # with -v
    loud.stop()
    assert loud.err.endswith('sealgram: info: SIGTERM: ending\n')


def test_tcp_requests_leave_no_target_in_the_log(lab, tcp_echo):
    server, client = lab.pair()
    sock, code, _ = socks_request(client.socks, 1, *tcp_echo.address)
    sock.close()
    assert code == 0
    assert f':{tcp_echo.address[1]}' not in server.err + client.err


@pytest.mark.parametrize('form', ['text', 'json'])
def test_no_secret_is_logged(lab, echo, form):
    """The token of the invite, on both sides at the highest level, in a good login and a wrong one."""
    folder, _, invite = lab.init()
    server = lab.server(folder, '--log-format', form, '--log-addresses', 'full')
    client = lab.client(invite, '-v', '--log-format', form)
    carry(client, echo, 1, 10)
    secret = re.search(r'sgt1_([^@]+)@', invite)[1]
    wrong = lab.client(invite.replace(secret, secret[::-1]), '-v', '--log-format', form, ready=False)
    assert wrong.process.wait(15) == 1
    lab.programs.remove(wrong)
    wait_for(lambda: 'credentials refused from 127.0.0.1:' in server.err, 5, 'the refusal')
    for program in server, client, wrong:
        assert program.err and secret not in program.err and secret[::-1] not in program.err
        assert not re.search(r'x{10}', program.err)  # contents


def test_lines_of_text_begin_with_the_time(lab):
    folder, _, _ = lab.init()
    server = lab.server(folder)
    before = time.time()
    assert run('reload', '--socket', server.control).returncode == 0
    line = wait_for(lambda: re.search(r'^(\S+) sealgram: info: configuration read again: 1 users$', server.err_path.read_text(), re.M),
                    5, 'the line')
    when = datetime.strptime(line[1], '%Y-%m-%dT%H:%M:%S.%fZ').replace(tzinfo=UTC).timestamp()
    assert before - 1 < when < time.time() + 1


@pytest.mark.parametrize('is_journal', [True, False])
def test_the_journal_gets_levels_and_no_times(lab, is_journal):
    """The service manager names the stream that the journal reads; a program that it started may write elsewhere."""
    folder, _, _ = lab.init()
    path = lab.folder / 'server2.err'  # where the next program writes
    path.touch()
    at = path.stat()
    server = lab.start('server', 'server', '-c', folder / 'server.yaml', '-v',
                       env={'JOURNAL_STREAM': f'{at.st_dev}:{at.st_ino + (not is_journal)}'})
    server.ready()
    assert server.err_path == path and path.stat().st_ino == at.st_ino
    lines = path.read_text().splitlines()
    assert lines and all(re.match('<6>sealgram: info: |<7>sealgram: debug: ' if is_journal else '20', line) for line in lines), lines
    (folder / 'server.yaml').write_text('none')
    assert run('reload', '--socket', server.control).returncode == 1
    text = path.read_text()
    assert ('\n<3>sealgram: error: ' if is_journal else 'Z sealgram: error: ') in text
