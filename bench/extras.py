"""What is not one relay under a closed loop: seal and open by themselves, sessions, associations, workers."""
import json
import pathlib
import re
import statistics
import subprocess
import time

import runners
from lab import Load, cpu_ns, free_port

IDLE_SECONDS = 5
SESSIONS, WORKER_WINDOW, WORKER_TURNS = 100, 500, 4  # turns in a round
WARM_UP = 100  # the first associations pay for what is set up once


class ShortLived(runners.Sealgram):
    """Associations end soon, so that closing them is measured too."""
    settings = f'timeouts:\n  association_seconds: {IDLE_SECONDS}\n'


def cipher(bench, arguments):
    """CPU time of seal and open for each suite, back end and size."""
    done = subprocess.run([f'{arguments.build}/bench/micro'], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def open_sockets(process):
    return len(list(pathlib.Path(f'/proc/{process.pid}/fd').iterdir()))


def wait_until(condition, seconds):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.1)


def start(bench, kind):
    """A relay that has carried a few associations through its forward, and its server's process."""
    runner = kind(bench)
    runner.start()
    with Load(bench, ['open', '--peer', f'127.0.0.1:{runner.forwards[False]}', '--associations', WARM_UP]) as load:
        load.line()
        load.go_on()
        load.line()
    return runner, runner.server


def openings(bench, _arguments, count=10000):
    """Datagrams from so many new sockets through a forward: the server's CPU time for each, from the first datagram to
    the end of the association."""
    runner, server = start(bench, ShortLived)
    try:
        wait_until(lambda: open_sockets(server) < WARM_UP, 4 * IDLE_SECONDS)
        sockets = open_sockets(server)
        with Load(bench, ['open', '--peer', f'127.0.0.1:{runner.forwards[False]}', '--associations', count, '--window',
                          '256']) as load:
            load.line()
            before, client_before = cpu_ns([server]), cpu_ns(runner.roots)
            load.go_on()
            result = json.loads(load.line(90))
            opened = cpu_ns([server]) - before
        wait_until(lambda: open_sockets(server) <= sockets, 4 * IDLE_SECONDS)
        used = cpu_ns([server]) - before
        both = cpu_ns(runner.roots) - client_before
        left = open_sockets(server) - sockets
    finally:
        runner.stop()
    return {**result, 'per_second': result['associations'] / result['seconds'],
            'server_us': used / result['associations'] / 1000,
            'server_us_without_end': opened / result['associations'] / 1000,
            'client_us': (both - used) / result['associations'] / 1000, 'left': left}


def private_dirty_bytes(process):
    text = pathlib.Path(f'/proc/{process.pid}/smaps_rollup').read_text()
    return int(re.search(r'^Private_Dirty:\s+(\d+) kB', text, re.M).group(1)) * 1024


def slab_bytes():
    """The kernel's objects, of the whole machine."""
    text = pathlib.Path('/proc/meminfo').read_text()
    return int(re.search(r'^Slab:\s+(\d+) kB', text, re.M).group(1)) * 1024


def memory(bench, _arguments, count=15000):
    """Bytes of an idle association: the server's own, and the kernel's (growth of its objects while the server opened
    its sockets; the load generator's exist before)."""
    runner, server = start(bench, runners.Sealgram)
    try:
        with Load(bench, ['open', '--peer', f'127.0.0.1:{runner.forwards[False]}', '--associations', count, '--window',
                          '256']) as load:
            load.line()
            time.sleep(1)
            own, kernel, sockets = private_dirty_bytes(server), slab_bytes(), open_sockets(server)
            load.go_on()
            result = json.loads(load.line(90))
            time.sleep(1)
            own, kernel = private_dirty_bytes(server) - own, slab_bytes() - kernel
            sockets = open_sockets(server) - sockets
    finally:
        runner.stop()
    return {'associations': result['associations'], 'server_sockets': sockets, 'own_bytes': own / sockets,
            'kernel_bytes': kernel / sockets, 'bytes': (own + kernel) / sockets}


class ManyClients(runners.Sealgram):
    """A server with so many workers, and a session for each of many clients, at addresses one after the other. Nobody
    may have plain associations: who may is served by worker 0, and by default that is loopback."""
    limits = {'sessions_per_user': 1000}

    def __init__(self, bench, workers, target_gso):
        super().__init__(bench)
        self.name, self.network, self.forward = f'sealgram-workers-{workers}', f'127.{workers + 1}.0', free_port()
        self.settings, self.target_gso = f'workers: {workers}\nplain_udp:\n  from: []\n', target_gso

    def start(self):
        self.start_server()
        for number in range(SESSIONS):
            host = f'{self.network}.{number + 1}'
            self.launch([self.program(), 'client', '--socks', f'{host}:{self.port}', '--forward',
                         f'udp:{host}:{self.forward}={self.bench.echo[self.target_gso]}', f'@{self.invite}'], 'client',
                        ready=True)

    def received(self):
        """Datagrams that each worker received."""
        path = self.bench.folder / 'sealgram' / f'server-{self.server.pid}.sock'
        done = subprocess.run([self.program(), 'status', '--json', '--socket', path], check=True, capture_output=True,
                              text=True)
        return [worker['datagrams_received'] for worker in json.loads(done.stdout)['workers']]

    def measure(self, gso, seconds):
        """The server's CPU time for each datagram, and how many each worker received."""
        with Load(self.bench, ['forward', '--peer', f'{self.network}.1:{self.forward}', '--spread', '--associations',
                               SESSIONS, '--window', WORKER_WINDOW, '--seconds', seconds, *(['--gso'] * gso)]) as load:
            load.line()
            before, received = cpu_ns([self.server]), self.received()
            load.go_on()
            result = json.loads(load.line(60))
            used = cpu_ns([self.server]) - before
            received = [after - earlier for earlier, after in zip(received, self.received())]
        return used / result['echoed'], received


