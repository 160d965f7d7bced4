// Any bytes as a chat template: an error, or one that renders within its limits.
#include "core/text/chat_template.hpp"

#include <cstdint>
#include <cstdlib>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view source(reinterpret_cast<const char*>(data), size);
    moira::chat_template::limits bounds;
    bounds.output_bytes_max = 64 * 1'024;
    bounds.steps_max = 10'000;
    const auto parsed = moira::chat_template::parse(source, bounds);
    if (!parsed)
        return 0;
    const auto text = parsed->render({{"system", "Be brief."}, {"user", "Hi é 你"}, {"assistant", "Hello\n"}});
    if (text && text->size() > bounds.output_bytes_max)
        std::abort();
    return 0;
}
