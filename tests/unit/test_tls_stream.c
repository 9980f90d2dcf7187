/* When TLS is read on: WANT_READ also comes after a message that is no data, with more read ahead behind it. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <openssl/ssl.h>

#include "net/tls_stream.h"

/* What SSL_read gives, call by call; the last of them stays. */
struct answer {
    int rc;
    int error; /* by SSL_get_error */
    int system_error;
};

static const struct answer KEYS = {-1, SSL_ERROR_WANT_READ, 0}; /* as OpenSSL 3.2 after a key update */
static const struct answer EMPTY = {-1, SSL_ERROR_WANT_READ, EAGAIN};

static const struct answer *script;
static size_t script_len, calls;

/* These two stand before OpenSSL's. */
int SSL_read(SSL *ssl, void *bytes, int size)
{
    (void)ssl, (void)bytes, (void)size;
    const struct answer *answer = &script[calls < script_len ? calls : script_len - 1];
    calls++;
    errno = answer->system_error;
    return answer->rc;
}

int SSL_get_error(const SSL *ssl, int rc)
{
    (void)ssl, (void)rc;
    return script[calls <= script_len ? calls - 1 : script_len - 1].error;
}

static size_t read_by(const struct answer *answers, size_t count, enum sg_tls_input *input)
{
    uint8_t bytes[100];
    script = answers;
    script_len = count;
    calls = 0;
    return sg_tls_read(NULL, bytes, sizeof bytes, input);
}

static void what_was_read_ahead_behind_new_keys_is_read_at_once(void **state)
{
    (void)state;
    enum sg_tls_input input;
    const struct answer answers[] = {KEYS, {30, 0, 0}, KEYS, KEYS, {20, 0, 0}, EMPTY};
    assert_int_equal(read_by(answers, 6, &input), 50);
    assert_int_equal(input, SG_TLS_DRY);
    assert_int_equal(calls, 6);
}

static void an_empty_socket_is_asked_once(void **state)
{
    (void)state;
    enum sg_tls_input input;
    assert_int_equal(read_by(&EMPTY, 1, &input), 0);
    assert_int_equal(input, SG_TLS_DRY);
    assert_int_equal(calls, 1);
}

static void new_keys_without_end_give_others_their_turn(void **state)
{
    (void)state;
    enum sg_tls_input input;
    assert_int_equal(read_by(&KEYS, 1, &input), 0);
    assert_int_equal(input, SG_TLS_MORE);
    assert_in_range(calls, 1, 1000);
}

static void an_end_with_an_error_keeps_what_came_before(void **state)
{
    (void)state;
    enum sg_tls_input input;
    const struct answer answers[] = {{30, 0, 0}, {-1, SSL_ERROR_SYSCALL, ECONNRESET}};
    assert_int_equal(read_by(answers, 2, &input), 30);
    assert_int_equal(input, SG_TLS_CUT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_read_ahead_behind_new_keys_is_read_at_once),
        cmocka_unit_test(an_empty_socket_is_asked_once),
        cmocka_unit_test(new_keys_without_end_give_others_their_turn),
        cmocka_unit_test(an_end_with_an_error_keeps_what_came_before),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
