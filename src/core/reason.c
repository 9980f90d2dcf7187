/* Names and texts of the reasons. */
#include "core/reason.h"

struct reason_entry {
    unsigned code;
    const char *name;
    const char *text;
};

static const struct reason_entry reasons[] = {
#define SG_REASON_ENTRY(id, code, name, text) {code, name, text},
    SG_REASON_MAP(SG_REASON_ENTRY)
#undef SG_REASON_ENTRY
};

static const struct reason_entry *find_reason(unsigned code)
{
    for (unsigned i = 0; i < sizeof reasons / sizeof reasons[0]; i++)
        if (reasons[i].code == code)
            return &reasons[i];
    return 0;
}

const char *sg_reason_name(unsigned code)
{
    const struct reason_entry *entry = find_reason(code);
    return entry ? entry->name : "unknown";
}

const char *sg_reason_text(unsigned code)
{
    const struct reason_entry *entry = find_reason(code);
    return entry ? entry->text : "unknown reason";
}

enum sg_reason sg_reason_of_open(enum sg_err err)
{
    switch ((int)err) {
    case SG_ERR_TRUNCATED:
    case SG_ERR_TOO_LONG:
        return SG_REASON_LENGTH;
    case SG_ERR_NOT_FOUND:
        return SG_REASON_UNKNOWN_CHANNEL;
    case SG_ERR_REPLAYED:
        return SG_REASON_REPLAYED;
    case SG_ERR_TOO_OLD:
        return SG_REASON_TOO_OLD;
    case SG_ERR_SENDER_LIMIT:
        return SG_REASON_SENDER_LIMIT;
    case SG_ERR_KEY_LIMIT:
    case SG_ERR_WIPED:
        return SG_REASON_KEY_LIMIT;
    default: /* the tag does not match, or the library could not tell */
        return SG_REASON_FORGED;
    }
}
