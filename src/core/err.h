/*
 * Error codes: 0 is success, everything else is negative. One X-macro makes the enum, the names and
 * the texts. Peer's bytes that fail are counted by reason (reason.h), not reported through these to
 * a user.
 */
#ifndef SG_CORE_ERR_H
#define SG_CORE_ERR_H

#define SG_ERR_MAP(X)                                                                                                  \
    X(OK, 0, "success")                                                                                                \
    X(NOMEM, -1, "out of memory")                                                                                      \
    X(INVALID, -2, "invalid argument or value")                                                                        \
    X(TRUNCATED, -3, "input ends too early")                                                                           \
    X(MALFORMED, -4, "input does not follow its format")                                                               \
    X(TOO_LONG, -5, "too long for its place")                                                                          \
    X(FORGED, -6, "authentication tag does not match")                                                                 \
    X(REPLAYED, -7, "nonce was already received")                                                                      \
    X(TOO_OLD, -8, "nonce is older than the replay window")                                                            \
    X(SENDER_LIMIT, -9, "no room for a further sender id")                                                             \
    X(KEY_LIMIT, -10, "the key's limit of use is reached")                                                             \
    X(WIPED, -11, "key memory was wiped")                                                                              \
    X(UNSUPPORTED, -12, "not supported here")                                                                          \
    X(NOT_FOUND, -13, "not found")                                                                                     \
    X(EXISTS, -14, "exists already")                                                                                   \
    X(FULL, -15, "table is full")                                                                                      \
    X(DENIED, -16, "not permitted")                                                                                    \
    X(SYSTEM, -17, "system call failed")                                                                               \
    X(CRYPTO, -18, "cryptographic library failed")                                                                     \
    X(AGAIN, -19, "needs more input")

enum sg_err {
    SG_OK = 0,
#define SG_ERR_ENUM(name, value, text) SG_ERR_##name = (value),
    SG_ERR_MAP(SG_ERR_ENUM)
#undef SG_ERR_ENUM
};

#define SG_MUST_CHECK __attribute__((warn_unused_result))

/* Short name ("FORGED") and one-line text of an error; never NULL, both static. */
const char *sg_err_name(enum sg_err err);
const char *sg_err_text(enum sg_err err);

#endif
