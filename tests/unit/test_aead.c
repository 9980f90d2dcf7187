/* The suites: every back end gives the same bytes, refuses what was touched, and leaves nothing behind. */
#include "core/aead.h"

#include <stdio.h>
#include <stdlib.h>

#include "record_util.h"

enum { BYTES_MAX = 65536 };

static struct sg_aead_ctx *ctx;
static const struct sg_aead *suites[COMBINATIONS_MAX];
static size_t suite_count;

static int set_up(void **state)
{
    (void)state;
    ctx = sg_aead_ctx_new();
    suite_count = list_suites(suites);
    return ctx ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    sg_aead_ctx_free(ctx);
    sg_aead_ctx_free(NULL);
    return 0;
}

static void test_aead_find(void **state)
{
    (void)state;
    static const uint16_t unknown[] = {0, 3, 0xffff};
    for (unsigned id = 1; id <= SG_SUITE_COUNT; id++) {
        const struct sg_aead *automatic = sg_aead_find((uint16_t)id, SG_BACKEND_AUTO);
        assert_non_null(automatic);
        assert_int_equal(sg_aead_id(automatic), id);
        assert_int_equal(sg_aead_find((uint16_t)id, SG_BACKEND_OPENSSL)->backend, SG_BACKEND_OPENSSL);
    }
    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++)
        assert_null(sg_aead_find(unknown[i], SG_BACKEND_AUTO));
    assert_null(sg_aead_find(SG_SUITE_XAES_256_GCM, SG_BACKEND_SODIUM));
    assert_null(sg_aead_find(SG_SUITE_XCHACHA20_POLY1305, SG_BACKEND_IPSECMB));
    assert_int_equal(sg_aead_find(SG_SUITE_XCHACHA20_POLY1305, SG_BACKEND_AUTO)->backend, SG_BACKEND_SODIUM);
    const struct sg_aead *fast = sg_aead_find(SG_SUITE_XAES_256_GCM, SG_BACKEND_IPSECMB);
    assert_ptr_equal(sg_aead_find(SG_SUITE_XAES_256_GCM, SG_BACKEND_AUTO),
                     fast ? fast : sg_aead_find(SG_SUITE_XAES_256_GCM, SG_BACKEND_OPENSSL));
}

/* Whether the kernel lists the instructions: "aes" and "pclmulqdq" on x86, "aes" and "pmull" on arm64. */
static bool cpu_has_aes(void)
{
    static char line[8192];
    bool has = false;
    FILE *cpuinfo = fopen("/proc/cpuinfo", "r");
    assert_non_null(cpuinfo);
    while (!has && fgets(line, sizeof line, cpuinfo))
        has = strstr(line, " aes") && (strstr(line, " pclmulqdq") || strstr(line, " pmull"));
    fclose(cpuinfo);
    return has;
}

static void test_aead_preference(void **state)
{
    (void)state;
    uint16_t order[SG_SUITE_COUNT];
    sg_aead_preference(order);
    assert_int_equal(order[0] + order[1], SG_SUITE_XAES_256_GCM + SG_SUITE_XCHACHA20_POLY1305);
    assert_int_equal(order[0], cpu_has_aes() ? SG_SUITE_XAES_256_GCM : SG_SUITE_XCHACHA20_POLY1305);
}

struct sample {
    uint8_t key[SG_KEY_BYTES];
    uint8_t nonce[SG_RECORD_NONCE_BYTES];
    uint8_t aad[64];
    uint8_t *bytes;
    uint8_t tag[SG_RECORD_TAG_BYTES];
    struct sg_aead_state state;
};

static void make_sample(struct sample *sample, uint64_t seed, size_t len)
{
    fill_random(&seed, sample->key, sizeof sample->key);
    fill_random(&seed, sample->nonce, sizeof sample->nonce);
    fill_random(&seed, sample->aad, sizeof sample->aad);
    sample->bytes = malloc(len + 1); /* exact, so that a byte too many is seen by the sanitizer */
    assert_non_null(sample->bytes);
    fill_random(&seed, sample->bytes, len);
}

static enum sg_err seal_sample(const struct sg_aead *aead, struct sample *sample, size_t aad_len, size_t len)
{
    enum sg_err err = sg_aead_derive(aead, ctx, &sample->state, sample->key, sample->nonce);
    if (err == SG_OK)
        err = sg_aead_seal(aead, ctx, &sample->state, sample->nonce, sample->aad, aad_len, sample->bytes, len,
                           sample->tag);
    return err;
}

static enum sg_err open_sample(const struct sg_aead *aead, struct sample *sample, size_t aad_len, size_t len)
{
    return sg_aead_open(aead, ctx, &sample->state, sample->nonce, sample->aad, aad_len, sample->bytes, len,
                        sample->tag);
}

/* Sealed by each, opened by each other one of the same suite, equal bytes. */
static void check_pair(const struct sg_aead *one, const struct sg_aead *other, size_t len, size_t aad_len)
{
    struct sample a, b, plain;
    make_sample(&plain, len, len);
    make_sample(&a, len, len);
    make_sample(&b, len, len);
    assert_int_equal(seal_sample(one, &a, aad_len, len), SG_OK);
    assert_int_equal(seal_sample(other, &b, aad_len, len), SG_OK);
    assert_memory_equal(a.bytes, b.bytes, len);
    assert_memory_equal(a.tag, b.tag, sizeof a.tag);
    assert_int_equal(open_sample(one, &a, aad_len, len), SG_OK);
    assert_int_equal(open_sample(other, &b, aad_len, len), SG_OK);
    assert_memory_equal(a.bytes, plain.bytes, len);
    assert_memory_equal(b.bytes, plain.bytes, len);
    free(a.bytes);
    free(b.bytes);
    free(plain.bytes);
}

