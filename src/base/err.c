/*
 * What: error codes to names and texts, both from the table in err.h.
 */
#include "warren/err.h"

const char *wr_err_name(int err)
{
    switch (err) {
    case WR_OK:
        return "WR_OK";
#define WR_ERR_NAME(name, number, text)                                                            \
    case name:                                                                                     \
        return #name;
        WR_ERR_TABLE(WR_ERR_NAME)
#undef WR_ERR_NAME
    default:
        return "WR_E_?";
    }
}

const char *wr_err_text(int err)
{
    switch (err) {
    case WR_OK:
        return "success";
#define WR_ERR_TEXT(name, number, text)                                                            \
    case name:                                                                                     \
        return text;
        WR_ERR_TABLE(WR_ERR_TEXT)
#undef WR_ERR_TEXT
    default:
        return "unknown error";
    }
}
