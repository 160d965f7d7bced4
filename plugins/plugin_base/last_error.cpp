#include "plugins/plugin_base/plugin_base.hpp"

#include <cstdarg>
#include <cstdio>
#include <cstring>

namespace moira {

namespace {
thread_local char last_error_text[MOIRA_TEXT_BYTES];
}

moira_status report(moira_status code, const char* format, ...) {
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(last_error_text, sizeof last_error_text, format, arguments);
    va_end(arguments);
    return code;
}

void copy_last_error(char* text, uint64_t bytes) {
    if (text && bytes > 0)
        std::snprintf(text, bytes, "%s", last_error_text);
}

} // namespace moira
