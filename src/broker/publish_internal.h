#ifndef WR_PUBLISH_INTERNAL_H
#define WR_PUBLISH_INTERNAL_H
/* What publish.c (where a message goes) asks publish_props.c (what its properties say). */
#include "broker_internal.h"

#define CHECKED_PROPS                                                                              \
    (WIRE_PROP_HEADERS | WIRE_PROP_EXPIRATION | WIRE_PROP_USER_ID | WIRE_PROP_REPLY_TO)

/* What the properties say about the way; the keys of CC and BCC are in broker->extra_keys (a
 * table's size bounds their number). */
struct routing {
    uint32_t extra_count;
    bool has_bcc;
    bool reply_here;                /* its reply-to is the pseudo-queue */
    struct queue_publish_more more; /* for queues that look at it */
};

bool publish_check_props(const struct broker_channel *ch, struct bytes raw, struct routing *routing,
                         struct broker_fault *fault);
/* Only that property. */
bool publish_check_expiration(struct bytes raw, struct broker_fault *fault);
/* Digits, which were checked when the message came. */
uint64_t publish_expiration_ms(struct bytes text);
/* The message with other properties, and another time to live. Borrows it; the caller owns the
 * result. */
struct message publish_with_parts(struct message message, struct bytes props, uint64_t ttl_ms);
/* The same message as its queues are to have it: without its BCC header, and with a name in its
 * reply-to. A reference for the caller. */
struct message publish_rebuild(const struct broker_channel *ch, struct message message,
                               bool without_bcc, bool reply_here);
/* How long headers say that the message is to be delayed; 0: not at all. */
uint64_t publish_delay_ms(struct bytes headers);
/* What a consumer sees of a delay that is over: the number, negative. A reference for the caller.
 */
struct message publish_with_delay_over(struct message message);
#endif
