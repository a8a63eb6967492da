/* core.h - the number and the status codes that every other header of the core shares. */
#ifndef SIGRACK_CORE_H
#define SIGRACK_CORE_H

#include <stdint.h>

/* Raised with every change of a signature or struct that Python sees; sigrack_engine/core.py holds the same number. */
#define CORE_ABI 9

#define CORE_API __attribute__((visibility("default")))

/* The ABI number this library was built with. [any] */
CORE_API uint32_t core_abi(void);

/* The instruction set level in use: "x86-64_v2", "_v3", "_v4" or "base". [any] */
CORE_API const char *core_level(void);

#endif
