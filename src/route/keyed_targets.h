/*
 * What: bytes -> bindings: a keymap whose values are sets of bindings.
 * Threads: immutable; any may read and drop.
 */
#ifndef WR_ROUTE_KEYED_TARGETS_H
#define WR_ROUTE_KEYED_TARGETS_H

#include "internal.h"
#include "keymap.h"

struct keyed_targets {
    struct keyed keyed;
    struct targets targets;
    uint8_t key[];
};

/* A new map with (without) the binding for the key; the old one is borrowed. */
struct keymap *keyed_targets_add(struct keymap *map, struct bytes key,
                                 struct catalog_binding *binding);
struct keymap *keyed_targets_remove(struct keymap *map, struct bytes key,
                                    const struct catalog_binding *binding);

/* The bindings for the key have matched. */
void keyed_targets_emit(const struct keymap *map, struct bytes key, struct route_result *result);

#endif
