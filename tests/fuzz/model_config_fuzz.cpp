// Input: config.json, or config.json and generation_config.json with a zero byte between. A shape that is accepted must
// pass the check again, and every formula of it must be finite.
#include "core/model/checkpoint.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>

namespace {

void require(bool holds) {
    if (!holds)
        std::abort();
}

void check_formulas(const moira::model_shape& shape) {
    require(moira::check_shape(shape).has_value());
    require(shape.query_width() > 0 && shape.attention_width() > 0 && shape.kv_width() > 0);
    require(std::isfinite(shape.attention_scale()) && shape.attention_scale() > 0);
    const auto table = moira::rope_table(shape.rope, 3);
    require(std::all_of(table.begin(), table.end(), [](float value) { return std::isfinite(value); }));
    // Names of many experts cost memory by design; the fuzzer's time is better spent elsewhere.
    if (std::int64_t{shape.moe.experts} * shape.layers <= 4096)
        require(moira::weight_names(shape).layers.size() == static_cast<std::size_t>(shape.layers));
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    const auto cut = text.find('\0');
    const auto config = text.substr(0, cut);
    const auto generation = cut == std::string_view::npos ? std::string_view() : text.substr(cut + 1);
    const auto shape = moira::read_model_config(config, generation, "fuzz");
    if (shape)
        check_formulas(*shape);
    else
        require(shape.error().code == moira::errc::invalid_config || shape.error().code == moira::errc::unsupported);
    return 0;
}
