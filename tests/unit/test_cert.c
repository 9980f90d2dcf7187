/* The server's key and certificate, and files that are replaced whole. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "net/cert.h"
#include "net/file.h"

static char folder[] = "/tmp/sg-test-cert-XXXXXX";
static char error[SG_CERT_ERROR_MAX];

static const char *path_of(const char *name)
{
    static char paths[8][128];
    static unsigned next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static void make(const char *key, const char *cert, const char *host)
{
    if (access(path_of(key), F_OK) != 0)
        assert_int_equal(sg_cert_make_key(path_of(key), error), SG_OK);
    assert_int_equal(sg_cert_make(path_of(key), path_of(cert), host, error), SG_OK);
}

static X509 *read_cert(const char *name)
{
    FILE *file = fopen(path_of(name), "r");
    assert_non_null(file);
    X509 *cert = PEM_read_X509(file, NULL, NULL, NULL);
    fclose(file);
    assert_non_null(cert);
    return cert;
}

static unsigned mode_of(const char *name)
{
    struct stat st;
    assert_int_equal(stat(path_of(name), &st), 0);
    return st.st_mode & 07777;
}

static void makes_a_pair(void **state)
{
    (void)state;
    int days = 0, seconds = 0;
    make("a.key", "a.pem", "vpn.example.org");
    assert_int_equal(mode_of("a.key"), 0600);
    assert_int_equal(mode_of("a.pem"), 0600);
    assert_int_equal(sg_cert_check(path_of("a.key"), path_of("a.pem"), error), SG_OK);
    X509 *cert = read_cert("a.pem");
    EVP_PKEY *key = X509_get0_pubkey(cert);
    char group[32];
    assert_int_equal(EVP_PKEY_get_group_name(key, group, sizeof group, NULL), 1);
    assert_string_equal(group, "prime256v1");
    assert_int_equal(X509_verify(cert, key), 1);
    assert_int_equal(X509_check_host(cert, "vpn.example.org", 0, 0, NULL), 1);
    assert_int_equal(X509_check_host(cert, "example.org", 0, 0, NULL), 0);
    assert_int_equal(ASN1_TIME_diff(&days, &seconds, NULL, X509_get0_notAfter(cert)), 1);
    assert_in_range(days, 3650, 3653);
    X509_free(cert);
}

static void names_addresses(void **state)
{
    (void)state;
    make("a.key", "v4.pem", "192.0.2.1");
    make("a.key", "v6.pem", "2001:db8::1");
    X509 *v4 = read_cert("v4.pem"), *v6 = read_cert("v6.pem");
    assert_int_equal(X509_check_ip_asc(v4, "192.0.2.1", 0), 1);
    assert_int_equal(X509_check_ip_asc(v4, "192.0.2.2", 0), 0);
    assert_int_equal(X509_check_ip_asc(v6, "2001:db8::1", 0), 1);
    X509_free(v4);
    X509_free(v6);
}

/* The pin is the SHA-256 of the public key, computed here by another way; renewal keeps it. */
static void keeps_the_pin(void **state)
{
    (void)state;
    uint8_t pin[SG_CERT_PIN_BYTES], again[SG_CERT_PIN_BYTES], other[SG_CERT_PIN_BYTES], expected[32];
    make("a.key", "a.pem", "vpn.example.org");
    X509 *first = read_cert("a.pem");
    assert_int_equal(sg_cert_pin(path_of("a.pem"), pin, error), SG_OK);
    unsigned char *der = NULL;
    int len = i2d_PUBKEY(X509_get0_pubkey(first), &der);
    assert_true(len > 0);
    assert_int_equal(EVP_Digest(der, (size_t)len, expected, NULL, EVP_sha256(), NULL), 1);
    OPENSSL_free(der);
    assert_memory_equal(pin, expected, sizeof pin);

    make("a.key", "a.pem", "new.example.org");
    X509 *second = read_cert("a.pem");
    assert_int_not_equal(X509_cmp(first, second), 0);
    assert_int_equal(sg_cert_pin(path_of("a.pem"), again, error), SG_OK);
    assert_memory_equal(pin, again, sizeof pin);

    make("b.key", "b.pem", "vpn.example.org");
    assert_int_equal(sg_cert_pin(path_of("b.pem"), other, error), SG_OK);
    assert_memory_not_equal(pin, other, sizeof pin);
    X509_free(first);
    X509_free(second);
}

