"""What is measured: each runner starts the processes of one relay on loopback, with its configuration, and ends them.

A runner's `peer(gso)` is where load sends (mode `socks` or `forward`), `roots` are the processes that it started; their
children count too.
"""
import json
import os
import pathlib
import select
import shutil
import signal
import socket
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
READY_SECONDS = 15
PASSWORD = 'a password of the benchmark'


class Missing(Exception):
    """The program of a peer is not on this machine."""


def find_program(package, name):
    """An unpacked package's program (tools/deps), or the one that is installed."""
    unpacked = [path for path in (ROOT / '.deps' / package).glob('usr/*bin/' + name) if path.is_file()]
    installed = shutil.which(name, path=os.environ.get('PATH', '') + ':/usr/sbin')
    if not unpacked and not installed:
        raise Missing(f'no {name}: make bench-deps')
    return str(unpacked[0]) if unpacked else installed


def free_port():
    """A port of loopback that is free for TCP and UDP at this moment."""
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp, \
                socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            tcp.bind(('127.0.0.1', 0))
            try:
                udp.bind(tcp.getsockname())
                return tcp.getsockname()[1]
            except OSError:
                continue


def accepts(port):
    with socket.socket() as probe:
        return probe.connect_ex(('127.0.0.1', port)) == 0


def children(pid):
    """The process and all that it started."""
    found = [pid]
    try:
        for task in pathlib.Path(f'/proc/{pid}/task').iterdir():
            for child in (task / 'children').read_text().split():
                found += children(int(child))
    except OSError:
        pass
    return found


class Bench:
    """What all runners need: a folder, the load generator, two echo servers (without GSO and with it)."""

    def __init__(self, folder, load, program, null_program=None):
        self.folder, self.load, self.program, self.null_program = pathlib.Path(folder), load, program, null_program
        self.started, self.echo = [], {}

    def start_echoes(self):
        for gso in (False, True):
            self.echo[gso] = f'127.0.0.1:{free_port()}'
            self.start([self.load, 'echo', '--listen', self.echo[gso], *(['--gso'] if gso else [])], 'echo', ready=True)

    def start(self, command, name, ready=False, env=None):
        """Starts a process; with ready waits for a line of its output that begins so."""
        with open(self.folder / f'{name}.log', 'ab') as log:
            process = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stderr=log,
                                       stdout=subprocess.PIPE if ready else log, cwd=self.folder,
                                       env={**os.environ, 'XDG_RUNTIME_DIR': str(self.folder), **(env or {})})
        self.started.append(process)
        if ready:
            readable, _, _ = select.select([process.stdout], [], [], READY_SECONDS)
            line = process.stdout.readline().decode() if readable else ''
            if not line.startswith('ready'):
                raise RuntimeError(f'{name} did not get ready: {line}{self.log_of(name)}')
        return process

    def log_of(self, name):
        return (self.folder / f'{name}.log').read_text(errors='replace')[-2000:]

    def wait_for_port(self, process, port, name):
        end = time.monotonic() + READY_SECONDS
        while not accepts(port):
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f'{name} does not listen: {self.log_of(name)}')
            time.sleep(0.02)

    def stop(self, processes):
        """Ends processes, and children that outlive them."""
        family = [pid for process in processes for pid in children(process.pid)]
        for process in processes:
            process.send_signal(signal.SIGTERM)
        for process in processes:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            self.started.remove(process)
        for pid in family:
            if pid not in [process.pid for process in processes] and pathlib.Path(f'/proc/{pid}').exists():
                os.kill(pid, signal.SIGKILL)


class Runner:
    name = version_command = None
    mode = 'socks'

    def __init__(self, bench):
        self.bench, self.roots, self.port = bench, [], free_port()

    def launch(self, command, name, ready=False):
        process = self.bench.start(command, f'{self.name}-{name}', ready)
        self.roots.append(process)
        return process

    def peer(self, gso):
        return f'127.0.0.1:{self.port}'

    def start(self):
        """Starts the processes; raises Missing when there is no program."""

    def stop(self):
        self.bench.stop(list(reversed(self.roots)))
        self.roots = []

    def config(self, name, text):
        path = self.bench.folder / f'{self.name}-{name}'
        path.write_text(text if isinstance(text, str) else json.dumps(text))
        return path


class Sealgram(Runner):
    """Two hops, our own; the application speaks SOCKS5."""
    name = 'sealgram'

    def program(self):
        return self.bench.program

    def start(self):
        if not os.access(self.program() or '', os.X_OK):
            raise Missing(f'no program {self.program()}')
        folder, server = self.bench.folder / f'{self.name}-server', free_port()
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([self.program(), 'init', folder, '--listen', f'127.0.0.1:{server}', '--host', '127.0.0.1',
                        '--allow', '127.0.0.0/8'], check=True, stdout=subprocess.DEVNULL)
        invite = subprocess.run([self.program(), 'invite', folder, 'bench'], check=True, stdout=subprocess.PIPE,
                                text=True).stdout
        path = self.config('invite', invite)
        path.chmod(0o600)
        self.server = self.launch([self.program(), 'server', '-c', folder / 'server.yaml'], 'server', ready=True)
        self.forwards = {gso: free_port() for gso in (False, True)}
        forwards = [word for gso, port in self.forwards.items()
                    for word in ('--forward', f'udp:127.0.0.1:{port}={self.bench.echo[gso]}')]
        self.launch([self.program(), 'client', '--socks', f'127.0.0.1:{self.port}', *forwards, f'@{path}'], 'client',
                    ready=True)


