"""`sealgram doctor`: its verdicts on our client, on relays of every NAT class, on what is blocked, cut or not there."""
import json
import re
import select
import signal
import socket
import time

import pytest

from emulated import Emulated
from harness import TcpServer, free_port, parse_address, receive, run, socks_address, wait_for
from network import CLIENT, SERVER
from test_lifecycle import TcpOnly

EI, AD, APD = 'endpoint-independent', 'address-dependent', 'address-and-port-dependent'
KEYS = {'relay', 'own_client', 'udp', 'targets', 'trips', 'size', 'mapping', 'outer', 'filtering', 'policy', 'not_examined'}


def examine(*argv, **options):
    done = run('doctor', '--json', '--count', 10, *argv, timeout=120, **options)
    assert done.returncode == 0, (done.stdout, done.stderr)
    return checked(json.loads(done.stdout), 10)


def checked(report, count):
    """A report, once its schema is what it must be."""
    assert set(report) == KEYS
    assert set(report['udp']) == {'relayed', 'path'} and set(report['size']) == {'largest', 'sealed', 'record_max'}
    for trip in report['trips']:
        assert set(trip) == {'over', 'bytes', 'sent', 'lost', 'doubled', 'min_ms', 'median_ms', 'max_ms'}
        assert trip['over'] in ('udp', 'stream', 'both', 'relay') and trip['sent'] == count
        assert 0 <= trip['min_ms'] <= trip['median_ms'] <= trip['max_ms']
    for probe in report['policy']:
        assert set(probe) == {'class', 'target', 'verdict', 'reply', 'text'}
    assert all(set(missing) == {'what', 'why'} and missing['why'] for missing in report['not_examined'])
    return report


def verdicts(report):
    return {probe['target']: probe['verdict'] for probe in report['policy']}


def missing(report, what):
    return next((each['why'] for each in report['not_examined'] if each['what'] == what), None)


class Relay:
    """A SOCKS5 server without a login, for one application at a time, of a class that the test chooses."""

    def __init__(self, lab, mapping=EI, filtering=AD, largest=65507, bound='127.0.0.1', associate=0, connect=2, drop=0,
                 method=0):
        self.mapping, self.filtering, self.largest, self.bound = mapping, filtering, largest, bound
        self.associate, self.connect, self.drop, self.method = associate, connect, drop, method
        self.seen = []
        self.address = lab.open(TcpServer(self.handle)).address
        self.option = f'--socks={self.address[0]}:{self.address[1]}'

    def handle(self, tcp):
        greeting = receive(tcp, 3)
        assert greeting == b'\5\1\0', greeting
        assert not select.select([tcp], [], [], 0.02)[0], 'nothing more before the answer'
        tcp.sendall(b'\5' + bytes([self.method]))
        _, command, _, kind = receive(tcp, 4)
        target = parse_address(bytes([kind]) + receive(tcp, {1: 6, 4: 18}[kind]))[0]
        code = self.associate if command == 3 else self.connect
        if command != 3 or code:
            self.seen.append(target)
            tcp.sendall(bytes([5, code, 0]) + socks_address('0.0.0.0', 0))
            return
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as inner:
            inner.bind(('127.0.0.1', 0))
            tcp.sendall(b'\5\0\0' + socks_address(self.bound, inner.getsockname()[1]))
            self.carry(tcp, inner)

    def carry(self, tcp, inner):
        outer, contacts, app, count = {}, {}, None, 0
        pick = {EI: lambda at: None, AD: lambda at: at[0], APD: lambda at: at}
        while True:
            ready = select.select([tcp, inner, *outer.values()], [], [])[0]
            if tcp in ready:
                break
            for sock in ready:
                data, source = sock.recvfrom(65536)
                if sock is inner:
                    app, count = source, count + 1
                    target, payload = parse_address(data[3:])
                    if len(payload) > self.largest or (self.drop and count % self.drop == 0):
                        continue
                    key = pick[self.mapping](target)
                    if key not in outer:
                        outer[key] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                        outer[key].bind(('127.0.0.1', 0))
                    contacts.setdefault(outer[key], set()).add(pick[self.filtering](target))
                    outer[key].sendto(payload, target)
                elif pick[self.filtering](source) in contacts[sock]:
                    inner.sendto(b'\0\0\0' + socks_address(*source) + data, app)
        for sock in outer.values():
            sock.close()


