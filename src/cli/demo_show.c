/* Hex with the fields marked, and a table that says what must hold. */
#include "cli/demo_show.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>

#include "core/datagram.h"

enum { BYTES_PER_LINE = 16, LABEL_WIDTH = 12 };

static void print_bytes(const char *label, const uint8_t *bytes, size_t len, bool as_text)
{
    for (size_t at = 0; at < len || at == 0; at += BYTES_PER_LINE) {
        size_t count = len - at < BYTES_PER_LINE ? len - at : BYTES_PER_LINE;
        printf("  %-*s ", LABEL_WIDTH, at == 0 ? label : "");
        for (size_t i = 0; i < BYTES_PER_LINE; i++) {
            if (i < count)
                printf("%02x ", bytes[at + i]);
            else
                printf("   ");
        }
        if (as_text) {
            putchar(' ');
            for (size_t i = 0; i < count; i++)
                putchar(isprint(bytes[at + i]) ? bytes[at + i] : '.');
        }
        putchar('\n');
        if (len == 0)
            return;
    }
}

void sg_demo_show_record(const uint8_t *datagram, size_t datagram_len, const uint8_t *record, size_t record_len)
{
    printf("\nOne datagram of the application, %zu bytes:\n", datagram_len);
    print_bytes("plaintext", datagram, datagram_len, true);
    printf("\nThe sealed record that carried it over UDP, %zu bytes, as the network saw it:\n", record_len);
    print_bytes("indicator", record, 1, false);
    print_bytes("channel id", record + SG_RECORD_CHANNEL_OFFSET, SG_RECORD_CHANNEL_BYTES, false);
    print_bytes("sender id", record + SG_RECORD_SENDER_OFFSET, SG_RECORD_SENDER_BYTES, false);
    print_bytes("counter", record + SG_RECORD_COUNTER_OFFSET, SG_RECORD_COUNTER_BYTES, false);
    print_bytes("ciphertext", record + SG_RECORD_HEADER_BYTES, record_len - SG_RECORD_OVERHEAD, true);
    print_bytes("tag", record + record_len - SG_RECORD_TAG_BYTES, SG_RECORD_TAG_BYTES, false);
    puts("  (channel id, sender id and counter are the 24-byte nonce; the ciphertext holds association,\n"
         "  target and datagram)");
}

static void row(const char *label, uint64_t value, const char *note)
{
    printf("  %-38s %8" PRIu64 "  %s\n", label, value, note);
}

/* A row with what must hold; returns whether it does. */
static bool check(const char *label, uint64_t value, bool good, const char *note)
{
    printf("  %-38s %8" PRIu64 "  %s%s\n", label, value, good ? "" : "WRONG: ", note);
    return good;
}

bool sg_demo_show_table(const struct sg_demo_counts *c)
{
    char note[96];
    bool good = true;
    puts("\nWhat happened:");
    row("sent by the application", c->sent, "");
    row("delivered to the target", c->echoed, "");
    row("delivered back to the application", c->delivered, "");
    row("lost by the network, both ways", c->lost, "not repeated: this is UDP");
    row("held back by the network", c->reordered, "delivered out of order, each by itself");
    good &= check("delivered altered", c->altered, c->altered == 0, "must be 0");
    good &= check("delivered twice", c->repeated, c->repeated == 0, "must be 0");
    snprintf(note, sizeof note, "of %" PRIu64 " copies that the network made", c->replays_made);
    good &= check("replays refused", c->replays_refused, c->replays_refused >= c->replays_made, note);
    snprintf(note, sizeof note, "of %" PRIu64 " altered records; an altered counter can look like a replay",
             c->forgeries_made);
    good &= check("forgeries refused", c->forgeries_refused,
                  c->replays_refused + c->forgeries_refused == c->replays_made + c->forgeries_made, note);
    good &= check("payloads seen in clear on the wire", c->clear, c->clear == 0, "must be 0");
    good &= c->delivered > 0;
    return good;
}
