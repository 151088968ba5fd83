/*
 * What: the node-to-node session: handshake and frames (include/warren/link.h).
 *
 * Happy path: feed() copies what arrived into a receive chunk and cuts frames out of it, as slices
 * of the chunk, so that a raft entry stays where it was received. Failure modes: any deviation sets
 * `error` with a text; the owner closes. Invariants: I1..I3 of the header; chunk->size - consumed
 * is what is left of an incomplete frame. Ownership: the session owns its chunk; delivered slices
 * keep it alive.
 */
#include <stdio.h>

#include "warren/crc32c.h"
#include "warren/crypto.h"
#include "warren/err.h"
#include "warren/link.h"
#include "warren/mem.h"

#define LINK_HEADER_SIZE 8u
#define LINK_CHUNK_SIZE  (256u * 1024)
#define LINK_CHUNK_FIRST                                                                           \
    (2 * (LINK_HANDSHAKE_MAX + LINK_HEADER_SIZE)) /* before the handshake is over */
#define LINK_COPY_MAX 1024u

#define NOT_WARREN "the peer does not speak Warren's link protocol"

enum link_state {
    LINK_EXPECT_HELLO,
    LINK_EXPECT_CHALLENGE,
    LINK_EXPECT_PROOF,
    LINK_EXPECT_WELCOME,
    LINK_READY,
    LINK_FAILED
};

struct link_session {
    enum link_state state;
    bool peer_known;
    uint8_t cookie[LINK_COOKIE_MAX];
    size_t cookie_size;
    struct link_identity own, peer;
    uint8_t nonce[32];
    struct writer hello;     /* payload of HELLO, as sent or received */
    struct writer challenge; /* payload of CHALLENGE without its MAC */
    struct outq *out;
    const struct link_sink *sink;
    void *ctx;
    struct buf *chunk;
    uint32_t consumed;
    char error[200];
};

struct link_session *link_session_new(bool initiator, struct bytes cookie,
                                      const struct link_identity *own, const uint8_t nonce[32],
                                      struct outq *out, const struct link_sink *sink, void *ctx)
{
    struct link_session *s = wr_calloc(1, sizeof *s);
    s->state = initiator ? LINK_EXPECT_CHALLENGE : LINK_EXPECT_HELLO;
    WR_ASSERT_OP(cookie.size, <=, LINK_COOKIE_MAX);
    if (cookie.size > 0) {
        memcpy(s->cookie, cookie.data, cookie.size);
    }
    s->cookie_size = cookie.size;
    s->own = *own;
    memcpy(s->nonce, nonce, sizeof s->nonce);
    s->out = out;
    s->sink = sink;
    s->ctx = ctx;
    writer_init(&s->hello, 256);
    writer_init(&s->challenge, 256);
    return s;
}

void link_session_free(struct link_session *s)
{
    if (s == NULL) {
        return;
    }
    writer_deinit(&s->hello);
    writer_deinit(&s->challenge);
    buf_unref(s->chunk);
    memset(s->cookie, 0, sizeof s->cookie);
    wr_free(s);
}

const char *link_session_error(const struct link_session *s)
{
    return s->error;
}

bool link_session_is_ready(const struct link_session *s)
{
    return s->state == LINK_READY;
}

const struct link_identity *link_session_peer(const struct link_session *s)
{
    return s->peer_known ? &s->peer : NULL;
}

static int fail(struct link_session *s, int code, const char *text)
{
    s->state = LINK_FAILED;
    (void)snprintf(s->error, sizeof s->error, "%s", text);
    return code;
}

/* --- sending ---------------------------------------------------------------------------------- */

