"""What README and the manual pages tell to type is tried, as a newcomer would: a copy of the sources, a server and a client
that have nothing of ours but what `make install` put there, and an Internet behind the server."""
import json
import os
import re
import shutil
import ssl
import subprocess
import textwrap

import pytest
import yaml

from harness import ROOT, TcpServer, run, wait_for
from network import CLIENT, SERVER, Network, ip

README = (ROOT / 'README.md').read_text()
BLOCK = re.compile(r'(?:^<!-- tried: ([^\n]*) -->\n)?^```(\w+)\n(.*?)^```$', re.MULTILINE | re.DOTALL)
NAME_SERVER, WEB_SERVER = '9.9.9.9', '93.184.216.34'  # of the Internet here: addresses that are in README, and that of example.org
OUTSIDE = ('203.0.113.1', '203.0.113.2')
NOT_RUN = {
    'make test': 'is what runs this',
    'systemctl daemon-reload': 'needs systemd as the first process; the unit is read instead',
    'systemctl enable --now sealgram-server': 'the same: what the unit starts is started',
}


def blocks():
    """[(where it is tried, its language, its text)]"""
    return BLOCK.findall(README)


def commands(text):
    return [line.partition(' #')[0].rstrip() for line in text.splitlines()]


def test_every_block_of_readme_is_tried_or_says_nothing_to_type():
    assert README.count('\n```') == 2 * len(blocks())
    assert all(where for where, language, _ in blocks() if language != 'text'), 'a block without its place: <!-- tried: ... -->'
    assert not re.search(r'^    \S', README, re.M), 'a block that is indented is not tried: use ```sh'
    assert {line for _, language, text in blocks() if language == 'sh' for line in commands(text)} >= set(NOT_RUN)


class Machine:
    """A host of the network with an /etc, a /run, a /usr/local and a home of its own."""

    def __init__(self, lab, name, network_prefix):
        self.lab, self.name = lab, name
        self.root = lab.folder / name
        for part in ('run', 'usr-local', 'home'):
            (self.root / part).mkdir(parents=True)
        shutil.copytree('/etc', self.root / 'etc', symlinks=True)
        binds = [f'mount --bind {self.root}/{part} {where}' for part, where in
                 (('etc', '/etc'), ('run', '/run'), ('usr-local', '/usr/local'))]
        inside = ' && '.join([*binds, f'cd {self.root}/home', 'export HOME=$PWD', 'exec "$@"'])
        self.prefix = [*network_prefix, 'unshare', '--mount', '--propagation', 'private', 'sh', '-c', inside, 'sh']
        path = f"/usr/local/sbin:/usr/local/bin:{os.environ['PATH']}:/usr/sbin:/sbin"
        self.env = {'PATH': path, 'LANG': 'C.UTF-8', 'TERM': 'dumb', 'SEALGRAM_ALONE': os.environ['SEALGRAM_ALONE']}

    def write(self, path, text):
        target = self.root / path.lstrip('/')
        target.unlink(missing_ok=True)
        target.write_text(text)

    def shell(self, command, folder='.', timeout=60):
        done = subprocess.run([*self.prefix, 'bash', '-euc', f'cd {folder}\n{command}'], env=self.env, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=timeout, check=False)
        assert done.returncode == 0, f'{self.name}: {command}: exit {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}'
        return done.stdout

    def start(self, command, prefix=()):
        """Starts a program that stays, and waits until it is ready."""
        log = self.lab.folder / f'{self.lab.name(self.name)}.log'
        with open(log, 'wb') as out:
            started = Started(subprocess.Popen([*self.prefix, *prefix, *command.split()], env=self.env, stdin=subprocess.DEVNULL,
                                               stdout=out, stderr=out))
        self.lab.open(started)

        def is_ready():
            assert started.process.poll() is None, f'{self.name}: {command}: {log.read_text()}'
            return re.search(r'^ready ', log.read_text(), re.M)
        wait_for(is_ready, 30, f'{self.name}: {command}: ready')
        return started


class Started:
    def __init__(self, process):
        self.process = process

    def close(self):
        """As Ctrl-C would."""
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(20)


