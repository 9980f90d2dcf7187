"""These tests and the benchmark meet no program that they did not start, and leave none behind, however they are ended."""
import os
import pathlib
import re
import signal
import subprocess
import sys

import pytest

from emulated import find_emulator
from harness import ALONE, ROOT, SEALGRAM, wait_for

pytestmark = pytest.mark.no_sanitize  # they look at the tests, not at the program

# Programs of somebody else: a server and a client of the same user in the default directory of sockets, one more socket
# there that notes who asks, and the run of tests beside them.
BESIDE = '''
import os, pathlib, socket, subprocess, sys, threading, time
sealgram, folder = sys.argv[1], pathlib.Path(sys.argv[2])
env = {name: value for name, value in os.environ.items() if name not in ('XDG_RUNTIME_DIR', 'SEALGRAM_ALONE')}

def command(*words):
    return subprocess.run([sealgram, *words], env=env, check=True, capture_output=True, text=True)

def start(name, *words):
    with open(folder / f'{name}.out', 'w') as out, open(folder / f'{name}.err', 'w') as err:
        program = subprocess.Popen([sealgram, *words], env=env, stdout=out, stderr=err, stdin=subprocess.DEVNULL)
    while not (folder / f'{name}.out').read_text().startswith('ready'):
        assert program.poll() is None, (folder / f'{name}.err').read_text()
        time.sleep(0.02)
    return program

init = command('init', str(folder / 'eve'), '--listen', '127.0.0.1:1443', '--host', '127.0.0.1', '--user', 'eve')
invite = folder / 'eve.invite'
invite.write_text(init.stdout)
invite.chmod(0o600)
programs = [start('server', 'server', '-v', '-c', str(folder / 'eve/server.yaml')), start('client', 'client', f'@{invite}')]
places = [pathlib.Path('/run/sealgram'), pathlib.Path(f'/tmp/sealgram-{os.geteuid()}')]
place = next(place for place in places if place.is_dir())
listener = socket.socket(socket.AF_UNIX)
listener.bind(str(place / 'server-1.sock'))
listener.listen()
asked = []

def note():
    while True:
        connection, _ = listener.accept()
        asked.append('somebody asked a program that is not theirs')
        connection.close()

threading.Thread(target=note, daemon=True).start()
before = (folder / 'server.err').read_text()
done = subprocess.run(sys.argv[3:], env=env, capture_output=True, text=True)
print(done.stdout[-4000:] + done.stderr[-4000:])
assert done.returncode == 0, f'the tests ended with {done.returncode}'
assert not asked, asked
assert (folder / 'server.err').read_text() == before, (folder / 'server.err').read_text()
assert [program.poll() for program in programs] == [None, None]
'''
# All that look for a running program, and the ports that the other server and client have.
LOOKING = 'status or without_a_server or closed_to_a_reload or credentials or stopping or first_steps or drain_now'


def python(*words):
    return [sys.executable, *map(str, words)]


def pytest_of(*words):
    return python('-m', 'pytest', '-q', '-p', 'no:cacheprovider', *words)