void link_session_send(struct link_session *s, uint8_t type, const struct slice *pieces,
                       uint32_t count)
{
    uint64_t size = 1;
    uint32_t crc = crc32c(0, &type, 1);
    for (uint32_t i = 0; i < count; i++) {
        size += pieces[i].size;
        crc = crc32c(crc, slice_data(&pieces[i]), pieces[i].size);
    }
    WR_ASSERT_OP(size, <=, LINK_FRAME_MAX);
    uint8_t header[LINK_HEADER_SIZE + 1];
    bytes_store_le32(header, (uint32_t)size);
    bytes_store_le32(header + 4, crc);
    header[LINK_HEADER_SIZE] = type;
    outq_append_bytes(s->out, header, sizeof header);
    for (uint32_t i = 0; i < count; i++) {
        if (pieces[i].size <= LINK_COPY_MAX) {
            outq_append_bytes(s->out, slice_data(&pieces[i]), pieces[i].size);
        } else {
            outq_append_slice(s->out, &pieces[i]);
        }
    }
}

void link_session_send_bytes(struct link_session *s, uint8_t type, struct bytes payload)
{
    struct slice piece = payload.size == 0 ? SLICE_NONE : slice_copy(payload.data, payload.size);
    link_session_send(s, type, &piece, payload.size == 0 ? 0 : 1);
    slice_unref(&piece);
}

/* --- handshake -------------------------------------------------------------------------------- */

static void put_identity(struct writer *w, const struct link_identity *id, const uint8_t nonce[32])
{
    put_le32(w, LINK_VERSION);
    put_u8(w, id->kind);
    put_uid(w, id->node_id);
    put_uid(w, id->cluster_id);
    put_varbytes(w, bytes_from_cstr(id->name));
    put_varbytes(w, bytes_from_cstr(id->host));
    put_le16(w, id->cluster_port);
    put_le16(w, id->amqp_port);
    put_le32(w, id->shard);
    put_le32(w, id->shard_count);
    put_bytes(w, nonce, 32);
}

static bool rd_text(struct reader *r, char out[256])
{
    struct bytes text = rd_varbytes(r);
    if (r->failed || text.size > 255) {
        return false;
    }
    if (text.size > 0) {
        memcpy(out, text.data, text.size);
    }
    out[text.size] = 0;
    return true;
}

static bool rd_identity(struct reader *r, struct link_identity *id)
{
    id->kind = rd_u8(r);
    id->node_id = rd_uid(r);
    id->cluster_id = rd_uid(r);
    if (!rd_text(r, id->name) || !rd_text(r, id->host)) {
        return false;
    }
    id->cluster_port = rd_le16(r);
    id->amqp_port = rd_le16(r);
    id->shard = rd_le32(r);
    id->shard_count = rd_le32(r);
    (void)rd_bytes(r, 32); /* the nonce: only the MAC needs it */
    return rd_done(r) && (id->kind == LINK_KIND_NODE || id->kind == LINK_KIND_TOOL);
}

static void proof(struct link_session *s, const char *role, uint8_t out[32])
{
    struct writer w;
    writer_init(&w, 512);
    put_varbytes(&w, bytes_from_cstr(role));
    put_varbytes(&w, writer_bytes(&s->hello));
    put_varbytes(&w, writer_bytes(&s->challenge));
    struct bytes all = writer_bytes(&w);
    crypto_hmac_sha256(s->cookie, s->cookie_size, all.data, all.size, out);
    writer_deinit(&w);
}

#define ROLE_ACCEPTOR  "warren link acceptor"
#define ROLE_INITIATOR "warren link initiator"

void link_session_start(struct link_session *s)
{
    WR_ASSERT(s->state == LINK_EXPECT_CHALLENGE);
    put_identity(&s->hello, &s->own, s->nonce);
    link_session_send_bytes(s, LINK_HELLO, writer_bytes(&s->hello));
}

static int refuse(struct link_session *s, int code, const char *text)
{
    link_session_send_bytes(s, LINK_REFUSED, bytes_from_cstr(text));
    return fail(s, code, text);
}

