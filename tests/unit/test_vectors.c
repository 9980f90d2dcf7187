/*
 * Published vectors through our own wrapper, on every back end: XAES-256-GCM with its accumulated test (tests/vectors),
 * and Wycheproof, which lies beside the tree; those tests are skipped where it does not.
 */
#include <stdio.h>
#include <stdlib.h>

#include <jansson.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "core/aead.h"
#include "core/keys.h"
#include "record_util.h"

enum { FIELD_MAX = 4096, MESSAGE_MAX = 70000 };

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
    return 0;
}

/* --- XAES-256-GCM --- */

struct xaes_case {
    uint8_t key[32], nonce[24], subkey[32], iv[12], plaintext[64], aad[64], ciphertext[80];
    size_t plaintext_len, aad_len, ciphertext_len;
};

static void check_xaes_case(const struct xaes_case *c)
{
    for (size_t i = 0; i < suite_count; i++) {
        const struct sg_aead *aead = suites[i];
        if (aead->id != SG_SUITE_XAES_256_GCM)
            continue;
        struct sg_aead_state state;
        uint8_t subkey[32], iv[12], bytes[80];
        assert_int_equal(c->ciphertext_len, c->plaintext_len + 16);
        assert_int_equal(aead->derive_subkey(ctx, c->key, c->nonce, subkey), SG_OK);
        assert_memory_equal(subkey, c->subkey, sizeof subkey);
        aead->make_iv(c->nonce, iv);
        assert_memory_equal(iv, c->iv, sizeof iv);
        memcpy(bytes, c->plaintext, c->plaintext_len);
        assert_int_equal(sg_aead_derive(aead, ctx, &state, c->key, c->nonce), SG_OK);
        assert_int_equal(sg_aead_seal(aead, ctx, &state, c->nonce, c->aad, c->aad_len, bytes, c->plaintext_len,
                                      bytes + c->plaintext_len),
                         SG_OK);
        assert_memory_equal(bytes, c->ciphertext, c->ciphertext_len);
        assert_int_equal(sg_aead_open(aead, ctx, &state, c->nonce, c->aad, c->aad_len, bytes, c->plaintext_len,
                                      bytes + c->plaintext_len),
                         SG_OK);
        assert_memory_equal(bytes, c->plaintext, c->plaintext_len);
    }
}

/* Reads "NAME = value" of the next line that has one; false at the end of the file. */
static bool next_field(FILE *file, char *name, char *value)
{
    char line[FIELD_MAX];
    while (fgets(line, sizeof line, file)) {
        value[0] = 0;
        if (line[0] != '#' && sscanf(line, "%63s = %511s", name, value) >= 1)
            return true;
    }
    return false;
}

static FILE *open_xaes_file(void)
{
    FILE *file = fopen(SG_SOURCE_ROOT "/tests/vectors/xaes-256-gcm.txt", "re");
    assert_non_null(file);
    return file;
}

static void test_xaes_256_gcm_vectors(void **state)
{
    (void)state;
    FILE *file = open_xaes_file();
    struct xaes_case c = {.plaintext_len = 0};
    char name[64], value[512];
    unsigned cases = 0;
    while (next_field(file, name, value)) {
        if (strcmp(name, "K") == 0)
            read_hex(value, c.key, sizeof c.key);
        else if (strcmp(name, "N") == 0)
            read_hex(value, c.nonce, sizeof c.nonce);
        else if (strcmp(name, "SUBKEY") == 0)
            read_hex(value, c.subkey, sizeof c.subkey);
        else if (strcmp(name, "IV") == 0)
            read_hex(value, c.iv, sizeof c.iv);
        else if (strcmp(name, "PLAINTEXT") == 0)
            c.plaintext_len = read_hex(value, c.plaintext, sizeof c.plaintext);
        else if (strcmp(name, "AAD") == 0)
            c.aad_len = read_hex(value, c.aad, sizeof c.aad);
        else if (strcmp(name, "CIPHERTEXT") == 0) {
            c.ciphertext_len = read_hex(value, c.ciphertext, sizeof c.ciphertext);
            check_xaes_case(&c);
            cases++;
        }
    }
    fclose(file);
    assert_int_equal(cases, 2);
}

