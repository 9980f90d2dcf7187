"""Where measurements happen: processes that end with it, their CPU time, the load generator, and two namespaces."""
import contextlib
import datetime
import os
import pathlib
import platform
import select
import shutil
import signal
import socket
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
READY_SECONDS = 15
TICK_NS = 10**9 // os.sysconf('SC_CLK_TCK')


def be_alone(own_network=False):
    """Starts this program again below tools/alone, unless it runs there: what it starts ends with it, however that is.
    The network stays that of the machine, whose path through the kernel is measured, unless it is to be an own one."""
    if 'SEALGRAM_ALONE' not in os.environ:
        alone = str(ROOT / 'tools' / 'alone')
        os.execv(alone, [alone, *([] if own_network else ['--share-network']), sys.executable, *sys.orig_argv[1:]])


class Missing(Exception):
    """The program of a peer is not on this machine."""


def find_program(package, name):
    """An unpacked package's program (tools/deps), or the one that is installed."""
    unpacked = [path for path in (ROOT / '.deps' / package).glob('usr/*bin/' + name) if path.is_file()]
    installed = shutil.which(name, path=os.environ.get('PATH', '') + ':/usr/sbin')
    if not unpacked and not installed:
        asked = (ROOT / '.deps' / package).is_dir()
        raise Missing(f'no {name}: ' + (f'this release of Debian has no {package}' if asked else 'make bench-deps'))
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


def listens(pid, port):
    """Whether a TCP socket listens on the port in the network namespace of the process."""
    with contextlib.suppress(OSError):
        for line in pathlib.Path(f'/proc/{pid}/net/tcp').read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == '0A' and int(fields[1].split(':')[1], 16) == port:
                return True
    return False


def children(pid):
    """The process and all that it started."""
    found = [pid]
    with contextlib.suppress(OSError):
        for task in pathlib.Path(f'/proc/{pid}/task').iterdir():
            for child in (task / 'children').read_text().split():
                found += children(int(child))
    return found


def cpu_ns(processes):
    """User and system time of the processes and their children, ended ones included."""
    total = 0
    for pid in [pid for process in processes for pid in children(process.pid)]:
        with contextlib.suppress(OSError):
            fields = pathlib.Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()
            total += sum(int(field) for field in fields[11:15])
    return total * TICK_NS


def describe_machine():
    def read(path):
        with contextlib.suppress(OSError):
            return pathlib.Path(path).read_text().strip()
        return ''
    model = [line.split(':', 1)[1].strip() for line in read('/proc/cpuinfo').splitlines()
             if line.startswith('model name')]
    return {'cpus': os.cpu_count(), 'model': model[0] if model else platform.machine(), 'kernel': platform.release(),
            'rmem_max': read('/proc/sys/net/core/rmem_max'), 'wmem_max': read('/proc/sys/net/core/wmem_max'),
            'sched_autogroup': read('/proc/sys/kernel/sched_autogroup_enabled')}


def describe_run():
    """What a result has about when and where it was measured, and of which commit."""
    commit = subprocess.run(['git', 'describe', '--always', '--dirty'], cwd=ROOT, capture_output=True, text=True).stdout
    return {'date': datetime.datetime.now(datetime.timezone.utc).isoformat(timespec='seconds'),
            'commit': commit.strip(), 'machine': describe_machine()}


def spawn(command, **options):
    """Starts a process in a session of its own, as a service manager would. The scheduler shares out the CPUs among
    sessions (sched_autogroup): a program gets no more of them for having more threads, or processes, than another."""
    return subprocess.Popen([str(word) for word in command], start_new_session=True, **options)


