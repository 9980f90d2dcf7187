/*
 * Commands and their answers; see command.h. Each command checks all of its words before it changes anything.
 */
#include "command.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { WORDS_MAX = 8, QUEUE_BYTES = 65536 };

struct command {
    unsigned count;
    char *words[WORDS_MAX]; /* [0] is the verb; what says directions and classes is taken out */
    bool directions[EMU_DIRECTIONS], classes[EMU_CLASSES];
    uint64_t now_ns;
};

static const char *const direction_names[EMU_DIRECTIONS] = {"up", "down"};
static const char *const class_names[EMU_CLASSES] = {"udp", "tcp", "other"};

static bool select_word(const char *word, const char *const *names, unsigned count, bool *selected)
{
    for (unsigned i = 0; i < count; i++) {
        if (strcmp(word, names[i]) == 0)
            return selected[i] = true;
    }
    return false;
}

static void select_all_if_none(bool *selected, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        if (selected[i])
            return;
    memset(selected, true, count * sizeof *selected);
}

static bool split(struct command *command, char *line)
{
    char *rest = NULL;
    for (char *word = strtok_r(line, " \t\r\n", &rest); word; word = strtok_r(NULL, " \t\r\n", &rest)) {
        if (select_word(word, direction_names, EMU_DIRECTIONS, command->directions) ||
            select_word(word, class_names, EMU_CLASSES, command->classes))
            continue;
        if (command->count == WORDS_MAX)
            return false;
        command->words[command->count++] = word;
    }
    select_all_if_none(command->directions, EMU_DIRECTIONS);
    select_all_if_none(command->classes, EMU_CLASSES);
    return command->count > 0;
}

/* --- words --- */

static bool has(const struct command *command, unsigned at, const char *word)
{
    return at < command->count && strcmp(command->words[at], word) == 0;
}

/* A number from 0 to most; a word that is missing leaves what is there if it may. */
static bool get_number(const struct command *command, unsigned at, double most, double *number)
{
    if (at >= command->count)
        return false;
    char *end = NULL;
    double value = strtod(command->words[at], &end);
    if (end == command->words[at] || *end != '\0' || !(value >= 0 && value <= most))
        return false;
    *number = value;
    return true;
}

static bool get_optional(const struct command *command, unsigned at, double most, double *number)
{
    return at >= command->count || get_number(command, at, most, number);
}

static bool get_ns(const struct command *command, unsigned at, uint64_t unit_ns, uint64_t *ns)
{
    double number = 0;
    if (!get_number(command, at, 1e6, &number))
        return false;
    *ns = (uint64_t)(number * (double)unit_ns);
    return true;
}

static bool get_rate(const struct command *command, unsigned at, uint64_t *bps)
{
    if (at >= command->count)
        return false;
    char *end = NULL;
    double value = strtod(command->words[at], &end);
    double unit = *end == 'k' ? 1e3 : *end == 'M' ? 1e6 : *end == 'G' ? 1e9 : 1;
    if (end == command->words[at] || (*end != '\0' && (unit == 1 || end[1] != '\0')))
        return false;
    if (!(value * unit >= 1 && value * unit <= 1e12))
        return false;
    *bps = (uint64_t)(value * unit);
    return true;
}

/* --- commands: each gives false if its words are wrong --- */

typedef bool set_faults(const struct command *command, struct emu_faults *faults);

static bool set_loss(const struct command *command, struct emu_faults *faults)
{
    return command->count == 2 && get_number(command, 1, 1, &faults->loss);
}

static bool set_burst(const struct command *command, struct emu_faults *faults)
{
    faults->burst_loss_bad = 1;
    faults->burst_loss_good = 0;
    return command->count <= 5 && get_number(command, 1, 1, &faults->burst_enter) &&
           get_number(command, 2, 1, &faults->burst_leave) && get_optional(command, 3, 1, &faults->burst_loss_bad) &&
           get_optional(command, 4, 1, &faults->burst_loss_good);
}

static bool set_delay(const struct command *command, struct emu_faults *faults)
{
    return command->count == 2 && get_ns(command, 1, EMU_NS_PER_MS, &faults->delay_ns);
}

