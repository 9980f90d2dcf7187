/*
 * The plaintext of a record: what decodes has its header written back to the same bytes, in place too, the data is all
 * that follows, and no beginning of the header decodes.
 */
#include <string.h>

#include "check.h"
#include "core/plaintext.h"

static enum sg_err decode(uint8_t *bytes, size_t len, struct sg_datagram *out)
{
    enum sg_err err = sg_plaintext_decode(bytes, len, out);
    if (PLANTED_BUG && err == SG_OK && out->address.atyp == SG_ATYP_NAME && out->data_len > 4)
        out->data--;
    return err;
}

static void check_header(uint8_t *bytes, size_t len, const struct sg_datagram *got)
{
    uint8_t header[SG_PLAINTEXT_HEADER_MAX];
    struct sg_datagram none;
    struct sg_wbuf w = sg_wbuf_init(header, sizeof header);
    sg_wbuf_u32(&w, got->association);
    sg_target_encode(&w, &got->address);
    size_t header_len = sg_wbuf_len(&w);
    CHECK(sg_wbuf_ok(&w));
    CHECK(got->association != 0 && got->association == sg_plaintext_association(bytes, len));
    CHECK(got->data == bytes + header_len);
    CHECK(got->data_len == len - header_len);
    CHECK(memcmp(bytes, header, header_len) == 0);
    for (size_t cut = 0; cut < header_len; cut++)
        CHECK(decode(bytes, cut, &none) == SG_ERR_MALFORMED);
    if (got->address.atyp == SG_ATYP_NAME)
        return;
    struct sg_endpoint endpoint = sg_target_endpoint(&got->address);
    memset(bytes, 0xa5, header_len);
    CHECK(sg_plaintext_prepend(got->data, got->association, &endpoint) == bytes);
    CHECK(memcmp(bytes, header, header_len) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sg_datagram got;
    uint8_t *bytes = malloc(size ? size : 1);
    CHECK(bytes);
    if (size > 0)
        memcpy(bytes, data, size);
    enum sg_err err = decode(bytes, size, &got);
    CHECK(err == SG_OK || err == SG_ERR_MALFORMED);
    if (err == SG_OK)
        check_header(bytes, size, &got);
    free(bytes);
    return 0;
}