# --- ours ---

def test_our_client_by_invite(lab):
    """The whole report, with exact classes; nothing is left behind."""
    folder, _, invite = lab.init()
    server = lab.server(folder)
    place = lab.folder / 'tmp'
    place.mkdir()
    report = examine('-', stdin=invite + '\n', env={'TMPDIR': str(place)})
    assert report['own_client'] and report['udp'] == {'relayed': True, 'path': 'udp'}
    assert report['targets']['kind'] == 'own' and [at.rpartition(':')[0] for at in report['targets']['addresses']] == [
        '127.0.0.1', '127.0.0.1', '127.0.0.2', '127.0.0.2']
    assert (report['mapping'], report['filtering']) == (EI, AD) and report['outer'].startswith('127.0.0.1:')
    size = report['size']
    assert size['largest'] == 65497 and size['record_max'] >= 1200 and size['sealed'] == size['record_max'] - 41 - 4 - 7
    assert [(trip['over'], trip['bytes'], trip['lost'], trip['doubled']) for trip in report['trips']] == [
        ('udp', 200, 0, 0), ('stream', size['sealed'] + 1, 0, 0)]
    assert report['not_examined'] == []
    assert not list(place.iterdir())
    assert server.status()['associations'] == 0 or server.status()['sessions'] == 0


def test_plain_words(lab):
    folder, _, invite = lab.init()
    lab.server(folder)
    path = lab.folder / 'my.invite'
    path.write_text(invite + '\n')
    path.chmod(0o600)
    done = run('doctor', '--count', 5, f'@{path}')
    waits = [line for line in done.stderr.splitlines() if line.startswith('sealgram: doctor: still ')]
    assert done.returncode == 0 and done.stderr.splitlines() == waits, done.stderr
    for line in (r'UDP +open to the server', r'round trip +over UDP: 0 of 5 datagrams of 200 bytes lost; median \d',
                 r' +over the stream: 0 of 5', r'size +datagrams of up to 65497 bytes', r'mapping +endpoint-independent',
                 r'filtering +address-dependent: ', r'policy +loopback +127\.0\.0\.1:9 +NOT refused \(reply 05',
                 r' +metadata +169\.254\.169\.254:80 +refused\n'):
        assert re.search(line, done.stdout), (line, done.stdout)


def test_options_of_the_client_reach_it(lab):
    """An invite without a pin needs a certificate to trust; without one the server is not believed."""
    folder, _, invite = lab.init()
    lab.server(folder)
    bare = invite.split('?')[0]
    assert examine(bare, '--ca', folder / 'cert.pem')['udp'] == {'relayed': True, 'path': 'udp'}
    done = run('doctor', bare)
    assert done.returncode == 1 and 'certificate' in done.stderr


def test_what_the_policy_refuses(lab):
    """Closed: every probe is refused, and targets of this machine too, which the report says."""
    folder, _, invite = lab.init(allow=())
    lab.server(folder)
    client = lab.client(invite)
    report = examine(f'--socks={client.socks[0]}:{client.socks[1]}')
    assert len(report['policy']) == 7 and set(verdicts(report).values()) == {'refused'}
    assert {probe['class'] for probe in report['policy']} == {'loopback', 'private', 'metadata', 'multicast'}
    assert all(probe['reply'] == 2 for probe in report['policy'])
    assert report['udp'] == {'relayed': None, 'path': None} and report['targets'] is None
    assert '--reflector' in missing(report, 'datagrams') and report['mapping'] is None and report['trips'] == []


def test_an_open_policy_is_seen(lab):
    folder, _, invite = lab.init()
    lab.server(folder)
    client = lab.client(invite)
    report = examine(f'--socks={client.socks[0]}:{client.socks[1]}')
    found = verdicts(report)
    assert found.pop('127.0.0.1:9') == 'tried' and found.pop('[::1]:9') == 'tried'
    assert set(found.values()) == {'refused'}
    assert not report['own_client'] and report['udp'] == {'relayed': True, 'path': None}
    assert (report['mapping'], report['filtering']) == (EI, AD)
    assert [trip['over'] for trip in report['trips']] == ['relay'] and 'INVITE' in missing(report, 'UDP and stream apart')


