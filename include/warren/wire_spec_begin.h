/* Empty defaults for the macros of wire_spec.def. No guard: it is included with the table. */
#ifndef METHOD
#define METHOD(upper, lower, name, class_id, method_id, flags)
#endif
#ifndef METHOD_END
#define METHOD_END(upper, lower)
#endif
#ifndef BARE
#define BARE(upper, lower, name, class_id, method_id, flags)
#endif
#ifndef BARE_END
#define BARE_END(upper, lower)
#endif
#ifndef OCTET
#define OCTET(name)
#endif
#ifndef SHORT
#define SHORT(name)
#endif
#ifndef LONG
#define LONG(name)
#endif
#ifndef LONGLONG
#define LONGLONG(name)
#endif
#ifndef SHORTSTR
#define SHORTSTR(name)
#endif
#ifndef LONGSTR
#define LONGSTR(name)
#endif
#ifndef TABLE
#define TABLE(name)
#endif
#ifndef BIT
#define BIT(name)
#endif
#ifndef RESERVED_SHORT
#define RESERVED_SHORT
#endif
#ifndef RESERVED_SHORTSTR
#define RESERVED_SHORTSTR
#endif
#ifndef RESERVED_LONGSTR
#define RESERVED_LONGSTR
#endif
#ifndef RESERVED_BIT
#define RESERVED_BIT
#endif
