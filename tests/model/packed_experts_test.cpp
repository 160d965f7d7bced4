#include "core/model/checkpoint_weight.hpp"
#include "core/model/packed_experts.hpp"

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

using namespace moira;

namespace {

stored_layout small_layout(bool scaled) {
    return {"cpu_test", 77, 40, 300, 100'001, scaled ? block_scaled_weight() : plain_weight(MOIRA_TYPE_BF16)};
}

} // namespace

TEST_CASE("how experts lie is written and read alike") {
    for (const bool scaled : {false, true}) {
        const auto layout = small_layout(scaled);
        const auto read = parse_layout(layout_text(layout), "test");
        REQUIRE_MESSAGE(read, read.error().message);
        CHECK(*read == layout);
        CHECK(read->plugin == layout.plugin);
        CHECK(layout_text(*read) == layout_text(layout));
        CHECK(layout.matrix_of(2).rows == 300);
        CHECK(layout.scale_bytes() == (scaled ? 3 * 3 * sizeof(float) : 0));
        CHECK(layout.tensor_bytes() % packed_expert_alignment == 0);
        CHECK(layout.tensor_bytes() >= layout.packed_bytes + layout.scale_bytes());
    }
    for (const auto type : {MOIRA_TYPE_F32, MOIRA_TYPE_F16, MOIRA_TYPE_BF16}) {
        auto layout = small_layout(false);
        layout.quantization = plain_weight(static_cast<std::uint32_t>(type));
        CHECK(*parse_layout(layout_text(layout), "test") == layout);
    }
}

TEST_CASE("a record of experts' layout that is nonsense, or of another version, is refused") {
    const auto good = nlohmann::json::parse(layout_text(small_layout(true)));
    const auto code_with = [&](const char* key, const nlohmann::json& value) {
        auto bad = good;
        bad[key] = value;
        const auto read = parse_layout(bad.dump(), "test");
        return read ? errc::internal : read.error().code;
    };
    CHECK(code_with("form", 2) == errc::unsupported);
    CHECK(code_with("form", "1") == errc::unsupported);
    for (const char* key : {"layout_id", "packed_bytes", "n", "k"})
        for (const nlohmann::json& value :
             {nlohmann::json(-1), nlohmann::json(1.5), nlohmann::json("1"), nlohmann::json(UINT64_MAX),
              nlohmann::json(nullptr), nlohmann::json::array()}) {
            CAPTURE(key);
            CHECK(code_with(key, value) == errc::corrupt_file);
        }
    for (const char* key : {"packed_bytes", "n", "k"})
        CHECK(code_with(key, 0) == errc::corrupt_file);
    for (const char* name : {"", "../plugin", "CPU", "a b", "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz"})
        CHECK(code_with("plugin", name) == errc::corrupt_file);
    CHECK(code_with("weight_type", "F4_E2M1") == errc::unsupported);
    CHECK(code_with("weight_type", "BF16") == errc::unsupported); // with scales
    CHECK(code_with("scale_mode", "none") == errc::unsupported);
    CHECK(code_with("scale_type", "BF16") == errc::unsupported);
    CHECK(code_with("block_n", 64) == errc::unsupported);
    CHECK(parse_layout("", "test").error().code == errc::corrupt_file);
    CHECK(parse_layout("[]", "test").error().code == errc::corrupt_file);
    CHECK(parse_layout(std::string(100'000, '['), "test").error().code == errc::corrupt_file);
}

TEST_CASE("a tensor of another type, size or place is no packed expert") {
    const auto layout = small_layout(false);
    const auto bytes = layout.tensor_bytes();
    const tensor_location good{.name = "x.packed",
                               .type = tensor_type::u8,
                               .shape = {static_cast<std::int64_t>(bytes)},
                               .offset = 8192,
                               .bytes = bytes};
    CHECK(check_packed_expert(good, layout));
    auto bad = std::vector<tensor_location>(4, good);
    bad[0].type = tensor_type::i8;
    bad[1].bytes -= 1;
    bad[2].bytes = layout.packed_bytes;
    bad[3].offset += 64;
    for (const auto& tensor : bad)
        CHECK(check_packed_expert(tensor, layout).error().code == errc::corrupt_file);
}
