"""Fixtures of the end-to-end tests; what they are made of is in harness.py."""
import os
import shutil
import subprocess
import sys
import tempfile

import pytest

import emulated as emulations
import harness
import network as networks


def pytest_configure(config):
    """Starts this run again below tools/alone: it meets no other program, and leaves nothing behind however it ends."""
    if 'SEALGRAM_ALONE' not in os.environ and not hasattr(config, 'workerinput'):
        config.pluginmanager.getplugin('capturemanager').suspend_global_capture(in_=True)
        os.execv(harness.ALONE, [str(harness.ALONE), sys.executable, *sys.orig_argv[1:]])


@pytest.fixture(scope='session', autouse=True)
def runtime_folder():
    """Programs of these tests have their sockets where nobody else looks for any."""
    with tempfile.TemporaryDirectory(prefix='sg-run-') as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv('XDG_RUNTIME_DIR', folder)
        patch.setenv('XDG_STATE_HOME', folder + '/state')
        yield


@pytest.fixture
def lab():
    """One test's folder, programs and targets; what is left running at the end is stopped and checked."""
    lab = harness.Lab()
    yield lab
    lab.close()


@pytest.fixture
def echo(lab):
    return lab.open(harness.UdpEcho())


@pytest.fixture
def echo6(lab):
    return lab.open(harness.UdpEcho('::1'))


@pytest.fixture
def named_echo(lab):
    """An echo that the name localhost leads to, whichever of 127.0.0.1 and ::1 comes first in this machine's hosts file."""
    return lab.open(harness.UdpEcho('::'))


@pytest.fixture
def tcp_echo(lab):
    return lab.open(harness.TcpServer(harness.echo_stream))


def need(program):
    """Skips the test, by name, where a program is missing."""
    path = shutil.which(program)
    if not path:
        pytest.skip(f'{program} is not installed')
    return path


@pytest.fixture
def program():
    return need


@pytest.fixture
def with_hosts(lab, program):
    """Gives, for the text of a hosts file, what starts a program for which it is /etc/hosts."""
    def prefix(text):
        path = lab.folder / 'hosts'
        path.write_text(text)
        user = [] if os.geteuid() == 0 else ['--user', '--map-root-user']  # a chroot refuses user namespaces to root, too
        words = [program('unshare'), *user, '--mount', 'sh', '-c', f'mount --bind {path} /etc/hosts && exec "$@"', 'sh']
        if subprocess.run([*words, 'true'], capture_output=True, check=False).returncode != 0:
            pytest.skip('needs mount namespaces')
        return words
    return prefix


@pytest.fixture
def nobody_else():
    """Skips where a command that looks for a running program could find one that no test started."""
    if os.environ.get('SEALGRAM_ALONE') != 'namespaces':
        pytest.skip('needs namespaces of its own (root or user namespaces): other programs may run here')


@pytest.fixture
def own_network():
    """Skips unless this process may make network namespaces."""
    if os.geteuid() != 0 or subprocess.run(['unshare', '-n', 'true'], capture_output=True, check=False).returncode != 0:
        pytest.skip('needs root and network namespaces')


@pytest.fixture
def network(lab, own_network, program):
    """Two hosts joined by a wire."""
    for name in ('ip', 'nsenter', 'tcpdump'):
        program(name)
    return networks.Network(lab)


@pytest.fixture
def emulated(lab, own_network, program):
    """Two hosts joined by the emulator, with nothing bad set."""
    for name in ('ip', 'nsenter'):
        program(name)
    if not os.path.exists('/dev/net/tun'):
        pytest.skip('this kernel has no TUN devices')
    network = emulations.Emulated(lab, seed=1)
    yield network
    network.close()
    assert network.ended_well()
