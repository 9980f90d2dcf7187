/* Whoever sees a ClientHello may repeat it: so each number counts once. */
#include "core/pass.h"

#include <string.h>

#include <sodium.h>

#include "core/rbuf.h"
#include "core/replay.h"
#include "core/wbuf.h"

enum { NUMBER_AT = SG_RECORD_CHANNEL_BYTES, TAG_AT = NUMBER_AT + 8 };

/* The first half of HMAC-SHA256 of channel id and number. */
static void make_tag(const uint8_t shown[static TAG_AT], const uint8_t key[static SG_KEY_BYTES],
                     uint8_t out[static SG_PASS_TAG_BYTES])
{
    uint8_t whole[crypto_auth_hmacsha256_BYTES];
    crypto_auth_hmacsha256_state state;
    crypto_auth_hmacsha256_init(&state, key, SG_KEY_BYTES);
    crypto_auth_hmacsha256_update(&state, shown, TAG_AT);
    crypto_auth_hmacsha256_final(&state, whole);
    memcpy(out, whole, SG_PASS_TAG_BYTES);
    sodium_memzero(&state, sizeof state);
    sodium_memzero(whole, sizeof whole);
}

void sg_pass_show(const uint8_t channel_id[static SG_RECORD_CHANNEL_BYTES], const uint8_t key[static SG_KEY_BYTES],
                  uint64_t number, uint8_t out[static SG_PASS_BYTES])
{
    struct sg_wbuf w = sg_wbuf_init(out, TAG_AT);
    sg_wbuf_bytes(&w, channel_id, SG_RECORD_CHANNEL_BYTES);
    sg_wbuf_u64(&w, number);
    make_tag(out, key, out + TAG_AT);
}

bool sg_pass_take(const uint8_t shown[static SG_PASS_BYTES], const uint8_t key[static SG_KEY_BYTES],
                  struct sg_pass_window *window)
{
    uint8_t tag[SG_PASS_TAG_BYTES];
    struct sg_rbuf r = sg_rbuf_init(shown + NUMBER_AT, 8);
    uint64_t number = sg_rbuf_u64(&r);
    make_tag(shown, key, tag);
    if (sodium_memcmp(tag, shown + TAG_AT, sizeof tag) != 0 ||
        sg_replay_check_in(window->highest, window->words, SG_PASS_WINDOW_WORDS, SG_REPLAY_WORD_BITS, number) != SG_OK)
        return false;
    sg_replay_update_in(&window->highest, window->words, SG_PASS_WINDOW_WORDS, SG_REPLAY_WORD_BITS, number);
    return true;
}
