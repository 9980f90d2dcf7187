/* Keys and certificates by OpenSSL. */
#include "net/cert.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

#include "core/addr.h"
#include "net/file.h"

enum { VALID_DAYS = 3652 };

static enum sg_err fail(char *error, const char *path, const char *cause)
{
    snprintf(error, SG_CERT_ERROR_MAX, "%.380s: %s", path, cause);
    ERR_clear_error();
    return SG_ERR_SYSTEM;
}

static FILE *create_file(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_EXCL, 0600);
    return fd < 0 ? NULL : fdopen(fd, "w");
}

enum sg_err sg_cert_make_key(const char *key_path, char error[static SG_CERT_ERROR_MAX])
{
    enum sg_err err = SG_OK;
    FILE *file = create_file(key_path);
    if (!file)
        return fail(error, key_path, strerror(errno));
    EVP_PKEY *key = EVP_EC_gen("P-256");
    bool good = key && PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL) == 1 && fflush(file) == 0 &&
                fsync(fileno(file)) == 0;
    if (fclose(file) != 0 || !good) {
        err = fail(error, key_path, "the key cannot be made");
        unlink(key_path);
    }
    EVP_PKEY_free(key);
    return err;
}

/* A key under a pass phrase is refused, where OpenSSL would ask at the terminal. */
static int no_pass_phrase(char *buffer, int size, int is_writing, void *ctx)
{
    (void)buffer;
    (void)size;
    (void)is_writing;
    (void)ctx;
    return -1;
}

static EVP_PKEY *read_key(const char *path)
{
    FILE *file = fopen(path, "re");
    EVP_PKEY *key = file ? PEM_read_PrivateKey(file, NULL, no_pass_phrase, NULL) : NULL;
    if (file)
        fclose(file);
    return key;
}

static X509 *read_cert(const char *path)
{
    FILE *file = fopen(path, "re");
    X509 *cert = file ? PEM_read_X509(file, NULL, NULL, NULL) : NULL;
    if (file)
        fclose(file);
    return cert;
}

static bool add_extension(X509 *cert, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx_nodb(&ctx);
    X509V3_set_ctx(&ctx, cert, cert, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    bool good = extension && X509_add_ext(cert, extension, -1) == 1;
    X509_EXTENSION_free(extension);
    return good;
}

static bool set_serial(X509 *cert)
{
    uint8_t bytes[16];
    if (RAND_bytes(bytes, sizeof bytes) != 1)
        return false;
    bytes[0] &= 0x7f;
    BIGNUM *number = BN_bin2bn(bytes, sizeof bytes, NULL);
    bool good = number && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(cert));
    BN_free(number);
    return good;
}

static bool fill_certificate(X509 *cert, EVP_PKEY *key, const char *host)
{
    char san[300];
    struct sg_ip ip;
    X509_NAME *name = X509_get_subject_name(cert);
    snprintf(san, sizeof san, "%s:%s", sg_ip_parse(host, &ip) == SG_OK ? "IP" : "DNS", host);
    /* The CN is fixed: it has room for 64 characters, and what counts is the SAN. */
    return X509_set_version(cert, X509_VERSION_3) == 1 && set_serial(cert) &&
           X509_gmtime_adj(X509_getm_notBefore(cert), -86400) &&
           X509_time_adj_ex(X509_getm_notAfter(cert), VALID_DAYS, 0, NULL) && X509_set_pubkey(cert, key) == 1 &&
           X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"sealgram", -1, -1, 0) == 1 &&
           X509_set_issuer_name(cert, name) == 1 && add_extension(cert, NID_subject_alt_name, san) &&
           add_extension(cert, NID_basic_constraints, "critical,CA:FALSE") &&
           add_extension(cert, NID_ext_key_usage, "serverAuth") && X509_sign(cert, key, EVP_sha256()) > 0;
}

static bool write_certificate(FILE *file, void *cert)
{
    return PEM_write_X509(file, cert) == 1;
}

/* A PEM file gave nothing: it cannot be read, or problem. */
static enum sg_err refuse_file(char *error, const char *path, const char *problem)
{
    struct stat st;
    if (access(path, R_OK) != 0)
        return fail(error, path, strerror(errno));
    return fail(error, path, stat(path, &st) == 0 && S_ISDIR(st.st_mode) ? strerror(EISDIR) : problem);
}