@pytest.mark.slow
def test_programs_of_others_are_not_touched(lab, nobody_else):
    others = lab.folder / 'others'
    others.mkdir()
    tests = [ROOT / 'tests/e2e' / f'test_{name}.py' for name in ('cli_admin', 'reload', 'sandbox', 'systemd', 'first_steps')]
    done = subprocess.run([ALONE, *python('-c', BESIDE, SEALGRAM, others), *pytest_of('-k', LOOKING, *tests)],
                          capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(re.search(r'(\d+) passed', done.stdout)[1]) > 10, done.stdout


# --- what is left of a run that was killed ---

def descendants(pid):
    """The process and all below it; namespaces of processes inside this one's are seen from here."""
    found = [pid]
    try:
        for task in pathlib.Path(f'/proc/{pid}/task').iterdir():
            for child in (task / 'children').read_text().split():
                found += descendants(int(child))
    except OSError:
        pass  # it has ended
    return found


def command_of(pid):
    try:
        return pathlib.Path(f'/proc/{pid}/cmdline').read_bytes().replace(b'\0', b' ').decode(errors='replace')
    except OSError:
        return ''


class Run:
    """A run below tools/alone, started as from a shell: the first process of a group of its own, which SIGINT ends. A run
    of tests in the background of a script was started with SIGINT ignored, and would hand that down."""

    def __init__(self, lab, *command):
        self.log = lab.folder / 'run.log'
        env = {name: value for name, value in os.environ.items() if name != 'SEALGRAM_ALONE'}
        with open(self.log, 'wb') as log:
            self.process = subprocess.Popen(['env', '--default-signal=INT', *map(str, command)], stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log, process_group=0, env=env)
        lab.open(self)

    def wait_for_programs(self, *patterns):
        """Waits until a process below it matches each; gives all that run below it then: {process id: command}."""
        def running():
            assert self.process.poll() is None, self.log.read_text()
            commands = {pid: command_of(pid) for pid in descendants(self.process.pid)}
            return all(any(re.search(pattern, command) for command in commands.values()) for pattern in patterns) and commands
        return wait_for(running, 60, f'{patterns} in a run that prints {self.log.read_text()}')

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(20)


def folders_of(processes):
    """The temporary folders of these, but not those of this run."""
    mine = pathlib.Path(os.environ['TMPDIR'])
    found = {pathlib.Path(path) for command in processes.values() for path in re.findall(r'/tmp/sg-alone-\w+', command)}
    return found - {mine, *mine.parents}


def have_ended(run, processes):
    run.process.wait(60)
    wait_for(lambda: not any(os.path.exists(f'/proc/{pid}') for pid in processes), 30, f'the end of {processes}')


def nothing_is_left(run, processes):
    have_ended(run, processes)
    folders = folders_of(processes)
    assert folders
    wait_for(lambda: not any(folder.exists() for folder in folders), 30, f'the end of {folders}')


def pytest_among(processes):
    """The process that runs pytest, below the three of tools/alone."""
    return next(pid for pid, command in processes.items() if '-m pytest' in command and 'alone' not in command.split(' -m ')[0])


# Who is told to end: the process that a shell knows, all of its group, and the one that runs the tests.
ENDS = {
    'killed': lambda process, _: process.kill(),
    'group': lambda process, _: os.killpg(process.pid, signal.SIGKILL),
    'inside': lambda process, below: os.kill(pytest_among(below), signal.SIGKILL),
    'terminated': lambda process, _: process.terminate(),
    'interrupted': lambda process, _: process.send_signal(signal.SIGINT),
}
LONG_TEST = pytest_of('-n', 2, '-k', 'thousand_reloads', ROOT / 'tests/e2e/test_reload.py')


@pytest.mark.slow
@pytest.mark.parametrize('end', ENDS)
def test_a_run_of_tests_that_is_ended_leaves_nothing(lab, end):
    run = Run(lab, *LONG_TEST)
    processes = run.wait_for_programs('sealgram server', 'sealgram client')
    ENDS[end](run.process, processes)
    nothing_is_left(run, processes)
    assert run.process.returncode != 0


@pytest.mark.slow
def test_what_a_killed_keeper_leaves_goes_at_the_next_start(lab, nobody_else):
    run = Run(lab, *LONG_TEST)
    processes = run.wait_for_programs('sealgram server', 'sealgram client')
    os.kill(descendants(run.process.pid)[1], signal.SIGKILL)
    have_ended(run, processes)
    folders = folders_of(processes)
    assert folders and all(folder.exists() for folder in folders)
    assert run.process.returncode == 128 + signal.SIGKILL
    subprocess.run([ALONE, 'true'], check=True, timeout=60)
    assert not any(folder.exists() for folder in folders)


@pytest.mark.slow
@pytest.mark.netns
def test_killed_tests_leave_no_host_and_no_wire(lab, network):
    def ip(*words):
        return subprocess.run(['ip', *words], check=True, capture_output=True, text=True).stdout
    links = ip('-o', 'link')
    run = Run(lab, *pytest_of('-k', 'test_', ROOT / 'tests/e2e/test_capture.py'))
    processes = run.wait_for_programs('tcpdump', 'sealgram client')
    # (its id, where it hangs, its place) of each mount there; those of this run are below an older /run
    mounts = [(words[0], words[1], words[4]) for words in
              map(str.split, pathlib.Path(f'/proc/{pytest_among(processes)}/mountinfo').read_text().splitlines())]
    newest = [number for number, _, place in mounts if place == '/run/netns'][-1]
    hosts = [place.removeprefix('/run/netns/') for _, parent, place in mounts if parent == newest]
    assert len(hosts) == 2, mounts
    run.process.kill()
    nothing_is_left(run, processes)
    assert ip('-o', 'link') == links and not any(host in ip('netns') for host in hosts)


@pytest.fixture
def bench_build(lab):
    """A build directory of the benchmark whose load generator says that it is ready, and waits."""
    build = lab.folder / 'build'
    (build / 'bench').mkdir(parents=True)
    (build / 'bench' / 'load').write_text('#!/bin/sh\necho ready\nexec sleep 1000\n')
    (build / 'bench' / 'load').chmod(0o755)
    (build / 'sealgram').symlink_to(SEALGRAM)
    return build


MEASURING = {
    'run': ['--runners', 'sealgram', '--cases', 'idle', '--extras', ''],
    'profile': [],
    'attack': ['--floods', 'forged records', '--attackers', '1'],
    'loss': ['--lanes', 'sealgram', '--cells', 'rtt50:loss0:rate50'],
}


@pytest.mark.slow
@pytest.mark.parametrize('name', MEASURING)
def test_a_benchmark_that_is_killed_leaves_nothing(lab, bench_build, name, request):
    if name in ('loss', 'attack'):
        request.getfixturevalue('own_network')
    if name == 'loss':
        (bench_build / 'tests' / 'net').mkdir(parents=True)
        (bench_build / 'tests' / 'net' / 'emulator').symlink_to(find_emulator())
    output = lab.folder / 'result.json'
    run = Run(lab, *python(ROOT / 'bench' / name, '--build', bench_build, '--output', output, *MEASURING[name]))
    processes = run.wait_for_programs('sealgram server', 'sealgram client', 'sleep 1000')
    run.process.kill()
    nothing_is_left(run, processes)
    assert not output.exists()


@pytest.mark.slow
def test_a_footprint_that_is_killed_leaves_nothing(lab):
    run = Run(lab, *python(ROOT / 'tools' / 'footprint', SEALGRAM))
    processes = run.wait_for_programs('sealgram server')
    run.process.kill()
    nothing_is_left(run, processes)


# --- tools/alone itself ---

def alone(*words, prefix=(), **options):
    return subprocess.run([*prefix, ALONE, *words], capture_output=True, text=True, timeout=60, **options)


def test_the_exit_status_is_that_of_the_command():
    assert [alone('sh', '-c', word).returncode for word in ('exit 0', 'exit 7', 'kill -KILL $$')] == [0, 7, 137]
    assert alone().returncode == 1 and alone('/nonexistent').returncode != 0


def test_what_a_command_leaves_running_ends_with_it(lab):
    done = alone('sh', '-c', 'setsid sleep 1000 & echo $TMPDIR; touch $TMPDIR/file; ls /run/sealgram')
    folder = pathlib.Path(done.stdout.strip())
    assert folder.name.startswith('sg-alone-') and not folder.exists()


def test_without_namespaces_what_it_started_ends_too(lab, program):
    """As where neither root nor users may make them."""
    forbid = [program('unshare'), '--user', '--map-root-user', 'sh', '-c', 'echo 0 >/proc/sys/user/max_pid_namespaces; exec "$@"', 'sh']
    if subprocess.run([*forbid, 'true'], capture_output=True, check=False).returncode != 0:
        pytest.skip('no user namespace can be made here')
    said = lab.folder / 'said'
    run = Run(lab, *forbid, ALONE, 'sh', '-c', f'setsid sleep 1001 & (sleep 1002 &); echo $SEALGRAM_ALONE $TMPDIR >{said}; sleep 1003')
    processes = run.wait_for_programs('sleep 1001', 'sleep 1002', '^sleep 1003')
    kind, folder = said.read_text().split()
    assert kind == 'processes' and 'no namespaces can be made here' in run.log.read_text()
    run.process.kill()
    have_ended(run, processes)
    wait_for(lambda: not os.path.exists(folder), 30, f'the end of {folder}')