class Load:
    """The load generator at work: it waits when it is warm, and again for each line that it gets."""

    def __init__(self, bench, words):
        self.log = open(bench.folder / 'load.log', 'w+')
        self.process = spawn([*bench.near, *bench.instrument, bench.load, *words, '--wait'], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, stderr=self.log, text=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()
        self.log.close()

    def line(self, seconds=60):
        readable, _, _ = select.select([self.process.stdout], [], [], seconds)
        return self.process.stdout.readline().strip() if readable else ''

    def go_on(self):
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write('\n')
            self.process.stdin.flush()

    def said(self):
        self.log.seek(0)
        return self.log.read().strip()


class Bench:
    """What all runners need: a folder, the load generator, two echo servers (without GSO and with it). Applications are
    near, targets are far; on loopback that is the same place."""
    far_host, near, far = '127.0.0.1', (), ()
    instrument = ()  # what the load generator is started with

    def __init__(self, folder, load, program, null_program=None):
        self.folder, self.load, self.program, self.null_program = pathlib.Path(folder), load, program, null_program
        self.started, self.echo, self.witnesses = [], {}, ['self']

    def start_targets(self):
        for gso in (False, True):
            self.echo[gso] = f'{self.far_host}:{free_port()}'
            self.start([self.load, 'echo', '--listen', self.echo[gso], *(['--gso'] if gso else [])], 'echo', ready=True,
                       place=self.far)
        self.server = f'{self.far_host}:{free_port()}'
        self.start([self.load, 'serve', '--listen', self.server], 'serve', ready=True, place=self.far)

    def start(self, command, name, ready=False, place=()):
        """Starts a process; with ready waits for a line of its output that begins so."""
        with open(self.folder / f'{name}.log', 'ab') as log:
            process = spawn([*place, *command], stdin=subprocess.DEVNULL, stderr=log,
                            stdout=subprocess.PIPE if ready else log, cwd=self.folder,
                            env={**os.environ, 'XDG_RUNTIME_DIR': str(self.folder), 'XDG_STATE_HOME': str(self.folder / 'state')})
        self.started.append(process)
        if ready:
            readable, _, _ = select.select([process.stdout], [], [], READY_SECONDS)
            line = process.stdout.readline().decode() if readable else ''
            if not line.startswith('ready'):
                raise RuntimeError(f'{name} did not get ready: {line}{self.log_of(name)}')
        return process

    def kernel_drops(self):
        """Datagrams that found no room in the buffer of a socket, since the start."""
        total = 0
        for witness in self.witnesses:
            names, counts = [line.split() for line in pathlib.Path(f'/proc/{witness}/net/snmp').read_text().splitlines()
                             if line.startswith('Udp: ')]
            total += int(counts[names.index('RcvbufErrors')])
        return total

    def log_of(self, name):
        return (self.folder / f'{name}.log').read_text(errors='replace')[-2000:]

    def wait_for_port(self, process, port, name):
        end = time.monotonic() + READY_SECONDS
        while not listens(process.pid, port):
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f'{name} does not listen: {self.log_of(name)}')
            time.sleep(0.02)

    def stop(self, processes):
        """Ends processes, and children that outlive them."""
        own = [process.pid for process in processes]
        family = [pid for process in processes for pid in children(process.pid) if pid not in own]
        for process in processes:
            process.terminate()
        for process in processes:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            self.started.remove(process)
        for pid in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def close(self):
        self.stop(list(reversed(self.started)))


class NamespaceBench(Bench):
    """Two namespaces, near and far; what joins them, a subclass says."""
    far_host, near_host = '10.77.0.2', '10.77.0.1'
    device = 'wire'
    priority = ()  # what all programs there are started with

    def start_targets(self):
        self.holders = [self.start(['unshare', '--net', 'sleep', 'infinity'], 'namespace') for _ in range(2)]
        for process in self.holders:
            self.wait_for_namespace(process)
        self.witnesses = [process.pid for process in self.holders]
        self.near, self.far = (('nsenter', f'--net={self.namespace(process)}', *self.priority)
                               for process in self.holders)
        self.join()
        for place, host in ((self.near, self.near_host), (self.far, self.far_host)):
            self.configure(place, f'ip address add {host}/24 dev {self.device}')
            self.configure(place, 'ip link set lo up')
            self.configure(place, f'ip link set {self.device} up')
        super().start_targets()

    def join(self):
        """Makes a device in each namespace."""

    def namespace(self, holder):
        return f'/proc/{holder.pid}/ns/net'

    def configure(self, place, command):
        done = subprocess.run([*place, *command.split()], capture_output=True, text=True)
        if done.returncode != 0:
            raise Missing(f'{command}: {done.stderr.strip()}')

    def wait_for_namespace(self, process):
        ours = os.readlink('/proc/self/ns/net')
        end = time.monotonic() + READY_SECONDS
        while os.readlink(self.namespace(process)) == ours and time.monotonic() < end:
            time.sleep(0.01)


class VethBench(NamespaceBench):
    """Between them a veth pair that carries no super-packets: each segment is a packet."""
    device = 'veth0'

    def start_targets(self):
        if os.geteuid() != 0 or not shutil.which('ethtool'):
            raise Missing('needs root and ethtool')
        super().start_targets()

    def join(self):
        self.configure(self.near, f'ip link add veth0 type veth peer name veth0 netns {self.holders[1].pid}')
        for place in (self.near, self.far):
            self.configure(place, 'ethtool -K veth0 tso off gso off gro off tx-udp-segmentation off')