class SealgramForward(Sealgram):
    """The same; the application uses a UDP forward."""
    name, mode = 'sealgram-forward', 'forward'

    def peer(self, gso):
        return f'127.0.0.1:{self.forwards[gso]}'


class SealgramNull(Sealgram):
    """The same without a cipher: what the engine itself costs."""
    name = 'sealgram-null'

    def program(self):
        return self.bench.null_program


class Shadowsocks(Runner):
    name = 'shadowsocks-libev'

    def start(self):
        local, server = (find_program(self.name, name) for name in ('ss-local', 'ss-server'))
        port = free_port()
        shared = ['-s', '127.0.0.1', '-p', port, '-k', PASSWORD, '-m', 'aes-256-gcm', '-u']
        process = self.launch([server, *shared], 'server')
        self.bench.wait_for_port(process, port, f'{self.name}-server')
        process = self.launch([local, *shared, '-b', '127.0.0.1', '-l', self.port], 'local')
        self.bench.wait_for_port(process, self.port, f'{self.name}-local')


class Dante(Runner):
    name = 'dante'

    def start(self):
        program = find_program('dante-server', 'danted')
        path = self.config('danted.conf', f'''logoutput: stderr
internal: 127.0.0.1 port = {self.port}
external: 127.0.0.1
clientmethod: none
socksmethod: none
client pass {{ from: 127.0.0.0/8 to: 0.0.0.0/0 }}
socks pass {{ from: 127.0.0.0/8 to: 0.0.0.0/0 command: connect udpassociate }}
socks pass {{ from: 0.0.0.0/0 to: 127.0.0.0/8 command: bindreply udpreply }}
''')
        process = self.launch([program, '-f', path, '-p', self.bench.folder / 'danted.pid'], 'server')
        self.bench.wait_for_port(process, self.port, f'{self.name}-server')


class V2ray(Runner):
    name = 'v2ray'

    def start(self):
        program, port = find_program('v2ray', 'v2ray'), free_port()
        account = {'method': 'aes-256-gcm', 'password': PASSWORD}
        server = self.config('server.json', {
            'log': {'loglevel': 'error'},
            'inbounds': [{'listen': '127.0.0.1', 'port': port, 'protocol': 'shadowsocks',
                          'settings': {**account, 'network': 'tcp,udp'}}],
            'outbounds': [{'protocol': 'freedom'}]})
        client = self.config('client.json', {
            'log': {'loglevel': 'error'},
            'inbounds': [{'listen': '127.0.0.1', 'port': self.port, 'protocol': 'socks',
                          'settings': {'udp': True, 'ip': '127.0.0.1'}}],
            'outbounds': [{'protocol': 'shadowsocks',
                           'settings': {'servers': [{'address': '127.0.0.1', 'port': port, **account}]}}]})
        for path, name, listens in ((server, 'server', port), (client, 'client', self.port)):
            process = self.launch([program, '-config', path], name)
            self.bench.wait_for_port(process, listens, f'{self.name}-{name}')


class Trojan(Runner):
    name = 'trojan'

    def start(self):
        program, port = find_program('trojan', 'trojan'), free_port()
        certificate, key = self.bench.folder / 'trojan-cert.pem', self.bench.folder / 'trojan-key.pem'
        if not certificate.exists():
            subprocess.run(['openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes',
                            '-subj', '/CN=localhost', '-days', '2', '-keyout', key, '-out', certificate], check=True,
                           stderr=subprocess.DEVNULL)
        server = self.config('server.json', {
            'run_type': 'server', 'local_addr': '127.0.0.1', 'local_port': port, 'remote_addr': '127.0.0.1',
            'remote_port': 9, 'password': [PASSWORD], 'log_level': 3,
            'ssl': {'cert': str(certificate), 'key': str(key)}, 'tcp': {'no_delay': True}})
        client = self.config('client.json', {
            'run_type': 'client', 'local_addr': '127.0.0.1', 'local_port': self.port, 'remote_addr': '127.0.0.1',
            'remote_port': port, 'password': [PASSWORD], 'log_level': 3,
            'ssl': {'verify': False, 'verify_hostname': False}, 'tcp': {'no_delay': True}})
        for path, name, listens in ((server, 'server', port), (client, 'client', self.port)):
            process = self.launch([program, '-c', path], name)
            self.bench.wait_for_port(process, listens, f'{self.name}-{name}')


class Direct(Runner):
    """No relay: what the load generator and the echo server can do."""
    name, mode = 'direct', 'forward'

    def peer(self, gso):
        return self.bench.echo[gso]


class NaiveRelay(Runner):
    """One hop, no encryption, one call for each datagram received and sent."""
    name, mode = 'naive-relay', 'forward'

    def start(self):
        self.ports = {gso: free_port() for gso in (False, True)}
        for gso, port in self.ports.items():
            self.launch([self.bench.load, 'relay', '--listen', f'127.0.0.1:{port}', '--target', self.bench.echo[gso]],
                        f'relay-{gso}', ready=True)

    def peer(self, gso):
        return f'127.0.0.1:{self.ports[gso]}'


ALL = {runner.name: runner for runner in (Sealgram, SealgramForward, SealgramNull, Shadowsocks, Dante, V2ray, Trojan,
                                          NaiveRelay, Direct)}
