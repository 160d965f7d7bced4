#include "core/execute/kv_type.hpp"

#include <doctest/doctest.h>

using namespace moira;

namespace {

// Two plugins: the first wins with float32, and one of them, or nobody, an op with keys and values in BF16.
class scripted_selector final : public op_selector {
public:
    std::uint32_t wanted = MOIRA_TYPE_BF16;
    const op_provider* narrow_attention = &first;
    const op_provider* narrow_append = &first;
    op_provider first, second;

    result<op_choice> choose(const moira_op_header& desc) const override {
        const bool append = desc.op == MOIRA_OP_KV_APPEND;
        const std::uint32_t type = append ? reinterpret_cast<const moira_kv_append_desc&>(desc).kv_type
                                          : reinterpret_cast<const moira_attention_gqa_desc&>(desc).kv_type;
        op_choice choice;
        choice.provider = type == MOIRA_TYPE_F32 ? &first : append ? narrow_append : narrow_attention;
        choice.kv_type_wanted = wanted;
        if (!choice.provider)
            return fail(errc::op_missing, "nobody");
        return choice;
    }
    const op_provider& memory_provider() const override { return first; }
};

model_shape small_shape() {
    model_shape shape;
    shape.layers = 3;
    shape.hidden = 8;
    shape.gqa.emplace();
    shape.gqa->heads = 4;
    shape.gqa->kv_heads = 2;
    shape.gqa->head_dim = 16;
    return shape;
}

execution_limits small_limits() {
    execution_limits limits;
    limits.context_max = 100;
    return limits;
}

} // namespace

TEST_CASE("keys and values have the type that the plugin of attention wants, where it can have it") {
    const auto shape = small_shape();
    scripted_selector selector;
    CHECK(choose_kv_type(selector, shape, small_limits()) == MOIRA_TYPE_BF16);
    selector.narrow_append = nullptr;
    CHECK(choose_kv_type(selector, shape, small_limits()) == MOIRA_TYPE_F32);
    selector.narrow_append = &selector.second;
    CHECK(choose_kv_type(selector, shape, small_limits()) == MOIRA_TYPE_F32);
    selector.narrow_append = &selector.first;
    selector.narrow_attention = &selector.second;
    CHECK(choose_kv_type(selector, shape, small_limits()) == MOIRA_TYPE_F32);
    selector.narrow_attention = nullptr;
    CHECK(choose_kv_type(selector, shape, small_limits()) == MOIRA_TYPE_F32);
}

TEST_CASE("a plugin that wants nothing, or what nobody knows, gets float32") {
    const auto shape = small_shape();
    scripted_selector selector;
    for (const std::uint32_t wanted : {std::uint32_t{MOIRA_TYPE_F32}, std::uint32_t{MOIRA_TYPE_F8_E4M3}, 77u}) {
        selector.wanted = wanted;
        CHECK(choose_kv_type(selector, shape, small_limits()) == MOIRA_TYPE_F32);
    }
}

TEST_CASE("a page takes half the bytes in BF16") {
    const auto shape = small_shape();
    auto limits = small_limits();
    CHECK(kv_page_bytes(shape, limits, shape.layers) == 16 * (2 * 2 * 16) * 4 * 3);
    limits.kv_type = MOIRA_TYPE_BF16;
    CHECK(kv_page_bytes(shape, limits, shape.layers) == 16 * (2 * 2 * 16) * 2 * 3);
}
