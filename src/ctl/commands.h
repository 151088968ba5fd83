#ifndef WR_CTL_COMMANDS_H
#define WR_CTL_COMMANDS_H
/* The commands of warrenctl and what it says about them. */
#include <stdbool.h>
#include <stdio.h>

struct command {
    const char *name;
    const char *usage;
    const char *about;
    const char *banner;  /* %s: vhost or node; NULL: none */
    const char *columns; /* default columns of a listing, or NULL */
    const char *all;     /* every column of a listing */
    bool per_vhost;
    bool fixed_order; /* the columns come in the order of `all`, whatever order was asked for */
};

const struct command *command_find(const char *name); /* NULL when there is none */
/* "Did you mean" for a word that is no command: the nearest, or NULL when none is near. */
const struct command *command_nearest(const char *word);
void command_usage(FILE *out, const struct command *command); /* NULL: of the program */

#endif