static void test_aead_back_ends_agree(void **state)
{
    (void)state;
    for (size_t i = 0; i < suite_count; i++)
        for (size_t j = 0; j < suite_count; j++) {
            if (suites[i]->id != suites[j]->id)
                continue;
            for (size_t len = 0; len <= 300; len++)
                check_pair(suites[i], suites[j], len, len % 3);
            check_pair(suites[i], suites[j], 1500, 1);
            check_pair(suites[i], suites[j], SG_RECORD_PLAINTEXT_MAX, 1);
            check_pair(suites[i], suites[j], BYTES_MAX, 64);
        }
}

static bool is_zero(const uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (bytes[i] != 0)
            return false;
    return true;
}

/* One bit of whatever goes into the tag; the bytes must be wiped each time. */
static void check_flips(const struct sg_aead *aead, size_t len, size_t aad_len)
{
    struct sample sealed;
    make_sample(&sealed, 77 + len, len);
    assert_int_equal(seal_sample(aead, &sealed, aad_len, len), SG_OK);
    uint8_t *keep = malloc(len + 1);
    assert_non_null(keep);
    memcpy(keep, sealed.bytes, len);
    struct {
        uint8_t *bytes;
        size_t len;
    } parts[] = {{sealed.bytes, len}, {sealed.tag, sizeof sealed.tag}, {sealed.aad, aad_len}, {sealed.nonce + 16, 8}};
    for (size_t p = 0; p < sizeof parts / sizeof parts[0]; p++)
        for (size_t bit = 0; bit < 8 * parts[p].len; bit++) {
            memcpy(sealed.bytes, keep, len);
            parts[p].bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
            assert_int_equal(open_sample(aead, &sealed, aad_len, len), SG_ERR_FORGED);
            assert_true(is_zero(sealed.bytes, len));
            if (parts[p].bytes != sealed.bytes)
                parts[p].bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
    memcpy(sealed.bytes, keep, len);
    assert_int_equal(open_sample(aead, &sealed, aad_len, len), SG_OK);
    free(keep);
    free(sealed.bytes);
}

static void test_aead_flips_are_refused(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 15, 16, 17, 64, 200};
    for (size_t i = 0; i < suite_count; i++)
        for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++)
            check_flips(suites[i], sizes[s], 1 + s % 2);
}

/* A context serves many states by turns: no key of one ever serves another. */
static void test_aead_states_do_not_mix(void **state)
{
    (void)state;
    enum { STATES = 5, LEN = 48 };
    for (size_t i = 0; i < suite_count; i++) {
        struct sample samples[STATES], plain;
        for (unsigned s = 0; s < STATES; s++)
            make_sample(&samples[s], s, LEN);
        for (unsigned s = 0; s < STATES; s++)
            assert_int_equal(seal_sample(suites[i], &samples[s], 1, LEN), SG_OK);
        for (unsigned s = 0; s < STATES; s++) {
            struct sg_aead_state own = samples[s].state;
            samples[s].state = samples[(s + 1) % STATES].state;
            uint8_t keep[LEN];
            memcpy(keep, samples[s].bytes, LEN);
            assert_int_equal(open_sample(suites[i], &samples[s], 1, LEN), SG_ERR_FORGED);
            memcpy(samples[s].bytes, keep, LEN);
            samples[s].state = own;
            assert_int_equal(open_sample(suites[i], &samples[s], 1, LEN), SG_OK);
            make_sample(&plain, s, LEN);
            assert_memory_equal(samples[s].bytes, plain.bytes, LEN);
            free(plain.bytes);
            free(samples[s].bytes);
        }
    }
}

static void test_aead_forget_wipes(void **state)
{
    (void)state;
    for (size_t i = 0; i < suite_count; i++) {
        struct sample sample;
        make_sample(&sample, 5, 32);
        assert_int_equal(seal_sample(suites[i], &sample, 1, 32), SG_OK);
        sg_aead_forget(suites[i], ctx, &sample.state);
        assert_true(is_zero(sample.state.bytes, sizeof sample.state.bytes));
        sg_aead_forget(suites[i], ctx, &sample.state); /* twice is harmless */
        assert_int_equal(sg_aead_derive(suites[i], ctx, &sample.state, sample.key, sample.nonce), SG_OK);
        assert_int_equal(open_sample(suites[i], &sample, 1, 32), SG_OK);
        free(sample.bytes);
    }
}

/* Each byte of key and nonce counts. */
static void test_aead_key_and_nonce_are_bound(void **state)
{
    (void)state;
    for (size_t i = 0; i < suite_count; i++)
        for (size_t at = 0; at < SG_KEY_BYTES + SG_RECORD_NONCE_BYTES; at++) {
            struct sample sample;
            make_sample(&sample, at, 20);
            assert_int_equal(seal_sample(suites[i], &sample, 1, 20), SG_OK);
            uint8_t *byte = at < SG_KEY_BYTES ? &sample.key[at] : &sample.nonce[at - SG_KEY_BYTES];
            *byte ^= 1;
            assert_int_equal(sg_aead_derive(suites[i], ctx, &sample.state, sample.key, sample.nonce), SG_OK);
            assert_int_equal(open_sample(suites[i], &sample, 1, 20), SG_ERR_FORGED);
            free(sample.bytes);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_aead_find),
        cmocka_unit_test(test_aead_preference),
        cmocka_unit_test(test_aead_back_ends_agree),
        cmocka_unit_test(test_aead_flips_are_refused),
        cmocka_unit_test(test_aead_states_do_not_mix),
        cmocka_unit_test(test_aead_forget_wipes),
        cmocka_unit_test(test_aead_key_and_nonce_are_bound),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