static void write_file(const char *name, const char *text, mode_t mode)
{
    FILE *file = fopen(path_of(name), "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(path_of(name), mode), 0);
}

static void expect_refused(const char *key, const char *cert, const char *text)
{
    assert_int_not_equal(sg_cert_check(path_of(key), path_of(cert), error), SG_OK);
    if (!strstr(error, text))
        fail_msg("\"%s\" does not say \"%s\"", error, text);
}

static void write_dated(const char *name, long from_days, long to_days)
{
    FILE *file = fopen(path_of("a.key"), "r");
    assert_non_null(file);
    EVP_PKEY *key = PEM_read_PrivateKey(file, NULL, NULL, NULL);
    fclose(file);
    X509 *cert = X509_new();
    assert_true(key && cert);
    assert_non_null(X509_gmtime_adj(X509_getm_notBefore(cert), from_days * 86400));
    assert_non_null(X509_gmtime_adj(X509_getm_notAfter(cert), to_days * 86400));
    assert_int_equal(X509_set_pubkey(cert, key), 1);
    assert_true(X509_sign(cert, key, EVP_sha256()) > 0);
    file = fopen(path_of(name), "w");
    assert_non_null(file);
    assert_int_equal(PEM_write_X509(file, cert), 1);
    assert_int_equal(fclose(file), 0);
    X509_free(cert);
    EVP_PKEY_free(key);
}

static void refuses_what_cannot_serve(void **state)
{
    (void)state;
    make("a.key", "a.pem", "h");
    make("b.key", "b.pem", "h");
    write_file("junk", "-----BEGIN NONSENSE-----\n", 0600);
    expect_refused("none.key", "a.pem", "none.key: No such file or directory");
    expect_refused("a.key", "none.pem", "none.pem: No such file or directory");
    expect_refused("junk", "a.pem", "junk: holds no private key");
    expect_refused("a.key", "junk", "junk: holds no certificate");
    expect_refused("a.key", "b.pem", "b.pem: does not belong to the key");
    write_dated("old.pem", -20, -10);
    expect_refused("a.key", "old.pem",
                   "old.pem: has expired: sealgram renew-cert DIR makes a new one with the same key");
    write_dated("early.pem", 10, 20);
    expect_refused("a.key", "early.pem", "early.pem: is not valid yet: is the clock right?");
    assert_int_equal(chmod(path_of("b.key"), 0640), 0);
    expect_refused("b.key", "b.pem", "chmod 600");
    assert_int_equal(sg_cert_make_key(path_of("a.key"), error), SG_ERR_SYSTEM);
    assert_non_null(strstr(error, "a.key: File exists"));
}

static void asks_for_no_pass_phrase(void **state)
{
    (void)state;
    EVP_PKEY *key = EVP_EC_gen("P-256");
    FILE *file = fopen(path_of("locked.key"), "w");
    assert_true(key && file);
    unsigned char secret[] = "secret";
    assert_int_equal(PEM_write_PrivateKey(file, key, EVP_aes_128_cbc(), secret, 6, NULL, NULL), 1);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(path_of("locked.key"), 0600), 0);
    EVP_PKEY_free(key);
    make("a.key", "a.pem", "h");
    expect_refused("locked.key", "a.pem", "without a pass phrase");
}

static bool write_text(FILE *file, void *ctx)
{
    if (!ctx) {
        errno = ENOSPC;
        return false;
    }
    return fputs(ctx, file) >= 0;
}

static unsigned count_files(void)
{
    char command[160];
    unsigned count = 0;
    snprintf(command, sizeof command, "ls -A %s | wc -l", folder);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    assert_int_equal(fscanf(pipe, "%u", &count), 1);
    pclose(pipe);
    return count;
}

static void replaces_whole_or_not_at_all(void **state)
{
    (void)state;
    char text[8] = "", one[] = "one", two[] = "two";
    const char *path = path_of("replaced");
    assert_int_equal(sg_file_replace(path, write_text, one), SG_OK);
    assert_int_equal(chmod(path, 0644), 0);
    unsigned files = count_files();
    assert_int_equal(sg_file_replace(path, write_text, NULL), SG_ERR_SYSTEM);
    assert_int_equal(errno, ENOSPC);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    assert_non_null(fgets(text, sizeof text, file));
    fclose(file);
    assert_string_equal(text, "one");
    assert_int_equal(sg_file_replace(path, write_text, two), SG_OK);
    assert_int_equal(mode_of("replaced"), 0600);
    assert_int_equal(count_files(), files);
    assert_int_equal(sg_file_replace(path_of("none/x"), write_text, two), SG_ERR_SYSTEM);
    assert_int_equal(errno, ENOENT);
}

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    char command[160];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(makes_a_pair),
        cmocka_unit_test(names_addresses),
        cmocka_unit_test(keeps_the_pin),
        cmocka_unit_test(refuses_what_cannot_serve),
        cmocka_unit_test(asks_for_no_pass_phrase),
        cmocka_unit_test(replaces_whole_or_not_at_all),
    };
    return cmocka_run_group_tests_name("cert", tests, make_folder, remove_folder);
}
