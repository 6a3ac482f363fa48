/* Ends one expansion of messages.def. No include guard: included once after each. */
#undef RECORD
#undef MESSAGE
#undef U64
#undef I64
#undef F64
#undef BOOL
#undef TEXT
#undef BIN
#undef F32S
#undef U64S
#undef LIST
#undef END
