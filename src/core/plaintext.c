/* The plaintext of a record: association number, SOCKS address, datagram. Parsed and written in place. */
#include "core/plaintext.h"

uint32_t sg_plaintext_association(const uint8_t *bytes, size_t len)
{
    struct sg_rbuf r = sg_rbuf_init(bytes, len);
    return sg_rbuf_u32(&r);
}

enum sg_err sg_plaintext_decode(uint8_t *bytes, size_t len, struct sg_datagram *out)
{
    struct sg_rbuf r = sg_rbuf_init(bytes, len);
    out->association = sg_rbuf_u32(&r);
    if (sg_target_decode(&r, &out->address) != SG_OK || !sg_rbuf_ok(&r) || out->association == 0)
        return SG_ERR_MALFORMED;
    out->data = bytes + (r.pos - bytes);
    out->data_len = sg_rbuf_left(&r);
    return SG_OK;
}

uint8_t *sg_plaintext_prepend(uint8_t *data, uint32_t association, const struct sg_endpoint *source)
{
    size_t room = SG_ASSOC_BYTES + (source->ip.family == 6 ? (size_t)SG_ADDR_IPV6_BYTES : (size_t)SG_ADDR_IPV4_BYTES);
    struct sg_wbuf w = sg_wbuf_init(data - room, room);
    sg_wbuf_u32(&w, association);
    sg_endpoint_encode(&w, source);
    return data - room;
}
