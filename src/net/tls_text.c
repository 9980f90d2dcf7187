/* Alerts have words of our own: those of OpenSSL differ from version to version. */
#include "net/tls_text.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>

void sg_tls_verify_text(bool server, long result, char text[static SG_TLS_TEXT_MAX])
{
    const char *peer = server ? "client" : "server";
    switch (result) {
    case X509_V_ERR_APPLICATION_VERIFICATION:
        snprintf(
            text, SG_TLS_TEXT_MAX,
            "%s's key does not match the pin in the invite: if the server was made anew, ask whoever runs it for a "
            "new invite; if it was not, somebody stands between you and it",
            peer);
        return;
    case X509_V_ERR_CERT_HAS_EXPIRED:
        snprintf(text, SG_TLS_TEXT_MAX, "%s's certificate has expired%s", peer,
                 server ? "" : "; `sealgram renew-cert DIR` on the server makes a new one");
        return;
    case X509_V_ERR_CERT_NOT_YET_VALID:
        snprintf(text, SG_TLS_TEXT_MAX, "%s's certificate is not valid yet: is this machine's clock right?", peer);
        return;
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
        snprintf(text, SG_TLS_TEXT_MAX, "%s's certificate is for another name than the %s", peer,
                 server ? "user's" : "invite's");
        return;
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
        snprintf(text, SG_TLS_TEXT_MAX, "%s's certificate is not from a trusted CA%s", peer,
                 server
                     ? ""
                     : ": the invite has no pin (is it whole?), and neither the system nor --ca FILE knows a CA that "
                       "signed it");
        return;
    default:
        snprintf(text, SG_TLS_TEXT_MAX, "%s's certificate was refused: %s", peer,
                 X509_verify_cert_error_string(result));
    }
}

/* The names of RFC 8446 section 6, as words. */
static const char *const alerts[] = {
    [0] = "close notify",
    [10] = "unexpected message",
    [20] = "bad record MAC",
    [22] = "record overflow",
    [40] = "handshake failure",
    [42] = "bad certificate",
    [43] = "unsupported certificate",
    [44] = "certificate revoked",
    [45] = "certificate expired",
    [46] = "certificate unknown",
    [47] = "illegal parameter",
    [48] = "unknown CA",
    [49] = "access denied",
    [50] = "decode error",
    [51] = "decrypt error",
    [70] = "protocol version",
    [71] = "insufficient security",
    [80] = "internal error",
    [86] = "inappropriate fallback",
    [90] = "user cancelled",
    [109] = "missing extension",
    [110] = "unsupported extension",
    [112] = "unrecognized name",
    [113] = "bad certificate status response",
    [115] = "unknown PSK identity",
    [116] = "certificate required",
    [120] = "no application protocol",
};

/* An alert of the peer is an error whose reason is the alert's number and SSL_AD_REASON_OFFSET. */
static const char *alert_text(unsigned long code)
{
    int alert = ERR_GET_REASON(code) - SSL_AD_REASON_OFFSET;
    const char *text = alert >= 0 && (size_t)alert < sizeof alerts / sizeof *alerts ? alerts[alert] : NULL;
    return text ? text : "unknown alert";
}

bool sg_tls_library_text(unsigned long code, bool established, char text[static SG_TLS_TEXT_MAX])
{
    switch (ERR_GET_REASON(code)) {
    case SSL_R_UNEXPECTED_EOF_WHILE_READING:
        snprintf(text, SG_TLS_TEXT_MAX, established ? "connection cut by the peer" : "handshake ended by the peer");
        return false;
    case SSL_R_TLSV1_ALERT_NO_APPLICATION_PROTOCOL:
    case SSL_R_NO_APPLICATION_PROTOCOL:
        snprintf(text, SG_TLS_TEXT_MAX, "no common application protocol (ALPN sealgram/1)");
        return true;
    case SSL_R_TLSV1_ALERT_PROTOCOL_VERSION:
    case SSL_R_UNSUPPORTED_PROTOCOL:
    case SSL_R_VERSION_TOO_LOW:
        snprintf(text, SG_TLS_TEXT_MAX, "peer does not speak TLS 1.3");
        return true;
    case SSL_R_TLSV1_ALERT_UNKNOWN_CA:
    case SSL_R_SSLV3_ALERT_BAD_CERTIFICATE:
    case SSL_R_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_REVOKED:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN:
    case SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED:
        snprintf(text, SG_TLS_TEXT_MAX, "own certificate refused by the peer (%s)", alert_text(code));
        return true;
    case SSL_R_WRONG_VERSION_NUMBER:
    case SSL_R_PACKET_LENGTH_TOO_LONG:
    case SSL_R_HTTP_REQUEST:
        snprintf(text, SG_TLS_TEXT_MAX, "peer does not speak TLS");
        return true;
    default: {
        bool is_alert = ERR_GET_REASON(code) >= SSL_AD_REASON_OFFSET;
        const char *reason = is_alert ? alert_text(code) : ERR_reason_error_string(code);
        snprintf(text, SG_TLS_TEXT_MAX, "%s%s",
                 is_alert ? "TLS alert from the peer: " : "TLS: ", reason ? reason : "unknown error");
        return false;
    }
    }
}

void sg_tls_system_text(int error, bool established, char text[static SG_TLS_TEXT_MAX])
{
    switch (error) {
    case 0:
        snprintf(text, SG_TLS_TEXT_MAX, established ? "connection cut by the peer" : "handshake ended by the peer");
        return;
    case ECONNREFUSED:
        snprintf(text, SG_TLS_TEXT_MAX, "connection refused");
        return;
    case ECONNRESET:
    case EPIPE:
        snprintf(text, SG_TLS_TEXT_MAX, "connection reset by the peer");
        return;
    case ETIMEDOUT:
        snprintf(text, SG_TLS_TEXT_MAX, "connection timed out");
        return;
    default:
        snprintf(text, SG_TLS_TEXT_MAX, "%s", strerror(error));
    }
}
