"""What server and client give up after the start, seen from outside; what they can still do is all the other tests."""
import os
import pathlib
import shutil
import socket
import stat
import subprocess
import tempfile

import pytest

from harness import CONNECT, SEALGRAM, SocksUdp, run, socks_request, wait_for

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason='only root can become another user')


def need_sandbox(server):
    if 'sandbox: this build has none' in server.err:
        pytest.skip('this build has no sandbox')


def threads_of(program):
    """The status of each thread."""
    return [dict(line.split(':\t', 1) for line in (task / 'status').read_text().splitlines() if ':\t' in line)
            for task in pathlib.Path(f'/proc/{program.process.pid}/task').iterdir()]


def test_nothing_is_left_to_any_thread(lab, echo, tcp_echo):
    folder, _, invite = lab.init()
    lab.edit_config(folder, 'workers: 2')
    server, client = lab.server(folder), lab.client(invite, '--workers', '2')
    need_sandbox(server)
    for program, count in (server, 2 + 2 + 1 + 1), (client, 2 + 1):
        threads = threads_of(program)
        assert len(threads) == count
        for status in threads:
            assert {status[key] for key in ('CapInh', 'CapPrm', 'CapEff', 'CapAmb')} == {'0' * 16}
            assert (status['NoNewPrivs'], status['Seccomp']) == ('1', '2')
            if os.geteuid() == 0:
                assert status['CapBnd'] == '0' * 16
    assert lab.open(SocksUdp(client.socks)).ask(b'x', echo.address)[0] == b'x'
    assert socks_request(client.socks, CONNECT, *tcp_echo.address)[1] == 0


def test_memory_cannot_be_looked_at(lab):
    """Not even by other processes of the same user."""
    folder, _, _ = lab.init()
    same_user = ['setpriv', f'--reuid={NOBODY}', f'--regid={NOBODY}', '--clear-groups'] if os.geteuid() == 0 else []
    if same_user:
        lab.folder.chmod(0o755)
        lab.edit_config(folder, 'status_socket: control.sock')
        for path in folder, *folder.iterdir():
            os.chown(path, NOBODY, NOBODY)
        if subprocess.run([*same_user, 'test', '-x', SEALGRAM], check=False).returncode != 0:
            pytest.skip('the program lies where only root can reach it')

    def look(program, name):
        return subprocess.run([*same_user, 'head', '-c0', f'/proc/{program.process.pid}/{name}'], capture_output=True, text=True,
                              check=False).stderr
    for config, closed in ('', True), ('sandbox: off', False):
        lab.edit_config(folder, config)
        server = lab.start('server', 'server', '-c', folder / 'server.yaml', '-v', prefix=same_user)
        server.ready()
        need_sandbox(server)
        assert [('Permission denied' in look(server, name)) for name in ('mem', 'environ')] == [closed] * 2
        server.stop()


def test_files_elsewhere_are_closed_to_a_reload(lab):
    folder, _, _ = lab.init()
    server = lab.server(folder)
    need_sandbox(server)
    if subprocess.run(['grep', '-q', 'no Landlock', server.err_path], check=False).returncode == 0:
        pytest.skip('this kernel has no Landlock')
    with tempfile.TemporaryDirectory(prefix='sg-') as elsewhere:
        other = pathlib.Path(elsewhere) / 'users'
        shutil.copy(folder / 'users', other)
        config = folder / 'server.yaml'
        config.write_text(config.read_text().replace('users: users', f'users: {other}'))
        done = run('reload', '--socket', server.control)
        assert (done.returncode, done.stderr) == (1, f'sealgram: {other}: Permission denied\n')
        assert run('server', '-c', config, '--check').returncode == 0


@pytest.mark.no_sanitize
def test_without_a_sandbox(lab, echo):
    folder, _, invite = lab.init()
    lab.edit_config(folder, 'sandbox: off')
    server, client = lab.server(folder), lab.client(invite, '--no-sandbox')
    assert f'sealgram: warning: sandbox: off in {folder}/server.yaml: system calls and files are not restricted\n' in server.err
    for program in server, client:
        assert {status['Seccomp'] for status in threads_of(program)} == {'0'}
        for status in threads_of(program):
            assert {status[key] for key in ('CapPrm', 'CapEff', 'CapAmb')} == {'0' * 16}, 'not even for a debugger'
            assert status['NoNewPrivs'] == '1'
    assert lab.open(SocksUdp(client.socks)).ask(b'x', echo.address)[0] == b'x'


@pytest.fixture
def as_nobody(lab):
    """A server's folder that belongs to nobody, with `user: nobody`."""
    folder, port, invite = lab.init()
    lab.folder.chmod(0o755)
    (folder / 'run').mkdir()
    lab.edit_config(folder, 'user: nobody\nstatus_socket: run/control.sock')
    for path in folder, *folder.iterdir():
        os.chown(path, NOBODY, NOBODY)
    return folder, port, invite


@as_root
def test_the_server_becomes_its_user(lab, echo, as_nobody):
    folder, _, invite = as_nobody
    server, client = lab.server(folder), lab.client(invite)
    for status in threads_of(server):
        assert status['Uid'].split() == status['Gid'].split() == [str(NOBODY)] * 4
        assert status['Groups'].split() in ([], [str(NOBODY)])
        assert {status[key] for key in ('CapInh', 'CapPrm', 'CapEff', 'CapAmb', 'CapBnd')} == {'0' * 16}
    control = folder / 'run' / 'control.sock'
    assert control.stat().st_uid == NOBODY and stat.S_IMODE(control.stat().st_mode) == 0o600
    assert run('reload', '--socket', control).stdout == 'reloaded\n', 'root may ask, and the user can read all again'
    assert lab.open(SocksUdp(client.socks)).ask(b'x', echo.address)[0] == b'x'
    run('revoke', folder, 'alice')
    os.chown(folder / 'users', NOBODY, NOBODY)
    wait_for(lambda: 'session of alice ended' in server.err, 5, 'the user file is watched')
    server.stop()
    assert not control.exists()


