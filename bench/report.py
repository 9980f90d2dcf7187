"""Figures of a result file (bench/run): medians, ratios within rounds with their spread, tables."""
import statistics

OURS = 'sealgram'
COLUMNS = {
    'udp': [('cpu_ns', 'CPU ns', '{:.0f}'), ('per_second', 'per s', '{:.0f}'), ('gbit', 'Gbit/s', '{:.2f}'),
            ('p50_us', 'p50 us', '{:.0f}'), ('p99_us', 'p99 us', '{:.0f}'), ('p999_us', 'p99.9 us', '{:.0f}'),
            ('lost', 'lost', '{:.0f}'), ('kernel_drops', 'no room', '{:.0f}'),
            ('slowest_share', 'slowest', '{:.2f}')],
    'tcp': [('cpu_s_per_gb', 'CPU s per GB', '{:.3f}'), ('gbit', 'Gbit/s', '{:.2f}')],
}


def kind(case):
    return 'tcp' if case.startswith('tcp:') else 'udp'


def main_figure(case):
    return 'p50_us' if case.startswith('idle') else COLUMNS[kind(case)][0][0]


def one_line(figures):
    if 'failed' in figures:
        return f"failed: {figures['failed']}"
    columns = COLUMNS['tcp' if 'cpu_s_per_gb' in figures else 'udp']
    return ', '.join(f'{heading} {form.format(figures[key])}' for key, heading, form in columns)


def has(figures, figure):
    """CPU time can seem to run backwards if a process of a relay ends while others are read: that is no figure."""
    return figure in figures and (not figure.startswith('cpu_') or figures[figure] > 0)


def values(result, case, runner, figure):
    """The figure in each round that has it."""
    return [figures[figure] for figures in result['cases'].get(case, {}).get(runner, []) if has(figures, figure)]


def median(result, case, runner, figure):
    found = values(result, case, runner, figure)
    return statistics.median(found) if found else None


def ratios(result, case, over, under, figure):
    """over's figure divided by under's, in each round in which both have it."""
    rounds = zip(result['cases'].get(case, {}).get(over, []), result['cases'].get(case, {}).get(under, []))
    return [a[figure] / b[figure] for a, b in rounds if has(a, figure) and has(b, figure) and b[figure]]


def cipher_share(result, case):
    """What encryption adds to a datagram's CPU time, in each round, as a share of what two seals and two opens cost by
    themselves."""
    size = case.split(':')[0]
    rows = [row for row in result['extra'].get('cipher', []) if row['default'] and str(row['size']) == size]
    rounds = zip(result['cases'].get(case, {}).get(OURS, []), result['cases'].get(case, {}).get(OURS + '-null', []))
    alone = 2 * (rows[0]['seal_ns'] + rows[0]['open_ns']) if rows else None
    return [(a['cpu_ns'] - b['cpu_ns']) / alone for a, b in rounds if alone and has(a, 'cpu_ns') and has(b, 'cpu_ns')]


def spread(found):
    return f'{statistics.median(found):.2f} ({min(found):.2f}-{max(found):.2f})' if found else ''


def title(case):
    name, _, path = case.partition('@')
    over = ', without super-packets on the path' if path else ''
    if name == 'idle':
        return 'idle: one datagram of 512 bytes in flight' + over
    first, second, count = name.split(':')
    many = '' if count == '1' else 's'
    if first == 'tcp':
        return f"TCP {'to' if second == 'up' else 'from'} the target, {count} connection{many}{over}"
    size = 'mixed sizes' if first == 'mixed' else f'{first} bytes'
    how = {'gso': 'with GSO', 'app': 'without GSO, target with it', 'plain': 'and target without GSO'}[second]
    return f'{size}, application {how}, {count} association{many}{over}'


def layout(rows):
    """Lines of cells, all columns but the first and the last to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    for row in rows:
        cells = [row[0].ljust(widths[0])] + [cell.rjust(width) for cell, width in zip(row[1:-1], widths[1:])]
        yield ('  ' + '  '.join([*cells, row[-1]])).rstrip()


def table(result, case):
    columns, figure = COLUMNS[kind(case)], main_figure(case)
    heading = next(heading for key, heading, _ in columns if key == figure)
    rows = [['', *(heading for _, heading, _ in columns), f'{heading} / {OURS} (low-high)']]
    for runner, rounds in result['cases'][case].items():
        medians = [(median(result, case, runner, key), form) for key, _, form in columns]
        failed = [figures['failed'] for figures in rounds if 'failed' in figures]
        note = spread(ratios(result, case, runner, OURS, figure)) if runner != OURS else ''
        rows.append([runner, *(form.format(value) if value is not None else '-' for value, form in medians),
                     note + (f' failed {len(failed)} of {len(rounds)}: {failed[0]}' if failed else '')])
    return '\n'.join([title(case), *layout(rows)])


def cipher_table(rows):
    cells = [['', 'bytes', 'seal ns', 'open ns', 'record seal ns', 'record open ns', '']]
    cells += [[f"{row['suite']}, {row['backend']}", str(row['size']), *(f'{row[key]:.0f}' for key in (
        'seal_ns', 'open_ns', 'record_seal_ns', 'record_open_ns')), 'default' * row['default']] for row in rows]
    return '\n'.join(['seal and open by themselves', *layout(cells)])


def extra_lines(extra):
    if 'openings' in extra:
        it = extra['openings']
        yield (f"new associations, {it['associations']} through a UDP forward: server {it['server_us']:.1f} us of CPU "
               f"each, its end included (client {it['client_us']:.1f} us), {it['per_second']:.0f} per second, "
               f"{it['retries']} sent again, first round trip p50 {it['p50_us']:.0f} us")
    if 'memory' in extra:
        it = extra['memory']
        yield (f"idle associations, {it['associations']}: {it['bytes']:.0f} bytes each at the server, of which "
               f"{it['own_bytes']:.0f} its own, {it['kernel_bytes']:.0f} the kernel's")
    if 'sessions' in extra:
        it = extra['sessions']
        yield (f"sessions, {it['sessions']} opened and closed: server {it['server_us']:.0f} us of CPU each, which is "
               f"{it['per_second_and_core']:.0f} per second and core")
    if 'uring' in extra:
        it = extra['uring']
        yield (f"echo server, CPU ns for each datagram: {it['mmsg_cpu_ns']:.0f} by recvmmsg and sendmmsg, "
               f"{it['uring_cpu_ns']:.0f} by io_uring, which is {spread(it['ratios'])} times that")
    if 'workers' in extra:
        yield worker_line(extra['workers'])


def worker_line(it):
    return (f"two workers, a hundred sessions: server CPU per datagram {it['cpu_ratio']:.2f} of one worker's with GSO, "
            f"{it['cpu_ratio_single']:.2f} if the target has none, {it['cpu_ratio_plain']:.2f} if neither has; "
            f"the smaller share of the datagrams {it['smallest_share']:.2f}")


def tables(result):
    machine = result['machine']
    text = [f"{result['date']} {result['commit']}: {machine['cpus']} CPUs ({machine['model']}), Linux "
            f"{machine['kernel']}, rmem_max {machine['rmem_max']}; median of {result['rounds']} rounds of "
            f"{result['seconds']} s"]
    text += [table(result, case) for case in result['cases']]
    if 'cipher' in result['extra']:
        text.append(cipher_table(result['extra']['cipher']))
    text += extra_lines(result['extra'])
    text += [f'missing: {name}: {reason}' for name, reason in result['missing'].items()]
    return '\n\n'.join(text)