/* A stream of SHAKE-128(""): OpenSSL 3.0 squeezes only once, so all that can be needed is squeezed at the start. */
struct stream {
    uint8_t *bytes;
    size_t size, at;
};

static void open_stream(struct stream *stream, size_t size)
{
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    *stream = (struct stream){.bytes = malloc(size), .size = size};
    assert_true(md && stream->bytes);
    assert_int_equal(EVP_DigestInit_ex(md, EVP_shake128(), NULL), 1);
    assert_int_equal(EVP_DigestFinalXOF(md, stream->bytes, size), 1);
    EVP_MD_CTX_free(md);
}

static void read_stream(struct stream *stream, uint8_t *out, size_t len)
{
    assert_true(stream->size - stream->at >= len);
    memcpy(out, stream->bytes + stream->at, len);
    stream->at += len;
}

static void accumulate(const struct sg_aead *aead, struct stream *stream, EVP_MD_CTX *md)
{
    uint8_t key[32], nonce[24], plaintext[255], aad[255], bytes[255 + 16], len = 0, aad_len = 0;
    struct sg_aead_state state;
    read_stream(stream, key, sizeof key);
    read_stream(stream, nonce, sizeof nonce);
    read_stream(stream, &len, 1);
    read_stream(stream, plaintext, len);
    read_stream(stream, &aad_len, 1);
    read_stream(stream, aad, aad_len);
    memcpy(bytes, plaintext, len);
    assert_int_equal(sg_aead_derive(aead, ctx, &state, key, nonce), SG_OK);
    assert_int_equal(sg_aead_seal(aead, ctx, &state, nonce, aad, aad_len, bytes, len, bytes + len), SG_OK);
    assert_int_equal(EVP_DigestUpdate(md, bytes, (size_t)len + 16), 1);
    assert_int_equal(sg_aead_open(aead, ctx, &state, nonce, aad, aad_len, bytes, len, bytes + len), SG_OK);
    assert_memory_equal(bytes, plaintext, len);
}

static void test_xaes_256_gcm_accumulated(void **state)
{
    (void)state;
    FILE *file = open_xaes_file();
    char name[64], value[512];
    uint8_t seed[16] = {0}, expected[32] = {0}, got[32];
    unsigned long iterations = 0;
    while (next_field(file, name, value)) {
        if (strcmp(name, "SEED") == 0)
            read_hex(value, seed, sizeof seed);
        else if (strcmp(name, "ITERATIONS") == 0)
            iterations = strtoul(value, NULL, 10);
        else if (strcmp(name, "ACCUMULATED") == 0)
            read_hex(value, expected, sizeof expected);
    }
    fclose(file);
    assert_int_equal(iterations, 10000);
    struct stream stream;
    open_stream(&stream, iterations * (32 + 24 + 2 + 255 + 255));
    assert_memory_equal(stream.bytes, seed, sizeof seed);
    for (size_t i = 0; i < suite_count; i++) {
        if (suites[i]->id != SG_SUITE_XAES_256_GCM)
            continue;
        EVP_MD_CTX *md = EVP_MD_CTX_new();
        assert_true(md && EVP_DigestInit_ex(md, EVP_shake128(), NULL) == 1);
        stream.at = 0;
        for (unsigned long n = 0; n < iterations; n++)
            accumulate(suites[i], &stream, md);
        assert_int_equal(EVP_DigestFinalXOF(md, got, sizeof got), 1);
        assert_memory_equal(got, expected, sizeof got);
        EVP_MD_CTX_free(md);
    }
    free(stream.bytes);
}

/* --- Wycheproof --- */

/* NULL if the folder is not there. */
static json_t *load_wycheproof(const char *file)
{
    char path[FIELD_MAX];
    int len = snprintf(path, sizeof path, "%s/../shared/vectors/wycheproof_%s.json", SG_SOURCE_ROOT, file);
    assert_true(len > 0 && (size_t)len < sizeof path);
    return json_load_file(path, 0, NULL);
}

