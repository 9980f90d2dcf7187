"""What is measured: each runner starts the processes of one relay, with its configuration, and ends them.

A runner's `peer(gso)` is where load sends (mode `socks` or `forward`), `roots` are the processes that it started; their
children count too.
"""
import json
import os
import shutil
import subprocess

from lab import Missing, find_program, free_port

PASSWORD = 'a password of the benchmark'


class Runner:
    name = None
    mode = 'socks'
    carries = ('udp',)

    def __init__(self, bench):
        self.bench, self.roots, self.port = bench, [], free_port()

    def launch(self, command, name, ready=False, far=False, port=None):
        """Starts a process of the relay; waits until it says that it is ready, or listens on the port."""
        process = self.bench.start(command, f'{self.name}-{name}', ready, self.bench.far if far else self.bench.near)
        self.roots.append(process)
        if port:
            self.bench.wait_for_port(process, port, f'{self.name}-{name}')
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
    carries = ('udp', 'tcp')
    settings = ''  # added to server.yaml
    limits = {'associations_per_user': 16384}

    def program(self):
        return self.bench.program

    def start(self):
        self.start_server()
        self.forwards = {gso: free_port() for gso in (False, True)}
        forwards = [word for gso, port in self.forwards.items()
                    for word in ('--forward', f'udp:127.0.0.1:{port}={self.bench.echo[gso]}')]
        self.launch([self.program(), 'client', '--socks', f'127.0.0.1:{self.port}', *forwards, f'@{self.invite}'],
                    'client', ready=True)

    def start_server(self):
        if not os.access(self.program() or '', os.X_OK):
            raise Missing(f'no program {self.program()}')
        self.folder, self.server_port = self.bench.folder / f'{self.name}-server', free_port()
        folder = self.folder
        shutil.rmtree(folder, ignore_errors=True)
        host, quiet = self.bench.far_host, {'check': True, 'stderr': subprocess.DEVNULL}
        subprocess.run([self.program(), 'init', folder, '--listen', f'{host}:{self.server_port}', '--host', host, '--allow',
                        '127.0.0.0/8', '--allow', f'{host}/32'], **quiet, stdout=subprocess.DEVNULL)
        with open(folder / 'server.yaml', 'a') as file:
            file.write(self.settings + ('limits:\n' if self.limits else ''))
            file.writelines(f'  {name}: {value}\n' for name, value in self.limits.items())
        invite = subprocess.run([self.program(), 'invite', folder, 'bench'], **quiet, stdout=subprocess.PIPE,
                                text=True).stdout
        self.invite = self.config('invite', invite)
        self.invite.chmod(0o600)
        self.add_users()
        self.server = self.launch([self.program(), 'server', '-c', folder / 'server.yaml'], 'server', ready=True,
                                  far=True)

    def add_users(self):
        """What else the server is to know before it starts."""


class SealgramForward(Sealgram):
    """The same; the application uses a UDP forward."""
    name, mode, carries = 'sealgram-forward', 'forward', ('udp',)

    def peer(self, gso):
        return f'127.0.0.1:{self.forwards[gso]}'


class SealgramNull(Sealgram):
    """The same without a cipher: what the engine itself costs."""
    name = 'sealgram-null'

    def program(self):
        return self.bench.null_program


class Shadowsocks(Runner):
    name = 'shadowsocks-libev'
    carries = ('udp', 'tcp')

    def start(self):
        local, server = (find_program(self.name, name) for name in ('ss-local', 'ss-server'))
        port = free_port()
        shared = ['-s', self.bench.far_host, '-p', port, '-k', PASSWORD, '-m', 'aes-256-gcm', '-u']
        self.launch([server, *shared], 'server', far=True, port=port)
        self.launch([local, *shared, '-b', '127.0.0.1', '-l', self.port], 'local', port=self.port)


