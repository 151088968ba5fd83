/*
 * What: links between nodes that lose, double and reorder whole PARCEL frames while their
 * connection stays up, for a bounded time, after which the connections concerned are reset.
 *
 * TCP does not do that. It stands for whatever may go wrong above it (a parcel dropped by a full
 * queue, two links of which one is older than the other), and it holds the protocols between hosts
 * to a harder contract than they need: safety must never depend on what a link delivers. Liveness
 * may: hence the reset at the end, which is what a link does when it notices that it lost
 * something.
 *
 * Every direction of a connection to a cluster port has a filter that follows the frames
 * (docs/links.md: u32 size, u32 CRC, u8 type, payload); frames of other types (handshake, pings)
 * pass.
 *
 * Ownership: a filter owns the frame it gathers and those that it holds back. Threads: one.
 */
#include "sim_frames.h"

#include "sim.h"

#include "warren/link.h"
#include "warren/mem.h"

#define FRAME_HEADER  9u /* size, CRC, type */
#define HELD_MAX      64u
#define PARCEL_HEADER 18u /* kind, priority, shards, group (src/node/links.c) */

struct held {
    struct buf *frame;
    uint32_t behind; /* sent after so many more frames */
};

struct sim_frames {
    uint8_t header[FRAME_HEADER];
    uint32_t have;
    uint64_t left;        /* of the payload */
    struct buf *gathered; /* the frame, header included; NULL: it passes */
    VEC(struct held) held;
    bool tampered;
};

struct sim_frames *sim_frames_new(void)
{
    return wr_calloc(1, sizeof(struct sim_frames));
}

void sim_frames_free(struct sim_frames *frames)
{
    if (frames == NULL) {
        return;
    }
    for (size_t i = 0; i < frames->held.count; i++) {
        buf_unref(frames->held.items[i].frame);
    }
    vec_deinit(&frames->held);
    buf_unref(frames->gathered);
    wr_free(frames);
}

bool sim_frames_tampered(const struct sim_frames *frames)
{
    return frames != NULL && frames->tampered;
}

static void emit_copy(const struct sim_frames_out *out, const struct buf *frame)
{
    out->emit(out->ctx, slice_copy(frame->data, frame->size));
}

static void hold(struct sim_frames *frames, struct buf *owned_frame, uint32_t behind)
{
    vec_push(&frames->held, (struct held){owned_frame, behind});
}

static void let_go(struct sim_frames *frames, const struct sim_frames_out *out)
{
    for (size_t i = 0; i < frames->held.count;) {
        struct held *held = &frames->held.items[i];
        if (held->behind-- > 0) {
            i++;
            continue;
        }
        emit_copy(out, held->frame);
        buf_unref(held->frame);
        vec_remove(&frames->held, i);
    }
}

static void tell(struct sim *sim, const struct buf *frame, const char *what)
{
    if (sim->options.trace && frame->size >= FRAME_HEADER + PARCEL_HEADER) {
        const uint8_t *parcel = frame->data + FRAME_HEADER;
        sim_trace(sim, "a parcel of kind %u for group %llu %s", parcel[0],
                  (unsigned long long)bytes_load_le64(parcel + 10), what);
    }
}

/* What becomes of a whole frame. */
static void decide(struct sim *sim, struct sim_frames *frames, const struct sim_tamper *tamper,
                   const struct sim_frames_out *out)
{
    struct prng *prng = &sim->net.frame_prng;
    struct buf *frame = frames->gathered;
    frames->gathered = NULL;
    const uint64_t lot = prng_below(prng, 100);
    const uint32_t behind = (uint32_t)prng_below(prng, prng_ratio(prng, 1, 8) ? 40 : 4);
    const bool room = frames->held.count < HELD_MAX;
    if (lot < tamper->lose) {
        frames->tampered = true;
        SIM_SOMETIMES(sim, true, SIM_SEEN_FRAME_LOST);
        tell(sim, frame, "is lost");
    } else if (lot < tamper->lose + tamper->twice && room) {
        frames->tampered = true;
        SIM_SOMETIMES(sim, true, SIM_SEEN_FRAME_TWICE);
        tell(sim, frame, "comes twice");
        emit_copy(out, frame);
        hold(frames, buf_ref(frame), behind);
    } else if (lot < tamper->lose + tamper->twice + tamper->later && room) {
        frames->tampered = true;
        SIM_SOMETIMES(sim, true, SIM_SEEN_FRAME_LATE);
        tell(sim, frame, "comes late");
        hold(frames, buf_ref(frame), behind + 1);
    } else {
        emit_copy(out, frame);
    }
    buf_unref(frame);
    let_go(frames, out);
}

static void frame_begins(struct sim *sim, struct sim_frames *frames,
                         const struct sim_tamper *tamper, const struct sim_frames_out *out)
{
    const uint32_t size = bytes_load_le32(frames->header);
    WR_ASSERT_OP(size, >, 0); /* the nodes are real: what they send is a frame */
    frames->left = size - 1;
    if (frames->header[FRAME_HEADER - 1] == LINK_PARCEL && tamper->until > sim->now) {
        frames->gathered = buf_new(FRAME_HEADER + size);
        buf_append(&frames->gathered, frames->header, FRAME_HEADER);
    } else {
        out->emit(out->ctx, slice_copy(frames->header, FRAME_HEADER));
    }
}

void sim_frames_feed(struct sim *sim, struct sim_frames *frames, const struct sim_tamper *tamper,
                     struct slice *owned, const struct sim_frames_out *out)
{
    uint32_t at = 0;
    while (at < owned->size) {
        if (frames->have < FRAME_HEADER) {
            frames->header[frames->have++] = slice_data(owned)[at++];
            if (frames->have < FRAME_HEADER) {
                continue;
            }
            frame_begins(sim, frames, tamper, out);
        }
        const uint32_t rest = owned->size - at;
        const uint32_t n = frames->left < rest ? (uint32_t)frames->left : rest;
        if (n > 0 && frames->gathered != NULL) {
            buf_append(&frames->gathered, slice_data(owned) + at, n);
        } else if (n > 0) {
            struct slice part = slice_sub(owned, at, n);
            out->emit(out->ctx, slice_ref(&part));
        }
        at += n;
        frames->left -= n;
        if (frames->left == 0) {
            frames->have = 0;
            if (frames->gathered != NULL) {
                decide(sim, frames, tamper, out);
            }
        }
    }
    slice_unref(owned);
}