static size_t field(const json_t *test, const char *name, uint8_t *out, size_t size)
{
    const char *text = json_string_value(json_object_get(test, name));
    assert_non_null(text);
    return read_hex(text, out, size);
}

static long long number(const json_t *group, const char *name)
{
    return json_integer_value(json_object_get(group, name));
}

/* What differs between the three AEADs: which step of a suite they test, and the sizes that it takes. */
struct step {
    uint16_t suite;
    long long iv_bits;
    bool whole_suite; /* 24-byte nonce from the direction key on; else the cipher under the subkey */
};

static enum sg_err seal_step(const struct step *step, const struct sg_aead *aead, const uint8_t *key, const uint8_t *iv,
                             const uint8_t *aad, size_t aad_len, uint8_t *bytes, size_t len, uint8_t *tag)
{
    struct sg_aead_state state;
    if (!step->whole_suite) {
        assert_int_equal(aead->expand(ctx, &state, key), SG_OK);
        return aead->seal(ctx, &state, iv, aad, aad_len, bytes, len, tag);
    }
    assert_int_equal(sg_aead_derive(aead, ctx, &state, key, iv), SG_OK);
    return sg_aead_seal(aead, ctx, &state, iv, aad, aad_len, bytes, len, tag);
}

static enum sg_err open_step(const struct step *step, const struct sg_aead *aead, const uint8_t *key, const uint8_t *iv,
                             const uint8_t *aad, size_t aad_len, uint8_t *bytes, size_t len, const uint8_t *tag)
{
    struct sg_aead_state state;
    if (!step->whole_suite) {
        assert_int_equal(aead->expand(ctx, &state, key), SG_OK);
        return aead->open(ctx, &state, iv, aad, aad_len, bytes, len, tag);
    }
    assert_int_equal(sg_aead_derive(aead, ctx, &state, key, iv), SG_OK);
    return sg_aead_open(aead, ctx, &state, iv, aad, aad_len, bytes, len, tag);
}

static void check_wycheproof(const struct step *step, const struct sg_aead *aead, const json_t *test)
{
    static uint8_t aad[MESSAGE_MAX], plaintext[MESSAGE_MAX], ciphertext[MESSAGE_MAX], bytes[MESSAGE_MAX];
    uint8_t key[32], iv[24], expected[16], tag[16];
    bool valid = strcmp(json_string_value(json_object_get(test, "result")), "valid") == 0;
    assert_int_equal(field(test, "key", key, sizeof key), sizeof key);
    field(test, "iv", iv, sizeof iv);
    size_t aad_len = field(test, "aad", aad, sizeof aad), len = field(test, "msg", plaintext, sizeof plaintext);
    assert_int_equal(field(test, "ct", ciphertext, sizeof ciphertext), len);
    assert_int_equal(field(test, "tag", expected, sizeof expected), sizeof expected);

    memcpy(bytes, ciphertext, len);
    enum sg_err err = open_step(step, aead, key, iv, aad, aad_len, bytes, len, expected);
    assert_int_equal(err, valid ? SG_OK : SG_ERR_FORGED);
    if (!valid)
        return;
    assert_memory_equal(bytes, plaintext, len);
    assert_int_equal(seal_step(step, aead, key, iv, aad, aad_len, bytes, len, tag), SG_OK);
    assert_memory_equal(bytes, ciphertext, len);
    assert_memory_equal(tag, expected, sizeof tag);
}

