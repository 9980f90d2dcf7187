/*
 * The header of a plain SOCKS datagram: what decodes encodes to the same bytes, none of its truncations decodes, and
 * each error is the one that the bytes deserve.
 */
#include <string.h>

#include "check.h"
#include "core/socks5.h"

static enum sg_err decode(const uint8_t *bytes, size_t len, struct sg_socks5_udp *header)
{
    enum sg_err err = sg_socks5_udp_decode(bytes, len, header);
    if (PLANTED_BUG && err == SG_OK && header->target.atyp == SG_ATYP_NAME && header->target.name_len > 8)
        header->data_offset--;
    return err;
}

static void check_header(const uint8_t *bytes, size_t len, const struct sg_socks5_udp *header)
{
    uint8_t again[SG_SOCKS5_UDP_HEADER_MAX];
    struct sg_wbuf w = sg_wbuf_init(again, sizeof again);
    sg_socks5_udp_encode_header(&w, &header->target);
    CHECK(sg_wbuf_ok(&w));
    CHECK(header->frag == 0);
    CHECK(header->data_offset <= len);
    CHECK(header->data_offset == sg_wbuf_len(&w));
    CHECK(memcmp(again, bytes, sg_wbuf_len(&w)) == 0);
    for (size_t cut = 0; cut < header->data_offset; cut++) {
        struct sg_socks5_udp none;
        CHECK(decode(bytes, cut, &none) == SG_ERR_TRUNCATED);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sg_socks5_udp header;
    enum sg_err err = decode(data, size, &header);
    bool fragment = size >= 3 && data[0] == 0 && data[1] == 0 && data[2] != 0;
    CHECK((err == SG_ERR_UNSUPPORTED) == fragment);
    CHECK(!fragment || header.frag == data[2]);
    if (err == SG_OK)
        check_header(data, size, &header);
    else
        CHECK(err == SG_ERR_UNSUPPORTED || err == SG_ERR_MALFORMED || err == SG_ERR_TRUNCATED);
    return 0;
}
