#include "core/execute/kv_type.hpp"

#include <algorithm>

namespace moira {

namespace {

/// Attention stands for its weights in float32: their type does not matter to how keys and values are kept.
result<op_choice> choose_attention(const op_selector& selector, const model_shape& shape, const execution_limits& limits) {
    const op_describer describe(shape, limits);
    if (shape.mla)
        return selector.choose(describe.attention_mla(MOIRA_TYPE_F32).header);
    return selector.choose(describe.attention_gqa().header);
}

}  // namespace

std::uint32_t choose_kv_type(const op_selector& selector, const model_shape& shape, execution_limits limits) {
    limits.pages = std::max(limits.pages, limits.context_max / limits.page_tokens + 1);
    limits.kv_type = MOIRA_TYPE_F32;
    const auto plain = choose_attention(selector, shape, limits);
    if (!plain || plain->kv_type_wanted != MOIRA_TYPE_BF16)
        return MOIRA_TYPE_F32; // what nobody can run is said where ops are prepared
    limits.kv_type = plain->kv_type_wanted;
    const auto attention = choose_attention(selector, shape, limits);
    const auto append = selector.choose(op_describer(shape, limits).kv_append().header);
    const bool agreed = attention && append && attention->provider == plain->provider && append->provider == plain->provider;
    return agreed ? limits.kv_type : std::uint32_t{MOIRA_TYPE_F32};
}

std::uint64_t kv_type_bytes(std::uint32_t kv_type) noexcept { return kv_type == MOIRA_TYPE_BF16 ? 2 : 4; }

const char* kv_type_name(std::uint32_t kv_type) noexcept { return kv_type == MOIRA_TYPE_BF16 ? "bf16" : "f32"; }

std::uint64_t kv_page_bytes(const model_shape& shape, const execution_limits& limits, std::int32_t layers) noexcept {
    return static_cast<std::uint64_t>(limits.page_tokens) * static_cast<std::uint64_t>(shape.kv_width()) *
           kv_type_bytes(limits.kv_type) * static_cast<std::uint64_t>(layers);
}

}  // namespace moira