static int learn_peer(struct link_session *s, struct bytes identity)
{
    struct reader r = reader_from(identity);
    struct link_identity peer = {0};
    uint32_t version = rd_le32(&r);
    if (!r.failed && version != LINK_VERSION) { /* what follows may look different */
        return refuse(s, WR_E_VERSION, "link protocol version not supported");
    }
    if (!rd_identity(&r, &peer)) {
        return fail(s, WR_E_CORRUPT, NOT_WARREN);
    }
    s->peer = peer;
    s->peer_known = true;
    if (peer.kind == LINK_KIND_NODE && s->own.kind == LINK_KIND_NODE) {
        if (!uid_is_zero(peer.cluster_id) && !uid_is_zero(s->own.cluster_id) &&
            !uid_eq(peer.cluster_id, s->own.cluster_id)) {
            return refuse(s, WR_E_REFUSED, "the two nodes belong to different clusters");
        }
        if (uid_eq(peer.node_id, s->own.node_id)) {
            return refuse(s, WR_E_REFUSED,
                          "the peer has this node's own identity (is its data directory a copy?)");
        }
    }
    return 0;
}

static int on_hello(struct link_session *s, struct bytes payload)
{
    put_view(&s->hello, payload);
    int rc = learn_peer(s, payload);
    if (rc != 0) {
        return rc;
    }
    put_identity(&s->challenge, &s->own, s->nonce);
    uint8_t mac[32];
    proof(s, ROLE_ACCEPTOR, mac);
    struct writer w;
    writer_init(&w, 512);
    put_view(&w, writer_bytes(&s->challenge));
    put_bytes(&w, mac, sizeof mac);
    link_session_send_bytes(s, LINK_CHALLENGE, writer_bytes(&w));
    writer_deinit(&w);
    s->state = LINK_EXPECT_PROOF;
    return 0;
}

static int on_challenge(struct link_session *s, struct bytes payload)
{
    uint8_t mac[32];
    if (payload.size < 32) {
        return fail(s, WR_E_CORRUPT, NOT_WARREN);
    }
    struct bytes identity = {payload.data, payload.size - 32};
    put_view(&s->challenge, identity);
    proof(s, ROLE_ACCEPTOR, mac);
    if (!crypto_equal(mac, payload.data + identity.size, 32)) {
        return fail(s, WR_E_AUTH, "the peer has another cluster cookie");
    }
    int rc = learn_peer(s, identity);
    if (rc != 0) {
        return rc;
    }
    proof(s, ROLE_INITIATOR, mac);
    link_session_send_bytes(s, LINK_PROOF, bytes_make(mac, sizeof mac));
    s->state = LINK_EXPECT_WELCOME;
    return 0;
}

static int on_proof(struct link_session *s, struct bytes payload)
{
    uint8_t mac[32];
    proof(s, ROLE_INITIATOR, mac);
    if (payload.size != 32 || !crypto_equal(mac, payload.data, 32)) {
        return refuse(s, WR_E_AUTH, "the peer has another cluster cookie");
    }
    s->state = LINK_READY;
    const char *why = s->sink->on_ready(s->ctx, &s->peer);
    if (why != NULL) {
        return refuse(s, WR_E_REFUSED, why);
    }
    link_session_send_bytes(s, LINK_WELCOME, bytes_make(NULL, 0));
    return 0;
}

static int on_refused(struct link_session *s, struct bytes payload)
{
    char text[160];
    size_t n = payload.size < sizeof text - 1 ? payload.size : sizeof text - 1;
    for (size_t i = 0; i < n; i++) {
        text[i] = payload.data[i] >= 0x20 && payload.data[i] < 0x7f ? (char)payload.data[i] : '?';
    }
    text[n] = 0;
    (void)snprintf(s->error, sizeof s->error, "refused by the peer: %s", text);
    s->state = LINK_FAILED;
    return WR_E_REFUSED;
}

static int on_handshake(struct link_session *s, uint8_t type, struct bytes payload)
{
    if (type == LINK_REFUSED && s->state != LINK_EXPECT_HELLO) {
        return on_refused(s, payload);
    }
    if (s->state == LINK_EXPECT_HELLO && type == LINK_HELLO) {
        return on_hello(s, payload);
    }
    if (s->state == LINK_EXPECT_CHALLENGE && type == LINK_CHALLENGE) {
        return on_challenge(s, payload);
    }
    if (s->state == LINK_EXPECT_PROOF && type == LINK_PROOF) {
        return on_proof(s, payload);
    }
    if (s->state == LINK_EXPECT_WELCOME && type == LINK_WELCOME) {
        s->state = LINK_READY;
        const char *why = s->sink->on_ready(s->ctx, &s->peer);
        return why == NULL ? 0 : fail(s, WR_E_REFUSED, why);
    }
    return fail(s, WR_E_CORRUPT, NOT_WARREN);
}

