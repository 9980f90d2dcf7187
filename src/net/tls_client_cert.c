/*
 * Names in certificates are length and bytes: one with a NUL inside must not pass for what stands before it. A
 * certificate that did not verify has no names here.
 */
#include "net/tls_client_cert.h"

#include <string.h>
#include <strings.h>

#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <openssl/err.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>

/* The one CN of a subject. A subject with several is nobody: which one would count is a matter of
 * taste. */
static bool copy_cn(const X509 *certificate, char name[static SG_TLS_NAME_MAX + 1])
{
    const X509_NAME *subject = X509_get_subject_name(certificate);
    int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
    if (at < 0 || X509_NAME_get_index_by_NID(subject, NID_commonName, at) >= 0)
        return false;
    unsigned char *utf8 = NULL;
    int len = ASN1_STRING_to_UTF8(&utf8, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
    bool good = len > 0 && len <= SG_TLS_NAME_MAX && !memchr(utf8, 0, (size_t)len);
    if (good) {
        memcpy(name, utf8, (size_t)len);
        name[len] = '\0';
    }
    OPENSSL_free(utf8);
    return good;
}

/* The verified certificate of the other side, or NULL. */
static const X509 *verified(struct bufferevent *bev)
{
    SSL *ssl = bufferevent_openssl_get_ssl(bev);
    const X509 *certificate = ssl && SSL_is_server(ssl) ? SSL_get0_peer_certificate(ssl) : NULL;
    return certificate && SSL_get_verify_result(ssl) == X509_V_OK ? certificate : NULL;
}

bool sg_tls_client_name(struct bufferevent *bev, char name[static SG_TLS_NAME_MAX + 1])
{
    const X509 *certificate = verified(bev);
    return certificate && copy_cn(certificate, name);
}

static bool has_subject(const X509 *certificate, const char *value)
{
    char *text = NULL;
    BIO *bio = BIO_new(BIO_s_mem());
    bool same = false;
    if (bio && X509_NAME_print_ex(bio, X509_get_subject_name(certificate), 0, XN_FLAG_RFC2253) >= 0) {
        long len = BIO_get_mem_data(bio, &text);
        same = len > 0 && (size_t)len == strlen(value) && memcmp(text, value, (size_t)len) == 0;
    }
    BIO_free(bio);
    return same;
}

static bool is_alt_name(const GENERAL_NAME *name, enum sg_tls_cert_name kind, const char *value)
{
    static const int types[] = {
        [SG_TLS_CERT_DNS] = GEN_DNS, [SG_TLS_CERT_EMAIL] = GEN_EMAIL, [SG_TLS_CERT_URI] = GEN_URI};
    int type = 0;
    const ASN1_STRING *string = GENERAL_NAME_get0_value(name, &type);
    if (type != types[kind] || (size_t)ASN1_STRING_length(string) != strlen(value))
        return false;
    const char *text = (const char *)ASN1_STRING_get0_data(string);
    return kind == SG_TLS_CERT_DNS ? strncasecmp(text, value, strlen(value)) == 0
                                   : memcmp(text, value, strlen(value)) == 0;
}

bool sg_tls_client_has(struct bufferevent *bev, enum sg_tls_cert_name kind, const char *value)
{
    const X509 *certificate = verified(bev);
    bool found = false;
    if (!certificate || kind == SG_TLS_CERT_SUBJECT)
        return certificate && has_subject(certificate, value);
    GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    for (int i = 0; i < sk_GENERAL_NAME_num(names) && !found; i++)
        found = is_alt_name(sk_GENERAL_NAME_value(names, i), kind, value);
    GENERAL_NAMES_free(names);
    ERR_clear_error();
    return found;
}

bool sg_tls_add_crl(SSL_CTX *ctx, const char *file, char text[static SG_TLS_TEXT_MAX])
{
    X509_STORE *store = SSL_CTX_get_cert_store(ctx);
    X509_LOOKUP *lookup = X509_STORE_add_lookup(store, X509_LOOKUP_file());
    ERR_clear_error();
    if (lookup && X509_load_crl_file(lookup, file, X509_FILETYPE_PEM) > 0)
        return X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK) == 1;
    unsigned long code = ERR_peek_error();
    const char *cause = ERR_SYSTEM_ERROR(code) ? strerror(ERR_GET_REASON(code)) : "holds no revocation list in PEM";
    snprintf(text, SG_TLS_TEXT_MAX, "%s: %s", file, cause);
    ERR_clear_error();
    return false;
}