class Newcomer:
    """Where README's blocks are run: two machines, and beyond the server a name server and a web server."""

    def __init__(self, lab, program):
        network = Network(lab)
        self.lab, self.clone, self.running = lab, lab.folder / 'clone', []
        self.machines = {name: Machine(lab, name, network.prefix(side)) for name, side in (('client', CLIENT), ('server', SERVER))}
        self.internet = Outside(lab, network)
        self.machines['client'].write('/etc/hosts', '127.0.0.1 localhost\n::1 localhost\n10.77.0.2 vpn.example.org\n')
        self.machines['server'].write('/etc/resolv.conf', f'nameserver {NAME_SERVER}\n')
        self.internet.serve_names(program('dnsmasq'))
        self.internet.serve_pages(self.machines['client'])

    def copy_sources(self):
        names = subprocess.run(['git', 'ls-files', '-z', '--cached', '--others', '--exclude-standard'], cwd=ROOT,
                               capture_output=True, check=True).stdout.decode().split('\0')
        for name in filter(None, names):
            if (ROOT / name).is_file():
                (self.clone / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, self.clone / name)

    def type(self, where, command):
        """One line of a block, as somebody would type it at that machine."""
        if command in NOT_RUN:
            return
        place, _, each = where.partition(' on ')
        if place == 'clone':
            for machine in self.machines.values() if each else [self.machines['client']]:
                machine.shell(command, self.clone, timeout=500)
        elif re.match(r'sealgram (server -c|client) ', command):
            self.running.append(self.machines[place].start(command))
        else:
            self.machines[place].shell(command)

    def use_as_config(self, text):
        """Adds a block of YAML to the server's configuration."""
        path = self.machines['server'].root / 'etc/sealgram/server.yaml'
        yaml.safe_load(text)
        path.write_text(path.read_text() + '\n' + text)

    def bring_invite(self):
        source, target = (self.machines[name].root / 'home/alice.invite' for name in ('server', 'client'))
        if source.exists() and not target.exists():
            target.write_text(source.read_text())


class Outside:
    """A host behind the server."""

    def __init__(self, lab, network):
        self.lab, self.network = lab, network
        server, self.name = network.names[SERVER], network.names[SERVER][:-1] + 'i'
        network.names += (self.name,)  # it goes with the others
        ip('netns', 'add', self.name)
        ip('link', 'add', 'out', 'netns', server, 'type', 'veth', 'peer', 'name', 'in', 'netns', self.name)
        for name, device, address in (server, 'out', OUTSIDE[0]), (self.name, 'in', OUTSIDE[1]):
            ip('-n', name, 'addr', 'add', f'{address}/24', 'dev', device)
            ip('-n', name, 'link', 'set', device, 'up')
        ip('-n', self.name, 'link', 'set', 'lo', 'up')
        for address in NAME_SERVER, WEB_SERVER:
            ip('-n', self.name, 'addr', 'add', f'{address}/32', 'dev', 'lo')
        ip('-n', server, 'route', 'add', 'default', 'via', OUTSIDE[1])

    def serve_names(self, dnsmasq):
        process = subprocess.Popen(['nsenter', f'--net=/run/netns/{self.name}', dnsmasq, '--keep-in-foreground', '--no-resolv', '--no-hosts',
                                    '--user=root', '--bind-interfaces', f'--listen-address={NAME_SERVER}', '--conf-file=/dev/null',
                                    f'--pid-file={self.lab.folder}/dnsmasq.pid', f'--address=/example.org/{WEB_SERVER}'],
                                   stdin=subprocess.DEVNULL)
        self.lab.open(Started(process))

    def serve_pages(self, reader):
        """https://example.org, with a certificate that the reader trusts as it trusts those of the web."""
        key, certificate = self.lab.folder / 'web.key', self.lab.folder / 'web.pem'
        subprocess.run(['openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', key,
                        '-out', certificate, '-days', '2', '-subj', '/CN=example.org', '-addext', 'subjectAltName=DNS:example.org'],
                       check=True, capture_output=True)
        bundle = reader.root / 'etc/ssl/certs/ca-certificates.crt'
        bundle.parent.mkdir(parents=True, exist_ok=True)
        bundle.write_text((bundle.read_text() if bundle.exists() else '') + certificate.read_text())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)

        def answer(connection):
            with context.wrap_socket(connection, server_side=True) as tls:
                tls.recv(65536)
                tls.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello')
        names = self.network.names
        self.lab.open(self.network.call(names.index(self.name), TcpServer, answer, WEB_SERVER, 443))


@pytest.fixture
def newcomer(lab, own_network, program):
    for name in ('make', 'meson', 'ninja', 'git', 'curl', 'dig', 'openssl', 'systemd-sysusers', 'setpriv'):
        program(name)
    missing = subprocess.run([ROOT / 'tools' / 'deps', '--list', 'build', 'run'], capture_output=True, text=True, check=False)
    if missing.stdout or missing.returncode:
        pytest.skip(f'packages are missing: {missing.stdout}{missing.stderr}')
    return Newcomer(lab, program)


def lines_of_unit(text, key):
    return re.findall(rf'^{key}=(.*)$', text, re.M)


