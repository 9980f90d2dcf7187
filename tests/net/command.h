/*
 * Commands to a wire, as lines of words. Directions (up, down) and classes (udp, tcp, other) may stand anywhere in the
 * line; without them a command is for all. Probabilities are from 0 to 1.
 *
 *   loss P                          each packet by itself
 *   burst ENTER LEAVE [BAD [GOOD]]  Gilbert-Elliott: changes of state at each packet, loss in the states (1 and 0)
 *   delay MS                        one way; fractions are allowed
 *   jitter MS                       more delay, from 0 to this; keeps the order
 *   reorder P MS                    that share is held back for so long
 *   duplicate P
 *   corrupt P                       UDP: payload, checksum repaired; all else: one bit, the checksum stays
 *   blackhole on|off
 *   blackhole FROM UNTIL [EVERY]    seconds from now; again after each EVERY seconds
 *   rate BITS|off [QUEUE]           bits/s, with k, M or G; bytes that may wait (64 KiB). Not by class
 *   mtu BYTES|off [icmp on|off]     off at first, then as before. Not by class
 *   nat off|port|address|both [SECONDS]  what is mapped of the client's sources, and anew how often. Not by direction
 *   rebind                          new mappings now. Not by direction
 *   clear                           no impairment, no NAT; the ledger stays
 *   ledger                          what became of the packets
 */
#ifndef SG_TESTS_NET_COMMAND_H
#define SG_TESTS_NET_COMMAND_H

#include <stdio.h>

#include "wire.h"

enum { EMU_COMMAND_MAX = 512 };

/* Does what line says (at most EMU_COMMAND_MAX bytes with its NUL; is changed) and writes one line of JSON:
 * {"ok": true}, {"error": "..."} with nothing changed, or the ledger. False: it was an error. */
bool emu_command_run(struct emu_wire *wire, char *line, uint64_t now_ns, FILE *answer);

void emu_command_write_ledger(const struct emu_wire *wire, FILE *out);

#endif
