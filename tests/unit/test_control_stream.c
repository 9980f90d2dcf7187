/* What goes by the stream because it could not be sealed: all that is left of it. */
#include "net/control_stream.h"
#include "record_pair.h"

enum { COUNT = 3, LEN = 100 };

static unsigned calls;

static enum sg_err seal_first(struct sg_aead_ctx *ctx, struct sg_aead_state *state, const uint8_t *iv,
                              const uint8_t *aad, size_t aad_len, uint8_t *bytes, size_t len, uint8_t *tag)
{
    const struct sg_aead *works = sg_aead_find(SG_SUITE_XCHACHA20_POLY1305, SG_BACKEND_AUTO);
    return calls++ == 0 ? works->seal(ctx, state, iv, aad, aad_len, bytes, len, tag) : SG_ERR_CRYPTO;
}

/* The cipher fails at the second of three, whose plaintext is gone; the third waits for the stream as it was. */
static void what_a_cipher_lost_is_dropped(void **state)
{
    (void)state;
    static uint8_t bytes[COUNT][RECORD_SPACE];
    struct sg_aead failing = *sg_aead_find(SG_SUITE_XCHACHA20_POLY1305, SG_BACKEND_AUTO);
    struct sg_record records[COUNT];
    struct sg_squeue queue = {0};
    struct sg_ledger ledger = {0};
    uint8_t out[LEN], expected[LEN];
    struct pair pair;
    size_t dropped = 0;

    failing.seal = seal_first;
    start_pair(&pair, &failing, &sg_limits_default);
    for (uint32_t i = 0; i < COUNT; i++) {
        write_message(bytes[i] + SG_RECORD_HEADER_BYTES, i, LEN);
        records[i] = (struct sg_record){.bytes = bytes[i], .len = LEN};
    }
    assert_int_equal(sg_seal_batch(&pair.sender, records, COUNT), 1);
    for (unsigned i = 1; i < COUNT; i++)
        dropped += sg_control_stream_queue(&queue, &ledger, bytes[i] + SG_RECORD_HEADER_BYTES, records[i].len, 0);
    assert_int_equal(dropped, 1);
    assert_int_equal(ledger.drops[SG_REASON_SEND_FAILED], 1);
    assert_int_equal(ledger.queued, 1);
    assert_int_equal(sg_squeue_peek(&queue), LEN);
    sg_squeue_pop(&queue, out);
    write_message(expected, 2, LEN);
    assert_memory_equal(out, expected, LEN);
    sg_squeue_dispose(&queue);
    stop_pair(&pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_a_cipher_lost_is_dropped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
