/* Errors of libuv and of the system as ours. */
#include <errno.h>

#include "warren/err.h"

#include "os_internal.h"

int os_error(int code)
{
    switch (code) {
    case 0:
        return 0;
    case UV_EOF:
        return 0;
    case UV_ENOMEM:
        return WR_E_NOMEM;
    case UV_ENOSPC:
    case -EDQUOT:
        return WR_E_NOSPACE;
    case UV_ENOENT:
        return WR_E_NOTFOUND;
    case UV_EEXIST:
        return WR_E_EXISTS;
    case UV_ECONNREFUSED:
        return WR_E_REFUSED;
    case UV_ECONNRESET:
    case UV_EPIPE:
        return WR_E_RESET;
    case UV_ETIMEDOUT:
        return WR_E_TIMEOUT;
    case UV_EHOSTUNREACH:
    case UV_ENETUNREACH:
        return WR_E_UNREACHABLE;
    case UV_ECANCELED:
        return WR_E_CANCELLED;
    case UV_EADDRINUSE:
        return WR_E_INUSE;
    case UV_EMFILE:
    case UV_ENFILE:
        return WR_E_FILES;
    case UV_EFBIG:
        return WR_E_TOOBIG;
    case UV_EACCES:
    case UV_EPERM:
        return WR_E_PERMISSION;
    default:
        return WR_E_IO;
    }
}