def test_where_udp_is_blocked(lab):
    folder, port, invite = lab.init()
    lab.server(folder)
    middle = TcpOnly(lab, port)
    report = examine(invite.replace(f':{port}/', f':{middle.server.address[1]}/'))
    assert report['udp'] == {'relayed': True, 'path': 'stream'}
    assert [(trip['over'], trip['lost']) for trip in report['trips']] == [('stream', 0)]
    assert missing(report, 'round trip over UDP') == 'UDP is blocked'
    assert report['size'] == {'largest': 65497, 'sealed': None, 'record_max': None}
    assert (report['mapping'], report['filtering']) == (EI, AD)


@pytest.mark.netns
@pytest.mark.slow
def test_over_a_bad_network(lab, own_network):
    """The figures are those of the network: delay, loss of UDP alone, size; the reflector is on the server's host."""
    network = Emulated(lab, 'delay 15', 'mtu 1400 icmp off', 'loss 0.05 udp', seed=5)
    _, invite, _ = network.server()
    text = '127.0.0.1:7001,127.0.0.2:7002'
    lab.start('reflector', 'doctor', f'--reflect={text}', prefix=network.prefix(SERVER)).ready()
    path = lab.folder / 'invite'
    path.write_text(invite)
    path.chmod(0o600)
    doctor = lab.start('doctor', 'doctor', '--json', '--count=200', f'--reflector={text}', f'@{path}',
                       prefix=network.prefix(CLIENT))
    wait_for(lambda: doctor.process.poll() is not None, 120, 'the report')
    assert doctor.process.returncode == 0, doctor.err
    report = checked(json.loads(doctor.out), 200)
    udp, stream = report['trips']
    assert (udp['over'], stream['over']) == ('udp', 'stream') and stream['lost'] == 0
    assert 8 <= udp['lost'] <= 36, '5 % each way'
    assert 30 <= udp['min_ms'] <= udp['median_ms'] < 40 and 30 <= stream['median_ms'] < 60
    assert report['size'] == {'largest': 65497, 'record_max': 1372, 'sealed': 1320}
    assert (report['mapping'], report['filtering'], report['not_examined']) == (EI, AD, [])


# --- others' ---

@pytest.mark.parametrize('mapping', [EI, AD, APD])
@pytest.mark.parametrize('filtering', [EI, AD, APD])
def test_every_class_of_a_relay(lab, mapping, filtering):
    relay = Relay(lab, mapping, filtering)
    report = examine(relay.option)
    assert (report['mapping'], report['filtering']) == (mapping, filtering)
    assert report['trips'][0]['lost'] == 0 and report['size']['largest'] == 65497
    assert verdicts(report)['10.0.0.1:9'] == 'refused' and len(relay.seen) == 7


def test_size_and_loss_of_a_relay(lab):
    """The largest datagram to the byte; the share that is lost; a bound address of 0.0.0.0 means the relay's own."""
    report = examine(Relay(lab, largest=1431, bound='0.0.0.0').option)
    assert report['size']['largest'] == 1431
    lossy = examine(Relay(lab, drop=5).option)
    assert lossy['trips'][0]['lost'] == 2 and lossy['udp']['relayed'] is True
    assert (lossy['mapping'], lossy['filtering']) == (EI, AD)


def test_a_relay_without_udp(lab):
    report = examine(Relay(lab, associate=7, connect=4).option)
    assert report['udp']['relayed'] is False and 'answered 07' in missing(report, 'datagrams')
    assert set(verdicts(report).values()) == {'tried'}, '04 tells of the network, not of a rule'
    assert set(verdicts(examine(Relay(lab, associate=7, connect=1).option)).values()) == {'unclear'}


