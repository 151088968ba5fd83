/*
 * The node-to-node session without sockets: two sessions whose outputs are carried by hand, so that
 * what travels can be split, changed, reflected, replayed and cut off.
 */
#include <criterion/criterion.h>
#include <malloc.h>
#include <stdio.h>
#include <string.h>

#include "warren/crc32c.h"
#include "warren/err.h"
#include "warren/link.h"
#include "warren/mem.h"
#include "warren/prng.h"

struct end {
    struct link_session *session;
    struct outq out;
    bool ready;
    const char *refuse;        /* what on_ready answers */
    struct link_identity peer; /* what on_ready was told */
    uint32_t frames;
    uint8_t last_type;
    struct slice last; /* held */
};

static const char *on_ready(void *ctx, const struct link_identity *peer)
{
    struct end *e = ctx;
    cr_assert(!e->ready);
    e->ready = true;
    e->peer = *peer;
    return e->refuse;
}

static void on_frame(void *ctx, uint8_t type, const struct slice *payload)
{
    struct end *e = ctx;
    cr_assert(e->ready);
    e->frames++;
    e->last_type = type;
    slice_unref(&e->last);
    e->last = slice_ref(payload);
}

static const struct link_sink sink = {.on_ready = on_ready, .on_frame = on_frame};

static struct link_identity identity(uint64_t n)
{
    struct link_identity id = {.node_id = {n, n + 1},
                               .cluster_port = (uint16_t)(25000 + n),
                               .amqp_port = (uint16_t)(5000 + n),
                               .kind = LINK_KIND_NODE,
                               .shard = 1,
                               .shard_count = 4};
    (void)snprintf(id.name, sizeof(id.name), "w%u@host-%u", (unsigned)n, (unsigned)n);
    (void)snprintf(id.host, sizeof(id.host), "host-%u", (unsigned)n);
    return id;
}

static void end_init(struct end *e, bool initiator, const char *cookie, struct link_identity own,
                     uint8_t nonce_byte)
{
    uint8_t nonce[32];
    memset(nonce, nonce_byte, sizeof(nonce));
    *e = (struct end){.ready = false};
    outq_init(&e->out);
    e->session =
        link_session_new(initiator, bytes_from_cstr(cookie), &own, nonce, &e->out, &sink, e);
    if (initiator) {
        link_session_start(e->session);
    }
}

static void end_deinit(struct end *e)
{
    link_session_free(e->session);
    outq_deinit(&e->out);
    slice_unref(&e->last);
}

/* All that the end has to say, as one text; the caller frees data. */
static struct bytes take(struct end *e)
{
    size_t size = (size_t)outq_size(&e->out);
    uint8_t *data = wr_alloc(size + 1);
    size_t at = 0;
    struct slice piece;
    while (outq_take(&e->out, &piece, 1) == 1) {
        memcpy(data + at, slice_data(&piece), piece.size);
        at += piece.size;
        slice_unref(&piece);
    }
    return bytes_make(data, at);
}

/* Feeds from a copy of exactly the size, so that ASan sees a read beyond it. */
static int feed(struct end *e, struct bytes b)
{
    uint8_t *copy = wr_memdup(b.data, b.size);
    int rc = link_session_feed(e->session, copy, b.size);
    wr_free(copy);
    return rc;
}

