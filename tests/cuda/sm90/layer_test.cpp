// The sm_90 part of the layer: descriptors, layouts and fragments against tables from CuTe and from the PTX
// specification (see fragment_oracle/), and the executor's emulation of barriers, bulk copies and wgmma.
#include "kernels/float_formats.hpp"
#include "tests/cuda/sm90/planted_faults.hpp"

#include <doctest/doctest.h>

#include <fstream>
#include <map>
#include <string>

namespace moira {

namespace {

// Lines of a name and four numbers.
struct wgmma_tables {
    std::map<std::string, std::map<std::pair<uint32_t, uint32_t>, std::pair<uint32_t, uint32_t>>> at;

    wgmma_tables() {
        std::ifstream file(MOIRA_TEST_DATA "/cuda/wgmma_tables.txt");
        std::string name;
        uint32_t a, b, c, d;
        while (file >> name >> a >> b >> c >> d)
            at[name][{a, b}] = {c, d};
    }
};

struct named_swizzle {
    const char* name;
    matrix_swizzle swizzle;
};
constexpr named_swizzle swizzles[] = {{"none", matrix_swizzle::none},
                                      {"32", matrix_swizzle::bytes_32},
                                      {"64", matrix_swizzle::bytes_64},
                                      {"128", matrix_swizzle::bytes_128}};
constexpr uint32_t table_rows = 16;
constexpr uint32_t table_k = 64;

} // namespace

TEST_CASE("the register fragments of wgmma are those of the PTX specification and of CuTe") {
    wgmma_tables tables;
    REQUIRE(tables.at["a"].size() == 128 * 8);
    for (const auto& [at, place] : tables.at["a"]) {
        const tile_place found = wgmma_a_place(at.first % 32, at.second);
        CHECK(place.first == found.row + at.first / 32 * 16);
        CHECK(place.second == found.column);
    }
    for (const uint32_t n : {8u, 32u}) {
        auto& table = tables.at["d" + std::to_string(n)];
        REQUIRE(table.size() == 128 * n / 2);
        for (const auto& [at, place] : table) {
            const tile_place found = wgmma_d_place(at.first % 32, at.second);
            CHECK(place.first == found.row + at.first / 32 * 16);
            CHECK(place.second == found.column);
        }
    }
}

TEST_CASE("a descriptor names the addresses that CuTe's canonical layouts have") {
    wgmma_tables tables;
    for (const named_swizzle& each : swizzles) {
        INFO("swizzle ", std::string(each.name));
        auto& bytes = tables.at[std::string("layout_") + each.name]; // (row, k): byte
        auto& fields = tables.at["fields"];                          // (type, 0): leading and stride bytes
        REQUIRE(bytes.size() == table_rows * table_k);
        REQUIRE(fields.size() == 4);
        const auto offsets = fields[{uint32_t(each.swizzle), 0}];
        for (uint32_t step = 0; step < table_k / 16; ++step) {
            const matrix_place place{bytes[{0, step * 16}].first, offsets.first, offsets.second, each.swizzle};
            for (uint32_t row = 0; row < table_rows; ++row)
                for (uint32_t k = 0; k < 16; ++k)
                    CHECK(matrix_piece_address(place, row, k / 8) + k % 8 * 2 == bytes[{row, step * 16 + k}].first);
        }
    }
}

TEST_CASE("a descriptor keeps what it is made from, within its fields") {
    for (const named_swizzle& each : swizzles) {
        const matrix_place place{0x38A10, 0x3FFF0, 0x480, each.swizzle};
        const uint64_t descriptor = encode_matrix(place);
        const matrix_place again = decode_matrix(descriptor);
        CHECK(again.start == place.start);
        CHECK(again.leading_bytes == place.leading_bytes);
        CHECK(again.stride_bytes == place.stride_bytes);
        CHECK(again.swizzle == place.swizzle);
        CHECK(descriptor_rest(descriptor) == 0);
    }
    CHECK(descriptor_rest(1ull << 49) != 0); // a base offset
}

TEST_CASE("every planted fault of the sm_90 layer is found under every schedule, and its clean twin is not") {
    for (const planted_fault& fault : planted_sm90_faults()) {
        bool as_expected = false; // what a broken protocol ends in depends on the schedule
        for (const simt_config& config : simt_all_schedules(17)) {
            INFO(std::string(fault.name), ", schedule ", int(config.schedule));
            const simt_report clean = fault.run(config, false);
            CHECK_MESSAGE(clean.clean(), clean.text());
            const simt_report broken = fault.run(config, true);
            CHECK(!broken.clean());
            as_expected = as_expected || broken.has(fault.expected);
        }
        CHECK_MESSAGE(as_expected, std::string(fault.name));
    }
}

TEST_CASE("wgmma multiplies integers exactly, whatever the swizzle") {
    std::vector<uint16_t> a(64 * 16), b(8 * 16);
    for (uint32_t i = 0; i < a.size(); ++i)
        a[i] = float_to_bf16(float(int(i * 7 % 23) - 11));
    for (uint32_t i = 0; i < b.size(); ++i)
        b[i] = float_to_bf16(float(int(i * 5 % 19) - 9));
    for (const named_swizzle& each : swizzles)
        for (const simt_config& config : simt_all_schedules(3)) {
            INFO("swizzle ", std::string(each.name));
            simt_memory memory;
            float* out = memory.allocate_array<float>("out", 64 * 8);
            const simt_report report =
                run_one_wgmma(config, memory, memory.copy_of("a", a), memory.copy_of("b", b), out, each.swizzle, 3);
            REQUIRE_MESSAGE(report.clean(), report.text());
            for (uint32_t row = 0; row < 64; ++row)
                for (uint32_t column = 0; column < 8; ++column) {
                    float sum = 0.0f;
                    for (uint32_t k = 0; k < 16; ++k)
                        sum += bf16_to_float(a[row * 16 + k]) * bf16_to_float(b[column * 16 + k]);
                    REQUIRE(out[row * 8 + column] == 3.0f * sum);
                }
        }
}

} // namespace moira