@pytest.mark.netns
@pytest.mark.slow
@pytest.mark.no_sanitize
@pytest.mark.timeout(900)
def test_what_readme_tells_to_type_works(newcomer, lab):
    newcomer.copy_sources()
    client, server = newcomer.machines['client'], newcomer.machines['server']
    for where, language, text in blocks():
        newcomer.bring_invite()
        if language == 'yaml':
            newcomer.use_as_config(text)
        elif language == 'sh' and 'systemctl' in text:
            newcomer.running[0].close()  # the server that was started by hand, as README says
        for command in commands(text) if language == 'sh' else ():
            newcomer.type(where, command)

    # what `systemctl enable --now sealgram-server` would do
    unit = (server.root / 'usr-local/lib/systemd/system/sealgram-server.service').read_text()
    user, = lines_of_unit(unit, 'User')
    as_user = ['setpriv', f'--reuid={user}', f'--regid={user}', '--clear-groups']
    check, = lines_of_unit(unit, 'ExecStartPre')
    server.shell(' '.join([*as_user, check]))
    start, = lines_of_unit(unit, 'ExecStart')
    server.start(start, as_user)
    wait_for(lambda: client.shell('dig +short +tries=1 +time=5 -p 5353 @127.0.0.1 example.org || true') == f'{WEB_SERVER}\n', 60,
             'the forward through the server that the unit starts')
    assert client.shell('curl -sS --socks5-hostname 127.0.0.1:1080 https://example.org') == 'hello'

    # after a build for one PREFIX, another one is taken; and what is installed has no debugging symbols
    client.shell(f'make install PREFIX={lab.folder}/elsewhere', newcomer.clone, timeout=500)
    installed = lab.folder / 'elsewhere/bin/sealgram'
    assert '.debug_info' not in subprocess.run(['readelf', '-SW', installed], capture_output=True, text=True, check=True).stdout
    assert f'ExecStart={installed} ' in (lab.folder / 'elsewhere/lib/systemd/system/sealgram-server.service').read_text()
    assert client.shell(f'{installed} --version').startswith('sealgram ')


# --- manual pages and help ---

def manual(name, program):
    text = subprocess.run([program('mandoc'), '-T', 'utf8', '-O', 'width=500', ROOT / 'docs' / 'man' / name], capture_output=True, text=True,
                          check=True).stdout
    return re.sub('.\b', '', text)  # bold and underlined


def test_json_in_the_manual_is_json(program):
    shown = [json.loads(line) for line in manual('server.yaml.5', program).splitlines() if line.strip().startswith('{')]
    assert shown == [{'user': 'carol', 'password': '...', 'address': '192.0.2.1'}, {'ok': True, 'user': 'carol', 'groups': ['staff']}]


@pytest.mark.parametrize('name', ['sealgram.1', 'server.yaml.5'])
def test_manual_pages_are_well_formed(program, name):
    done = subprocess.run([program('mandoc'), '-T', 'lint', '-W', 'warning', ROOT / 'docs' / 'man' / name], capture_output=True, text=True,
                          check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize('name', ['sealgram.1', 'server.yaml.5'])
def test_quotes_of_the_manual_close(program, name):
    """A macro that quotes the rest of its line would put a quote within the other."""
    assert re.findall('‘[^’]*‘[^’]*’?', manual(name, program)) == []


@pytest.mark.parametrize('command', ['init', 'invite', 'users', 'passwd', 'revoke', 'renew-cert', 'policy', 'server', 'client', 'reload',
                                     'kick', 'drain', 'status', 'doctor', 'demo'])
def test_the_synopsis_of_the_manual_has_each_option(program, command):
    """Of what `--help` lists, with one letter or in full."""
    synopsis = manual('sealgram.1', program).partition('\nSYNOPSIS\n')[2].partition('\nDESCRIPTION\n')[0]
    typed = ' '.join(line for line in synopsis.splitlines() if line.split()[1:2] == [command])
    listed = run(command, '--help').stdout
    for short, option in re.findall(r'^ +(-\w, |)(--[a-z-]+)', listed, re.MULTILINE):
        if option not in ('--help', '--usage', '--version'):
            letter = short.strip(', -')
            assert option in typed or letter and re.search(rf'(?<![\w-])-{letter}(?![\w-])', typed), option


def test_examples_of_the_manual_are_those_of_readme(program):
    """So they are tried there."""
    typed = {line for _, language, text in blocks() if language == 'sh' for line in commands(text)}
    examples = manual('sealgram.1', program).partition('\nEXAMPLES\n')[2].partition('\nSEE ALSO\n')[0]
    assert {line.strip() for line in examples.splitlines() if line.strip()} <= typed


def test_rules_of_the_manual_are_taken(lab, program):
    folder, _, _ = lab.init()
    lab.invite(folder, 'bob')
    shown = manual('server.yaml.5', program).partition('\nSYSTEMD\n')[0]
    lab.edit_config(folder, textwrap.dedent(re.search(r'^ +groups:\n.*', shown, re.M | re.S)[0]))
    assert run('server', '--check', '-c', folder / 'server.yaml').returncode == 0


def test_a_new_certificate_takes_a_reload_and_its_help_says_so(lab):
    assert 'A running server uses it after `sealgram reload`' in ' '.join(run('renew-cert', '--help').stdout.split())
