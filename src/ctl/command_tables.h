#ifndef WR_CTL_COMMAND_TABLES_H
#define WR_CTL_COMMAND_TABLES_H
/* The parts of the table of commands, each in the order of groups and names; the last row of a part
 * has no name. */
#include "commands.h"

extern const struct command commands_nodes[], commands_access[], commands_lists[],
    commands_settings[], commands_queues[];

#endif