def test_a_relay_that_carries_nothing(lab):
    report = examine(Relay(lab, drop=1).option)
    assert report['udp']['relayed'] is None and missing(report, 'datagrams')
    assert 'NOT' not in run('doctor', Relay(lab, drop=1).option).stdout.split('policy')[0]


# --- the reflector ---

def reflector(lab, text):
    program = lab.start('doctor', 'doctor', f'--reflect={text}')
    program.ready()
    return program


def question(source=0, size=100, nonce=b'nonce678'):
    return (b'SGDOCQ1' + bytes([source]) + nonce).ljust(size, b'\0')


def test_a_reflector_far_away(lab):
    folder, _, invite = lab.init()
    lab.server(folder)
    first, second = free_port(), free_port()
    text = f'127.0.0.1:{first},127.0.0.3:{second}'
    program = reflector(lab, text)
    assert program.out == f'ready 127.0.0.1:{first} 127.0.0.1:{second} 127.0.0.3:{first} 127.0.0.3:{second}\n'
    report = examine(invite, '--reflector', text)
    assert report['targets'] == {'kind': 'reflector', 'addresses': program.out.split()[1:]}
    assert (report['mapping'], report['filtering']) == (EI, AD) and report['not_examined'] == []
    program.stop(signal.SIGINT)
    report = examine(Relay(lab).option, '--reflector', text)
    assert text in missing(report, 'datagrams') and report['targets'] is None


def test_a_reflector_with_ipv6(lab):
    """Longer headers: less fits a datagram behind a SOCKS header, and a record."""
    folder, _, invite = lab.init()
    lab.server(folder)
    text = f'[::1]:{free_port(socket.AF_INET6)},[::1]:{free_port(socket.AF_INET6)}'
    reflector(lab, text)
    report = examine(invite, '--reflector', text)
    size = report['size']
    assert size['largest'] == 65485 and size['sealed'] == size['record_max'] - 41 - 4 - 19
    assert [trip['over'] for trip in report['trips']] == ['udp', 'stream'] and report['outer'].startswith('[::1]:')


@pytest.mark.parametrize(('kind', 'expected'), [(EI, None), (AD, None), (APD, APD)])
def test_a_reflector_with_one_address_tells_less(lab, kind, expected):
    port = free_port()
    reflector(lab, f'127.0.0.1:{port}')
    report = examine(Relay(lab, kind, kind).option, '--reflector', f'127.0.0.1:{port}')
    assert (report['mapping'], report['filtering']) == (expected, expected)
    for what in 'mapping', 'filtering':
        assert (missing(report, what) is None) == (expected is not None)
        assert expected or 'one address only' in missing(report, what)


def test_a_reflector_does_not_amplify(lab):
    """An answer has its question's length, goes to the asker, and comes from where it was asked for; nothing else does."""
    first, second = free_port(), free_port()
    reflector(lab, f'127.0.0.1:{first},127.0.0.2:{second}')
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(('127.0.0.1', 0))
        sock.settimeout(5)
        places = [('127.0.0.1', first), ('127.0.0.1', second), ('127.0.0.2', first), ('127.0.0.2', second)]
        for asked in range(4):
            for wanted in range(4):
                sock.sendto(question(wanted, 35 + wanted), places[asked])
                data, source = sock.recvfrom(65536)
                assert source == places[asked ^ wanted] and len(data) == 35 + wanted
                assert data[:16] == b'SGDOCA1' + bytes([wanted]) + b'nonce678'
                assert parse_address(data[16:])[0] == sock.getsockname()
        sock.settimeout(0.3)
        for bad in (b'', question(size=34), question(4), b'X' + question()[1:], data.ljust(100, b'\0')):
            sock.sendto(bad, places[0])
            with pytest.raises(TimeoutError):
                sock.recv(65536)


def test_a_reflector_has_a_rate(lab):
    port = free_port()
    reflector(lab, f'127.0.0.1:{port}')
    answered, start = 0, time.monotonic()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.2)
        for _ in range(400):
            sock.sendto(question(size=60_000), ('127.0.0.1', port))
            try:
                answered += len(sock.recv(65536))
            except TimeoutError:
                break
        else:
            pytest.fail('no end of answers')
    assert 4e6 < answered < 9e6 + 1.1e6 * (time.monotonic() - start)