class Dante(Runner):
    """One hop, no encryption."""
    name = 'dante'

    def start(self):
        host, self.port = self.bench.far_host, free_port()
        path = self.config('danted.conf', f'''logoutput: stderr
internal: {host} port = {self.port}
external: {host}
clientmethod: none
socksmethod: none
client pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 }}
socks pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 command: connect udpassociate }}
socks pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 command: bindreply udpreply }}
''')
        self.launch([find_program('dante-server', 'danted'), '-f', path, '-p', self.bench.folder / 'danted.pid'],
                    'server', far=True, port=self.port)

    def peer(self, gso):
        return f'{self.bench.far_host}:{self.port}'


class StunnelDante(Dante):
    """TCP only: Dante behind a tunnel of TLS."""
    name, carries = 'stunnel+dante', ('tcp',)

    def start(self):
        super().start()
        dante, server, self.port = self.port, free_port(), free_port()
        certificate, key = make_certificate(self.bench.folder)
        shared = 'foreground = yes\npid =\ndebug = err\n[bench]\n'
        paths = {'server': self.config('server.conf', f'{shared}cert = {certificate}\nkey = {key}\n'
                                       f'accept = 127.0.0.1:{server}\nconnect = 127.0.0.1:{dante}\n'),
                 'client': self.config('client.conf', f'{shared}client = yes\n'
                                       f'accept = 127.0.0.1:{self.port}\nconnect = 127.0.0.1:{server}\n')}
        for name, port in (('server', server), ('client', self.port)):
            self.launch([find_program('stunnel4', 'stunnel4'), paths[name]], f'stunnel-{name}', port=port)


class V2ray(Runner):
    name = 'v2ray'

    def start(self):
        program, port = find_program('v2ray', 'v2ray'), free_port()
        account = {'method': 'aes-256-gcm', 'password': PASSWORD}
        server = self.config('server.json', {
            'log': {'loglevel': 'error'},
            'inbounds': [{'listen': self.bench.far_host, 'port': port, 'protocol': 'shadowsocks',
                          'settings': {**account, 'network': 'tcp,udp'}}],
            'outbounds': [{'protocol': 'freedom'}]})
        client = self.config('client.json', {
            'log': {'loglevel': 'error'},
            'inbounds': [{'listen': '127.0.0.1', 'port': self.port, 'protocol': 'socks',
                          'settings': {'udp': True, 'ip': '127.0.0.1'}}],
            'outbounds': [{'protocol': 'shadowsocks',
                           'settings': {'servers': [{'address': self.bench.far_host, 'port': port, **account}]}}]})
        self.launch([program, '-config', server], 'server', far=True, port=port)
        self.launch([program, '-config', client], 'client', port=self.port)


def make_certificate(folder):
    certificate, key = folder / 'peers-cert.pem', folder / 'peers-key.pem'
    if not certificate.exists():
        subprocess.run(['openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes',
                        '-subj', '/CN=localhost', '-days', '2', '-keyout', key, '-out', certificate], check=True,
                       stderr=subprocess.DEVNULL)
    return certificate, key


class Trojan(Runner):
    name = 'trojan'

    def start(self):
        program, port = find_program('trojan', 'trojan'), free_port()
        certificate, key = make_certificate(self.bench.folder)
        server = self.config('server.json', {
            'run_type': 'server', 'local_addr': self.bench.far_host, 'local_port': port, 'remote_addr': '127.0.0.1',
            'remote_port': 9, 'password': [PASSWORD], 'log_level': 3,
            'ssl': {'cert': str(certificate), 'key': str(key)}, 'tcp': {'no_delay': True}})
        client = self.config('client.json', {
            'run_type': 'client', 'local_addr': '127.0.0.1', 'local_port': self.port,
            'remote_addr': self.bench.far_host, 'remote_port': port, 'password': [PASSWORD], 'log_level': 3,
            'ssl': {'verify': False, 'verify_hostname': False}, 'tcp': {'no_delay': True}})
        self.launch([program, '-c', server], 'server', far=True, port=port)
        self.launch([program, '-c', client], 'client', port=self.port)


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


ALL = {runner.name: runner for runner in (Sealgram, SealgramForward, SealgramNull, Shadowsocks, Dante, StunnelDante,
                                          V2ray, Trojan, NaiveRelay, Direct)}