static bool set_jitter(const struct command *command, struct emu_faults *faults)
{
    return command->count == 2 && get_ns(command, 1, EMU_NS_PER_MS, &faults->jitter_ns);
}

static bool set_reorder(const struct command *command, struct emu_faults *faults)
{
    return command->count == 3 && get_number(command, 1, 1, &faults->reorder) &&
           get_ns(command, 2, EMU_NS_PER_MS, &faults->reorder_ns);
}

static bool set_duplicate(const struct command *command, struct emu_faults *faults)
{
    return command->count == 2 && get_number(command, 1, 1, &faults->duplicate);
}

static bool set_corrupt(const struct command *command, struct emu_faults *faults)
{
    return command->count == 2 && get_number(command, 1, 1, &faults->corrupt);
}

static bool set_blackhole(const struct command *command, struct emu_faults *faults)
{
    faults->blackhole_from_ns = faults->blackhole_until_ns = faults->blackhole_every_ns = 0;
    if (command->count == 2 && has(command, 1, "off"))
        return true;
    faults->blackhole_from_ns = command->now_ns;
    faults->blackhole_until_ns = EMU_FOREVER;
    if (command->count == 2 && has(command, 1, "on"))
        return true;
    uint64_t from_ns = 0, until_ns = 0;
    if (command->count > 4 || !get_ns(command, 1, EMU_NS_PER_S, &from_ns) ||
        !get_ns(command, 2, EMU_NS_PER_S, &until_ns) || until_ns < from_ns)
        return false;
    faults->blackhole_from_ns = command->now_ns + from_ns;
    faults->blackhole_until_ns = command->now_ns + until_ns;
    return command->count < 4 || get_ns(command, 3, EMU_NS_PER_S, &faults->blackhole_every_ns);
}

static bool change_faults(struct emu_wire *wire, const struct command *command, set_faults *set)
{
    for (unsigned d = 0; d < EMU_DIRECTIONS; d++) {
        for (unsigned c = 0; c < EMU_CLASSES; c++) {
            struct emu_faults faults = wire->impair.lanes[d][c].faults;
            if (!set(command, &faults))
                return false;
            if (command->directions[d] && command->classes[c])
                wire->impair.lanes[d][c].faults = faults;
        }
    }
    return true;
}

static bool change_links(struct emu_wire *wire, const struct command *command,
                         bool (*set)(const struct command *command, struct emu_link *link))
{
    for (unsigned d = 0; d < EMU_DIRECTIONS; d++) {
        struct emu_link link = wire->impair.links[d];
        if (!set(command, &link))
            return false;
        if (command->directions[d])
            wire->impair.links[d] = link;
    }
    return true;
}

static bool set_rate(const struct command *command, struct emu_link *link)
{
    double queue = QUEUE_BYTES;
    link->rate_bps = 0;
    if (command->count == 2 && has(command, 1, "off"))
        return true;
    if (command->count > 3 || !get_rate(command, 1, &link->rate_bps) || !get_optional(command, 2, 1e9, &queue))
        return false;
    link->queue_bytes = (uint64_t)queue;
    return true;
}

static bool set_mtu(const struct command *command, struct emu_link *link)
{
    double mtu = 0;
    if (!has(command, 1, "off") && (!get_number(command, 1, 65535, &mtu) || mtu < 68))
        return false;
    link->mtu = (size_t)mtu;
    if (command->count == 2)
        return true;
    link->icmp = has(command, 3, "on");
    return command->count == 4 && has(command, 2, "icmp") && (link->icmp || has(command, 3, "off"));
}

static bool change_nat(struct emu_wire *wire, const struct command *command)
{
    bool both = has(command, 1, "both"), port = both || has(command, 1, "port");
    bool address = both || has(command, 1, "address");
    uint64_t every_ns = 0;
    if ((!port && !address && !has(command, 1, "off")) || command->count > 3)
        return false;
    if (command->count == 3 && !get_ns(command, 2, EMU_NS_PER_S, &every_ns))
        return false;
    for (unsigned c = 0; c < EMU_CLASSES; c++) {
        if (!command->classes[c] || c == EMU_OTHER)
            continue;
        wire->nat.port[c] = port;
        wire->nat.address[c] = address;
        wire->rebind_every_ns[c] = every_ns;
        wire->rebind_at_ns[c] = command->now_ns + every_ns;
        emu_nat_rebind(&wire->nat, (enum emu_class)c);
    }
    return true;
}