static void run_wycheproof(const char *file, const struct step *step, unsigned expected_cases,
                           unsigned expected_skipped)
{
    json_t *root = load_wycheproof(file), *group = NULL, *test = NULL;
    size_t g = 0, t = 0;
    unsigned cases = 0, not_applicable = 0;
    if (!root) {
        print_message("skip: the vectors of Wycheproof do not lie beside the tree\n");
        skip();
    }
    json_array_foreach(json_object_get(root, "testGroups"), g, group)
    {
        bool applies = number(group, "keySize") == 256 && number(group, "ivSize") == step->iv_bits &&
                       number(group, "tagSize") == 128;
        json_array_foreach(json_object_get(group, "tests"), t, test)
        {
            for (size_t i = 0; applies && i < suite_count; i++)
                if (suites[i]->id == step->suite)
                    check_wycheproof(step, suites[i], test);
            cases += applies;
            not_applicable += !applies;
        }
    }
    json_decref(root);
    print_message("%s: %u cases, %u not applicable (another size of key or nonce)\n", file, cases, not_applicable);
    assert_int_equal(cases, expected_cases);
    assert_int_equal(not_applicable, expected_skipped);
}

static void test_wycheproof_aes_gcm(void **state)
{
    (void)state;
    static const struct step step = {.suite = SG_SUITE_XAES_256_GCM, .iv_bits = 96, .whole_suite = false};
    run_wycheproof("aes_gcm_test", &step, 66, 250);
}

static void test_wycheproof_chacha20_poly1305(void **state)
{
    (void)state;
    static const struct step step = {.suite = SG_SUITE_XCHACHA20_POLY1305, .iv_bits = 96, .whole_suite = false};
    run_wycheproof("chacha20_poly1305_test", &step, 316, 9);
}

static void test_wycheproof_xchacha20_poly1305(void **state)
{
    (void)state;
    static const struct step step = {.suite = SG_SUITE_XCHACHA20_POLY1305, .iv_bits = 192, .whole_suite = true};
    run_wycheproof("xchacha20_poly1305_test", &step, 306, 9);
}

/* Our schedule has only the second step of HKDF: the first is done here, as RFC 5869 section 2.2 says. */
static void check_hkdf(const json_t *test)
{
    static uint8_t ikm[FIELD_MAX], salt[FIELD_MAX], info[FIELD_MAX], okm[255 * 32], out[255 * 32];
    uint8_t prk[32];
    unsigned prk_len = 0;
    bool valid = strcmp(json_string_value(json_object_get(test, "result")), "valid") == 0;
    size_t size = (size_t)number(test, "size");
    size_t ikm_len = field(test, "ikm", ikm, sizeof ikm), salt_len = field(test, "salt", salt, sizeof salt);
    size_t info_len = field(test, "info", info, sizeof info);
    assert_non_null(HMAC(EVP_sha256(), salt, (int)salt_len, ikm, ikm_len, prk, &prk_len));
    if (!valid) {
        assert_true(size > sizeof out); /* the only fault that these vectors have */
        assert_int_equal(sg_keys_expand(prk, prk_len, info, info_len, out, size), SG_ERR_INVALID);
        return;
    }
    assert_int_equal(field(test, "okm", okm, sizeof okm), size);
    assert_int_equal(sg_keys_expand(prk, prk_len, info, info_len, out, size), SG_OK);
    assert_memory_equal(out, okm, size);
}

static void test_wycheproof_hkdf_sha256(void **state)
{
    (void)state;
    json_t *root = load_wycheproof("hkdf_sha256_test"), *group = NULL, *test = NULL;
    size_t g = 0, t = 0, cases = 0;
    if (!root) {
        print_message("skip: the vectors of Wycheproof do not lie beside the tree\n");
        skip();
    }
    json_array_foreach(json_object_get(root, "testGroups"), g, group)
        json_array_foreach(json_object_get(group, "tests"), t, test)
    {
        check_hkdf(test);
        cases++;
    }
    json_decref(root);
    assert_int_equal(cases, 86);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_xaes_256_gcm_vectors),
        cmocka_unit_test(test_xaes_256_gcm_accumulated),
        cmocka_unit_test(test_wycheproof_aes_gcm),
        cmocka_unit_test(test_wycheproof_chacha20_poly1305),
        cmocka_unit_test(test_wycheproof_xchacha20_poly1305),
        cmocka_unit_test(test_wycheproof_hkdf_sha256),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
