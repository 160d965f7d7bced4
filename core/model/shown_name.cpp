#include "core/model/shown_name.hpp"

namespace moira {

std::string shown_name(std::string_view name) {
    constexpr std::size_t shown_bytes_max = 200;
    std::string text(1, '\'');
    if (name.size() <= shown_bytes_max)
        return text.append(name).append(1, '\'');
    std::size_t end = shown_bytes_max;
    while (end > 0 && (static_cast<unsigned char>(name[end]) & 0xC0) == 0x80)
        --end;
    return text.append(name.substr(0, end)).append("...'");
}

} // namespace moira