/* --- receiving -------------------------------------------------------------------------------- */

static int deliver(struct link_session *s, struct slice frame)
{
    uint8_t type = slice_data(&frame)[0];
    struct slice payload = slice_sub(&frame, 1, frame.size - 1);
    if (s->state != LINK_READY) {
        return on_handshake(s, type, bytes_from_slice(&payload));
    }
    s->sink->on_frame(s->ctx, type, &payload);
    return 0;
}

/* Cuts whole frames out of the chunk. */
static int cut(struct link_session *s)
{
    for (;;) {
        uint32_t have = s->chunk->size - s->consumed;
        if (have < LINK_HEADER_SIZE) {
            return 0;
        }
        const uint8_t *at = s->chunk->data + s->consumed;
        uint32_t size = bytes_load_le32(at);
        uint32_t limit = s->state == LINK_READY ? LINK_FRAME_MAX : LINK_HANDSHAKE_MAX;
        if (size == 0 || size > limit) {
            return s->state == LINK_READY
                       ? fail(s, WR_E_TOOBIG, "a frame of impossible size arrived")
                       : fail(s, WR_E_CORRUPT, NOT_WARREN);
        }
        if (have - LINK_HEADER_SIZE < size) {
            return 0;
        }
        if (crc32c(0, at + LINK_HEADER_SIZE, size) != bytes_load_le32(at + 4)) {
            return fail(s, WR_E_CORRUPT, "a frame arrived damaged (checksum)");
        }
        struct slice frame = {s->chunk, s->consumed + LINK_HEADER_SIZE, size};
        s->consumed += LINK_HEADER_SIZE + size;
        int rc = deliver(s, frame);
        if (rc != 0) {
            return rc;
        }
    }
}

/* Makes room for `size` more bytes behind an incomplete frame: a fresh chunk when this one is full,
 * twice what has arrived, so that copying stays linear (and never more than the largest frame
 * needs). */
static void make_room(struct link_session *s, size_t size)
{
    if (s->chunk != NULL && s->chunk->capacity - s->chunk->size >= size) {
        return;
    }
    uint32_t left = s->chunk == NULL ? 0 : s->chunk->size - s->consumed;
    size_t capacity = s->state == LINK_READY ? LINK_CHUNK_SIZE : LINK_CHUNK_FIRST;
    while (capacity < 2 * (left + size)) {
        capacity *= 2;
    }
    size_t enough = LINK_FRAME_MAX + LINK_HEADER_SIZE + size;
    struct buf *chunk = buf_new(capacity < enough ? capacity : enough);
    if (left > 0) {
        buf_append(&chunk, s->chunk->data + s->consumed, left);
    }
    buf_unref(s->chunk);
    s->chunk = chunk;
    s->consumed = 0;
}

static int feed_piece(struct link_session *s, const uint8_t *data, size_t size)
{
    if (s->chunk != NULL && s->consumed == s->chunk->size && !buf_is_shared(s->chunk)) {
        s->chunk->size = 0; /* nobody kept anything: use it again */
        s->consumed = 0;
    }
    make_room(s, size);
    buf_append(&s->chunk, data, size);
    return cut(s);
}

int link_session_feed(struct link_session *s, const uint8_t *data, size_t size)
{
    if (s->state == LINK_FAILED) {
        return WR_E_CLOSED;
    }
    while (size > 0) {
        /* A stranger makes us hold two frames of the handshake at most, however much comes at once.
         */
        size_t piece =
            s->state == LINK_READY || size < LINK_HANDSHAKE_MAX ? size : LINK_HANDSHAKE_MAX;
        int rc = feed_piece(s, data, piece);
        if (rc != 0) {
            return rc;
        }
        data += piece;
        size -= piece;
    }
    return 0;
}
