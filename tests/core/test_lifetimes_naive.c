/* The negative control of test_lifetimes.c: a host that hands out pointers is found out. */
#define NAIVE 1
#include "test_lifetimes.c"
