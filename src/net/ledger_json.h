/* A ledger as a JSON object, for `sealgram status`. */
#ifndef SG_NET_LEDGER_JSON_H
#define SG_NET_LEDGER_JSON_H

#include "core/reason.h"

struct json_t;

/* A new reference: received, forwarded, bytes of both, session, queued, and drops with every reason by name. */
struct json_t *sg_ledger_json(const struct sg_ledger *ledger);

#endif
