"""Names are looked up by the files of the system as they are now, and at the name servers that answer."""
import fcntl
import os
import shutil
import signal
import socket
import struct
import subprocess
import time

import pytest

from attacker import CLOSE, DATAGRAM, Target, plaintext
from direct import PlainUdp, dial_tls, log_in
from harness import CONNECT, SocksUdp, TcpServer, UdpEcho, echo_stream, run, socks_address, socks_request, wait_for
from name_server import Dns, Etc, in_network_of_its_own

pytestmark = pytest.mark.netns
NOBODY, PERSON = 65534, 12345
HERE = ['127.0.0.1']
F_SETSIG = 10  # fcntl(2); Python 3.11 has no name for it


@pytest.fixture
def etc(lab, program, own_network):
    lab.folder.chmod(0o755)
    return Etc(lab, program)


def as_user(lab, folder, user):
    """Gives the server's folder to a user; what a server is started with, so that it runs as that user."""
    if user == 0:
        return []
    lab.edit_config(folder, f'status_socket: {folder}/control.sock')
    for path in folder, *folder.iterdir():
        os.chown(path, user, user)
    return [shutil.which('setpriv'), f'--reuid={user}', f'--regid={user}', '--clear-groups']


class Pair:
    """A server with an /etc of its own, run by a user, and a client of it."""

    def __init__(self, lab, etc, user=0, config='', **options):
        self.lab = lab
        self.folder, self.port, self.invite = lab.init(**options)
        if config:
            lab.edit_config(self.folder, config)
        self.server = lab.start('server', 'server', '-c', self.folder / 'server.yaml', '-v',
                                prefix=etc.prefix(*as_user(lab, self.folder, user)))
        self.server.ready()
        self.client = lab.client(self.invite)
        self.echo = lab.open(TcpServer(echo_stream))

    def connect(self, name, timeout=60):
        """The reply code of CONNECT to a name."""
        sock, code, _ = socks_request(self.client.socks, CONNECT, name, self.echo.address[1], timeout=timeout)
        sock.close()
        return code


def change(lab, etc, way, text):
    elsewhere = lab.folder / 'elsewhere'
    elsewhere.mkdir(exist_ok=True)
    {'in place': lambda: etc.write('resolv.conf', text),
     'replaced': lambda: etc.replace('resolv.conf', text),
     'linked to /run': lambda: etc.link('resolv.conf', etc.run, text),
     'linked elsewhere': lambda: etc.link('resolv.conf', elsewhere, text)}[way]()


@pytest.mark.parametrize('way', ['in place', 'replaced', 'linked to /run', 'linked elsewhere'])
@pytest.mark.parametrize('user', [0, NOBODY, PERSON], ids=['root', 'nobody', 'person'])
def test_name_servers_change_while_a_server_runs(lab, etc, user, way):
    if user == PERSON and way == 'linked elsewhere':
        pytest.skip('a person\'s files are closed to the program: only /run and where the link led at the start are open')

    def body():
        first = lab.open(Dns(one=[HERE]))
        pair = Pair(lab, etc, user)
        assert pair.connect('one.test') == 0
        second = lab.open(Dns(host='127.0.0.10', two=[HERE], three=[HERE], four=[HERE]))
        change(lab, etc, way, 'nameserver 127.0.0.10\n')
        first.close()
        assert pair.connect('two.test') == 0
        assert 'two.test' in second.asked
        udp, echo = lab.open(SocksUdp(pair.client.socks)), lab.open(UdpEcho())
        assert udp.ask(b'x', ('three.test', echo.address[1]))[0] == b'x'
        assert 'resolv.conf' in pair.server.err and 'cannot' not in pair.server.err
        third = lab.open(Dns(host='127.0.0.11', five=[HERE]))
        change(lab, etc, way, 'nameserver 127.0.0.11\n')
        assert pair.connect('five.test') == 0
        assert 'five.test' in third.asked
    in_network_of_its_own(body)


def test_hosts_and_the_order_of_sources_change(lab, etc):
    def body():
        dns = lab.open(Dns(both=[['127.0.0.2']], new=[[]]))
        pair = Pair(lab, etc)
        assert pair.connect('new.test') != 0
        etc.replace('hosts', '127.0.0.1 new.test both.test\n')
        assert pair.connect('new.test') == 0
        assert pair.connect('both.test') == 0, 'by hosts'
        assert 'both.test' not in dns.asked
        etc.replace('nsswitch.conf', 'hosts: dns files\n')
        assert pair.connect('both.test') != 0, 'nobody listens at the address that DNS has'
        assert 'both.test' in dns.asked
    in_network_of_its_own(body)


