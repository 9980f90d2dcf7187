"""What a service manager does, done by the test: it is told, passes sockets, watches, and has credentials; and the units."""
import errno
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest

from harness import ROOT, SEALGRAM, SocksUdp, free_port, run, wait_for

UNITS = ROOT / 'dist' / 'systemd'

# Binds sockets of each kind, or of the one in KIND=ADDRESS, to each address, puts them where systemd does, and becomes the program.
ACTIVATE = '''
import os, socket, sys
count, only6, addresses = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3].split(',')
made = []
for text in addresses:
    kinds, _, text = text.rpartition('=')
    host, _, port = text.rpartition(':')
    family = socket.AF_INET6 if '[' in host else socket.AF_INET
    for kind in [kind for name, kind in (('tcp', socket.SOCK_STREAM), ('udp', socket.SOCK_DGRAM)) if name in (kinds or 'tcp udp')]:
        for _ in range(count):
            sock = socket.socket(family, kind)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT if count > 1 else socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only6)
            sock.bind((host.strip('[]'), int(port)))
            if kind == socket.SOCK_STREAM:
                sock.listen(64)
            made.append(os.dup(os.dup2(sock.detach(), 100 + len(made))))
for number in range(len(made)):
    os.dup2(100 + number, 3 + number)
os.closerange(3 + len(made), 400)
os.environ.update(LISTEN_FDS=str(len(made)), LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[4], sys.argv[4:])
'''


def activate(count, *addresses, only6=1):
    return [sys.executable, '-c', ACTIVATE, str(count), str(only6), ','.join(addresses)]


class Manager:
    """Hears what services say."""

    def __init__(self, folder, abstract=False):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        path = str(folder / 'notify')
        self.sock.bind('\0' + path if abstract else path)
        self.env = {'NOTIFY_SOCKET': '@' + path if abstract else path}

    def hear(self, seconds=10):
        self.sock.settimeout(seconds)
        return self.sock.recv(4096).decode()

    def hear_all(self, seconds):
        end, heard = time.monotonic() + seconds, []
        while (left := end - time.monotonic()) > 0:
            try:
                heard.append(self.hear(left))
            except TimeoutError:
                break
        return heard

    def close(self):
        self.sock.close()


@pytest.mark.parametrize('abstract', [False, True], ids=['path', 'abstract'])
def test_ready_reloading_stopping(lab, abstract):
    folder, _, invite = lab.init()
    manager = lab.open(Manager(lab.folder, abstract))
    server = lab.start('server', 'server', '-c', folder / 'server.yaml', env=manager.env)
    assert manager.hear() == 'READY=1'
    assert server.out.startswith('ready '), 'it listens by then'
    server.process.send_signal(signal.SIGHUP)
    found = re.fullmatch(r'RELOADING=1\nMONOTONIC_USEC=(\d+)', manager.hear())
    assert found and abs(time.clock_gettime(time.CLOCK_MONOTONIC) - int(found[1]) / 1e6) < 10
    assert manager.hear() == 'READY=1'
    (folder / 'server.yaml').write_text('listen: []\n')
    assert run('reload', '--socket', server.control).returncode == 1
    assert manager.hear().startswith('RELOADING=1\n') and manager.hear() == 'READY=1', 'it goes on as it was'
    server.stop()
    assert manager.hear() == 'STOPPING=1' and invite


def test_a_client_is_ready_with_its_session(lab):
    folder, _, invite = lab.init()
    manager = lab.open(Manager(lab.folder))
    client = lab.client(invite, ready=False, env=manager.env)
    assert manager.hear_all(0.5) == [], 'there is no server yet'
    lab.server(folder)
    assert manager.hear(20) == 'READY=1'
    client.ready()
    client.stop()
    assert manager.hear() == 'STOPPING=1'


def test_a_manager_that_is_not_there(lab):
    folder, _, _ = lab.init()
    missing = str(lab.folder / 'missing')
    server = lab.start('server', 'server', '-c', folder / 'server.yaml', env={'NOTIFY_SOCKET': missing})
    server.ready()
    assert f'the service manager is not told anything: {missing} (NOTIFY_SOCKET): No such file or directory\n' in server.err


