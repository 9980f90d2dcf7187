"""Figures of a result file (bench/run): medians, ratios within rounds with their spread, tables."""
import statistics

OURS = 'sealgram'
COLUMNS = [('cpu_ns', 'CPU ns', '{:.0f}'), ('per_second', 'per s', '{:.0f}'), ('gbit', 'Gbit/s', '{:.2f}'),
           ('p50_us', 'p50 us', '{:.0f}'), ('p99_us', 'p99 us', '{:.0f}'), ('p999_us', 'p99.9 us', '{:.0f}'),
           ('lost', 'lost', '{:.0f}'), ('slowest_share', 'slowest', '{:.2f}')]


def one_line(figures):
    if 'failed' in figures:
        return f"failed: {figures['failed']}"
    return ' '.join(f'{title} {form.format(figures[key])}' for key, title, form in COLUMNS if key != 'slowest_share')


def values(result, case, runner, figure):
    """The figure in each round that has it."""
    return [figures[figure] for figures in result['cases'].get(case, {}).get(runner, []) if 'failed' not in figures]


def median(result, case, runner, figure):
    found = values(result, case, runner, figure)
    return statistics.median(found) if found else None


def ratios(result, case, over, under, figure):
    """over's figure divided by under's, in each round in which both have it."""
    rounds = zip(result['cases'].get(case, {}).get(over, []), result['cases'].get(case, {}).get(under, []))
    return [a[figure] / b[figure] for a, b in rounds if 'failed' not in a and 'failed' not in b and b[figure] > 0]


def spread(found):
    return f'{statistics.median(found):.2f} ({min(found):.2f}-{max(found):.2f})' if found else ''


def title(case):
    if case == 'idle':
        return 'idle: one datagram of 512 bytes in flight'
    size, how, associations = case.split(':')
    application = 'application with GSO' if how == 'gso' else 'application without GSO'
    return f"{size}{'' if size == 'mixed' else ' bytes'}, {application}, {associations} association{'s' * (associations != '1')}"


def table(result, case):
    figure = 'p50_us' if case == 'idle' else 'cpu_ns'
    rows = [['', *(heading for _, heading, _ in COLUMNS), f'{figure} / {OURS} (low-high)']]
    for runner, rounds in result['cases'][case].items():
        medians = [(median(result, case, runner, key), form) for key, _, form in COLUMNS]
        failed = [figures['failed'] for figures in rounds if 'failed' in figures]
        note = spread(ratios(result, case, runner, OURS, figure)) if runner != OURS else ''
        rows.append([runner, *(form.format(value) if value is not None else '-' for value, form in medians),
                     note + (f' failed {len(failed)} of {len(rounds)}: {failed[0]}' if failed else '')])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    lines = [title(case)]
    for row in rows:
        cells = [row[0].ljust(widths[0])] + [cell.rjust(width) for cell, width in zip(row[1:-1], widths[1:])]
        lines.append(('  ' + '  '.join(cells) + '  ' + row[-1]).rstrip())
    return '\n'.join(lines)


def tables(result):
    machine = result['machine']
    text = [f"{result['date']} {result['commit']}: {machine['cpus']} CPUs ({machine['model']}), Linux {machine['kernel']}, "
            f"rmem_max {machine['rmem_max']}; median of {result['rounds']} rounds of {result['seconds']} s"]
    text += [table(result, case) for case in result['cases']]
    text += [f'missing: {name}: {reason}' for name, reason in result['missing'].items()]
    return '\n\n'.join(text)
