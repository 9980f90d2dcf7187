/* The limits of record keys in force in this program. */
#ifndef SG_NET_KEY_LIMITS_H
#define SG_NET_KEY_LIMITS_H

#include "core/datagram.h"

/*
 * Those of docs/protocol.md section 6. In a test build (meson -Dtestlimits=true, key_limits_test.c) the environment may
 * lower them: SEALGRAM_TEST_LIMITS="RECORDS BLOCKS FAILED SENDERS", so that each limit is reached in seconds.
 */
struct sg_limits sg_limits_in_force(void);

#endif
