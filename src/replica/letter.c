/*
 * What: letters: what the broker of one shard says to that of another, on this node or elsewhere.
 * Happy path: a few numbers and perhaps the record of a message in one parcel, handed to the sink
 * where it arrives. Failure modes: nobody repeats a letter: it is lost with its link, and dropped
 * here when the node is out of reach or its link is slow. Ownership: the parcel owns the bytes; the
 * sink refs what it keeps. Threads: the host's shard; within a node a letter moves as a whole.
 */
#include "host_internal.h"
#include "parcel.h"

static void letter_free(void *local)
{
    struct host_letter *letter = local;
    slice_unref(&letter->raw);
    wr_free(letter);
}

static bool goes(const struct host *host, struct uid node, uint32_t shard)
{
    const struct host_options *options = &host->options;
    if (host_is_self(host, node)) {
        return shard < options->shard_count;
    }
    return host_reach(host, node) == NODE_UP &&
           options->transport.backlog(options->transport.ctx, node) <= BACKLOG_MAX;
}

bool host_send_letter(struct host *host, struct uid node, uint32_t shard,
                      const struct host_letter *owned_letter)
{
    if (!goes(host, node, shard)) {
        buf_unref(owned_letter->raw.buf);
        return false;
    }
    struct parcel *parcel = parcel_make(host, PARCEL_LETTER, 1, 0, node, shard);
    if (host_is_self(host, node)) {
        parcel->local = wr_memdup(owned_letter, sizeof *owned_letter);
        parcel->local_free = letter_free;
    } else {
        numbers_pack(parcel, owned_letter->numbers, HOST_LETTER_NUMBERS, owned_letter->raw);
    }
    parcel_send(host, parcel);
    host_mark_now(host);
    return true;
}

void letter_on_parcel(struct host *host, struct parcel *parcel)
{
    struct host_letter letter;
    const struct host_letter *found = parcel->local;
    if (found == NULL) {
        int error = numbers_unpack(parcel, letter.numbers, HOST_LETTER_NUMBERS, &letter.raw);
        if (error != 0) {
            parcel_refused(host, parcel, "a letter", error);
            return;
        }
        found = &letter;
    }
    if (host->sink.on_letter != NULL) {
        host->sink.on_letter(host->sink.ctx, parcel->from_node, parcel->from_shard, found);
    }
}
