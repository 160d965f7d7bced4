// Any bytes as tokenizer.json: an error or a tokenizer that encodes and decodes.
#include "core/text/tokenizer.hpp"

#include <cstdint>
#include <cstdlib>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view json(reinterpret_cast<const char*>(data), size);
    const auto parsed = moira::tokenizer::parse(json, "fuzz", {.text_bytes_max = 4'096, .file_bytes_max = 1 << 20});
    if (!parsed)
        return 0;
    for (const char* text : {"", "a", "Hello, 12 wörld <s>ab  \n", "abababab"}) {
        const auto ids = parsed->encode(text);
        if (!ids)
            continue;
        for (const moira::token_id id : *ids)
            if (id < 0 || static_cast<std::size_t>(id) >= parsed->vocabulary_size())
                std::abort();
        parsed->decode(*ids, true);
    }
    return 0;
}