/* Bytes from malloc (under a sanitizer that does not count: 0). */
static size_t allocated(void)
{
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

static int carry(struct end *from, struct end *to)
{
    struct bytes b = take(from);
    int rc = b.size == 0 ? 0 : feed(to, b);
    wr_free((void *)(uintptr_t)b.data);
    return rc;
}

static void end_pair(struct end *a, struct end *b)
{
    end_init(a, true, "secret", identity(1), 0xaa);
    end_init(b, false, "secret", identity(2), 0xbb);
}

static void shake(struct end *a, struct end *b)
{
    cr_assert_eq(carry(a, b), 0);
    cr_assert_eq(carry(b, a), 0);
    cr_assert_eq(carry(a, b), 0);
    cr_assert_eq(carry(b, a), 0);
    cr_assert(a->ready);
    cr_assert(b->ready);
}

Test(link, both_ends_learn_who_the_other_is)
{
    struct end a, b;
    end_pair(&a, &b);
    shake(&a, &b);
    cr_assert(link_session_is_ready(a.session) && link_session_is_ready(b.session));
    cr_assert(uid_eq(a.peer.node_id, identity(2).node_id));
    cr_assert_str_eq(a.peer.name, "w2@host-2");
    cr_assert_str_eq(b.peer.host, "host-1");
    cr_assert_eq(b.peer.cluster_port, 25001);
    cr_assert_eq(b.peer.amqp_port, 5001);
    cr_assert_eq(b.peer.shard, 1);
    cr_assert_eq(b.peer.shard_count, 4);
    end_deinit(&a);
    end_deinit(&b);
}

Test(link, the_cookie_itself_never_travels)
{
    struct end a, b;
    end_pair(&a, &b);
    struct end *ends[2] = {&a, &b};
    for (int i = 0; i < 4; i++) {
        struct bytes said = take(ends[i % 2]);
        cr_assert_null(memmem(said.data, said.size, "secret", 6));
        cr_assert_eq(feed(ends[(i + 1) % 2], said), 0);
        wr_free((void *)(uintptr_t)said.data);
    }
    cr_assert(a.ready && b.ready);
    end_deinit(&a);
    end_deinit(&b);
}

Test(link, another_cookie_is_noticed_by_the_initiator)
{
    struct end a, b;
    end_init(&a, true, "secret", identity(1), 1);
    end_init(&b, false, "secreT", identity(2), 2);
    cr_assert_eq(carry(&a, &b), 0);
    cr_assert_eq(carry(&b, &a), WR_E_AUTH);
    cr_assert_str_eq(link_session_error(a.session), "the peer has another cluster cookie");
    cr_assert(!a.ready && !b.ready);
    cr_assert_eq(outq_size(&a.out), 0); /* no proof for a stranger */
    end_deinit(&a);
    end_deinit(&b);
}

Test(link, an_empty_cookie_is_a_cookie_like_any_other)
{
    struct end a, b;
    end_init(&a, true, "", identity(1), 1);
    end_init(&b, false, "", identity(2), 2);
    shake(&a, &b);
    end_deinit(&a);
    end_deinit(&b);
    end_init(&a, true, "", identity(1), 1);
    end_init(&b, false, "x", identity(2), 2);
    cr_assert_eq(carry(&a, &b), 0);
    cr_assert_eq(carry(&b, &a), WR_E_AUTH);
    end_deinit(&a);
    end_deinit(&b);
}

/* What a frame looks like, for those who do not have the cookie but can speak. */
static struct bytes forge(uint8_t type, struct bytes payload)
{
    uint8_t *data = wr_alloc(9 + payload.size);
    data[8] = type;
    if (payload.size > 0) {
        memcpy(data + 9, payload.data, payload.size);
    }
    bytes_store_le32(data, (uint32_t)payload.size + 1);
    bytes_store_le32(data + 4, crc32c(0, data + 8, payload.size + 1));
    return bytes_make(data, 9 + payload.size);
}

static int feed_forged(struct end *e, uint8_t type, struct bytes payload)
{
    struct bytes frame = forge(type, payload);
    int rc = feed(e, frame);
    wr_free((void *)(uintptr_t)frame.data);
    return rc;
}

Test(link, an_acceptor_is_not_convinced_by_a_wrong_or_short_proof)
{
    uint8_t guess[64] = {0};
    for (size_t size = 0; size <= sizeof(guess); size++) {
        struct end a, b;
        end_pair(&a, &b);
        cr_assert_eq(carry(&a, &b), 0);
        cr_assert_eq(feed_forged(&b, LINK_PROOF, bytes_make(guess, size)), WR_E_AUTH);
        cr_assert(!b.ready);
        end_deinit(&a);
        end_deinit(&b);
    }
}

/* An attacker without the cookie opens a connection to a node and sends back what the node says. */
Test(link, nothing_can_be_reflected)
{
    struct end a, again;
    end_init(&a, true, "secret", identity(1), 1);
    struct bytes hello = take(&a);
    cr_assert_neq(feed(&a, hello), 0); /* a HELLO where a CHALLENGE is due */
    wr_free((void *)(uintptr_t)hello.data);
    end_deinit(&a);

    /* The acceptor's own MAC, given back to it as the proof. */
    struct end b;
    end_pair(&a, &b);
    cr_assert_eq(carry(&a, &b), 0);
    struct bytes challenge = take(&b);
    cr_assert_eq(feed_forged(&b, LINK_PROOF, bytes_make(challenge.data + challenge.size - 32, 32)),
                 WR_E_AUTH);
    cr_assert(!b.ready);
    wr_free((void *)(uintptr_t)challenge.data);
    end_deinit(&a);
    end_deinit(&b);

    /* A second connection to the same node, used to have the first one's challenge answered. */
    end_init(&b, false, "secret", identity(2), 0xbb);
    end_init(&again, false, "secret", identity(2), 0xcc);
    end_init(&a, true, "guess", identity(1), 0xaa);
    struct bytes first = take(&a);
    cr_assert_eq(feed(&b, first), 0);
    cr_assert_eq(feed(&again, first), 0);
    struct bytes other = take(&again);
    cr_assert_eq(feed_forged(&b, LINK_PROOF, bytes_make(other.data + other.size - 32, 32)),
                 WR_E_AUTH);
    wr_free((void *)(uintptr_t)first.data);
    wr_free((void *)(uintptr_t)other.data);
    end_deinit(&a);
    end_deinit(&b);
    end_deinit(&again);
}

/* All that one end said in a good handshake, said again to a fresh session. */
Test(link, nothing_can_be_replayed)
{
    struct end a, b;
    struct bytes said[4];
    end_pair(&a, &b);
    struct end *ends[2] = {&a, &b};
    for (int i = 0; i < 4; i++) {
        said[i] = take(ends[i % 2]);
        cr_assert_eq(feed(ends[(i + 1) % 2], said[i]), 0);
    }
    cr_assert(a.ready && b.ready);
    end_deinit(&a);
    end_deinit(&b);

    end_init(&b, false, "secret", identity(2), 0x11); /* the same node, another connection */
    cr_assert_eq(feed(&b, said[0]), 0);
    cr_assert_eq(feed(&b, said[2]), WR_E_AUTH);
    cr_assert(!b.ready);
    end_deinit(&b);

    end_init(&a, true, "secret", identity(1), 0x12);
    cr_assert_eq(feed(&a, said[1]), WR_E_AUTH);
    cr_assert(!a.ready);
    end_deinit(&a);
    for (int i = 0; i < 4; i++) {
        wr_free((void *)(uintptr_t)said[i].data);
    }
}

/* Whoever changes any bit on the way, in any message before WELCOME, is found out. */
Test(link, a_handshake_that_was_changed_on_the_way_fails)
{
    for (int message = 0; message < 3; message++) {
        for (size_t at = 0;; at++) {
            struct end a, b;
            end_pair(&a, &b);
            struct end *ends[2] = {&a, &b};
            bool over = false;
            int rc = 0;
            for (int i = 0; i < 4 && rc == 0; i++) {
                struct bytes said = take(ends[i % 2]);
                uint8_t *data = (uint8_t *)(uintptr_t)said.data;
                if (i == message && at + 9 < said.size) {
                    data[at + 9] ^= 0x20;
                    bytes_store_le32(data + 4, crc32c(0, data + 8, said.size - 8));
                } else if (i == message) {
                    over = true;
                }
                rc = said.size == 0 ? 0 : feed(ends[(i + 1) % 2], said);
                wr_free(data);
            }
            cr_assert(over || !a.ready || !b.ready, "message %d, byte %zu", message, at);
            end_deinit(&a);
            end_deinit(&b);
            if (over) {
                break;
            }
        }
    }
}

static int first_error(struct link_identity one, struct link_identity two, struct end *a,
                       struct end *b)
{
    int rc = 0;
    end_init(a, true, "secret", one, 1);
    end_init(b, false, "secret", two, 2);
    for (int i = 0; i < 4 && rc == 0; i++) {
        rc = i % 2 == 0 ? carry(a, b) : carry(b, a);
    }
    return rc;
}

Test(link, nodes_of_different_clusters_do_not_connect)
{
    struct link_identity one = identity(1);
    struct link_identity two = identity(2);
    struct end a, b;
    one.cluster_id = (struct uid){1, 1};
    two.cluster_id = (struct uid){2, 2};
    cr_assert_eq(first_error(one, two, &a, &b), WR_E_REFUSED);
    cr_assert_str_eq(link_session_error(b.session), "the two nodes belong to different clusters");
    cr_assert_eq(carry(&b, &a), WR_E_REFUSED);
    cr_assert_str_eq(link_session_error(a.session),
                     "refused by the peer: the two nodes belong to different clusters");
    end_deinit(&a);
    end_deinit(&b);
    two.cluster_id = (struct uid){0, 0}; /* blank: it wants to join */
    cr_assert_eq(first_error(one, two, &a, &b), 0);
    cr_assert(a.ready && b.ready);
    end_deinit(&a);
    end_deinit(&b);
}

Test(link, a_node_does_not_connect_to_itself_or_its_copy)
{
    struct end a, b;
    cr_assert_eq(first_error(identity(1), identity(1), &a, &b), WR_E_REFUSED);
    cr_assert(!a.ready && !b.ready);
    end_deinit(&a);
    end_deinit(&b);
}

Test(link, a_tool_needs_no_identity_but_the_cookie)
{
    struct link_identity tool = {.kind = LINK_KIND_TOOL, .name = "warrenctl"};
    struct link_identity node = identity(2);
    struct end a, b;
    node.cluster_id = (struct uid){9, 9};
    cr_assert_eq(first_error(tool, node, &a, &b), 0);
    cr_assert(a.ready && b.ready);
    cr_assert_eq(b.peer.kind, LINK_KIND_TOOL);
    end_deinit(&a);
    end_deinit(&b);
}

Test(link, the_acceptor_may_refuse_with_a_text)
{
    struct end a, b;
    end_pair(&a, &b);
    b.refuse = "not\tnow";
    cr_assert_eq(carry(&a, &b), 0);
    cr_assert_eq(carry(&b, &a), 0);
    cr_assert_eq(carry(&a, &b), WR_E_REFUSED);
    cr_assert_eq(carry(&b, &a), WR_E_REFUSED);
    cr_assert_str_eq(link_session_error(a.session), "refused by the peer: not?now");
    cr_assert(!a.ready);
    cr_assert(!link_session_is_ready(b.session));
    cr_assert_eq(feed_forged(&b, LINK_PING, BYTES_NONE), WR_E_CLOSED);
    cr_assert_eq(b.frames, 0);
    end_deinit(&a);
    end_deinit(&b);
}

Test(link, another_version_is_told_so_whatever_its_hello_looks_like)
{
    uint8_t hello[40] = {0};
    struct end a, b;
    end_pair(&a, &b);
    bytes_store_le32(hello, LINK_VERSION + 1);
    cr_assert_eq(feed_forged(&b, LINK_HELLO, bytes_make(hello, sizeof(hello))), WR_E_VERSION);
    struct bytes answer = take(&b);
    cr_assert_eq(answer.data[8], LINK_REFUSED);
    wr_free((void *)(uintptr_t)answer.data);
    end_deinit(&a);
    end_deinit(&b);
}

Test(link, what_is_no_handshake_is_refused)
{
    static const char *const texts[] = {"GET / HTTP/1.1\r\n\r\n",
                                        "AMQP\0\0\x09\x01"
                                        "aaaaaaaa",
                                        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"};
    static const size_t sizes[] = {18, 16, 11};
    for (size_t i = 0; i < WR_ARRAY_SIZE(texts); i++) {
        struct end b;
        end_init(&b, false, "secret", identity(2), 2);
        cr_assert_eq(feed(&b, bytes_make(texts[i], sizes[i])), WR_E_CORRUPT, "text %zu", i);
        end_deinit(&b);
    }
    for (unsigned type = 0; type < 256; type++) { /* any frame but HELLO first */
        struct end b;
        end_init(&b, false, "secret", identity(2), 2);
        cr_assert_eq(feed_forged(&b, (uint8_t)type, BYTES_NONE), WR_E_CORRUPT, "type %u", type);
        cr_assert_eq(b.frames, 0);
        cr_assert_eq(outq_size(&b.out), 0);
        end_deinit(&b);
    }
}

/* Every prefix of every message is simply not enough; nothing happens, nothing is read beyond. */
Test(link, an_incomplete_message_is_waited_for)
{
    struct end a, b;
    end_init(&a, true, "secret", identity(1), 1);
    struct bytes hello = take(&a);
    for (size_t size = 0; size < hello.size; size++) {
        end_init(&b, false, "secret", identity(2), 2);
        cr_assert_eq(size == 0 ? 0 : feed(&b, bytes_make(hello.data, size)), 0);
        cr_assert_eq(outq_size(&b.out), 0);
        end_deinit(&b);
    }
    /* With a truncated identity in a whole frame: refused. */
    for (size_t size = 9; size < hello.size; size++) {
        end_init(&b, false, "secret", identity(2), 2);
        cr_assert_lt(feed_forged(&b, LINK_HELLO, bytes_make(hello.data + 9, size - 9)), 0);
        cr_assert(!b.ready);
        end_deinit(&b);
    }
    wr_free((void *)(uintptr_t)hello.data);
    end_deinit(&a);
}

Test(link, before_the_handshake_a_frame_is_small_however_much_arrives)
{
    struct end b;
    uint8_t header[8];
    end_init(&b, false, "secret", identity(2), 2);
    bytes_store_le32(header, LINK_HANDSHAKE_MAX + 1);
    bytes_store_le32(header + 4, 0);
    cr_assert_eq(feed(&b, bytes_make(header, sizeof(header))), WR_E_CORRUPT);
    end_deinit(&b);
    end_init(&b, false, "secret", identity(2), 2);
    bytes_store_le32(header, 0);
    cr_assert_eq(feed(&b, bytes_make(header, sizeof(header))), WR_E_CORRUPT);
    end_deinit(&b);
}

Test(link, a_stranger_costs_little_memory)
{
    struct end b;
    static uint8_t flood[1u << 20];
    end_init(&b, false, "secret", identity(2), 2);
    bytes_store_le32(flood, LINK_HANDSHAKE_MAX); /* a frame of the largest size, never right */
    size_t before = allocated();
    cr_assert_eq(link_session_feed(b.session, flood, 4096), 0);
    cr_assert_leq(allocated() - before, 64u * 1024);
    cr_assert_lt(link_session_feed(b.session, flood + 4096, sizeof(flood) - 4096), 0);
    cr_assert_leq(allocated() - before, 64u * 1024);
    end_deinit(&b);
}

static void send_random(struct end *a, struct prng *p, uint32_t *sizes, uint32_t count)
{
    static uint8_t body[300000];
    for (uint32_t i = 0; i < count; i++) {
        uint32_t size = prng_ratio(p, 1, 10) ? (uint32_t)prng_below(p, sizeof(body))
                                             : (uint32_t)prng_below(p, 2000);
        memset(body, (int)(i & 0xff), size);
        struct slice pieces[2] = {slice_copy(body, size / 3), slice_copy(body, size - size / 3)};
        link_session_send(a->session, (uint8_t)(LINK_PARCEL + i % 3), pieces, 2);
        slice_unref(&pieces[0]);
        slice_unref(&pieces[1]);
        sizes[i] = size;
    }
}

/* Any cut of the stream gives the same frames, whole and in order. */
Test(link, frames_arrive_whole_however_the_stream_is_cut)
{
    enum { FRAMES = 60 };
    for (uint64_t seed = 1; seed <= 30; seed++) {
        struct prng p;
        struct end a, b;
        uint32_t sizes[FRAMES];
        prng_init(&p, seed);
        end_pair(&a, &b);
        shake(&a, &b);
        send_random(&a, &p, sizes, FRAMES);
        struct bytes all = take(&a);
        uint32_t seen = 0;
        for (size_t at = 0; at < all.size;) {
            size_t n = prng_ratio(&p, 1, 2) ? prng_between(&p, 1, 40) : prng_between(&p, 1, 131072);
            n = n > all.size - at ? all.size - at : n;
            cr_assert_eq(link_session_feed(b.session, all.data + at, n), 0);
            at += n;
            if (b.frames == seen + 1) { /* the last of a piece can be looked at */
                cr_assert_eq(b.last.size, sizes[seen]);
                cr_assert_eq(b.last_type, LINK_PARCEL + seen % 3);
                for (uint32_t i = 0; i < b.last.size; i += 97) {
                    cr_assert_eq(slice_data(&b.last)[i], seen & 0xff);
                }
            }
            seen = b.frames;
        }
        cr_assert_eq(b.frames, FRAMES);
        wr_free((void *)(uintptr_t)all.data);
        end_deinit(&a);
        end_deinit(&b);
    }
}

Test(link, a_damaged_frame_ends_the_link_and_delivers_nothing_more)
{
    struct end a, b;
    end_pair(&a, &b);
    shake(&a, &b);
    link_session_send_bytes(a.session, LINK_PARCEL, bytes_from_cstr("one"));
    link_session_send_bytes(a.session, LINK_PARCEL, bytes_from_cstr("two"));
    link_session_send_bytes(a.session, LINK_PARCEL, bytes_from_cstr("three"));
    struct bytes all = take(&a);
    ((uint8_t *)(uintptr_t)all.data)[12 + 10] ^= 1; /* in the second one */
    cr_assert_eq(feed(&b, all), WR_E_CORRUPT);
    cr_assert_eq(b.frames, 1);
    cr_assert_eq(feed(&b, all), WR_E_CLOSED);
    cr_assert_eq(b.frames, 1);
    wr_free((void *)(uintptr_t)all.data);
    end_deinit(&a);
    end_deinit(&b);
}

/* Memory follows what has arrived, not what is announced. */
Test(link, a_frame_of_impossible_size_is_refused_and_a_huge_one_costs_nothing_yet)
{
    struct end a, b;
    uint8_t header[8] = {0};
    end_pair(&a, &b);
    shake(&a, &b);
    size_t before = allocated();
    bytes_store_le32(header, LINK_FRAME_MAX);
    cr_assert_eq(feed(&b, bytes_make(header, sizeof(header))), 0);
    cr_assert_leq(allocated() - before, 1u << 20);
    end_deinit(&b);
    end_deinit(&a);
    end_pair(&a, &b);
    shake(&a, &b);
    bytes_store_le32(header, LINK_FRAME_MAX + 1);
    cr_assert_eq(feed(&b, bytes_make(header, sizeof(header))), WR_E_TOOBIG);
    end_deinit(&a);
    end_deinit(&b);
}

/* Random bytes, and random changes of good ones, never do more than end the session. */
Test(link, noise_is_harmless)
{
    for (uint64_t seed = 1; seed <= 2000; seed++) {
        struct prng p;
        struct end a, b;
        uint8_t noise[600];
        prng_init(&p, seed);
        end_pair(&a, &b);
        struct bytes hello = take(&a);
        memcpy(noise, hello.data, hello.size < sizeof(noise) ? hello.size : sizeof(noise));
        for (uint64_t n = prng_between(&p, 1, 6); n > 0; n--) {
            noise[prng_below(&p, hello.size)] = (uint8_t)prng_u64(&p);
        }
        bytes_store_le32(noise + 4, crc32c(0, noise + 8, hello.size - 8));
        int rc = feed(&b, bytes_make(noise, hello.size));
        cr_assert(rc <= 0);
        cr_assert(!b.ready);
        wr_free((void *)(uintptr_t)hello.data);
        end_deinit(&a);
        end_deinit(&b);
    }
}
