#include "library.cuh"

#include <stdarg.h>
#include <stdio.h>

namespace {
thread_local char last_error[512] = "";
}

int splat::fail(const char* sentence, ...) {
    va_list arguments;
    va_start(arguments, sentence);
    vsnprintf(last_error, sizeof last_error, sentence, arguments);
    va_end(arguments);
    return 1;
}

SPLAT_API const char* splat_last_error(void) { return last_error; }