@as_root
@pytest.mark.parametrize('starts', [True, False])
def test_the_run_directory_of_root_stays_its_own(lab, as_nobody, starts):
    """Sockets of root's programs are not in the hands of a user that another program becomes, whatever becomes of it."""
    folder, _, invite = as_nobody
    config = folder / 'server.yaml'
    config.write_text(config.read_text().replace('status_socket: run/control.sock', ''))
    other, _, _ = lab.init()
    roots = lab.server(other)
    run_dir = lab.folder / 'sealgram'
    if starts:
        server = lab.server(folder)
    else:
        os.chown(folder / 'key.pem', 0, 0)
        assert run('server', '-c', config, folder=lab.folder).returncode == 1
    assert run_dir.stat().st_uid == 0 and not run_dir.stat().st_mode & 0o022
    assert {path.name: path.stat().st_uid for path in run_dir.iterdir()} == {
        f'server-{roots.process.pid}.sock': 0, str(NOBODY): NOBODY}
    assert stat.S_IMODE((run_dir / str(NOBODY)).stat().st_mode) == 0o700
    as_user = [shutil.which('setpriv'), '--reuid', str(NOBODY), '--regid', str(NOBODY), '--clear-groups']
    removal = subprocess.run([*as_user, 'rm', '-f', run_dir / f'server-{roots.process.pid}.sock'], capture_output=True,
                             check=False)
    assert removal.returncode != 0 and roots.status()['role'] == 'server'
    if starts:
        control = run_dir / str(NOBODY) / f'server-{server.process.pid}.sock'
        assert run('reload', '--socket', control).stdout == 'reloaded\n'
        both = run('status', folder=lab.folder)
        assert both.returncode == 2 and str(control) in both.stderr, 'it is found'
        server.stop()
        assert not control.exists()
    lab.client(invite, ready=False)
    wait_for(lambda: len(list(run_dir.glob('client-*.sock'))) == 1, 10, "root's own programs still start there")


@as_root
def test_a_low_port_is_bound_before(lab, as_nobody):
    folder, _, _ = as_nobody
    config = folder / 'server.yaml'
    text = config.read_text()
    for port in range(1023, 900, -1):
        config.write_text(text.partition('listen:\n')[0] + f'listen:\n  - "127.0.0.1:{port}"\nhost:' + text.partition('\nhost:')[2])
        server = lab.start('server', 'server', '-c', config, '-v')
        wait_for(lambda server=server: server.process.poll() is not None or server.out, 10, 'the start')
        if server.out:
            break
        lab.programs.remove(server)
    assert server.ready()['plain'] == [f'127.0.0.1:{port}']
    with socket.create_connection(('127.0.0.1', port), 5):
        pass


@as_root
def test_files_that_the_user_cannot_read_are_refused(lab, as_nobody):
    folder, _, _ = as_nobody
    os.chown(folder / 'key.pem', 0, 0)
    done = run('server', '-c', folder / 'server.yaml')
    assert done.returncode == 1 and done.stdout == ''
    assert f'sealgram: error: {folder}/key.pem: nobody (user) cannot read it: Permission denied: chown it to nobody' in done.stderr


def test_a_user_that_there_is_not(lab):
    folder, _, _ = lab.init()
    lab.edit_config(folder, 'user: nobody.of.that.name')
    done = run('server', '-c', folder / 'server.yaml')
    assert done.returncode == 1 and done.stdout == ''
    assert 'sealgram: error: user: there is no user nobody.of.that.name\n' in done.stderr


def without_locked_memory():
    """What runs a program that may lock nothing."""
    root = ['setpriv', '--bounding-set', '-ipc_lock', '--inh-caps', '-ipc_lock'] if os.geteuid() == 0 else []
    return [*root, 'prlimit', '--memlock=0:0']


def test_where_memory_cannot_be_locked(lab):
    text = 'keys cannot be locked in memory: raise the limit of locked memory (ulimit -l)\n'
    folder, _, _ = lab.init()
    server = lab.start('server', 'server', '-c', folder / 'server.yaml', prefix=without_locked_memory())
    server.ready()
    assert server.err.count(f'sealgram: warning: {text}') == 1
    server.stop()
    lab.edit_config(folder, 'require_locked_memory: true')
    refused = lab.start('server', 'server', '-c', folder / 'server.yaml', prefix=without_locked_memory())
    assert refused.process.wait(20) == 1
    lab.programs.remove(refused)
    assert (refused.out, refused.err) == ('', f'sealgram: error: {text}')


@pytest.mark.parametrize('line', ['sandbox: 1', 'sandbox: [on]'])
def test_what_sandbox_takes(lab, line):
    folder, _, _ = lab.init()
    lab.edit_config(folder, line)
    done = run('server', '--check', '-c', folder / 'server.yaml')
    count = len((folder / 'server.yaml').read_text().splitlines())
    assert (done.returncode, done.stderr) == (3, f'sealgram: error: {folder}/server.yaml:{count}: sandbox: must be on or off\n')
