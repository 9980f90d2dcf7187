/* Names and texts of the error codes. */
#include "core/err.h"

const char *sg_err_name(enum sg_err err)
{
    switch (err) {
#define SG_ERR_NAME(name, value, text)                                                                                 \
    case SG_ERR_##name:                                                                                                \
        return #name;
        SG_ERR_MAP(SG_ERR_NAME)
#undef SG_ERR_NAME
    }
    return "UNKNOWN";
}

const char *sg_err_text(enum sg_err err)
{
    switch (err) {
#define SG_ERR_TEXT(name, value, text)                                                                                 \
    case SG_ERR_##name:                                                                                                \
        return text;
        SG_ERR_MAP(SG_ERR_TEXT)
#undef SG_ERR_TEXT
    }
    return "unknown error";
}
