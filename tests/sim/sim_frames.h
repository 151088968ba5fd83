#ifndef WR_SIM_FRAMES_H
#define WR_SIM_FRAMES_H
/* Links that lose, double and reorder frames (sim_frames.c). */
#include <stdbool.h>
#include <stdint.h>

#include "warren/buf.h"

struct sim;

/* What happens to PARCEL frames of one direction between two nodes, in percent. */
struct sim_tamper {
    uint64_t until;
    uint32_t lose, twice, later;
};

struct sim_frames; /* one direction of one connection */
struct sim_frames_out {
    void (*emit)(void *ctx, struct slice owned);
    void *ctx;
};

struct sim_frames *sim_frames_new(void);
void sim_frames_free(struct sim_frames *frames);
/* Bytes that a node sends. The slice is taken over and what is to travel is emitted. */
void sim_frames_feed(struct sim *sim, struct sim_frames *frames, const struct sim_tamper *tamper,
                     struct slice *owned, const struct sim_frames_out *out);
/* Some frame was lost, doubled or moved. */
bool sim_frames_tampered(const struct sim_frames *frames);

#endif
