/* What `sealgram demo` prints: one datagram beside its record, and the closing table. */
#ifndef SG_CLI_DEMO_SHOW_H
#define SG_CLI_DEMO_SHOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sg_demo_counts {
    uint64_t sent;      /* by the application */
    uint64_t echoed;    /* at the target: delivered up */
    uint64_t delivered; /* back at the application */
    uint64_t lost;      /* by the network, both directions, session messages too */
    uint64_t reordered;
    uint64_t altered;  /* delivered with other contents */
    uint64_t repeated; /* delivered more than once */
    uint64_t replays_made, replays_refused;
    uint64_t forgeries_made, forgeries_refused;
    uint64_t clear; /* payloads seen in clear on the wire */
};

/* The application's datagram and the record that carried it. */
void sg_demo_show_record(const uint8_t *datagram, size_t datagram_len, const uint8_t *record, size_t record_len);

/* Prints the table; true if everything in it is as it must be. */
bool sg_demo_show_table(const struct sg_demo_counts *counts);

#endif
