/* Ends one expansion of job.def. No include guard: included once after each. */
#undef SECTION
#undef INT
#undef NUM
#undef FLAG
#undef CHOICE
#undef TEXT
#undef END_SECTION