# Who has GSO: application and target, the application alone, neither. A server sees only whether the target has.
WORKER_KINDS = {'gso': (True, True), 'single': (True, False), 'plain': (False, False)}


def compare_workers(bench, arguments, gso, target_gso):
    """Both servers stay; they take many short turns, since the machine's speed changes within seconds."""
    servers, turns = {'one': ManyClients(bench, 1, target_gso), 'two': ManyClients(bench, 2, target_gso)}, []
    try:
        for server in servers.values():
            server.start()
        for number in range(WORKER_TURNS * arguments.rounds):
            order = list(servers) if number % 2 == 0 else list(reversed(servers))
            turn = {name: servers[name].measure(gso, arguments.seconds) for name in order}
            turns.append({'one_cpu_ns': turn['one'][0], 'two_cpu_ns': turn['two'][0], 'received': turn['two'][1]})
    finally:
        for server in servers.values():
            server.stop()
    return turns


def smaller_shares(turns):
    """The smaller worker's share of the datagrams in each round."""
    for first in range(0, len(turns), WORKER_TURNS):
        of_turns = [it['received'] for it in turns[first:first + WORKER_TURNS]]
        received = [sum(parts) for parts in zip(*of_turns)]
        yield min(received) / sum(received)


def workers(bench, arguments):
    """One worker against two, in turn, with a hundred sessions, whoever has GSO."""
    kinds = {name: compare_workers(bench, arguments, *kind) for name, kind in WORKER_KINDS.items()}
    ratios = {name: statistics.median(it['two_cpu_ns'] / it['one_cpu_ns'] for it in turns)
              for name, turns in kinds.items()}
    return {'turns': kinds, 'cpu_ratio': ratios['gso'], 'cpu_ratio_single': ratios['single'],
            'cpu_ratio_plain': ratios['plain'],
            'smallest_share': min(share for turns in kinds.values() for share in smaller_shares(turns))}


def sessions(bench, _arguments, rounds=15, at_once=10):
    """CPU time of the server for a session from TCP connection to end: handshake, token, OPEN, path validation, CLOSE."""
    runner = runners.Sealgram(bench)
    clients = []
    command = [bench.program, 'client', '--socks', '127.0.0.1:0']
    try:
        runner.start_server()
        before = cpu_ns([runner.server])
        for number in range(rounds):
            clients = [bench.start([*command, f'@{runner.invite}'], f'session-{number}', ready=True)
                       for _ in range(at_once)]
            bench.stop(clients)
            clients = []
        used = cpu_ns([runner.server]) - before
    finally:
        bench.stop(clients)
        runner.stop()
    return {'sessions': rounds * at_once, 'server_us': used / (rounds * at_once) / 1000,
            'per_second_and_core': 1e9 * rounds * at_once / used}


def uring(bench, arguments, window=512, size=512):
    """CPU time of an echo server without GSO for each datagram: recvmmsg and sendmmsg against io_uring."""
    command, figures = {}, {}
    command['mmsg'] = [bench.load, 'echo', '--listen']
    command['uring'] = [f'{arguments.build}/bench/echo-uring']
    for name in list(command) * arguments.rounds:
        peer = f'127.0.0.1:{free_port()}'
        echo = bench.start([*command[name], peer], f'echo-{name}', ready=True)
        with Load(bench, ['forward', '--peer', peer, '--target', peer, '--size', size, '--window', window, '--seconds',
                          arguments.seconds]) as load:
            load.line()
            before = cpu_ns([echo])
            load.go_on()
            result = json.loads(load.line(60))
            figures.setdefault(name, []).append((cpu_ns([echo]) - before) / result['echoed'])
        bench.stop([echo])
    return {'mmsg_cpu_ns': statistics.median(figures['mmsg']), 'uring_cpu_ns': statistics.median(figures['uring']),
            'ratios': [uring / mmsg for mmsg, uring in zip(figures['mmsg'], figures['uring'])]}


ALL = {'uring': uring, 'cipher': cipher, 'sessions': sessions, 'openings': openings, 'memory': memory, 'workers': workers}