enum sg_err sg_cert_make(const char *key_path, const char *cert_path, const char *host,
                         char error[static SG_CERT_ERROR_MAX])
{
    enum sg_err err = SG_OK;
    EVP_PKEY *key = read_key(key_path);
    X509 *cert = X509_new();
    if (!key) {
        (void)refuse_file(error, key_path, "holds no private key that can be read without a pass phrase");
        err = SG_ERR_MALFORMED;
    } else if (!cert || !fill_certificate(cert, key, host)) {
        err = fail(error, cert_path, "the certificate cannot be made: is the host a name or an address?");
    } else if (sg_file_replace(cert_path, write_certificate, cert) != SG_OK) {
        err = fail(error, cert_path, strerror(errno));
    }
    X509_free(cert);
    EVP_PKEY_free(key);
    return err;
}

enum sg_err sg_cert_pin(const char *cert_path, uint8_t pin[static SG_CERT_PIN_BYTES],
                        char error[static SG_CERT_ERROR_MAX])
{
    enum sg_err err = SG_ERR_SYSTEM;
    unsigned char *der = NULL;
    X509 *cert = read_cert(cert_path);
    if (!cert)
        return refuse_file(error, cert_path, "holds no certificate (PEM)");
    int len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(cert), &der);
    if (len > 0 && EVP_Digest(der, (size_t)len, pin, NULL, EVP_sha256(), NULL) == 1)
        err = SG_OK;
    else
        err = fail(error, cert_path, "its public key cannot be read");
    OPENSSL_free(der);
    X509_free(cert);
    return err;
}

static enum sg_err check_key_file(const char *path, char *error)
{
    struct stat st;
    if (stat(path, &st) != 0)
        return fail(error, path, strerror(errno));
    if (!(st.st_mode & 077))
        return SG_OK;
    snprintf(error, SG_CERT_ERROR_MAX, "%.200s: other users of this machine can read it: chmod 600 %.200s", path, path);
    return SG_ERR_DENIED;
}

/* The key cannot be used: why. Certificates named in the place of keys are the usual mistake. */
static enum sg_err refuse_key(char *error, const char *key_path)
{
    X509 *cert = read_cert(key_path);
    enum sg_err err =
        refuse_file(error, key_path,
                    cert ? "holds a certificate and no private key: are `key` and `certificate` exchanged?"
                         : "holds no private key that can be read without a pass phrase (PEM; `openssl pkey -in "
                           "FILE -out NEW` removes a pass phrase)");
    X509_free(cert);
    return err;
}

static enum sg_err refuse_certificate(char *error, const char *cert_path)
{
    EVP_PKEY *key = read_key(cert_path);
    enum sg_err err = refuse_file(error, cert_path,
                                  key ? "holds a private key and no certificate: are `key` and `certificate` exchanged?"
                                      : "holds no certificate (PEM)");
    EVP_PKEY_free(key);
    return err;
}

enum sg_err sg_cert_check(const char *key_path, const char *cert_path, char error[static SG_CERT_ERROR_MAX])
{
    enum sg_err err = check_key_file(key_path, error);
    if (err != SG_OK)
        return err;
    EVP_PKEY *key = read_key(key_path);
    X509 *cert = read_cert(cert_path);
    if (!key)
        err = refuse_key(error, key_path);
    else if (!cert)
        err = refuse_certificate(error, cert_path);
    else if (X509_check_private_key(cert, key) != 1)
        err = fail(error, cert_path, "does not belong to the key: sealgram renew-cert DIR makes one that does");
    else if (X509_cmp_current_time(X509_get0_notAfter(cert)) < 0)
        err = fail(error, cert_path, "has expired: sealgram renew-cert DIR makes a new one with the same key");
    else if (X509_cmp_current_time(X509_get0_notBefore(cert)) > 0)
        err = fail(error, cert_path, "is not valid yet: is the clock right?");
    X509_free(cert);
    EVP_PKEY_free(key);
    return err;
}