@pytest.mark.parametrize('kind', ['server', 'client'])
def test_the_watchdog_hears_as_long_as_all_loops_run(lab, kind):
    folder, _, invite = lab.init()
    lab.edit_config(folder, 'workers: 2')
    manager = lab.open(Manager(lab.folder))
    env = {**manager.env, 'WATCHDOG_USEC': '400000'}
    if kind == 'server':
        program = lab.start('server', 'server', '-c', folder / 'server.yaml', env=env)
    else:
        lab.server(folder)
        program = lab.client(invite, '--workers', '2', env=env)
    program.ready()
    heard = manager.hear_all(1)
    assert heard.count('WATCHDOG=1') >= 3 and set(heard) <= {'READY=1', 'WATCHDOG=1'}
    # one thread of two that hangs: what a debugger does to it
    main = program.process.pid
    threads = sorted(int(task) for task in os.listdir(f'/proc/{main}/task'))
    stuck = subprocess.Popen([sys.executable, '-c', STOP_THREAD, str(threads[-1])], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        if stuck.stdout.readline() != b'stopped\n':
            pytest.skip('this process may not trace others')
        manager.hear_all(0.3)
        assert manager.hear_all(0.8) == [], 'a worker does not answer'
    finally:
        stuck.communicate()
    wait_for(lambda: 'WATCHDOG=1' in manager.hear_all(0.3), 5, 'it answers again')


# Stops one thread by ptrace(2) until its standard input ends.
STOP_THREAD = '''
import ctypes, os, sys
libc, thread = ctypes.CDLL(None, use_errno=True), int(sys.argv[1])
SEIZE, INTERRUPT, DETACH = 0x4206, 0x4207, 17
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
if libc.ptrace(SEIZE, thread, None, None) == 0 and libc.ptrace(INTERRUPT, thread, None, None) == 0:
    os.waitpid(thread, 0x40000000)
    print('stopped', flush=True)
    sys.stdin.read()
    libc.ptrace(DETACH, thread, None, None)
else:
    print('refused', flush=True)
'''


@pytest.mark.parametrize('workers', [1, 2])
def test_sockets_that_were_passed_are_used(lab, echo, workers):
    folder, port, invite = lab.init()
    lab.edit_config(folder, 'workers: 3')
    server = lab.start('server', 'server', '-c', folder / 'server.yaml', '-v', prefix=activate(workers, f'127.0.0.1:{port}'))
    server.ready()
    assert f'sealgram: warning: workers: {workers}, as many as sockets of an address were passed\n' in server.err
    clients = [lab.client(invite) for _ in range(6)]
    for client in clients:
        app = lab.open(SocksUdp(client.socks))
        assert app.ask(b'x', echo.address)[0] == b'x'
        assert client.status()['path'] == 'udp'
    status = server.status()
    assert len(status['workers']) == workers and status['sessions'] == 6
    assert sum(status['up']['drops'].values()) == 0, 'records come to their worker'


@pytest.mark.parametrize('workers', [1, 2])
def test_a_client_uses_the_sockets_that_were_passed(lab, echo, tcp_echo, workers):
    """Also for ports below 1024, which a client that is not root cannot open."""
    if os.geteuid() != 0:
        pytest.skip('only root opens ports below 1024 for others')
    folder, _, invite = lab.init()
    server = lab.server(folder)
    path = lab.folder / 'an.invite'
    path.write_text(invite + '\n')
    os.chown(path, NOBODY, NOBODY)
    path.chmod(0o600)
    lab.folder.chmod(0o755)
    (lab.folder / 'run').mkdir()
    os.chown(lab.folder / 'run', NOBODY, NOBODY)
    socks, udp, tcp = ('127.0.0.1', 901), ('127.0.0.1', 902), ('127.0.0.1', 903)
    options = ['--socks', '127.0.0.1:901', '--forward', f'udp:127.0.0.1:902=127.0.0.1:{echo.address[1]}',
               '--forward', f'tcp:127.0.0.1:903=127.0.0.1:{tcp_echo.address[1]}', '--workers', str(workers), f'@{path}']
    nobody = ['setpriv', f'--reuid={NOBODY}', f'--regid={NOBODY}', '--clear-groups']
    if subprocess.run([*nobody, 'test', '-x', SEALGRAM], check=False).returncode != 0:
        pytest.skip('the program lies where only root can reach it')
    env = {'XDG_RUNTIME_DIR': str(lab.folder / 'run'), 'HOME': '/nonexistent'}
    refused = lab.start('client', 'client', *options, prefix=nobody, env=env)
    assert refused.process.wait(20) == 1 and 'Permission denied' in refused.err
    lab.programs.remove(refused)
    prefix = activate(workers, 'tcp=127.0.0.1:901', 'udp=127.0.0.1:902', 'tcp=127.0.0.1:903')
    client = lab.start('client', 'client', *options, prefix=[*prefix, shutil.which('setpriv'), *nobody[1:]], env=env)
    assert client.ready()['socks'] == '127.0.0.1:901'
    for number in range(8):
        assert lab.open(SocksUdp(socks)).ask(b'x', echo.address)[0] == b'x'
        for address, kind in (udp, socket.SOCK_DGRAM), (tcp, socket.SOCK_STREAM):
            with socket.socket(socket.AF_INET, kind) as app:
                app.settimeout(10)
                app.connect(address)
                app.sendall(b'%d' % number)
                assert app.recv(100) == b'%d' % number
    assert server.status()['sessions'] == workers


def test_sockets_that_a_client_does_not_want_are_refused(lab):
    _, _, invite = lab.init()
    port, other = free_port(), free_port()
    forward = ['--forward', f'udp:127.0.0.1:{port}=127.0.0.1:9']
    for passed, says in ((f'tcp=127.0.0.1:{port}', f'socket 1 that was passed has 127.0.0.1:{port}, which is not in --socks or --forward'),
                         (f'udp=127.0.0.1:{other}', f'socket 1 that was passed has 127.0.0.1:{other}, which is not in --socks or --forward')):
        client = lab.client(invite, *forward, ready=False, prefix=activate(1, passed))
        assert client.process.wait(20) == 1 and f'sealgram: error: {says}\n' in client.err
        lab.programs.remove(client)
    client = lab.client(invite, *forward, '--workers', '2', ready=False, prefix=activate(1, f'udp=127.0.0.1:{port}'))
    assert client.process.wait(20) == 1
    assert 'sealgram: error: 1 sockets of an address were passed: one is needed for each of 2 --workers\n' in client.err
    lab.programs.remove(client)


def test_passed_sockets_that_do_not_fit_are_refused(lab):
    folder, port, _ = lab.init()
    other = free_port()
    refused = lab.start('server', 'server', '-c', folder / 'server.yaml', prefix=activate(1, f'127.0.0.1:{other}'))
    assert refused.process.wait(20) == 1
    lab.programs.remove(refused)
    assert f'sealgram: error: socket 1 that was passed has 127.0.0.1:{other}, which is not in listen\n' in refused.err and port


def test_a_passed_socket_for_both_families_is_refused(lab):
    port = free_port()
    folder, _, _ = lab.init(listen=[f'[::]:{port}'], port=port)
    refused = lab.start('server', 'server', '-c', folder / 'server.yaml', prefix=activate(1, f'[::]:{port}', only6=0))
    assert refused.process.wait(20) == 1
    lab.programs.remove(refused)
    assert 'sealgram: error: socket 1 that was passed takes IPv4, too: it needs BindIPv6Only=ipv6-only\n' in refused.err
    server = lab.start('server', 'server', '-c', folder / 'server.yaml', prefix=activate(1, f'[::]:{port}'))
    server.ready()


def test_sockets_for_another_process_are_left_alone(lab):
    folder, _, _ = lab.init()
    server = lab.start('server', 'server', '-c', folder / 'server.yaml', env={'LISTEN_FDS': '2', 'LISTEN_PID': '1'})
    server.ready()


def test_credentials(lab, echo):
    folder, _, invite = lab.init()
    credentials = lab.folder / 'credentials'
    credentials.mkdir()
    for name in 'key.pem', 'cert.pem', 'users':
        shutil.move(folder / name, credentials / name)
    config = folder / 'server.yaml'
    text = config.read_text()
    config.write_text(re.sub(r'^(certificate|key|users): (\S+)$', r'\1: credential:\2', text, flags=re.M))
    server = lab.start('server', 'server', '-c', config, env={'CREDENTIALS_DIRECTORY': str(credentials)})
    server.ready()
    assert lab.open(SocksUdp(lab.client(invite).socks)).ask(b'x', echo.address)[0] == b'x'
    assert run('reload', '--socket', server.control).stdout == 'reloaded\n'
    line = next(number for number, words in enumerate(text.splitlines(), 1) if words.startswith('certificate:'))
    done = run('server', '--check', '-c', config)
    none = 'there are no credentials: CREDENTIALS_DIRECTORY is not set'
    assert done.stderr.startswith(f'sealgram: error: {config}:{line}: certificate: {none}')
    assert done.stderr.count(none) == 3, 'each of the three is named'
    for name in '../key.pem', '', '.':
        config.write_text(re.sub(r'^certificate: .*$', f'certificate: "credential:{name}"', text, flags=re.M))
        done = run('server', '--check', '-c', config, env={'CREDENTIALS_DIRECTORY': str(credentials)})
        assert done.stderr.startswith(f'sealgram: error: {config}:{line}: certificate: not the name of a credential')


# Lets itself make only the system calls that are named (the others fail with an error), and becomes a copy of the program:
# what systemd does by SystemCallFilter=. The program itself may lie where only root can reach it.
FILTER = '''
import ctypes, os, sys
lib, error, names = ctypes.CDLL('libseccomp.so.2'), int(sys.argv[1]), sys.argv[2].split(',')
lib.seccomp_init.restype = ctypes.c_void_p
filter = ctypes.c_void_p(lib.seccomp_init(ctypes.c_uint32(0x00050000 | error)))
for name in names:
    number = lib.seccomp_syscall_resolve_name(name.encode())
    if number >= 0:
        assert lib.seccomp_rule_add(filter, ctypes.c_uint32(0x7fff0000), number, 0) == 0, name
assert lib.seccomp_load(filter) == 0
os.execv(sys.argv[3], sys.argv[4:])
'''
NOBODY = 65534


def calls_of(analyze, word):
    """The system calls of a set of systemd's, or of one name."""
    if not word.startswith('@'):
        return {word}
    done = subprocess.run([analyze, 'syscall-filter', word], capture_output=True, text=True, check=True)
    words = [line.strip() for line in done.stdout.splitlines()[1:]]
    return set().union(*(calls_of(analyze, inner) for inner in words if inner and not inner.startswith('#')))


def allowed_by(analyze, text):
    """The system calls that a unit allows: the first line is a list of those, the next ones take away (~) or add."""
    allowed = set()
    for line in re.findall(r'^SystemCallFilter=(.*)$', text, re.M):
        words = line.removeprefix('~').split()
        calls = set().union(*(calls_of(analyze, word) for word in words))
        allowed = allowed - calls if line.startswith('~') else allowed | calls
    return sorted(allowed)


def as_unit(analyze, unit, copy):
    """What runs a program as systemd would run it by a unit, as far as user, capabilities and system calls go."""
    text = (UNITS / f'{unit}.in').read_text()
    assert 'SystemCallErrorNumber=EPERM\n' in text and 'CapabilityBoundingSet=\n' in text
    calls = allowed_by(analyze, text)
    assert 'capset' not in calls and 'recvmmsg' in calls, 'what else would be shown'
    return ['setpriv', f'--reuid={NOBODY}', f'--regid={NOBODY}', '--clear-groups', '--inh-caps=-all', '--bounding-set=-all',
            '--no-new-privs', sys.executable, '-c', FILTER, str(errno.EPERM), ','.join(calls), copy]


@pytest.mark.no_sanitize
@pytest.mark.skipif(os.geteuid() != 0, reason='only root can become another user')
def test_programs_run_as_the_units_say(lab, echo, program):
    analyze = program('systemd-analyze')
    folder, port, _ = lab.init()
    invite = lab.invite(folder, 'bob', '--uses', '1')  # for one device: both sides write a file
    lab.folder.chmod(0o755)
    copy = shutil.copy(SEALGRAM, lab.folder / 'program')
    state, run_dir, invite_path = lab.folder / 'state', folder / 'run', lab.folder / 'bob.invite'
    state.mkdir()
    run_dir.mkdir()
    lab.edit_config(folder, 'status_socket: run/control.sock')
    invite_path.write_text(invite + '\n')
    invite_path.chmod(0o600)
    for path in folder, *folder.iterdir(), state, invite_path:
        os.chown(path, NOBODY, NOBODY)
    server = lab.start('server', 'server', '-c', folder / 'server.yaml', '-v', prefix=as_unit(analyze, 'sealgram-server.service', copy))
    server.ready()
    client = lab.start('client', 'client', '--socks', '127.0.0.1:0', '--status-socket', run_dir / 'client.sock', f'@{invite_path}',
                       prefix=as_unit(analyze, 'sealgram-client@.service', copy), env={'STATE_DIRECTORY': str(state)})
    host, _, socks_port = client.ready()['socks'].rpartition(':')
    assert lab.open(SocksUdp((host, int(socks_port)))).ask(b'x', echo.address)[0] == b'x'
    assert (state / 'device.key').stat().st_uid == NOBODY
    assert run('reload', '--socket', run_dir / 'control.sock').stdout == 'reloaded\n'
    assert run('users', folder).stdout.count('bob') == 1 and port


def test_units_name_what_is_there(lab):
    """The directories and the control socket of the units are those of the programs."""
    server, client = ((UNITS / f'{unit}.in').read_text() for unit in ('sealgram-server.service', 'sealgram-client@.service'))
    for text in server, client:
        for line in re.findall(r'^Exec\w*=(.*)$', text, re.M):
            # systemd replaces $NAME only where it is a word of its own, ${NAME} anywhere
            assert all(word == found for word in line.split() for found in re.findall(r'\$\w+', word)), line
    assert re.search(r'^ExecReload=\S+ reload --socket /run/sealgram/server/server-\$\{MAINPID\}\.sock$', server, re.M)
    assert '\nRuntimeDirectory=sealgram/server\n' in server and '\nStateDirectory=sealgram-%i\n' in client
    folder, _, _ = lab.init()
    own = lab.folder / 'sealgram' / 'server'  # as the service manager makes it below /run
    own.mkdir(parents=True)
    running = lab.start('server', 'server', '-c', folder / 'server.yaml', env={'RUNTIME_DIRECTORY': str(own)})
    running.ready()
    assert (own / f'server-{running.process.pid}.sock').is_socket()
    assert run('reload', folder=lab.folder).stdout == 'reloaded\n', 'found there, too'


@pytest.mark.parametrize('unit', ['sealgram-server.service', 'sealgram-client@.service'])
def test_units_are_hardened(lab, program, unit):
    analyze = program('systemd-analyze')
    path = lab.folder / unit
    path.write_text((UNITS / f'{unit}.in').read_text().replace('@bindir@', '/usr/bin'))
    done = subprocess.run([analyze, 'security', '--offline=true', '--threshold=15', str(path)], capture_output=True, text=True,
                          check=False)
    assert done.returncode == 0, done.stdout
    weak = lab.folder / 'weak.service'
    weak.write_text(path.read_text().replace('ProtectSystem=strict', '').replace('RestrictNamespaces=yes', '').replace('PrivateUsers=yes', '').replace('NoNewPrivileges=yes', 'NoNewPrivileges=no'))
    done = subprocess.run([analyze, 'security', '--offline=true', '--threshold=15', str(weak)], capture_output=True, text=True,
                          check=False)
    assert done.returncode == 1, 'the threshold is not far away'


@pytest.mark.parametrize('unit', ['sealgram-server.service', 'sealgram-client@.service'])
def test_units_say_what_systemd_understands(lab, program, unit):
    analyze = program('systemd-analyze')
    path = lab.folder / unit.replace('@', '@x')
    path.write_text((UNITS / f'{unit}.in').read_text().replace('@bindir@/sealgram', '/bin/true').replace('User=sealgram', 'User=daemon'))
    done = subprocess.run([analyze, 'verify', '--man=no', str(path)], capture_output=True, text=True, check=False)
    assert str(path) not in done.stderr and pathlib.Path(path).name not in done.stderr, done.stderr
