/* Undefines the macros of wire_spec.def. No guard: it is included with the table. */
#undef METHOD
#undef METHOD_END
#undef BARE
#undef BARE_END
#undef OCTET
#undef SHORT
#undef LONG
#undef LONGLONG
#undef SHORTSTR
#undef LONGSTR
#undef TABLE
#undef BIT
#undef RESERVED_SHORT
#undef RESERVED_SHORTSTR
#undef RESERVED_LONGSTR
#undef RESERVED_BIT