def test_a_file_that_cannot_be_read_leaves_the_name_servers(lab, etc):
    def body():
        lab.open(Dns(one=[HERE], two=[HERE]))
        pair = Pair(lab, etc, NOBODY)
        assert pair.connect('one.test') == 0
        etc.write('resolv.conf.new', 'nameserver 127.0.0.10\n')
        (etc.folder / 'resolv.conf.new').chmod(0o600)
        (etc.folder / 'resolv.conf.new').rename(etc.folder / 'resolv.conf')
        assert pair.connect('two.test') == 0
        assert ('/etc/resolv.conf has changed and cannot be used: Permission denied; the name servers of before stay'
                in pair.server.err)
    in_network_of_its_own(body)


@pytest.mark.parametrize('name', ['resolv.conf', 'nsswitch.conf', 'hosts'])
def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(lab, etc, name):
    """Nobody writes into it. What was there before goes on, or name servers alone are asked."""
    def body():
        lab.open(Dns(one=[HERE], two=[HERE], three=[HERE]))
        pair = Pair(lab, etc)
        assert pair.connect('one.test') == 0
        text = (etc.folder / name).read_text()
        os.mkfifo(etc.folder / 'pipe', 0o644)
        (etc.folder / 'pipe').rename(etc.folder / name)
        assert pair.connect('two.test') == 0
        etc.replace(name, text)
        assert pair.connect('three.test') == 0
    in_network_of_its_own(body)


def test_a_server_ends_though_a_file_of_the_resolver_does_not_come(lab, etc):
    """Somebody else has a lease of it, as file servers take them: who opens it waits until that is given back."""
    def body():
        dns = lab.open(Dns(one=[HERE]))
        pair = Pair(lab, etc)
        assert pair.connect('one.test') == 0
        hosts = os.open(etc.folder / 'hosts', os.O_RDWR)
        try:
            fcntl.fcntl(hosts, F_SETSIG, signal.SIGURG)  # which is ignored
            fcntl.fcntl(hosts, fcntl.F_SETLEASE, fcntl.F_WRLCK)
            with socket.create_connection(pair.client.socks, 10) as sock:
                sock.sendall(b'\5\1\0\5\1\0' + socks_address('two.test', 9))
                wait_for(lambda: pair.server.status()['look_ups']['pending'] == 1, 10, 'the look-up')
                pair.server.stop()
        finally:
            os.close(hosts)
        assert 'two.test' not in dns.asked
    in_network_of_its_own(body)


def test_name_servers_change_while_a_client_runs(lab, etc):
    """The client looks its server's name up for each connection."""
    def body():
        first = lab.open(Dns(home=[HERE]))
        folder, _, invite = lab.init(host='home.test')
        lab.server(folder)
        client = lab.client(invite, prefix=etc.prefix())
        echo = lab.open(TcpServer(echo_stream))
        assert socks_request(client.socks, CONNECT, *echo.address)[1] == 0
        second = lab.open(Dns(host='127.0.0.10', home=[HERE]))
        first.close()
        etc.replace('resolv.conf', 'nameserver 127.0.0.10\n')
        assert socks_request(client.socks, CONNECT, *echo.address)[1] == 0
        assert 'home.test' in second.asked
    in_network_of_its_own(body)


# --- options of resolv.conf ---

@pytest.mark.parametrize('last', [4, 6])
def test_many_addresses_of_one_family_do_not_hide_the_other(lab, etc, last):
    """A server behind a name with seventeen addresses of one family that are dead, and one of the other, is found."""
    def body():
        for words in ('link add v0 type veth peer name v1', 'link set v0 up', 'link set v1 up',
                      '-6 address add 2a09:44::1/64 dev v0 nodad'):
            subprocess.run(['ip', *words.split()], check=True)
        dead = {4: [f'127.0.7.{i}' for i in range(1, 18)], 6: [f'2a09:44::{i:x}' for i in range(2, 19)]}
        lab.open(Dns(crowd=[dead[4] if last == 6 else HERE], aaaa={'crowd': ['::1'] if last == 6 else dead[6]}))
        pair = Pair(lab, etc)
        if last == 6:
            pair.echo.close()
            lab.open(TcpServer(echo_stream, '::1', pair.echo.address[1]))
        assert pair.connect('crowd.test') == 0
    in_network_of_its_own(body)