# --- what goes wrong ---

def test_a_long_step_is_told(lab):
    """A relay that swallows every datagram: each question waits for its end."""
    def reply(connection):
        receive(connection, 3)
        connection.sendall(b'\5\0')
        receive(connection, 10)
        connection.sendall(b'\5\0\0' + socks_address('127.0.0.1', free_port()))
        connection.recv(1)
    server = lab.open(TcpServer(reply))
    done = run('doctor', f'--socks=127.0.0.1:{server.address[1]}', timeout=120)
    assert done.returncode == 0
    assert 'sealgram: doctor: still looking for a target that answers by way of the relay\n' in done.stderr


def test_nobody_there(lab):
    port = free_port()
    done = run('doctor', '--json', f'--socks=127.0.0.1:{port}')
    assert (done.returncode, done.stdout) == (1, '')
    assert done.stderr == f'sealgram: doctor: 127.0.0.1:{port}: Connection refused\n'


def test_no_server_there(lab):
    _, port, invite = lab.init()
    done = run('doctor', '-', stdin=invite)
    assert (done.returncode, done.stdout) == (1, '') and 'no session with the server' in done.stderr
    assert f'127.0.0.1:{port}' in done.stderr and 'sgt1_' not in done.stderr
    missing_file = run('doctor', f'@{lab.folder}/none')
    assert missing_file.returncode == 1 and 'No such file' in missing_file.stderr


@pytest.mark.parametrize('answer', [b'HTTP/1.1 400 Bad Request\r\n\r\n', b'\5\xff', b'\5\2', b'\5\0\4\0\0\1', b''])
def test_no_socks_server_without_a_login(lab, answer):
    def reply(connection):
        receive(connection, 3)
        connection.sendall(answer)
    server = lab.open(TcpServer(reply))
    done = run('doctor', f'--socks=127.0.0.1:{server.address[1]}')
    assert (done.returncode, done.stdout) == (1, '') and f'127.0.0.1:{server.address[1]}: ' in done.stderr


@pytest.mark.parametrize('argv', [
    [], ['--socks', '127.0.0.1'], ['--socks', 'localhost:1080'], ['--socks', '127.0.0.1:1080', '-'], ['-', '-'],
    ['sealgram://nonsense'], ['--count', '0', '-'], ['--count', '1001', '-'], ['--count', 'x', '-'],
    ['--reflector', '127.0.0.1', '-'], ['--reflector', '127.0.0.1:1,127.0.0.2:1', '-'],
    ['--reflector', '127.0.0.1:1,[::1]:2', '-'], ['--reflector', '127.0.0.1:65535', '-'],
    ['--reflect', '127.0.0.1:7', '--json'], ['--reflect', '127.0.0.1:7', '-'], ['--reflect', 'host:7'],
    ['--ca', 'file', '--socks', '127.0.0.1:1080']])
def test_a_wrong_command_line(argv):
    done = run('doctor', *argv)
    assert (done.returncode, done.stdout) == (2, ''), done
    assert 'sealgram doctor: ' in done.stderr and 'sealgram doctor --help' in done.stderr


def test_a_reflector_on_an_address_that_is_taken(lab):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(('127.0.0.1', 0))
        done = run('doctor', f'--reflect=127.0.0.1:{sock.getsockname()[1]}')
    assert done.returncode == 1 and 'Address already in use' in done.stderr


@pytest.mark.parametrize('when', ['it waits for a server', 'it examines'])
def test_a_signal_leaves_nothing_behind(lab, when):
    folder, _, invite = lab.init()
    if when == 'it examines':
        lab.server(folder)
    path, place = lab.folder / 'invite', lab.folder / 'tmp'
    path.write_text(invite)
    path.chmod(0o600)
    place.mkdir()
    program = lab.start('doctor', 'doctor', f'@{path}', env={'TMPDIR': str(place)})
    wait_for(lambda: list(place.glob('*/client.log')), 5, 'its client')
    time.sleep(1)
    program.stop(signal.SIGTERM, expected=1)
    lab.programs.remove(program)
    assert not list(place.iterdir()) and program.out == ''
