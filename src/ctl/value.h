#ifndef WR_CTL_VALUE_H
#define WR_CTL_VALUE_H
/* One value of a listing: as text, and as rabbitmqctl's JSON has it. */
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

/* How control bytes in a cell are shown: escaped where they would break lines and columns. */
enum value_bytes { VALUE_BYTES_ESCAPED, VALUE_BYTES_RAW };

/* The text of a row's column; free() it. Never NULL: ends the program when memory is out. */
char *value_text(json_t *row, const char *column, enum value_bytes bytes);
char *value_erlang(json_t *row, const char *column);
json_t *value_json(json_t *row, const char *column); /* a new reference */

#endif
