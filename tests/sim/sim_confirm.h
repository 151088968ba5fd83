#ifndef WR_SIM_CONFIRM_H
#define WR_SIM_CONFIRM_H
/* Confirms on their way out of a node (sim_confirm.c). */
#include <stdbool.h>
#include <stdint.h>

#include "warren/buf.h"

struct client;
struct sim;
struct sim_queue;

/* The group of a queue, as some node's view of the catalog has it; 0: nobody knows it. */
uint64_t sim_group_of_queue(struct sim *sim, struct sim_queue *queue);

struct sim_confirms { /* one connection of a client, the server's direction */
    uint8_t head[20]; /* of the frame: its header and the first bytes of its payload */
    uint32_t have;
    uint64_t left; /* of payload and end octet */
};

/* Bytes that a node gives to its kernel for that client. current: it is the connection that the
 * client has. */
void sim_confirms_watch(struct sim *sim, struct sim_confirms *confirms, struct client *client,
                        bool current, const struct slice *bytes);

#endif