static bool rebind(struct emu_wire *wire, const struct command *command)
{
    if (command->count != 1)
        return false;
    for (unsigned c = 0; c < EMU_CLASSES; c++)
        if (command->classes[c] && c != EMU_OTHER)
            emu_wire_rebind(wire, (enum emu_class)c);
    return true;
}

static void clear(struct emu_wire *wire)
{
    for (unsigned d = 0; d < EMU_DIRECTIONS; d++) {
        wire->impair.links[d] = (struct emu_link){0};
        for (unsigned c = 0; c < EMU_CLASSES; c++)
            wire->impair.lanes[d][c].faults = (struct emu_faults){0};
    }
    for (unsigned c = 0; c < EMU_CLASSES; c++) {
        wire->nat.port[c] = wire->nat.address[c] = false;
        wire->rebind_every_ns[c] = 0;
    }
}

static const struct {
    const char *verb;
    set_faults *set;
} fault_verbs[] = {
    {"loss", set_loss},       {"burst", set_burst},         {"delay", set_delay},     {"jitter", set_jitter},
    {"reorder", set_reorder}, {"duplicate", set_duplicate}, {"corrupt", set_corrupt}, {"blackhole", set_blackhole},
};

static bool run(struct emu_wire *wire, const struct command *command)
{
    for (size_t i = 0; i < sizeof fault_verbs / sizeof *fault_verbs; i++)
        if (has(command, 0, fault_verbs[i].verb))
            return change_faults(wire, command, fault_verbs[i].set);
    if (has(command, 0, "rate"))
        return change_links(wire, command, set_rate);
    if (has(command, 0, "mtu"))
        return change_links(wire, command, set_mtu);
    if (has(command, 0, "nat"))
        return change_nat(wire, command);
    if (has(command, 0, "rebind"))
        return rebind(wire, command);
    if (!has(command, 0, "clear") || command->count > 1)
        return false;
    clear(wire);
    return true;
}

/* --- answers --- */

static void write_lane(const struct emu_ledger *l, FILE *out)
{
    const struct {
        const char *name;
        uint64_t value;
    } fields[] = {
        {"received", l->received},
        {"duplicated", l->duplicated},
        {"delivered", l->delivered},
        {"queued", l->queued},
        {"lost", l->lost},
        {"burst_lost", l->burst_lost},
        {"blackholed", l->blackholed},
        {"too_big", l->too_big},
        {"queue_dropped", l->queue_dropped},
        {"failed", l->failed},
        {"nat_dropped", l->nat_dropped},
        {"corrupted", l->corrupted},
        {"reordered", l->reordered},
        {"icmp_sent", l->icmp_sent},
    };
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        fprintf(out, "%s\"%s\": %" PRIu64, i ? ", " : "{", fields[i].name, fields[i].value);
    fprintf(out, "}");
}

void emu_command_write_ledger(const struct emu_wire *wire, FILE *out)
{
    fprintf(out, "{\"seed\": %" PRIu64 ", \"rebindings\": %" PRIu64, wire->impair.seed, wire->rebindings);
    for (unsigned d = 0; d < EMU_DIRECTIONS; d++) {
        fprintf(out, ", \"%s\": ", direction_names[d]);
        for (unsigned c = 0; c < EMU_CLASSES; c++) {
            fprintf(out, "%s\"%s\": ", c ? ", " : "{", class_names[c]);
            write_lane(&wire->impair.lanes[d][c].ledger, out);
        }
        fprintf(out, "}");
    }
    fprintf(out, "}\n");
}

bool emu_command_run(struct emu_wire *wire, char *line, uint64_t now_ns, FILE *answer)
{
    struct command command = {.now_ns = now_ns};
    bool good = split(&command, line);
    if (good && has(&command, 0, "ledger") && command.count == 1) {
        emu_command_write_ledger(wire, answer);
        return true;
    }
    good = good && run(wire, &command);
    fprintf(answer, good ? "{\"ok\": true}\n" : "{\"error\": \"no such command, or words of it are wrong\"}\n");
    return good;
}