def test_attempts_hold(lab, etc):
    def body():
        etc.write('resolv.conf', 'nameserver 127.0.0.9\noptions timeout:1 attempts:1\n')
        dns = lab.open(Dns(silent=True))
        pair = Pair(lab, etc)
        assert pair.connect('one.test') == 4
        assert dns.asked == ['one.test']
        etc.write('resolv.conf', 'nameserver 127.0.0.9\noptions timeout:1\noptions attempts:2\n')
        assert pair.connect('two.test') == 4
        assert dns.asked == ['one.test', 'two.test', 'two.test']
    in_network_of_its_own(body)


def test_timeout_holds(lab, etc):
    """An answer that comes after three seconds is waited for, and not asked for again."""
    def body():
        etc.write('resolv.conf', 'nameserver 127.0.0.9\noptions timeout:30\n')
        dns = lab.open(Dns(seconds=3, one=[HERE]))
        pair = Pair(lab, etc)
        assert pair.connect('one.test') == 0
        assert dns.asked == ['one.test']
    in_network_of_its_own(body)


def test_search_and_ndots_hold(lab, etc):
    def body():
        etc.write('resolv.conf', 'nameserver 127.0.0.9\nsearch corp.test\n')
        dns = lab.open(Dns(one=[HERE], two=[HERE]))
        pair = Pair(lab, etc)
        assert pair.connect('one') == 0
        assert dns.asked == ['one.corp.test']
        etc.replace('resolv.conf', 'nameserver 127.0.0.9\nsearch lab.test\noptions ndots:3\n')
        assert pair.connect('two.x') == 0
        assert dns.asked[1:] == ['two.x.lab.test']
    in_network_of_its_own(body)


def test_rotate_holds(lab, etc):
    def body():
        etc.write('resolv.conf', 'nameserver 127.0.0.9\nnameserver 127.0.0.10\nnameserver 127.0.0.11\noptions rotate\n')
        servers = [lab.open(Dns(host=host, default=HERE)) for host in ('127.0.0.9', '127.0.0.10', '127.0.0.11')]
        pair = Pair(lab, etc)
        for number in range(20):
            assert pair.connect(f'n{number}.test') == 0
        assert min(len(dns.asked) for dns in servers) > 0, 'two queries a look-up, for A and AAAA: with three servers all get both'
    in_network_of_its_own(body)


# --- a name server that is silent ---

@pytest.mark.parametrize('options', ['', 'options rotate\n'], ids=['in order', 'rotate'])
def test_a_silent_name_server_costs_its_wait_once(lab, etc, options):
    def body():
        etc.write('resolv.conf', f'nameserver 127.0.0.9\nnameserver 127.0.0.10\noptions timeout:1\n{options}')
        silent, other = lab.open(Dns(silent=True)), lab.open(Dns(host='127.0.0.10', default=HERE))
        pair = Pair(lab, etc)
        for number in range(2):
            assert pair.connect(f'first{number}.test') == 0
        asked = len(silent.asked)
        assert asked > 0
        for number in range(10):
            assert pair.connect(f'n{number}.test') == 0
        assert len(silent.asked) == asked
        assert len(other.asked) >= 12

        silent.silent, silent.default = False, HERE

        def is_asked_again():
            assert pair.connect(f'again{time.monotonic_ns()}.test') == 0
            return len(silent.asked) > asked + 3
        wait_for(is_asked_again, 60, 'the server that answers again is asked as before')
    in_network_of_its_own(body)


@pytest.mark.parametrize('mute', ['A', 'AAAA'])
def test_a_kind_of_address_that_is_never_answered_is_not_waited_for(lab, etc, mute):
    """Some networks drop the questions for AAAA records, and answer those for A records."""
    def body():
        etc.write('resolv.conf', 'nameserver 127.0.0.9\noptions timeout:30\n')
        lab.open(Dns(mute=mute, default=HERE, aaaa={'one': ['::1'], 'two': ['::1']}))
        pair = Pair(lab, etc, listen=['127.0.0.1:1443', '[::1]:1443'], port=1443)
        lab.open(TcpServer(echo_stream, '::1', pair.echo.address[1]))
        assert pair.connect('one.test', timeout=20) == 0
        echo = lab.open(UdpEcho('127.0.0.1' if mute == 'AAAA' else '::1'))
        app = lab.open(SocksUdp(pair.client.socks, timeout=20))
        app.send(b'hello', ('two.test', echo.address[1]))
        assert app.receive()[0] == b'hello'
    in_network_of_its_own(body)


