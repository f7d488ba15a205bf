// Opens and closes the region in which a file's code is compiled for an instruction set. Pragmas and not flags for the
// file: what the standard headers define stays ordinary code, whichever copy of it the linker keeps.
#pragma once

#define FASTINIT_PRAGMA(...) _Pragma(#__VA_ARGS__)
#if defined(__clang__)
#define FASTINIT_TARGET_BEGIN(list) \
  FASTINIT_PRAGMA(clang attribute push(__attribute__((target(list))), apply_to = function))
#define FASTINIT_TARGET_END FASTINIT_PRAGMA(clang attribute pop)
#else
#define FASTINIT_TARGET_BEGIN(list) FASTINIT_PRAGMA(GCC push_options) FASTINIT_PRAGMA(GCC target(list))
#define FASTINIT_TARGET_END FASTINIT_PRAGMA(GCC pop_options)
#endif
