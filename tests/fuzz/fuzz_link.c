/*
 * What: fuzz target of the session between nodes (cluster/link.c). The first byte chooses who is
 * spoken to: an acceptor, an initiator, or an acceptor whose handshake is over; the rest is what it
 * gets, in pieces of a size that the second byte chooses. With bit 7 the checksums of the frames
 * are repaired first. Without the cookie nobody may become ready.
 */
#include "fuzz.h"

#include "warren/crc32c.h"
#include "warren/link.h"
#include "warren/mem.h"

struct end {
    struct link_session *session;
    struct outq out;
    bool may_be_ready;
    uint64_t sum;
};

static const char *on_ready(void *ctx, const struct link_identity *peer)
{
    struct end *e = ctx;
    WR_ASSERT(e->may_be_ready && peer != NULL);
    return NULL;
}

static void on_frame(void *ctx, uint8_t type, const struct slice *payload)
{
    struct end *e = ctx;
    WR_ASSERT(e->may_be_ready);
    e->sum += type;
    for (uint32_t i = 0; i < payload->size; i++) {
        e->sum += slice_data(payload)[i];
    }
}

static void init(struct end *e, bool initiator, uint8_t number)
{
    static const struct link_sink sink = {.on_ready = on_ready, .on_frame = on_frame};
    const struct link_identity own = {.node_id = {1, number}, .kind = LINK_KIND_NODE, .name = "w"};
    uint8_t nonce[32] = {number};
    *e = (struct end){.sum = 0};
    outq_init(&e->out);
    e->session = link_session_new(initiator, bytes_from_cstr("a cookie nobody guesses"), &own,
                                  nonce, &e->out, &sink, e);
    if (initiator) {
        link_session_start(e->session);
    }
}

static void deinit(struct end *e)
{
    link_session_free(e->session);
    outq_deinit(&e->out);
}

static void carry(struct end *from, struct end *to)
{
    struct slice piece;
    while (outq_take(&from->out, &piece, 1) == 1) {
        int rc = link_session_feed(to->session, slice_data(&piece), piece.size);
        WR_ASSERT_OP(rc, ==, 0);
        slice_unref(&piece);
    }
}

/* An acceptor that trusts its peer. */
static void init_ready(struct end *e)
{
    struct end peer;
    init(e, false, 2);
    init(&peer, true, 1);
    e->may_be_ready = peer.may_be_ready = true;
    for (int i = 0; i < 2; i++) {
        carry(&peer, e);
        carry(e, &peer);
    }
    WR_ASSERT(link_session_is_ready(e->session));
    deinit(&peer);
}

static void repair(uint8_t *data, size_t size)
{
    for (size_t at = 0; at + 8 < size;) {
        size_t frame = bytes_load_le32(data + at) % 512;
        if (frame == 0 || frame > size - at - 8) {
            return;
        }
        bytes_store_le32(data + at, (uint32_t)frame);
        bytes_store_le32(data + at + 4, crc32c(0, data + at + 8, frame));
        at += 8 + frame;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct end e;
    if (size < 2) {
        return 0;
    }
    size_t step = (size_t)data[1] * data[1] + 1;
    if (data[0] % 3 == 2) {
        init_ready(&e);
    } else {
        init(&e, data[0] % 3 == 1, 2);
    }
    uint8_t *copy = wr_memdup(data + 2, size - 2);
    if (data[0] >= 128) {
        repair(copy, size - 2);
    }
    for (size_t at = 0; at < size - 2; at += step) {
        size_t piece = size - 2 - at < step ? size - 2 - at : step;
        if (link_session_feed(e.session, copy + at, piece) != 0) {
            WR_ASSERT(link_session_error(e.session)[0] != 0);
            break;
        }
    }
    WR_ASSERT(e.may_be_ready || !link_session_is_ready(e.session));
    wr_free(copy);
    deinit(&e);
    return 0;
}