@pytest.mark.parametrize('given', ['A', 'AAAA'])
def test_a_name_with_one_kind_of_address_is_whole_at_once(lab, etc, given):
    def body():
        lab.open(Dns(one=[HERE if given == 'A' else []], aaaa={'one': ['::1'] if given == 'AAAA' else []}))
        pair = Pair(lab, etc)
        lab.open(TcpServer(echo_stream, '::1', pair.echo.address[1]))
        assert pair.connect('one.test', timeout=20) == 0
    in_network_of_its_own(body)


# --- look-ups that nobody waits for ---

def test_look_ups_of_one_user_are_bounded(lab, etc):
    """Those too whose session has ended: the resolver has them still. Others' names resolve meanwhile."""
    def body():
        etc.write('resolv.conf', 'nameserver 127.0.0.9\noptions timeout:30\n')
        etc.write('hosts', '127.0.0.1 known.test\n')
        dns = lab.open(Dns(silent=True))
        target = Target(lab)
        target.folder, target.port, target.invite = lab.init()
        bob = lab.invite(target.folder, 'bob')
        target.server = lab.start('server', 'server', '-c', target.folder / 'server.yaml', '-v', prefix=etc.prefix())
        target.server.ready()
        for number in range(20):
            channel = target.channel()
            for name in range(64):
                channel.say(DATAGRAM, plaintext(name + 1, (f's{number}n{name}.test', 9), b'x'))
            channel.sync()
            channel.say(CLOSE, struct.pack('!H', 1))
        look_ups = wait_for(lambda: (lambda found: found['refused'] > 0 and found)(target.status()['look_ups']), 20, 'refusals')
        assert look_ups == {'pending': 512, 'refused': 20 * 64 - 512}
        wait_for(lambda: len(set(dns.asked)) == 512, 20, 'the questions at the name server')
        other = lab.client(bob)
        echo = lab.open(TcpServer(echo_stream))
        assert socks_request(other.socks, CONNECT, 'known.test', echo.address[1])[1] == 0
        assert target.status()['look_ups']['pending'] == 512
        own = lab.client(target.invite)
        assert socks_request(own.socks, CONNECT, 'known.test', echo.address[1])[1] == 1, 'the user has no slot left'
        assert len(set(dns.asked)) == 512
    in_network_of_its_own(body)


def test_equal_questions_share_a_look_up(lab, etc):
    def body():
        dns = lab.open(Dns(seconds=2, slow=[HERE]))
        pair = Pair(lab, etc)
        sockets = []
        for number in range(20):
            sock = socket.create_connection(pair.client.socks, 20)
            sock.settimeout(20)
            sock.sendall(b'\5\1\0\5\1\0\3\x09' + (b'slow.test' if number % 2 else b'SLOW.TEST')
                         + struct.pack('!H', pair.echo.address[1]))
            sockets.append(lab.open(sock))
        for sock in sockets:
            answer = b''
            while len(answer) < 2 + 10:
                answer += sock.recv(100) or pytest.fail(f'{answer}')
            assert answer[2:4] == b'\5\0'
        assert len(dns.asked) < 5, 'the first, and those that came after its answer'
    in_network_of_its_own(body)


# --- addresses that do not answer any more ---

class Moving:
    """A name whose target moves from one address to another, while an application keeps sending."""

    def __init__(self, lab, etc, names, *options):
        self.dns = lab.open(Dns(**names))
        self.old = lab.open(UdpEcho('127.0.0.2'))
        self.port = self.old.address[1]
        self.pair = Pair(lab, etc)
        self.client = lab.client(self.pair.invite, *[option.format(port=self.port) for option in options])

    def ask_until_answered(self, ask, seconds=60):
        """Keeps sending; how often it was in vain."""
        failures = 0
        end = time.monotonic() + seconds
        while not ask():
            failures += 1
            assert time.monotonic() < end, f'no answer in {seconds} s; looked up: {self.dns.asked}'
        return failures


def forward_asker(forward):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(0.5)

    def ask():
        sock.sendto(b'x', forward)
        try:
            return sock.recv(10) == b'x'
        except TimeoutError:
            return False
    return ask


@pytest.mark.parametrize('goes', ['is silent', 'refuses'])
def test_a_forward_follows_its_name(lab, etc, goes):
    def body():
        moving = Moving(lab, etc, {'home': [['127.0.0.2']]}, '--forward', 'udp:127.0.0.1:0=home.test:{port}')
        ask = forward_asker(moving.client.forwards[0])
        moving.ask_until_answered(ask)
        assert moving.dns.asked == ['home.test']
        moving.dns.answers[b'home'] = [['127.0.0.3']]
        new = lab.open(UdpEcho('127.0.0.3', moving.port))
        moving.old.close()
        if goes == 'is silent':
            silent = lab.open(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            silent.bind(('127.0.0.2', moving.port))
        moving.ask_until_answered(ask)
        assert new.count > 0
        assert len(moving.dns.asked) <= 4, 'not more than every 10 s'
    in_network_of_its_own(body)


def test_an_association_goes_to_the_next_address_of_a_name(lab, etc):
    """The name stays as it is, and one of its addresses is dead."""
    def body():
        moving = Moving(lab, etc, {'both': [['127.0.0.2', '127.0.0.3']]})
        udp = lab.open(SocksUdp(moving.client.socks, timeout=0.5))
        other = lab.open(UdpEcho('127.0.0.3', moving.port))

        def ask():
            try:
                return udp.ask(b'x', ('both.test', moving.port))[0] == b'x'
            except TimeoutError:
                return False
        moving.ask_until_answered(ask)
        first, second = (moving.old, other) if moving.old.count else (other, moving.old)
        first.close()
        moving.ask_until_answered(ask)
        assert second.count > 0
    in_network_of_its_own(body)


def test_a_name_that_moves_where_nobody_may_go_keeps_its_address(lab, etc):
    """Each address that a look-up brings is judged, also that of a later one."""
    def body():
        dns = lab.open(Dns(home=[['127.0.0.2']]))
        pair = Pair(lab, etc, allow=('127.0.0.2/32',))
        old = lab.open(UdpEcho('127.0.0.2'))
        forbidden = lab.open(UdpEcho('127.0.0.3', old.address[1]))
        udp = lab.open(SocksUdp(pair.client.socks, timeout=0.5))
        assert udp.ask(b'x', ('home.test', old.address[1]), tries=20)[0] == b'x'
        dns.answers[b'home'] = [['127.0.0.3']]
        port = old.address[1]
        old.close()

        def looks_up_again():
            udp.send(b'x', ('home.test', port))
            time.sleep(0.2)
            return len(dns.asked) > 1
        wait_for(looks_up_again, 60, 'the name is looked up again')
        old = lab.open(UdpEcho('127.0.0.2', port))
        assert udp.ask(b'y', ('home.test', port), tries=20)[0] in (b'x', b'y')
        assert forbidden.count == 0
    in_network_of_its_own(body)


def test_a_plain_association_follows_its_name(lab, etc):
    def body():
        moving = Moving(lab, etc, {'home': [['127.0.0.2']]})
        tls = dial_tls(moving.pair.folder, moving.pair.port)
        log_in(tls, moving.pair.invite)
        udp = lab.open(PlainUdp(tls))
        udp.udp.settimeout(0.5)

        def ask():
            try:
                return udp.ask(b'x', ('home.test', moving.port))[0] == b'x'
            except TimeoutError:
                return False
        moving.ask_until_answered(ask)
        moving.dns.answers[b'home'] = [['127.0.0.3']]
        lab.open(UdpEcho('127.0.0.3', moving.port))
        moving.old.close()
        moving.ask_until_answered(ask)
    in_network_of_its_own(body)


# --- a client whose name server lies behind its own session ---

class LockedOut:
    """A server that is known by its name, and a client that forwards questions to the only name server, its own included."""

    def __init__(self, lab, etc, *invite_options):
        self.lab, self.etc = lab, etc
        self.dns = lab.open(Dns(home=[HERE]))
        self.folder, self.port, self.invite = lab.init(host='home.test')
        if invite_options:
            self.invite = lab.invite(self.folder, 'bob', *invite_options)
        self.server = lab.server(self.folder)
        self.state = lab.folder / 'state'
        self.etc.write('resolv.conf', 'nameserver 127.0.0.1\n')

    def client(self, *options, **keywords):
        return self.lab.client(self.invite, '--forward', 'udp:127.0.0.1:53=127.0.0.9:53', *options, prefix=self.etc.prefix(),
                               env={'STATE_DIRECTORY': str(self.state)}, **keywords)

    def serves(self, client):
        echo = self.lab.open(TcpServer(echo_stream))
        return socks_request(client.socks, CONNECT, *echo.address)[1] == 0


def test_a_client_finds_its_server_where_it_was(lab, etc):
    def body():
        out = LockedOut(lab, etc)
        etc.replace('resolv.conf', 'nameserver 127.0.0.9\n')
        first = out.client()
        assert out.serves(first)
        first.stop()
        kept = out.state / 'servers' / 'addresses'
        assert kept.read_text() == f'home.test {out.port} 127.0.0.1\n'
        assert kept.stat().st_mode & 0o777 == 0o600 and kept.parent.stat().st_mode & 0o777 == 0o700
        etc.replace('resolv.conf', 'nameserver 127.0.0.1\n')
        second = out.client()
        assert out.serves(second)
        assert forwarded_question(), 'and names are looked up through it'
    in_network_of_its_own(body)


def forwarded_question():
    """Asks the client's forward for home.test as a resolver does."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(10)
        sock.sendto(b'\x12\x34\1\0\0\1\0\0\0\0\0\0\4home\4test\0\0\1\0\1', ('127.0.0.1', 53))
        return sock.recv(512).endswith(socket.inet_aton('127.0.0.1'))


def test_a_running_client_comes_back_without_a_name_server(lab, etc):
    def body():
        out = LockedOut(lab, etc)
        etc.replace('resolv.conf', 'nameserver 127.0.0.9\n')
        client = out.client()
        assert out.serves(client)
        etc.replace('resolv.conf', 'nameserver 127.0.0.1\n')
        out.server.stop()
        lab.programs.remove(out.server)
        lab.server(out.folder)
        wait_for(lambda: out.serves(client), 60, 'the session')
    in_network_of_its_own(body)


def test_an_invite_says_where_its_server_is(lab, etc):
    def body():
        out = LockedOut(lab, etc, '--address', '127.0.0.77,127.0.0.1')
        assert out.invite.endswith('&addr=127.0.0.77,127.0.0.1')
        assert out.serves(out.client())
    in_network_of_its_own(body)


def test_the_command_line_says_where_a_server_is(lab, etc):
    def body():
        out = LockedOut(lab, etc)
        client = out.client('--resolve', f'home.test:{out.port}:127.0.0.1')
        assert out.serves(client)
        assert not (out.state / 'servers' / 'addresses').exists()
        assert out.dns.asked == []
    in_network_of_its_own(body)


def test_somebody_else_at_an_address_of_before_is_no_end(lab, etc):
    """The server has moved, and where it was is another one by now: it is found once its name resolves."""
    def body():
        out = LockedOut(lab, etc)
        out.server.stop()
        lab.programs.remove(out.server)
        other, _, _ = lab.init(listen=[f'127.0.0.2:{out.port}'], port=out.port)
        lab.server(other)
        (out.state / 'servers').mkdir(parents=True)
        (out.state / 'servers' / 'addresses').write_text(f'no line\n\nhome.test {out.port} 127.0.0.2\nother.test 1 192.0.2.1\n')
        client = out.client(ready=False)
        wait_for(lambda: 'pin' in client.err or 'another server' in client.err, 30, 'the other server is not believed')
        lab.server(out.folder)
        etc.replace('resolv.conf', 'nameserver 127.0.0.9\n')
        client.ready(60)
        wait_for(lambda: (out.state / 'servers' / 'addresses').read_text()
                 == f'home.test {out.port} 127.0.0.1\nother.test 1 192.0.2.1\n', 10, 'the new address')
    in_network_of_its_own(body)


@pytest.mark.parametrize('value,message', [
    ('home.test:1443', '--resolve home.test:1443: not of the form HOST:PORT:ADDR[,ADDR...], as in vpn.example.org:1443:192.0.2.1'),
    ('home.test:0:127.0.0.1', '--resolve home.test:0:127.0.0.1: not of the form'),
    ('home.test:1443:name', '--resolve home.test:1443:name: not of the form'),
    ('other.test:1443:127.0.0.1', '--resolve other.test:1443: no invite names that server; the first is of home.test:1443'),
])
def test_a_wrong_resolve_is_refused(value, message):
    invite = 'sealgram://alice:x@home.test:1443/'
    done = run('client', '--resolve', value, invite)
    assert done.returncode in (1, 2) and message in done.stderr
